"""Cleaning of a picture of dark ink on light paper, with OpenCV."""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.shared.errors import UserError, quote

Picture = NDArray[Any]  # uint8 [height, width] of a gray picture, [height, width, 3] of a coloured one

SMALL = 3  # pixels, the side of the window of median and opening; dust is smaller than the stroke of a pen
NEIGHBOURS = 1 / 8  # side of the window of the adaptive threshold, as a share of the picture's shorter side
DARKER = 15  # tones by which ink must be darker than the mean of its window, so that plain paper stays white
MARGIN = 0.1  # share of the ink's longer side that a crop leaves around the ink


def check_cleaning(operations: Iterable[str]) -> None:
    """Checks the names of operations.

    Args:
        operations: The names.

    Raises:
        UserError: A name is unknown.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise UserError(f"cleaning has {quote(name)}; it may hold {', '.join(OPERATIONS)}.")


def clean(picture: Picture, operations: Iterable[str]) -> Picture:
    """Cleans a picture.

    Args:
        picture: uint8 [height, width] or [height, width, 3]; it is not changed.
        operations: The names of operations, in the order in which they are applied.

    Returns:
        The cleaned picture; threshold makes a coloured one gray.
    """
    for name in operations:
        picture = OPERATIONS[name](picture)
    return picture


def _filter_median(picture: Picture) -> Picture:
    """Removes single pixels that differ from those around them."""
    return cv2.medianBlur(picture, SMALL)


def _open_strokes(picture: Picture) -> Picture:
    """Removes ink that is thinner than SMALL. Opening dark ink means closing the tones."""
    return cv2.morphologyEx(picture, cv2.MORPH_CLOSE, np.ones((SMALL, SMALL), np.uint8))


def _apply_threshold(picture: Picture) -> Picture:
    """Makes ink black and paper white, even where the page is lit unevenly; the picture becomes gray."""
    gray = _convert_to_gray(picture)
    side = max(3, int(min(gray.shape) * NEIGHBOURS) // 2 * 2 + 1)
    return cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, side, DARKER)


def _crop(picture: Picture) -> Picture:
    """Cuts out the ink with a margin; a picture without ink stays whole."""
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
