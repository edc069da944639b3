"""The same numeral in another hand: random small changes of a picture."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

GRID = 5  # knots of the elastic field on each side
ROOM = 0.08  # log of the scale by which every picture shrinks, or a stroke might leave it: vi would be v


class Strength(NamedTuple):
    """The most of each change, to both sides."""

    turn: float  # degrees
    shear: float
    zoom: float  # log of the scale
    squeeze: float  # log of the aspect's square root
    shift: float  # share of the side
    elastic: float  # pixels, standard deviation at the knots
    pen: float  # chance that strokes become thicker, and thinner


STRONG = Strength(turn=15, shear=0.2, zoom=0.15, squeeze=0.2, shift=0.05, elastic=0.8, pen=0.2)
SLIGHT = Strength(turn=8, shear=0.1, zoom=0.1, squeeze=0.1, shift=0.04, elastic=0.5, pen=0)


def warped(pictures: Iterable["np.ndarray"], strength: Strength, seed: list[int]) -> "np.ndarray":
    """A random change of each picture, uint8 [pictures, side, side]; the same for a seed."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return np.stack([_warped(picture, strength, rng) for picture in pictures])


def _warped(picture: "np.ndarray", strength: Strength, rng: "np.random.Generator") -> "np.ndarray":
    import cv2
    import numpy as np

    side = len(picture)
    source = _affine(side, strength, rng)
    knots = rng.normal(0, strength.elastic, (GRID, GRID, 2)).astype(np.float32)
    source += cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC)
    moved = cv2.remap(picture, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    pen = rng.random()
    if pen < 2 * strength.pen:
        return (cv2.dilate if pen < strength.pen else cv2.erode)(moved, np.ones((2, 2), np.uint8))
    return moved


def _affine(side: int, strength: Strength, rng: "np.random.Generator") -> "np.ndarray":
    """Where each pixel comes from, float32 [side, side, 2]: x, y."""
    import numpy as np

    limits = (np.deg2rad(strength.turn), strength.shear, strength.zoom, strength.squeeze)
    turn, shear, zoom, squeeze = rng.uniform(-1, 1, 4) * limits
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ [[1, shear], [0, 1]]
    (xx, xy), (yx, yy) = turned @ np.diag(np.exp(np.add(ROOM + zoom, [squeeze, -squeeze])))
    middle = (side - 1) / 2
    along = np.arange(side) - middle
    shift = middle + rng.uniform(-1, 1, 2) * strength.shift * side
    x = xx * along + (xy * along)[:, None] + shift[0]
    y = yx * along + (yy * along)[:, None] + shift[1]
    return np.stack([x, y], axis=-1).astype(np.float32)
