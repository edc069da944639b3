"""Ink on paper: which pictures are line drawings, and where in them the ink is."""

import numpy as np
from numpy.typing import NDArray

FLAT = 32  # tones; a picture with less contrast holds no ink
SPECKS = 0.02  # share of the ink that a crop leaves out on each side: dust would make the drawing large

# A picture that is a line drawing by all of these is one. Measured: handwriting has at most 0.4 ink, strokes of at most
# 0.27 and at least 0.95 of its variance between ink and paper; filled shapes have strokes of at least 0.35 of their
# size, and half of the crops of photographs at most 0.76 of the variance.
MOST_INK = 0.4  # share of the pixels
THICKEST = 0.3  # width of the strokes, as a share of the drawing's longer side
TWO_TONED = 0.92  # share of the tones' variance that is between ink and paper
MOST_HUES = 12.0  # tones, the standard deviation of what colours a picture
LEAST_SIDE = 16  # pixels of the drawing's longer side; in smaller ones a place cannot be told from a shape


def convert_to_gray(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the tones of a picture, uint8 [height, width], with the weights of ITU-R 601 for a coloured one.

    Args:
        picture: uint8 [height, width], [height, width, 1] or [height, width, 3], red first.
    """
    if picture.ndim == 2:
        return picture
    if picture.shape[2] == 1:
        return picture[..., 0]
    return np.asarray(np.rint(picture @ np.array([0.299, 0.587, 0.114], np.float32)), np.uint8)


def find_ink(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Finds the ink with Otsu's threshold; whichever of dark and light is rarer is the ink.

    Args:
        gray: uint8 [height, width].

    Returns:
        bool [height, width], nowhere true if the picture is flat.
    """
    histogram = np.bincount(gray.ravel(), minlength=256)
    used = np.flatnonzero(histogram)
    if used[-1] - used[0] < FLAT:
        return np.zeros(gray.shape, bool)
    if np.searchsorted(np.cumsum(histogram), gray.size / 2) >= 128:
        return gray <= _find_threshold(histogram)
    return gray >= 255 - _find_threshold(histogram[::-1])


def _find_threshold(histogram: NDArray[np.int64]) -> int:
    """Returns the tone that divides a histogram best into two, after Otsu (1979): the last tone of the dark part."""
    tones = np.arange(256)
    dark, sums = np.cumsum(histogram), np.cumsum(histogram * tones)
    light = dark[-1] - dark
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums / dark - (sums[-1] - sums) / light) ** 2 * dark * light
    return int(np.nan_to_num(between, nan=-1).argmax())


def crop_ink(ink: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Cuts out the part that holds the ink.

    Args:
        ink: bool [height, width].
        share: Which share of the ink to leave out on each side, from 0 to 0.5.

    Returns:
        bool [rows, columns], empty if there is no ink.
    """
    if not ink.any():
        return ink[:0, :0]
    (left, right), (top, bottom) = find_ink_spans(ink, share)
    return ink[top:bottom, left:right]


def find_ink_spans(ink: NDArray[np.bool_], share: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Finds the part that holds the ink: its first column and the one after its last, and its rows likewise.

    Args:
        ink: bool [height, width].
        share: Which share of the ink to leave out on each side, from 0 to 0.5. Without ink, nothing is left out.
    """
    if not ink.any():
        return (0, ink.shape[1]), (0, ink.shape[0])
    pixels = ink.view(np.uint8)  # which are summed in half the time
    return _find_span(pixels.sum(0, dtype=np.uint32), share), _find_span(pixels.sum(1, dtype=np.uint32), share)


def _find_span(mass: NDArray[np.uint32], share: float) -> tuple[int, int]:
    total = np.cumsum(mass) / mass.sum()
    return int(np.searchsorted(total, share, "right")), int(np.searchsorted(total, 1 - share, "left")) + 1


def is_line_drawing(picture: NDArray[np.uint8], ink: NDArray[np.bool_]) -> bool:
    """Whether a picture looks like pen strokes in one colour on even paper.

    On even paper nearly all of the variance is that between ink and paper; strokes cover little of it, are thin, and
    have the hue of the paper or none.

    Args:
        picture: As for `convert_to_gray`.
        ink: Its ink, as `find_ink` finds it.
    """
    box = crop_ink(ink, SPECKS)
    if not box.size or max(box.shape) < LEAST_SIDE or ink.mean() > MOST_INK:
        return False
    if measure_stroke(ink) > THICKEST * max(box.shape) or _measure_hues(picture) > MOST_HUES:
        return False
    share = ink.mean()
    tones = convert_to_gray(picture).astype(np.float32)
    between = share * (1 - share) * (tones[ink].mean() - tones[~ink].mean()) ** 2
    return bool(between >= TWO_TONED * tones.var())


def measure_stroke(ink: NDArray[np.bool_]) -> float:
    """Estimates the width of the strokes in pixels: twice the area by the outline, which is pi / 4 of its steps."""
    edges = sum(np.count_nonzero(edge) for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
    steps = np.count_nonzero(ink[1:] != ink[:-1]) + np.count_nonzero(ink[:, 1:] != ink[:, :-1]) + edges
    return float(2 * np.count_nonzero(ink) / (np.pi / 4 * steps))


def _measure_hues(picture: NDArray[np.uint8]) -> float:
    """Returns how much red and blue differ from green over the picture: a standard deviation in tones."""
    if picture.ndim == 2 or picture.shape[2] == 1:
        return 0.0
    red, green, blue = np.moveaxis(picture.astype(np.float32), 2, 0)
    return float(np.sqrt((red - green).var() + (blue - green).var()))
