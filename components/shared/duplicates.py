"""Which images show one picture twice, as people mean it.

The same picture is the same bytes, or the picture saved, scaled or compressed again: its colours agree everywhere, so
that what differs in colour, texture, size or place is another picture. Only where the data are ink on paper is the same
ink at another place of the page the same picture, too.

Each image becomes a small fingerprint. Groups are found by dividing the fingerprints, several times at random, into
small cells of similar ones and comparing only those within a cell; time and memory therefore grow about linearly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from components.shared.errors import UserError, quote
from components.shared.ink import SPECKS, convert_to_gray, crop_ink, find_ink, is_line_drawing

CONTENTS = ("auto", "ink", "pictures")  # what images may be said to be: auto leaves it to the images

SIDE = 20  # pixels of the small picture's brightness
HUE_SIDE = 8  # pixels of its two colour channels, which JPEG keeps less well
HUE_WEIGHT = 0.5  # of a tone of colour, against one of brightness
INK_SIDE = 32  # pixels of the small picture of the ink

# The small pictures of one picture differ by at most FAINTEST and MOVED of their detail, and by SAME_TONES: root mean
# square in tones. The detail is the difference of neighbouring pixels, so MOVED is a shift in pixels of the small
# picture; what compression does to a picture grows with its detail likewise. Chosen with benchmarks/duplicates.py.
FAINTEST = 0.7
MOVED = 0.18
SAME_TONES = 7.0
SMALL = 16  # pixels; what compression does to smaller pictures is not evened out, so they may differ by more
LEAST_SIDE = 6  # pixels; of narrower pictures too little is left to compare, so that only the same pixels are the same
SAME_ASPECT = 0.02  # log of the ratio of width to height, besides the rounding to whole pixels

SAME_INK = 0.95  # least cosine of the ink of one drawing; different drawings of one numeral reach 0.93
SAME_INK_SIZE = 1.06  # the most by which the ink of one drawing differs in width or height

MOST_NEAR = 0.25  # share of images with near duplicates in a collection; the competition's has 0.02

TREES = 6  # divisions; in each, a pair of duplicates has a small chance to be parted
CELL = 100  # images
PROJECTED = 32  # random directions in which the fingerprints are divided
BLOCK = 1024  # images that are projected at a time

# With these weights, the distance of two small pictures is the root mean square of their differences in tones.
WEIGHTS = np.repeat([1 / SIDE, HUE_WEIGHT / HUE_SIDE], [SIDE**2, 2 * HUE_SIDE**2])

# Compares the images of a cell: which pairs are one picture, bool [images, images], and their likeness, likewise float.
Compare = Callable[[NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.float64]]]


class Fingerprint(NamedTuple):
    """What is compared of a picture."""

    height: int  # pixels of the picture
    width: int
    pixels: bytes  # the whole picture: uint8 [SIDE, SIDE] brightness, and twice [HUE_SIDE, HUE_SIDE] blue and red
    is_drawing: bool  # whether it looks like ink on paper
    ink_height: int  # pixels of the ink; 0 if there is none
    ink_width: int
    ink: bytes  # uint8 [INK_SIDE, INK_SIDE], the ink alone


class Duplicates(NamedTuple):
    """Which images are alike; each array has an entry per image."""

    groups: NDArray[np.int64]  # [images], numbered by their first image; one without a duplicate is a group of its own
    likeness: NDArray[np.float64]  # [images], to the image most alike in its group, 0 to 1; 0 if there is none


class Pairs(NamedTuple):
    """Images that are alike; each array has an entry per pair. Those of a group are connected by pairs."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    likeness: NDArray[np.float64]  # 1 for the same, 0 for nothing in common


def fingerprint(picture: NDArray[np.uint8]) -> Fingerprint:
    """Makes the fingerprint of a picture.

    Args:
        picture: uint8 [height, width] or [height, width, 1] in gray, or [height, width, 3] in colour, red first.
    """
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    ink = find_ink(convert_to_gray(picture))
    box = crop_ink(ink, SPECKS)
    return Fingerprint(
        height=picture.shape[0],
        width=picture.shape[1],
        pixels=_draw_small(Image.fromarray(picture)),
        is_drawing=is_line_drawing(picture, ink),
        ink_height=box.shape[0],
        ink_width=box.shape[1],
        ink=_draw_ink(box),
    )


