"""Random small changes of a picture, as if another hand had written it or it had been taken again."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 5  # knots of the elastic field on each side


class Strength(NamedTuple):
    """The limit of each change, in both directions."""

    turn: float  # degrees
    shear: float  # tangent of the angle
    zoom: float  # log of the scale
    squeeze: float  # log of the square root of the aspect
    shift: float  # share of the side
    elastic: float  # pixels, standard deviation at the knots
    pen: float  # the chance that strokes become thicker, and the chance that they become thinner
    light: float  # share by which each colour becomes lighter or darker
    room: float  # log of the scale by which every picture shrinks
    border: int  # what stands beyond the picture's edge, as OpenCV names it


class Warps(NamedTuple):
    """How strongly pictures are changed."""

    strong: Strength  # to learn from
    slight: Strength  # to be judged


# Ink shrinks, since otherwise a stroke might leave the picture, and vi would be v.
INK = Warps(
    Strength(15, 0.2, 0.15, 0.2, 0.05, elastic=0.8, pen=0.2, light=0, room=0.08, border=cv2.BORDER_CONSTANT),
    Strength(8, 0.1, 0.1, 0.1, 0.04, elastic=0.5, pen=0, light=0, room=0.08, border=cv2.BORDER_CONSTANT),
)
PICTURES = Warps(
    Strength(10, 0.1, 0.15, 0.08, 0.06, elastic=0.3, pen=0, light=0.15, room=0, border=cv2.BORDER_REPLICATE),
    Strength(5, 0.05, 0.06, 0.04, 0.03, elastic=0.2, pen=0, light=0.05, room=0, border=cv2.BORDER_REPLICATE),
)


def warp_pictures(
    pictures: Iterable[NDArray[np.uint8]], strength: Strength, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Changes each picture at random.

    Args:
        pictures: Each uint8 [side, side, channels].
        strength: The limits of the changes.
        rng: Makes the same changes from the same state.

    Returns:
        uint8 [pictures, side, side, channels].
    """
    return np.stack([_warp_picture(picture, strength, rng) for picture in pictures])


def _warp_picture(picture: NDArray[np.uint8], strength: Strength, rng: np.random.Generator) -> NDArray[np.uint8]:
    side = len(picture)
    source = _choose_affine_map(side, strength, rng)
    knots = rng.normal(0, strength.elastic, (GRID, GRID, 2)).astype(np.float32)
    source += cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC)
    moved = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=strength.border)
    pen = rng.random()
    if pen < 2 * strength.pen:
        moved = (cv2.dilate if pen < strength.pen else cv2.erode)(moved, np.ones((2, 2), np.uint8))
    if strength.light:
        factors = 1 + rng.uniform(-1, 1, picture.shape[2]) * strength.light
        moved = np.rint(np.clip(moved.reshape(picture.shape) * factors, 0, 255))
    return np.asarray(moved, np.uint8).reshape(picture.shape)


def _choose_affine_map(side: int, strength: Strength, rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns where each pixel comes from, float32 [side, side, 2]: x, y in pixels."""
    limits = (np.deg2rad(strength.turn), strength.shear, strength.zoom, strength.squeeze)
    turn, shear, zoom, squeeze = rng.uniform(-1, 1, 4) * limits
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, shear], [0, 1]]
    (xx, xy), (yx, yy) = turned @ np.diag(np.exp(np.add(strength.room + zoom, [squeeze, -squeeze])))
    middle = (side - 1) / 2
    along = np.arange(side) - middle
    shift = middle + rng.uniform(-1, 1, 2) * strength.shift * side
    x = xx * along + (xy * along)[:, None] + shift[0]
    y = yx * along + (yy * along)[:, None] + shift[1]
    return np.asarray(np.stack([x, y], axis=-1), np.float32)
