"""Which images are one picture twice: byte for byte, or the same ink somewhere else on the page."""

from typing import TYPE_CHECKING, NamedTuple

from components.audit.pictures import SPECKS, crop

if TYPE_CHECKING:
    import numpy as np

SIDE = 32  # pixels
ALIKE = 0.95  # least cosine of two prints; pairs of other drawings of one numeral begin at 0.93
STRETCH = 1.06  # the most by which the ink of the same picture differs in width or height


class Print(NamedTuple):
    """What is left of a picture that is moved, recompressed or cut from the page anew."""

    shape: tuple[int, int]  # of the ink, pixels; (0, 0) if there is none
    pixels: "np.ndarray"  # float32 [SIDE * SIDE] of length 1; zeros if there is no ink


def fingerprint(found: "np.ndarray") -> Print:
    """The print of the ink, uint8 [height, width]."""
    import cv2
    import numpy as np

    cropped = crop(found, SPECKS[-1])
    if not cropped.size:
        return Print((0, 0), np.zeros(SIDE * SIDE, np.float32))
    small = cv2.resize(cropped, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    pixels = cv2.GaussianBlur(small, (0, 0), 1).astype(np.float32).ravel()
    pixels -= pixels.mean()
    height, width = cropped.shape
    return Print((height, width), pixels / (np.linalg.norm(pixels) + 1e-6))


def duplicate_groups(sha256s: list[str], prints: list[Print]) -> "np.ndarray":
    """For each image the number of its group, int [images]: groups of those alike, or alike to one alike.

    Groups are numbered by their first image; an image without a duplicate is a group of its own.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(sha256s)
    first = {sha256: number for number, sha256 in reversed(list(enumerate(sha256s)))}
    pairs = [(number, first[sha256]) for number, sha256 in enumerate(sha256s)]
    pixels = np.stack([found.pixels for found in prints])
    shapes = np.log(np.maximum([found.shape for found in prints], 1))
    for number in range(count):
        alike = pixels[number] @ pixels[number + 1 :].T > ALIKE
        near = np.abs(shapes[number + 1 :] - shapes[number]).max(axis=1) < np.log(STRETCH)
        pairs += [(number, number + 1 + other) for other in np.flatnonzero(alike & near)]
    rows, columns = np.array(pairs).T
    graph = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]