def _draw_small(image: Image.Image) -> bytes:
    def resize(side: int) -> Image.Image:
        return image.resize((side, side), Image.Resampling.BILINEAR).convert("RGB").convert("YCbCr")

    blue, red = resize(HUE_SIDE).split()[1:]
    return resize(SIDE).split()[0].tobytes() + blue.tobytes() + red.tobytes()


def _draw_ink(box: NDArray[np.bool_]) -> bytes:
    if not box.size:
        return bytes(INK_SIDE * INK_SIDE)
    ink = Image.fromarray(box.astype(np.uint8) * 255).resize((INK_SIDE, INK_SIDE), Image.Resampling.BOX)
    return ink.filter(ImageFilter.GaussianBlur(1)).tobytes()


def is_ink_on_paper(fingerprints: Iterable[Fingerprint]) -> bool:
    """Whether a data set is line drawings: most of its pictures with ink look like one.

    Args:
        fingerprints: Those of its pictures, or of enough of them.
    """
    looks = [image.is_drawing for image in fingerprints if image.ink_height]
    return sum(looks) > len(looks) / 2


def check_content(content: str) -> None:
    """Checks what images are said to be.

    Raises:
        UserError: It is none of CONTENTS.
    """
    if content not in CONTENTS:
        raise UserError(f"content is {quote(content)}; it must be {', '.join(CONTENTS[:-1])} or {CONTENTS[-1]}.")


def choose_content(content: str, fingerprints: Iterable[Fingerprint]) -> bool:
    """Returns whether a data set counts as ink on paper.

    Args:
        content: One of CONTENTS.
        fingerprints: Those of its pictures, or of enough of them.
    """
    return is_ink_on_paper(fingerprints) if content == "auto" else content == "ink"


def group(fingerprints: Sequence[Fingerprint], ink: bool) -> list[int]:
    """Groups images that are alike, or alike to one that is.

    Args:
        fingerprints: Those of the images.
        ink: Whether the same ink at another place is the same picture.

    Returns:
        The number of each image's group; groups are numbered from 0 by their first image.
    """
    return [int(number) for number in find_duplicates(fingerprints, ink).groups]


def find_duplicates(fingerprints: Sequence[Fingerprint], ink: bool) -> Duplicates:
    """Groups images as `group` does, and says how alike they are.

    Args:
        fingerprints: Those of the images.
        ink: Whether the same ink at another place is the same picture.
    """
    first: dict[Fingerprint, int] = {}
    for number, image in enumerate(fingerprints):
        first.setdefault(image, number)
    repeated = np.array([first[image] for image in fingerprints], int)
    copies = np.flatnonzero(repeated != np.arange(len(fingerprints)))
    found = [Pairs(copies, repeated[copies], np.ones(len(copies)))]
    different = np.array(list(first.values()), int)
    found += [
        Pairs(different[pairs.one], different[pairs.other], pairs.likeness)
        for pairs in _compare_pictures(list(first), ink)
    ]
    return _connect(_join(found), len(fingerprints))


def _compare_pictures(images: list[Fingerprint], ink: bool) -> list[Pairs]:
    pairs = [_find_same_pictures(images)]
    if ink:
        pairs.append(_find_same_ink(images))
    return pairs


