"""Which pictures are the same, on small sets with known duplicates; benchmarks/duplicates.py has large ones."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits, load_sample_images

from components.shared.duplicates import (
    CELL,
    Fingerprint,
    check_content,
    choose_content,
    find_duplicates,
    fingerprint,
    group,
    is_ink_on_paper,
)
from components.shared.errors import UserError
from sample import draw_page

Picture = np.ndarray
NUMERALS = Path(__file__).parents[4] / "shared/data/roman-numerals/data"
COLOURS = ((220, 40, 40), (40, 160, 60), (40, 70, 210))


def draw_shape(kind: int, radius: int, place: tuple[int, int], colour: tuple[int, int, int]) -> Picture:
    """A filled circle, square or triangle, on white; 64 pixels square."""
    image = Image.new("RGB", (64, 64), "white")
    draw, (x, y) = ImageDraw.Draw(image), place
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == 0:
        draw.ellipse(box, fill=colour)
    elif kind == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return np.asarray(image)


def group_by_look(fingerprints: list[Fingerprint]) -> list[int]:
    return group(fingerprints, is_ink_on_paper(fingerprints))


def draw_shapes() -> list[Picture]:
    """Each with its own radius, place and colour."""
    rng = np.random.default_rng(0)
    drawn = {}
    while len(drawn) < 150:
        radius = int(rng.integers(6, 24, endpoint=True))
        x, y = (int(value) for value in rng.integers(radius, 64 - radius, 2))
        kind, colour = len(drawn) % 3, COLOURS[rng.integers(3)]
        drawn[kind, radius // 2, x // 3, y // 3, colour] = draw_shape(kind, radius, (x, y), colour)
    return list(drawn.values())


def draw_digits() -> list[Picture]:
    """8 pixels square, and as large as people save them."""
    small = np.rint(load_digits().images[:150] * 255 / 16).astype(np.uint8)
    return [np.asarray(Image.fromarray(digit).resize((32, 32), Image.Resampling.BICUBIC)) for digit in small]


def cut_textures() -> list[Picture]:
    """Parts of two photographs that overlap by less than half."""
    rng, side = np.random.default_rng(0), 64
    return [
        photograph[y : y + side, x : x + side] + np.uint8(0)
        for photograph in load_sample_images().images
        for y in range(0, photograph.shape[0] - side, 56)
        for x in range(int(rng.integers(8)), photograph.shape[1] - side, 56)
    ]


def draw_gradients() -> list[Picture]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:64, 0:64] / 63
    gradients = []
    for angle in rng.uniform(0, 2 * np.pi, 100):
        along = np.cos(angle) * x + np.sin(angle) * y
        one, other = rng.integers(0, 256, (2, 3))
        share = (along - along.min()) / np.ptp(along)
        gradients.append(np.rint(one + (other - one) * share[..., None]).astype(np.uint8))
    return gradients


def draw_numerals() -> list[Picture]:
    return [np.asarray(draw_page(np.random.default_rng([1, n]), ("i", "ii", "v", "vi", "x")[n % 5])) for n in range(60)]


def save_again(picture: Picture, rng: np.random.Generator) -> Picture:
    """Scales the picture, or saves it as JPEG, or both."""
    image = Image.fromarray(picture)
    how = rng.integers(3)
    if how != 0:
        factor = rng.uniform(0.6, 1.8)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    if how != 1:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        image = Image.open(buffer)
    return np.asarray(image)


def move(picture: Picture, rng: np.random.Generator) -> Picture:
    """Puts a page of ink on a larger one, somewhere."""
    page = np.full((picture.shape[0] + 60, picture.shape[1] + 60), np.median(picture), np.uint8)
    top, left = rng.integers(0, 60, 2)
    page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return page


@pytest.mark.parametrize(
    ("draw", "copy"),
    [
        (draw_shapes, save_again),
        (draw_digits, save_again),
        (cut_textures, save_again),
        (draw_gradients, save_again),
        (draw_numerals, save_again),
        (draw_numerals, move),
    ],
)
def test_known_duplicates_are_found_and_nothing_else(
    draw: Callable[[], list[Picture]], copy: Callable[[Picture, np.random.Generator], Picture]
) -> None:
    """The aim is 0.95 each for precision and recall."""
    rng = np.random.default_rng(1)
    pictures = draw()
    sources = rng.choice(len(pictures), len(pictures) // 3, replace=False)
    copies = [copy(pictures[source], rng) for source in sources]
    groups = np.array(group_by_look([fingerprint(picture) for picture in [*pictures, *copies]]))
    found = set(zip(*np.nonzero(np.triu(groups[:, None] == groups, 1)), strict=True))
    known = {(source, len(pictures) + number) for number, source in enumerate(sources)}
    assert len(found & known) >= 0.95 * len(known)
    assert len(found & known) >= 0.95 * len(found)


@pytest.mark.skipif(not NUMERALS.is_dir(), reason="the competition's images are not here")
def test_numerals_are_ink_and_their_copies_are_found() -> None:
    pictures = [np.asarray(Image.open(path)) for path in sorted(NUMERALS.glob("val/*/*.png"))[::8]]
    fingerprints = [fingerprint(picture) for picture in pictures]
    moved = [fingerprint(move(picture, np.random.default_rng(1))) for picture in pictures]
    assert is_ink_on_paper(fingerprints)
    groups = group([*fingerprints, *moved], ink=True)
    assert groups[len(pictures) :] == groups[: len(pictures)]


RED, BLUE = COLOURS[0], COLOURS[2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (draw_shape(0, 20, (32, 32), RED), draw_shape(0, 20, (32, 32), BLUE)),  # colour
        (draw_shape(0, 20, (32, 32), RED), draw_shape(0, 14, (32, 32), RED)),  # size
        (draw_shape(0, 14, (20, 20), RED), draw_shape(0, 14, (40, 40), RED)),  # place
        (draw_shape(0, 20, (32, 32), RED), draw_shape(1, 20, (32, 32), RED)),  # shape
        (np.full((64, 64), 250, np.uint8), np.full((64, 128), 250, np.uint8)),  # aspect
    ],
    ids=["colour", "size", "place", "shape", "aspect"],
)
def test_what_differs_is_another_picture(one: Picture, other: Picture) -> None:
    others = [fingerprint(picture) for picture in draw_shapes()]
    assert len(set(group_by_look([fingerprint(one), fingerprint(other), *others])[:2])) == 2


def test_gray_is_not_its_colour() -> None:
    photograph = load_sample_images().images[1][::4, ::4]
    gray = np.asarray(Image.fromarray(photograph).convert("L"))
    assert group_by_look([fingerprint(photograph), fingerprint(gray)]) == [0, 1]
    assert group_by_look([fingerprint(gray), fingerprint(gray[..., None])]) == [0, 0]


@pytest.mark.parametrize(
    ("draw", "ink"),
    [
        (draw_numerals, True),
        (draw_shapes, False),
        (draw_digits, False),
        (cut_textures, False),
        (draw_gradients, False),
    ],
)
def test_ink_on_paper_is_told_by_the_pictures(draw: Callable[[], list[Picture]], ink: bool) -> None:
    fingerprints = [fingerprint(picture) for picture in draw()]
    assert is_ink_on_paper(fingerprints) == ink
    assert choose_content("auto", fingerprints) == ink
    assert choose_content("ink", fingerprints)
    assert not choose_content("pictures", fingerprints)
    with pytest.raises(UserError, match="^content is 'drawings'; it must be auto, ink or pictures.$"):
        check_content("drawings")


def test_ink_at_another_place_is_the_same_only_where_it_is_ink() -> None:
    page = draw_numerals()[1]
    prints = [fingerprint(page), fingerprint(move(page, np.random.default_rng(1)))]
    assert group_by_look(prints) == group(prints, ink=True) == [0, 0]
    assert group(prints, ink=False) == [0, 1]


def test_groups_are_numbered_by_their_first_image() -> None:
    a, b, c = (fingerprint(draw_shape(kind, 20, (32, 32), RED)) for kind in range(3))
    assert group([a, b, a, c, b, a], ink=False) == [0, 1, 0, 2, 1, 0]
    likeness = find_duplicates([a, b, a], ink=False).likeness
    assert likeness.tolist() == [1, 0, 1]
    assert group([a], ink=False) == [0]
    assert group([], ink=False) == group([], ink=True) == []
    assert group([fingerprint(np.full((9, 9), 255, np.uint8))], ink=True) == [0]


def test_many_images_are_divided_and_their_duplicates_found() -> None:
    """Also a crowd of nearly the same, which no division can part."""
    rng = np.random.default_rng(0)
    base = fingerprint(draw_shapes()[0])
    different = [shake(base, rng, 60) for _ in range(20 * CELL)]
    copies = [shake(image, rng, 1) for image in different[::10]]
    crowd = [shake(base, rng, 1) for _ in range(5 * CELL)]
    groups = np.array(group([*different, *copies, *crowd], ink=False))
    assert (groups[: len(different)][::10] == groups[len(different) :][: len(copies)]).mean() > 0.99
    assert len(set(groups[: len(different)])) == len(different)
    assert len(set(groups[-len(crowd) :])) == 1


def shake(image: Fingerprint, rng: np.random.Generator, tones: int) -> Fingerprint:
    """A fingerprint that differs by as many tones at most."""
    pixels = np.frombuffer(image.pixels, np.uint8).astype(int)
    shaken = np.clip(pixels + rng.integers(-tones, tones, len(pixels), endpoint=True), 0, 255)
    return image._replace(pixels=shaken.astype(np.uint8).tobytes())


def test_pictures_of_a_few_pixels_in_width_are_the_same_only_if_all_pixels_are() -> None:
    rng = np.random.default_rng(0)
    strips = [fingerprint(rng.integers(0, 256, (200, 2, 3), np.uint8)) for _ in range(4)]
    assert group([*strips, strips[0]], ink=False) == [0, 1, 2, 3, 0]
