"""Random warps that imitate other handwriting."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 5  # knots of the elastic field on each side
ROOM = 0.08  # log of the scale by which every picture shrinks; otherwise a stroke might leave it, and vi would be v


class Strength(NamedTuple):
    """The limit of each change, in both directions."""

    turn: float  # degrees
    shear: float  # tangent of the angle
    zoom: float  # log of the scale
    squeeze: float  # log of the square root of the aspect
    shift: float  # share of the side
    elastic: float  # pixels, standard deviation at the knots
    pen: float  # the chance that strokes become thicker, and the chance that they become thinner


STRONG = Strength(turn=15, shear=0.2, zoom=0.15, squeeze=0.2, shift=0.05, elastic=0.8, pen=0.2)
SLIGHT = Strength(turn=8, shear=0.1, zoom=0.1, squeeze=0.1, shift=0.04, elastic=0.5, pen=0)


def warp_pictures(pictures: Iterable[NDArray[np.uint8]], strength: Strength, seed: list[int]) -> NDArray[np.uint8]:
    """Changes each picture at random.

    Args:
        pictures: Each uint8 [side, side], 255 where there is ink.
        strength: The limits of the changes.
        seed: The same seed makes the same changes.

    Returns:
        uint8 [pictures, side, side].
    """
    rng = np.random.default_rng(seed)
    return np.stack([_warp_picture(picture, strength, rng) for picture in pictures])


def _warp_picture(picture: NDArray[np.uint8], strength: Strength, rng: np.random.Generator) -> NDArray[np.uint8]:
    side = len(picture)
    source = _choose_affine_map(side, strength, rng)
    knots = rng.normal(0, strength.elastic, (GRID, GRID, 2)).astype(np.float32)
    source += cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC)
    moved = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    pen = rng.random()
    if pen < 2 * strength.pen:
        moved = (cv2.dilate if pen < strength.pen else cv2.erode)(moved, np.ones((2, 2), np.uint8))
    return np.asarray(moved, np.uint8)


def _choose_affine_map(side: int, strength: Strength, rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns where each pixel comes from, float32 [side, side, 2]: x, y in pixels."""
    limits = (np.deg2rad(strength.turn), strength.shear, strength.zoom, strength.squeeze)
    turn, shear, zoom, squeeze = rng.uniform(-1, 1, 4) * limits
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, shear], [0, 1]]
    (xx, xy), (yx, yy) = turned @ np.diag(np.exp(np.add(ROOM + zoom, [squeeze, -squeeze])))
    middle = (side - 1) / 2
    along = np.arange(side) - middle
    shift = middle + rng.uniform(-1, 1, 2) * strength.shift * side
    x = xx * along + (xy * along)[:, None] + shift[0]
    y = yx * along + (yy * along)[:, None] + shift[1]
    return np.asarray(np.stack([x, y], axis=-1), np.float32)