def _join(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _find_same_pictures(images: Sequence[Fingerprint]) -> Pairs:
    pixels = np.frombuffer(b"".join(image.pixels for image in images), np.uint8).reshape(-1, len(WEIGHTS))
    shapes = np.array([(image.height, image.width) for image in images], float).reshape(-1, 2)
    aspects, sides = np.log(shapes[:, 1] / shapes[:, 0]), shapes.min(axis=1, initial=1e9)

    def compare(cell: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        tones = pixels[cell] * WEIGHTS
        squares = (tones**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares + squares[:, None] - 2 * tones @ tones.T, 0))
        detail, side = _measure_detail(tones), sides[cell]
        most = np.minimum(FAINTEST + MOVED * np.minimum(detail, detail[:, None]), SAME_TONES)
        smaller = np.minimum(side, side[:, None])
        alike = distances <= most * np.maximum(SMALL / smaller, 1)
        stretch = abs(aspects[cell] - aspects[cell][:, None])
        alike &= (smaller >= LEAST_SIDE) & (stretch <= SAME_ASPECT + 1 / smaller)
        return alike, 1 - distances / 255

    return _find_pairs(pixels, compare)


def _measure_detail(tones: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the root mean square of the differences between neighbouring pixels of weighted small pictures."""
    squares = np.zeros(len(tones))
    for channel in np.split(tones, [SIDE**2, SIDE**2 + HUE_SIDE**2], axis=1):
        side = round(channel.shape[1] ** 0.5)
        square = channel.reshape(-1, side, side)
        for axis in (1, 2):
            squares += (np.diff(square, axis=axis) ** 2).sum(axis=(1, 2)) * side / (side - 1)
    return np.sqrt(squares)


def _find_same_ink(images: Sequence[Fingerprint]) -> Pairs:
    with_ink = np.flatnonzero([image.ink_height for image in images])
    drawings = [images[int(number)] for number in with_ink]
    pixels = np.frombuffer(b"".join(image.ink for image in drawings), np.uint8).reshape(-1, INK_SIDE**2)
    shapes = np.log([(image.ink_height, image.ink_width) for image in drawings]).reshape(-1, 2)

    def compare(cell: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        tones = pixels[cell].astype(float)
        tones -= tones.mean(axis=1, keepdims=True)
        tones /= np.linalg.norm(tones, axis=1, keepdims=True) + 1e-6
        cosines = np.clip(tones @ tones.T, 0, 1)
        near = abs(shapes[cell][:, None] - shapes[cell]).max(axis=2) < np.log(SAME_INK_SIZE)
        return (cosines > SAME_INK) & near, cosines

    pairs = _find_pairs(pixels, compare)
    return Pairs(with_ink[pairs.one], with_ink[pairs.other], pairs.likeness)


def _find_pairs(pixels: NDArray[np.uint8], compare: Compare) -> Pairs:
    """Compares the images of each cell, and returns enough pairs to connect those that are alike."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(pixels.shape[1], PROJECTED)).astype(np.float32)
    points = np.empty((len(pixels), PROJECTED), np.float32)
    for start in range(0, len(pixels), BLOCK):
        points[start : start + BLOCK] = pixels[start : start + BLOCK].astype(np.float32) @ directions
    found = [Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for _ in range(TREES if len(points) > CELL else min(len(points), 1)):
        for cell in _divide_into_cells(points, rng):
            alike, likeness = compare(cell)
            np.fill_diagonal(alike, False)
            # Each image with the one most alike, and with the first of those it is connected with.
            rows = np.flatnonzero(alike.any(axis=1))
            likeness = np.where(alike, likeness, -1)[rows]
            nearest = likeness.argmax(axis=1)
            found.append(Pairs(cell[rows], cell[nearest], likeness[np.arange(len(rows)), nearest]))
            first = _connect_cell(alike)[rows]
            found.append(Pairs(cell[rows], cell[first], np.zeros(len(rows))))
    return _join(found)


def _divide_into_cells(points: NDArray[np.float32], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Divides points into cells of at most CELL, in two again and again, at right angles to the line between two.

    Each division is where the points are farthest apart among the middle half of them, so that few neighbours are
    parted and the two parts are of like size.

    Args:
        points: float32 [points, dimensions].
        rng: Chooses the two points of each division.

    Yields:
        The numbers of the points of each cell; every point is in one.
    """
    undivided = [np.arange(len(points))]
    while undivided:
        numbers = undivided.pop()
        if len(numbers) <= CELL:
            yield numbers
            continue
        one, other = points[rng.choice(numbers, 2)]
        along = points[numbers] @ (one - other)
        order = np.argsort(along, kind="stable")
        quarter = len(order) // 4
        cut = quarter + 1 + int(np.diff(along[order[quarter:-quarter]]).argmax())
        undivided += [numbers[order[:cut]], numbers[order[cut:]]]


def _connect_cell(alike: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns for each image of a cell the first one that it is connected with, perhaps itself."""
    first = np.arange(len(alike))
    while True:
        nearer = np.minimum(first, np.where(alike, first, len(first)).min(axis=1, initial=len(first)))
        if np.array_equal(nearer, first):
            return first
        first = nearer


def _connect(pairs: Pairs, images: int) -> Duplicates:
    """Connects pairs to groups: each image takes the smallest number of those it is connected with."""
    first = np.arange(images)
    while True:
        nearer = first.copy()
        smaller = np.minimum(first[pairs.one], first[pairs.other])
        np.minimum.at(nearer, pairs.one, smaller)
        np.minimum.at(nearer, pairs.other, smaller)
        nearer = nearer[nearer]
        if np.array_equal(nearer, first):
            break
        first = nearer
    likeness = np.zeros(images)
    np.maximum.at(likeness, pairs.one, pairs.likeness)
    np.maximum.at(likeness, pairs.other, pairs.likeness)
    return Duplicates(np.unique(first, return_inverse=True)[1], likeness)
