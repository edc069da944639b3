"""Cleaning of a picture of dark ink on light paper, with OpenCV."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.shared.errors import UserError

Picture = NDArray[Any]  # uint8 [height, width] of a gray picture, [height, width, 3] of a coloured one

SMALL = 3  # pixels, the side of what median and opening look at: dust is smaller than a pen
NEIGHBOURS = 1 / 8  # share of the shorter side whose mean tone the adaptive threshold compares a pixel with
DARKER = 15  # tones that ink is darker than that mean, so that paper alone stays white
MARGIN = 0.1  # share of the ink's longer side that a crop leaves around it


def check_cleaning(operations: Iterable[str]) -> None:
    """Checks the names of the operations.

    Raises:
        UserError: one is unknown.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise UserError(f"cleaning has {name!r}; it may hold {', '.join(OPERATIONS)}.")


def clean(picture: Picture, operations: Iterable[str]) -> Picture:
    """The picture, uint8 [height, width] or [height, width, 3], after these operations in their order."""
    for name in operations:
        picture = OPERATIONS[name](picture)
    return picture


def _filter_median(picture: Picture) -> Picture:
    """Removes single pixels that differ from those around them."""
    return cv2.medianBlur(picture, SMALL)


def _open_strokes(picture: Picture) -> Picture:
    """Removes ink that is thinner than SMALL; an opening of dark ink is a closing of the tones."""
    return cv2.morphologyEx(picture, cv2.MORPH_CLOSE, np.ones((SMALL, SMALL), np.uint8))


def _apply_threshold(picture: Picture) -> Picture:
    """Black ink on white paper, gray, however the light falls on the page."""
    gray = _convert_to_gray(picture)
    side = max(3, int(min(gray.shape) * NEIGHBOURS) // 2 * 2 + 1)
    return cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, side, DARKER)


def _crop(picture: Picture) -> Picture:
    """The part that holds the ink, with a margin; all of it if there is no ink."""
    threshold, ink = cv2.threshold(_convert_to_gray(picture), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    left, top, width, height = cv2.boundingRect(ink)
    if not threshold or not width:
        return picture
    margin = round(MARGIN * max(width, height))
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    return picture[rows, columns]


def _convert_to_gray(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


OPERATIONS = {"median": _filter_median, "opening": _open_strokes, "threshold": _apply_threshold, "crop": _crop}
