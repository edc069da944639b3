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


class Duplicates(NamedTuple):
    """Of each image."""

    groups: "np.ndarray"  # int [images]; an image without a duplicate is a group of its own
    likeness: "np.ndarray"  # float [images], cosine of its print and the one most alike; 0 if there is none


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


def find_duplicates(sha256s: list[str], prints: list[Print]) -> Duplicates:
    """Groups of images that are alike, or alike to one alike, numbered by their first image."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(sha256s)
    first = {sha256: number for number, sha256 in reversed(list(enumerate(sha256s)))}
    pairs = [(number, first[sha256], 1.0) for number, sha256 in enumerate(sha256s) if first[sha256] != number]
    pixels = np.stack([found.pixels for found in prints])
    shapes = np.log(np.maximum([found.shape for found in prints], 1))
    for number in range(count):
        cosines = pixels[number] @ pixels[number + 1 :].T
        near = np.abs(shapes[number + 1 :] - shapes[number]).max(axis=1) < np.log(STRETCH)
        pairs += [
            (number, number + 1 + other, min(cosines[other], 1)) for other in np.flatnonzero((cosines > ALIKE) & near)
        ]
    alike = np.array(pairs, [("one", int), ("other", int), ("cosine", float)])
    likeness = np.zeros(count)
    np.maximum.at(likeness, alike["one"], alike["cosine"])
    np.maximum.at(likeness, alike["other"], alike["cosine"])
    graph = coo_array((alike["cosine"], (alike["one"], alike["other"])), shape=(count, count))
    return Duplicates(connected_components(graph, directed=False)[1], likeness)
