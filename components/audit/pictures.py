"""Pictures of handwriting as a judge should see them: the ink alone, in one size."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 40  # pixels, square
MARGIN = 3  # pixels, for the warps
SPECKS = (0.0, 0.02)  # share of the ink that a crop leaves out on each side: dust would make the numeral small
DUST = 0.05  # a part of the ink with less than this share of the largest one
FLAT = 32  # tones; a picture with less contrast holds no ink


def extract_ink(encoded: bytes) -> NDArray[np.uint8]:
    """Finds the ink with Otsu's threshold; whichever of dark and light is rarer is the ink.

    Args:
        encoded: A PNG or JPEG file.

    Returns:
        uint8 [height, width], 255 where there is ink and 0 elsewhere.

    Raises:
        ValueError: The bytes are no image that OpenCV can read.
    """
    try:
        gray = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # such as for a picture with more pixels than OpenCV takes
        gray = None
    if gray is None:
        raise ValueError("not an image that OpenCV can read")
    if np.median(gray) < 128:
        gray = 255 - gray
    if np.ptp(gray) < FLAT:
        return np.zeros_like(gray)
    return np.asarray(cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)[1], np.uint8)


def make_views(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops the ink in three ways: all of it, most of it, and the strokes alone.

    From several views the judge learns to ignore what else is on the page.

    Args:
        ink: uint8 [height, width], as `extract_ink` returns it.

    Returns:
        uint8 [views, SIZE, SIZE].
    """
    crops = [*(crop_ink(ink, share) for share in SPECKS), crop_ink(isolate_strokes(ink), 0)]
    return np.stack([fit_into_square(crop) for crop in crops])


def isolate_strokes(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Removes dust, ruled lines, and the neighbouring characters that the picture's edge cuts off.

    Args:
        ink: uint8 [height, width].

    Returns:
        The rest of the ink, uint8 [height, width].
    """
    _, parts, stats, _ = cv2.connectedComponentsWithStats(ink)
    left, top, width, height, area = stats.T
    rows, columns = ink.shape
    cut = (left == 0) | (top == 0) | (left + width == columns) | (top + height == rows)
    area[0] = 0  # the paper
    kept = (area >= DUST * area.max()) & ~cut
    kept[area.argmax()] = True
    kept[0] = False
    return np.where(kept[parts], ink, np.uint8(0))


def crop_ink(ink: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Cuts out the part that holds the ink.

    Args:
        ink: uint8 [height, width].
        share: Which share of the ink to leave out on each side, from 0 to 0.5.

    Returns:
        uint8 [rows, columns], empty if there is no ink.
    """
    if not ink.any():
        return ink[:0, :0]
    (left, right), (top, bottom) = (_find_span(ink.sum(axis, dtype=float), share) for axis in (0, 1))
    return ink[top:bottom, left:right]


def _find_span(mass: NDArray[np.float64], share: float) -> tuple[int, int]:
    total = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(total, share, "right")), int(np.searchsorted(total, 1 - share, "left")) + 1


def fit_into_square(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scales a crop to the middle of a square; its aspect is kept, its strokes are thick enough to survive.

    Args:
        crop: uint8 [rows, columns], perhaps empty.

    Returns:
        uint8 [SIZE, SIZE].
    """
    square = np.zeros((SIZE, SIZE), np.uint8)
    if not crop.size:
        return square
    pen = round(0.8 * max(crop.shape) / (SIZE - 2 * MARGIN))
    if pen > 1:
        padded = cv2.copyMakeBorder(crop, pen, pen, pen, pen, cv2.BORDER_CONSTANT)
        crop = np.asarray(cv2.dilate(padded, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen))), np.uint8)
    scale = (SIZE - 2 * MARGIN) / max(crop.shape)
    height, width = (max(1, round(side * scale)) for side in crop.shape)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square[top : top + height, left : left + width] = cv2.resize(crop, (width, height), interpolation=how)
    return square
