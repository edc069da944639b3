"""Which images show one picture twice: byte for byte, or the same ink somewhere else on the page."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.audit.pictures import SPECKS, crop_ink

SIDE = 32  # pixels
ALIKE = 0.95  # least cosine of two prints; different drawings of one numeral reach 0.93
STRETCH = 1.06  # the most by which the ink of the same picture differs in width or height


class Print(NamedTuple):
    """What stays the same when a picture is moved on its page, recompressed, or cut from the page again."""

    shape: tuple[int, int]  # of the ink, pixels; (0, 0) if there is none
    pixels: NDArray[np.float32]  # [SIDE * SIDE], of length 1; zeros if there is no ink


class Duplicates(NamedTuple):
    """Which images are alike; each array has an entry per image."""

    groups: NDArray[np.int32]  # [images]; an image without a duplicate is a group of its own
    likeness: NDArray[np.float64]  # [images], cosine of its print and the one most alike; 0 if there is none


def take_print(ink: NDArray[np.uint8]) -> Print:
    """Makes the print of a picture.

    Args:
        ink: uint8 [height, width], 255 where there is ink.
    """
    cropped = crop_ink(ink, SPECKS[-1])
    if not cropped.size:
        return Print((0, 0), np.zeros(SIDE * SIDE, np.float32))
    small = cv2.resize(cropped, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    pixels = cv2.GaussianBlur(small, (0, 0), 1).astype(np.float32).ravel()
    pixels -= pixels.mean()
    height, width = cropped.shape
    return Print((height, width), pixels / (np.linalg.norm(pixels) + 1e-6))


def find_duplicates(sha256s: list[str], prints: list[Print]) -> Duplicates:
    """Groups images that are alike, or alike to one that is; groups are numbered by their first image.

    Args:
        sha256s: The hash of each image's file.
        prints: The print of each image, in the same order.
    """
    count = len(sha256s)
    first = {sha256: number for number, sha256 in reversed(list(enumerate(sha256s)))}
    pairs = [(number, first[sha256], 1.0) for number, sha256 in enumerate(sha256s) if first[sha256] != number]
    pixels = np.stack([image.pixels for image in prints])
    shapes = np.log(np.maximum([image.shape for image in prints], 1))
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
