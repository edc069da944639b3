"""Pictures of handwriting as a judge should see them: the ink alone, in one size."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIZE = 40  # pixels, square
MARGIN = 3  # pixels, for the warps
SPECKS = (0.0, 0.02)  # share of the ink that a crop leaves out on each side: dust would make the numeral small
DUST = 0.05  # a part of the ink with less than this share of the largest one
FLAT = 32  # tones; a picture with less contrast holds no ink


def views(found: "np.ndarray") -> "np.ndarray":
    """The ink cropped in different ways, uint8 [VIEWS, SIZE, SIZE]; `found` as `ink` returns it.

    All of it, most of it, and the strokes alone: the judge learns not to mind what else is on the page.
    """
    import numpy as np

    crops = [*(crop(found, share) for share in SPECKS), crop(strokes(found), 0)]
    return np.stack([fitted(cropped) for cropped in crops])


def strokes(found: "np.ndarray") -> "np.ndarray":
    """The ink without dust and rules, and without the neighbours that the picture's edge cuts."""
    import cv2
    import numpy as np

    _, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    left, top, width, height, area = stats.T
    rows, columns = found.shape
    cut = (left == 0) | (top == 0) | (left + width == columns) | (top + height == rows)
    area[0] = 0  # the paper
    kept = (area >= DUST * area.max()) & ~cut
    kept[area.argmax()] = True
    kept[0] = False
    return np.where(kept[parts], found, np.uint8(0))


def ink(encoded: bytes) -> "np.ndarray":
    """255 where there is ink, uint8 [height, width]; whichever of dark and light is rarer is the ink.

    Raises:
        ValueError: not an image.
    """
    import cv2
    import numpy as np

    gray = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    if gray is None:
        raise ValueError("not an image that OpenCV can read")
    if np.median(gray) < 128:
        gray = 255 - gray
    if np.ptp(gray) < FLAT:
        return np.zeros_like(gray)
    return cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)[1]


def crop(found: "np.ndarray", share: float) -> "np.ndarray":
    """The part that holds the ink, without `share` of it on each side; empty if there is none."""
    if not found.any():
        return found[:0, :0]
    (left, right), (top, bottom) = (_span(found.sum(axis, dtype=float), share) for axis in (0, 1))
    return found[top:bottom, left:right]


def _span(mass: "np.ndarray", share: float) -> tuple[int, int]:
    import numpy as np

    total = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(total, share, "right")), int(np.searchsorted(total, 1 - share, "left")) + 1


def fitted(cropped: "np.ndarray") -> "np.ndarray":
    """The crop in the middle of a square of SIZE, its aspect kept and its strokes thick enough to survive."""
    import cv2
    import numpy as np

    square = np.zeros((SIZE, SIZE), np.uint8)
    if not cropped.size:
        return square
    pen = round(0.8 * max(cropped.shape) / (SIZE - 2 * MARGIN))
    if pen > 1:
        padded = cv2.copyMakeBorder(cropped, pen, pen, pen, pen, cv2.BORDER_CONSTANT)
        cropped = cv2.dilate(padded, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
    scale = (SIZE - 2 * MARGIN) / max(cropped.shape)
    height, width = (max(1, round(side * scale)) for side in cropped.shape)
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square[top : top + height, left : left + width] = cv2.resize(cropped, (width, height), interpolation=how)
    return square
