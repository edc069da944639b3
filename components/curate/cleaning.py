"""Cleaning of a picture of dark ink on light paper, with OpenCV."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from components.shared.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SMALL = 3  # pixels, the side of what median and opening look at: dust is smaller than a pen
NEIGHBOURS = 1 / 8  # share of the shorter side whose mean tone the adaptive threshold compares a pixel with
DARKER = 15  # tones that ink is darker than that mean, so that paper alone stays white
MARGIN = 0.1  # share of the ink's longer side that a crop leaves around it


def check(operations: Iterable[str]) -> None:
    """Raises a UserError if an operation is unknown."""
    for name in operations:
        if name not in OPERATIONS:
            raise UserError(f"cleaning has {name!r}; it may hold {', '.join(OPERATIONS)}.")


def cleaned(picture: "np.ndarray", operations: Iterable[str]) -> "np.ndarray":
    """The picture, uint8 [height, width] or [height, width, 3], after these operations in their order."""
    for name in operations:
        picture = OPERATIONS[name](picture)
    return picture


def _median(picture: "np.ndarray") -> "np.ndarray":
    """Without single pixels that differ from those around them."""
    import cv2

    return cv2.medianBlur(picture, SMALL)


def _opening(picture: "np.ndarray") -> "np.ndarray":
    """Without ink that is thinner than SMALL; of dark ink, the opening is a closing of the tones."""
    import cv2
    import numpy as np

    return cv2.morphologyEx(picture, cv2.MORPH_CLOSE, np.ones((SMALL, SMALL), np.uint8))


def _threshold(picture: "np.ndarray") -> "np.ndarray":
    """Black ink on white paper, gray, however the light falls on the page."""
    import cv2

    gray = _gray(picture)
    side = max(3, int(min(gray.shape) * NEIGHBOURS) // 2 * 2 + 1)
    return cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, side, DARKER)


def _crop(picture: "np.ndarray") -> "np.ndarray":
    """The part that holds the ink, with a margin; all of it if there is no ink."""
    import cv2

    threshold, found = cv2.threshold(_gray(picture), 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    left, top, width, height = cv2.boundingRect(found)
    if not threshold or not width:
        return picture
    margin = round(MARGIN * max(width, height))
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    return picture[rows, columns]


def _gray(picture: "np.ndarray") -> "np.ndarray":
    import cv2

    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


OPERATIONS = {"median": _median, "opening": _opening, "threshold": _threshold, "crop": _crop}
