"""Pictures as a judge should see them: of ink on paper the ink alone, of others all of them, in one size."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.shared.ink import FLAT, SPECKS, crop_ink

SIZE = 40  # pixels, square, of a view of ink
MARGIN = 3  # pixels, for the warps
DUST = 0.05  # a part of the ink with less than this share of the largest one
PICTURE_SIZE = 48  # pixels, square, of a view of a whole picture
SUBJECT_MARGIN = 0.1  # share of the subject's longer side that a crop leaves around it
PLAIN = 8  # tones; a picture whose colours differ by less shows nothing
GRAIN = 5  # pixels, the side of a square over which the grain of paper, or a camera's noise, evens out


def is_plain(picture: NDArray[np.uint8]) -> bool:
    """Whether a picture, as `decode_rgb` returns it, is of one colour but for a faint grain."""
    return _find_range(picture) < FLAT and _find_range(cv2.blur(picture, (GRAIN, GRAIN))) < PLAIN


def _find_range(picture: NDArray[Any]) -> int:
    """By how many tones the pixels differ in the channel in which they differ most."""
    return int(np.ptp(picture.reshape(-1, picture.shape[2] if picture.ndim == 3 else 1), axis=0).max())


def make_views(picture: NDArray[np.uint8], ink: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Makes what a judge sees of a picture.

    Of ink there are three crops: all of it, most of it, and the strokes alone. From several views the judge learns to
    ignore what else is on the page. Of another picture there are two: all of it, and what stands out in it.

    Args:
        picture: As `decode_rgb` returns it.
        ink: bool [height, width], its ink as `find_ink` finds it; None unless the data set is ink on paper.

    Returns:
        uint8 [3, SIZE, SIZE, 1], 255 where there is ink; or of other pictures uint8 [2, PICTURE_SIZE, PICTURE_SIZE, 3].
    """
    if ink is None:
        return np.stack([fit_picture(picture), fit_picture(crop_subject(picture))])
    strokes = isolate_strokes(np.where(ink, np.uint8(255), np.uint8(0))) > 0
    crops = [crop_ink(ink, 0), crop_ink(ink, SPECKS), crop_ink(strokes, 0)]
    return np.stack([fit_into_square(np.where(crop, np.uint8(255), np.uint8(0))) for crop in crops])[..., None]


def crop_subject(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cuts out what stands out from the colour along the border, with a margin; all of it where nothing does.

    Args:
        picture: As `decode_rgb` returns it.

    Returns:
        A part of it.
    """
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    distance = cv2.absdiff(picture, np.broadcast_to(np.median(border, axis=0), picture.shape).astype(np.uint8))
    distance = distance if distance.ndim == 2 else distance.max(axis=2)
    if distance.max() < FLAT:
        return picture
    mask = cv2.threshold(np.asarray(distance, np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
    left, top, width, height = cv2.boundingRect(mask)
    margin = round(SUBJECT_MARGIN * max(width, height))
    rows = slice(max(0, top - margin), top + height + margin)
    return picture[rows, max(0, left - margin) : left + width + margin]


def fit_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scales a whole picture to a square; its aspect is kept, and its border fills what is left.

    Args:
        picture: As `decode_rgb` returns it.

    Returns:
        uint8 [PICTURE_SIZE, PICTURE_SIZE, 3], red first.
    """
    if picture.ndim == 2:
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
    scale = PICTURE_SIZE / max(picture.shape[:2])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    top, left = (PICTURE_SIZE - height) // 2, (PICTURE_SIZE - width) // 2
    fitted = cv2.copyMakeBorder(
        cv2.resize(picture, (width, height), interpolation=how),
        top,
        PICTURE_SIZE - height - top,
        left,
        PICTURE_SIZE - width - left,
        cv2.BORDER_REPLICATE,
    )
    return np.asarray(fitted, np.uint8)


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
