"""Augmentation: random changes of a picture, as if another hand had written the same, or another camera had seen it.

The changes are drawn first, as plain data that goes into the manifest, and then applied. Applying the operations of the
manifest, each with its parameters, to the source therefore gives the same picture again.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

from components.curate.cleaning import Picture
from components.shared.duplicates import check_content
from components.shared.errors import UserError, quote
from components.shared.ink import SPECKS, find_ink_spans

Operation = dict[str, Any]  # its name as `operation`, and its parameters, as they go into the manifest


class Warp(NamedTuple):
    """The largest change of each kind in the form of ink, in both directions. Small ones are drawn more often."""

    rotation: float  # degrees
    shear: float  # columns per row
    stretch: float  # factor of the width; the height is divided by it
    elastic: float  # standard deviation of the shift at each knot, as a share of the shorter side


# Of 6 trainings each on the competition's images for 100 epochs, in another framework (see benchmarks/README.md), mild
# copies reached 0.904 on val (0.891 to 0.911) and strong ones 0.893 (0.887 to 0.903); warps half as strong as the mild
# ones were no better, and twice as strong as the strong ones worse.
MILD = Warp(rotation=8.0, shear=0.1, stretch=1.16, elastic=0.01)
STRONG = Warp(rotation=20.0, shear=0.25, stretch=1.35, elastic=0.02)
VARIATIONS = ("mild", "strong")

# Of mild copies: each keeps the size and the place of its source, but for random changes of these standard deviations.
SCALE = 0.12  # of the logarithm of the size's factor
SHIFT = 0.1  # share of the room that the ink leaves free
# Of strong copies: each gets a size, a place, and a stroke width of its own.
SIZES = (0.3, 0.95)  # share of the picture's side that the ink takes, along the side where it takes more; log-uniform
STROKES = (0.025, 0.04, 0.09)  # smallest, usual and largest stroke width, as shares of the picture's shorter side
THICKER = 2.0  # largest factor of the stroke width; with more, neighbouring strokes would merge
THINNER = 0.6  # smallest factor of the stroke width
# Of both, as far as the comments say nothing else the largest change.
CLIP = 0.02  # share of the ink's box that may leave the picture; with more, vi might lose its i
KNOTS = 4  # of the elastic field, along each side
CONTRAST = 0.85  # smallest factor of the difference from the paper
LIGHTER = 20.0  # tones that are added to ink and paper; white paper stays white
VANISHED = 0.4  # strokes are not thinned if less than this share of the ink would be left
PAPER = (140 / 255, 1.0)  # smallest and largest tone of paper in tones, as a share of white
DEPTH = 0.35  # smallest difference of its ink, likewise
LONGEST_SIDE = 512  # pixels; models that see 32 x 32 or 96 x 96 gain nothing from larger pictures

# Of pictures that are not ink on paper, likewise.
TILT = 10.0  # degrees
WINDOW = 0.8  # smallest share of each side that is cut out
LIGHT = 1.25  # largest factor of the brightness, and of the contrast
SATURATION = 1.3  # largest factor of the colours' strength
BALANCE = 1.08  # largest factor of a single colour

MOST_WEIGHT = 1_000_000  # of hard_weight; far greater ones leave the range of numbers
DIRECTIONS = {"horizontal": 1, "vertical": 0}  # as cv2.flip names them


class Augmentation(NamedTuple):
    """How many images are made, and from which."""

    max_images: int  # the most images that train and val may hold together
    augment_times: float  # images of train including the augmented ones, as a multiple of those before curation
    augment_to: int  # images of train and val including the augmented ones, in place of augment_times; else -1
    hard_weight: float  # how much more is made of what the last model got wrong; 0 treats all images alike
    flips: dict[str, list[str]]  # class -> DIRECTIONS in which a flipped picture is still of that class
    content: str  # ink, pictures, or auto if the images are to tell
    ink_variation: str  # of VARIATIONS
    ink_tones: float  # share of the copies of ink that get tones of their own for paper and ink
    seed: int

    def count_wanted(self, train: int, val: int) -> int:
        """Returns how many images train and val are to hold together.

        Args:
            train: The images of train before curation, without those that an earlier curation made of others, and
                those that move there.
            val: The images of val after curation.
        """
        if self.augment_to >= 0:
            return self.augment_to
        return round(min(self.augment_times * train + val, self.max_images))


def check_augmentation(augmentation: Augmentation) -> None:
    """Checks the settings.

    Args:
        augmentation: The settings.

    Raises:
        UserError: A setting is out of range.
    """
    if augmentation.max_images < 1:
        raise UserError(f"max_images is {augmentation.max_images}; it must be 1 or more.")
    if not 0 <= augmentation.augment_times < float("inf"):
        raise UserError(f"augment_times is {augmentation.augment_times}; it must be 0 or more.")
    if not -1 <= augmentation.augment_to <= augmentation.max_images:
        raise UserError(
            f"augment_to is {augmentation.augment_to}; it must be from -1 to max_images, {augmentation.max_images}."
        )
    if not 0 <= augmentation.hard_weight <= MOST_WEIGHT:
        raise UserError(f"hard_weight is {augmentation.hard_weight}; it must be from 0 to {MOST_WEIGHT:,}.")
    check_content(augmentation.content)
    if augmentation.ink_variation not in VARIATIONS:
        raise UserError(f"ink_variation is {quote(augmentation.ink_variation)}; it must be {' or '.join(VARIATIONS)}.")
    if not 0 <= augmentation.ink_tones <= 1:
        raise UserError(f"ink_tones is {augmentation.ink_tones}; it must be from 0 to 1.")
    if not 0 <= augmentation.seed < 2**31:
        raise UserError(f"seed is {augmentation.seed}; it must be from 0 to 2147483647.")
    for name, directions in augmentation.flips.items():
        if not isinstance(directions, list) or not all(direction in DIRECTIONS for direction in directions):
            raise UserError(
                f"flips has {quote(directions)} for {name}; it must be a list of {' and '.join(DIRECTIONS)}."
            )


def draw_operations(seed: list[int], directions: Iterable[str], augmentation: Augmentation) -> list[Operation]:
    """Draws random operations.

    Args:
        seed: The seed of numpy's default_rng; the same seed gives the same operations.
        directions: The DIRECTIONS in which the picture may be flipped.
        augmentation: The settings, with ink or pictures as `content`.

    Returns:
        The operations with their parameters, in the order in which they are to be applied.
    """
    rng = np.random.default_rng(seed)
    flips = [{"operation": "flip", "direction": direction} for direction in directions if rng.random() < 0.5]
    changes = _draw_for_ink(rng, augmentation) if augmentation.content == "ink" else _draw_for_picture(rng)
    return [{"operation": "reduce", "longest_side": LONGEST_SIDE}, *flips, *changes]


def _draw_for_picture(rng: np.random.Generator) -> list[Operation]:
    def draw_factor(most: float) -> float:
        return _draw_factor(rng, 1 / most, 1, most)

    return [
        {"operation": "rotate", "degrees": _draw(rng, -TILT, 0, TILT)},
        {
            "operation": "window",
            "share": round(float(rng.uniform(WINDOW, 1)), 4),
            "place": [round(float(rng.uniform(-1, 1)), 4) for _ in range(2)],
        },
        {"operation": "light", "brightness": draw_factor(LIGHT), "contrast": draw_factor(LIGHT)},
        {
            "operation": "colour",
            "saturation": draw_factor(SATURATION),
            "balance": [draw_factor(BALANCE) for _ in range(3)],
        },
    ]


def _draw_for_ink(rng: np.random.Generator, augmentation: Augmentation) -> list[Operation]:
    form = _draw_mild_form(rng) if augmentation.ink_variation == "mild" else _draw_strong_form(rng)
    light = {
        "operation": "brightness",
        "contrast": _draw(rng, CONTRAST, 1, 1),
        "brightness": _draw(rng, 0, 0, LIGHTER),
    }
    if rng.random() < augmentation.ink_tones:
        paper = round(float(rng.uniform(*PAPER)), 4)
        light = {"operation": "tones", "paper": paper, "ink": round(float(rng.uniform(0, paper - DEPTH)), 4)}
    return [*form, light]


def _draw_mild_form(rng: np.random.Generator) -> list[Operation]:
    change = {
        "operation": "vary",
        **_draw_warp(rng, MILD),
        "scale": round(float(np.exp(rng.normal(0, SCALE))), 4),
        "shift": [round(float(rng.normal(0, SHIFT)), 4) for _ in range(2)],
    }
    return [change, _draw_elastic(rng, MILD)]


def _draw_strong_form(rng: np.random.Generator) -> list[Operation]:
    change = {
        "operation": "affine",
        **_draw_warp(rng, STRONG),
        "size": round(float(np.exp(rng.uniform(*np.log(SIZES)))), 4),
        "place": [_draw(rng, -1, 0, 1), _draw(rng, -1, 0, 1)],
    }
    return [change, _draw_elastic(rng, STRONG), {"operation": "stroke", "width": _draw_factor(rng, *STROKES)}]


def _draw_warp(rng: np.random.Generator, most: Warp) -> Operation:
    return {
        "rotation": _draw(rng, -most.rotation, 0, most.rotation),
        "shear": _draw(rng, -most.shear, 0, most.shear),
        "stretch": _draw_factor(rng, 1 / most.stretch, 1, most.stretch),
    }


def _draw_elastic(rng: np.random.Generator, most: Warp) -> Operation:
    deviation = _draw(rng, 0, most.elastic / 2, most.elastic)
    return {"operation": "elastic", "deviation": deviation, "seed": int(rng.integers(2**31))}


def _draw(rng: np.random.Generator, low: float, usual: float, high: float) -> float:
    return round(float(rng.triangular(low, usual, high)), 4)


def _draw_factor(rng: np.random.Generator, low: float, usual: float, high: float) -> float:
    return round(float(np.exp(rng.triangular(*np.log([low, usual, high])))), 4)


def apply_operations(picture: Picture, operations: Iterable[Operation]) -> Picture:
    """Applies operations to a picture.

    Args:
        picture: uint8 [height, width] or [height, width, 3]; it is not changed.
        operations: As `draw_operations` returns them.

    Returns:
        The changed picture, likewise.
    """
    for step in operations:
        parameters = {name: value for name, value in step.items() if name != "operation"}
        picture = OPERATIONS[step["operation"]](picture, **parameters)
    return picture


def _reduce(picture: Picture, longest_side: int) -> Picture:
    scale = longest_side / max(picture.shape)
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _flip(picture: Picture, direction: str) -> Picture:
    return cv2.flip(picture, DIRECTIONS[direction])


def _vary(
    picture: Picture, *, rotation: float, shear: float, stretch: float, scale: float, shift: list[float]
) -> Picture:
    """Turns and stretches the ink, scales it by `scale` as far as the picture has room, and moves it by `shift`.

    The shift is a share of the room that the ink leaves free, to the right and down.
    """
    sides = np.array(picture.shape[1::-1], float)  # width, height
    corners = _find_ink_corners(picture)
    extent = np.ptp(corners, axis=0)
    room = sides - extent + 2 * CLIP * extent
    place = (2 * corners.mean(axis=0) - sides) / room + 2 * np.array(shift)
    return _transform(
        picture,
        rotation=rotation,
        shear=shear,
        stretch=stretch,
        size=min(float((extent / sides).max()) * scale, 1),
        place=list(np.clip(place, -1, 1)),
    )


def _transform(
    picture: Picture, *, rotation: float, shear: float, stretch: float, size: float, place: list[float]
) -> Picture:
    """Turns and stretches the ink, scales it to `size` and moves it to `place`, -1 to 1 from the left and the top."""
    sides = np.array(picture.shape[1::-1], float)  # width, height
    angle = np.deg2rad(rotation)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turned @ np.array([[1, shear], [0, 1]]) @ np.diag([stretch, 1 / stretch])
    corners = _find_ink_corners(picture)
    extent = np.ptp(corners @ matrix.T, axis=0)
    zoom = size / (extent / sides).max()
    matrix, extent = matrix * zoom, extent * zoom
    room = (sides - extent) / 2 + CLIP * extent
    offset = sides / 2 + np.array(place) * room - matrix @ corners.mean(axis=0)
    transform = np.column_stack([matrix, offset])
    return cv2.warpAffine(
        picture,
        transform,
        picture.shape[1::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_measure_paper(picture),
    )


def _bend(picture: Picture, deviation: float, seed: int) -> Picture:
    """Distorts the picture elastically, by shifts drawn at a few knots and interpolated between them.

    After Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003, who smooth a shift of every pixel
    with a Gaussian instead.
    """
    height, width = picture.shape[:2]
    knots = np.random.default_rng(seed).normal(0, deviation * min(height, width), (KNOTS, KNOTS, 2))
    moved = cv2.resize(knots.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    x = moved[..., 0] + np.arange(width, dtype=np.float32)
    y = moved[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(
        picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=_measure_paper(picture)
    )


def _change_stroke(picture: Picture, width: float) -> Picture:
    """Gives strokes this width, a share of the shorter side, or the nearest that THICKER and THINNER allow."""
    ink = _extract_ink(picture)
    now = _measure_stroke(ink)
    wanted = np.clip(width * min(picture.shape[:2]), THINNER * now, THICKER * now)
    side = round(abs(wanted - now)) + 1
    if side == 1:
        return picture
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    changed = (cv2.erode if (wanted > now) == _is_paper_light(picture) else cv2.dilate)(picture, kernel)
    if wanted < now and _extract_ink(changed).sum(dtype=float) < VANISHED * ink.sum(dtype=float):
        return picture
    return changed


def _measure_stroke(ink: Picture) -> float:
    """Estimates the width of the strokes in pixels.

    The mean distance from ink to paper is (width + 2) / 4 for a long straight stroke.
    """
    distance = cv2.distanceTransform((ink > ink.max() // 2).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return 4 * float(distance[distance > 0].mean()) - 2 if distance.any() else 0.0


def _change_brightness(picture: Picture, contrast: float, brightness: float) -> Picture:
    paper = np.array(_measure_paper(picture))
    tones = (np.arange(256)[:, None] - paper) * contrast + paper + brightness
    table = np.rint(np.clip(tones, 0, 255)).astype(np.uint8)
    return cv2.LUT(picture, table.reshape(256, 1, *picture.shape[2:]))


def _set_tones(picture: Picture, paper: float, ink: float) -> Picture:
    """Gives paper and ink these tones, as shares of white where the ink is darker, and of black where it is lighter.

    The difference between the two does not grow, as that of a faded picture would bring out its stains.
    """
    paper_now, depth = float(np.mean(_measure_paper(picture))), float(_extract_ink(picture).max())
    wanted = 255 * (paper if _is_paper_light(picture) else 1 - paper)
    contrast = min(255 * (paper - ink) / max(depth, 1), 1)
    return _change_brightness(picture, contrast, wanted - paper_now)


def _rotate(picture: Picture, degrees: float) -> Picture:
    """Turns the picture about its middle; its border fills the corners."""
    height, width = picture.shape[:2]
    transform = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(
        picture, transform, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def _cut_window(picture: Picture, share: float, place: list[float]) -> Picture:
    """Scales a part of the picture to all of it; `place` is -1 to 1 from the left and the top."""
    height, width = picture.shape[:2]
    rows, columns = (max(1, round(share * side)) for side in (height, width))
    left, top = (
        round((where + 1) / 2 * room) for where, room in zip(place, (width - columns, height - rows), strict=True)
    )
    part = picture[top : top + rows, left : left + columns]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def _change_light(picture: Picture, brightness: float, contrast: float) -> Picture:
    """Multiplies the tones by the brightness, and their difference from the mean tone by the contrast."""
    mean = float(picture.mean())
    return _round_tones(((picture - mean) * contrast + mean) * brightness)


def _change_colour(picture: Picture, saturation: float, balance: list[float]) -> Picture:
    """Multiplies the difference from gray by the saturation, and blue, green and red by the balance."""
    if picture.ndim == 2:
        return picture
    gray = picture.mean(axis=2, keepdims=True)
    return _round_tones(((picture - gray) * saturation + gray) * np.array(balance))


def _round_tones(tones: Picture) -> Picture:
    return np.asarray(np.rint(np.clip(tones, 0, 255)), np.uint8)


OPERATIONS: dict[str, Callable[..., Picture]] = {
    "reduce": _reduce,
    "flip": _flip,
    "vary": _vary,
    "affine": _transform,
    "elastic": _bend,
    "stroke": _change_stroke,
    "brightness": _change_brightness,
    "tones": _set_tones,
    "rotate": _rotate,
    "window": _cut_window,
    "light": _change_light,
    "colour": _change_colour,
}


def _measure_paper(picture: Picture) -> tuple[float, ...]:
    """Returns the tone of the paper in each channel: the median along the picture's border."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return tuple(float(tone) for tone in np.atleast_1d(np.median(border, axis=0)))


def _is_paper_light(picture: Picture) -> bool:
    return float(np.mean(_measure_paper(picture))) >= 128


def _extract_ink(picture: Picture) -> Picture:
    """Returns how far the tone of each pixel is from that of the paper, uint8 [height, width]."""
    distance = cv2.absdiff(picture, np.full_like(picture, _measure_paper(picture)))
    return distance if distance.ndim == 2 else distance.max(axis=2)


def _find_ink_corners(picture: Picture) -> Picture:
    """Returns the corners of the box that holds the ink but for SPECKS of it on each side: float [4, 2], x and y."""
    ink = _extract_ink(picture)
    is_ink = ink > ink.max() // 2
    spans = find_ink_spans(is_ink, SPECKS)
    return np.array([(x, y) for x in spans[0] for y in spans[1]], float)
