import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.curate.augmentation import Augmentation, apply_operations, check_augmentation, draw_operations
from components.shared.errors import UserError
from sample import draw_page

BOTH = ["horizontal", "vertical"]
SEEDS = [[1, 2**255 + number, number] for number in range(200)]
GOOD = Augmentation(10_000, 5.0, 10_000, 1.0, {"i": ["horizontal"]}, "auto", "mild", 0.0, 1)
STRONG = GOOD._replace(content="ink", ink_variation="strong")
MILD = STRONG._replace(ink_variation="mild")
TONES = MILD._replace(ink_tones=1.0)
PICTURES = GOOD._replace(content="pictures")
EACH_OF_INK = pytest.mark.parametrize("augmentation", [MILD, STRONG, TONES], ids=["mild", "strong", "tones"])


def page(name: str = "vi", number: int = 0) -> np.ndarray:
    return np.array(draw_page(np.random.default_rng(number), name).convert("L"))


def only(picture: np.ndarray, operation: str, **parameters: Any) -> np.ndarray:
    return apply_operations(picture, [{"operation": operation, **parameters}])


def affine(picture: np.ndarray, **changed: Any) -> np.ndarray:
    neutral = {"rotation": 0.0, "shear": 0.0, "stretch": 1.0, "size": 0.5, "place": [0.0, 0.0]}
    return only(picture, "affine", **{**neutral, **changed})


def bar(height: int = 100, width: int = 120, tone: int = 240) -> np.ndarray:
    """An upright bar in the middle of light paper."""
    picture = np.full((height, width), tone, np.uint8)
    picture[height // 4 : -height // 4, width // 2 - 5 : width // 2 + 5] = 20
    return picture


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the dark pixels."""
    rows, columns = np.nonzero(picture < 130)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


# --- what is drawn -----------------------------------------------------------------------------


@EACH_OF_INK
def test_same_seed_draws_the_same_and_another_draws_other(augmentation: Augmentation) -> None:
    assert draw_operations(SEEDS[0], BOTH, augmentation) == draw_operations(SEEDS[0], BOTH, augmentation)
    texts = {json.dumps(draw_operations(seed, BOTH, augmentation)) for seed in SEEDS}
    assert len(texts) == len(SEEDS)


def draw_all(augmentation: Augmentation) -> dict[tuple[str, str], np.ndarray]:
    """By operation and parameter, what each of SEEDS draws."""
    drawn = [{step["operation"]: step for step in draw_operations(seed, [], augmentation)} for seed in SEEDS]
    names = [(operation, name) for operation, step in drawn[0].items() for name in step if name != "operation"]
    return {(operation, name): np.array([steps[operation][name] for steps in drawn]) for operation, name in names}


def assert_uses(values: np.ndarray, low: float, high: float) -> None:
    """That values keep to limits, and come near to both."""
    assert low - 1e-4 <= values.min() < low + 0.25 * (high - low)
    assert high + 1e-4 >= values.max() > high - 0.25 * (high - low)


BRIGHTNESS = {("brightness", "contrast"): (0.85, 1), ("brightness", "brightness"): (0, 20)}


def test_what_is_drawn_for_mild_copies_stays_within_its_limits_and_uses_them() -> None:
    drawn = draw_all(MILD)
    limits = {
        ("vary", "rotation"): (-8, 8),
        ("vary", "shear"): (-0.1, 0.1),
        ("vary", "stretch"): (1 / 1.16, 1.16),
        ("elastic", "deviation"): (0, 0.01),
        **BRIGHTNESS,
    }
    for name, (low, high) in limits.items():
        assert_uses(drawn[name], low, high)
    scales = np.log(drawn["vary", "scale"])
    assert (scales.mean(), scales.std()) == (pytest.approx(0, abs=0.03), pytest.approx(0.12, rel=0.2))
    shifts = drawn["vary", "shift"]
    assert shifts.shape == (len(SEEDS), 2)
    assert (shifts.mean(), shifts.std()) == (pytest.approx(0, abs=0.02), pytest.approx(0.1, rel=0.2))
    rest = {("reduce", "longest_side"), ("vary", "scale"), ("vary", "shift"), ("elastic", "seed")}
    assert set(drawn) == set(limits) | rest  # above all, no flip and no other pen


def test_what_is_drawn_for_strong_copies_stays_within_its_limits_and_uses_them() -> None:
    drawn = draw_all(STRONG)
    limits = {
        ("affine", "rotation"): (-20, 20),
        ("affine", "shear"): (-0.25, 0.25),
        ("affine", "stretch"): (1 / 1.35, 1.35),
        ("affine", "size"): (0.3, 0.95),
        ("elastic", "deviation"): (0, 0.02),
        ("stroke", "width"): (0.025, 0.09),
        **BRIGHTNESS,
    }
    for name, (low, high) in limits.items():
        assert_uses(drawn[name], low, high)
    assert np.mean(np.abs(drawn["affine", "rotation"]) < 10) > 0.65  # three quarters of a triangle, half of a rectangle
    places = drawn["affine", "place"]
    assert places.shape == (len(SEEDS), 2)
    assert -1 <= places.min() < -0.9 < 0.9 < places.max() <= 1
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.3


def test_copies_in_tones_have_paper_of_white_to_gray_and_ink_that_stands_out() -> None:
    drawn = draw_all(TONES)
    paper, ink = drawn["tones", "paper"], drawn["tones", "ink"]
    assert_uses(paper, 140 / 255, 1)
    assert ink.min() < 0.05
    assert (paper - ink).min() > 0.349
    assert not any(operation == "brightness" for operation, _ in drawn)
    some = TONES._replace(ink_tones=0.7)
    names = [[step["operation"] for step in draw_operations(seed, [], some)] for seed in SEEDS]
    assert 0.6 < np.mean(["tones" in steps for steps in names]) < 0.8
    assert all(("tones" in steps) != ("brightness" in steps) for steps in names)


@pytest.mark.parametrize("directions", [["horizontal"], BOTH])
def test_flips_are_as_allowed_in_half_of_the_pictures(directions: list[str]) -> None:
    flips = [
        step["direction"]
        for seed in SEEDS
        for step in draw_operations(seed, directions, MILD)
        if step["operation"] == "flip"
    ]
    assert set(flips) == set(directions)
    for direction in directions:
        assert 0.35 < flips.count(direction) / len(SEEDS) < 0.65


# --- what is done ------------------------------------------------------------------------------


@EACH_OF_INK
def test_operations_read_from_the_manifest_give_the_same_picture(augmentation: Augmentation) -> None:
    for seed in SEEDS[:10]:
        operations = draw_operations(seed, BOTH, augmentation)
        again = apply_operations(page(), json.loads(json.dumps(operations)))
        np.testing.assert_array_equal(apply_operations(page(), operations), again)
        assert not np.array_equal(again, page())


@EACH_OF_INK
def test_gray_stays_gray_and_colour_stays_colour_of_the_same_size(augmentation: Augmentation) -> None:
    gray = page()
    colour = np.stack([gray, gray // 2 + 100, gray], axis=-1)
    for seed in SEEDS[:5]:
        for picture in (gray, colour):
            changed = apply_operations(picture, draw_operations(seed, [], augmentation))
            assert (changed.shape, changed.dtype) == (picture.shape, np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    seed=st.integers(0, 2**31),
    most=st.integers(0, 255),
    augmentation=st.sampled_from([MILD, STRONG, TONES]),
)
def test_whatever_picture_can_be_augmented(
    shape: tuple[int, int, int], seed: int, most: int, augmentation: Augmentation
) -> None:
    picture = np.random.default_rng(seed).integers(0, most + 1, shape, np.uint8)
    picture = picture[..., 0] if shape[2] == 1 else picture
    changed = apply_operations(picture, draw_operations([seed, 0, 1], BOTH, augmentation))
    assert (changed.shape, changed.dtype) == (picture.shape, np.uint8)


def test_flips_are_mirrors() -> None:
    np.testing.assert_array_equal(only(page(), "flip", direction="horizontal"), page()[:, ::-1])
    np.testing.assert_array_equal(only(page(), "flip", direction="vertical"), page()[::-1])


def test_affine_turns_stretches_and_places_the_ink() -> None:
    left, top, right, bottom = box(bar())
    assert box(affine(bar())) == pytest.approx((left, top, right, bottom), abs=2)
    turned = box(affine(bar(), rotation=90.0, size=0.4))
    assert turned[2] - turned[0] == pytest.approx(0.4 * 120, abs=3)
    stretched = box(affine(bar(), stretch=1.4))
    assert stretched[3] - stretched[1] == pytest.approx(bottom - top, abs=2)
    assert stretched[2] - stretched[0] == pytest.approx(1.4**2 * (right - left), abs=2)
    assert box(affine(bar(), place=[-1.0, 0.0]))[0] == pytest.approx(0, abs=2)
    assert box(affine(bar(), place=[1.0, 0.0]))[2] == pytest.approx(120, abs=2)
    corner = box(affine(bar(), size=0.3, place=[0.5, -1.0]))
    assert (corner[0] + corner[2]) / 2 == pytest.approx(60 + 0.5 * (120 - 6) / 2, abs=2)
    assert corner[1] == pytest.approx(0, abs=2)


def vary(picture: np.ndarray, **changed: Any) -> np.ndarray:
    neutral = {"rotation": 0.0, "shear": 0.0, "stretch": 1.0, "scale": 1.0, "shift": [0.0, 0.0]}
    return only(picture, "vary", **{**neutral, **changed})


def test_ink_keeps_its_size_and_place_but_for_what_is_drawn() -> None:
    corner = affine(bar(), size=0.3, place=[-0.6, 0.4])
    for picture in (corner, *(page("viii", number) for number in range(5))):
        np.testing.assert_allclose(vary(picture), picture, atol=1)
    left, top, right, bottom = box(corner)
    larger = box(vary(corner, scale=1.2))
    assert larger[3] - larger[1] == pytest.approx(1.2 * (bottom - top), abs=2)
    shifted = box(vary(corner, shift=[0.1, -0.1]))
    assert shifted[0] - left == pytest.approx(0.1 * (120 - (right - left)), abs=1.5)
    assert shifted[1] - top == pytest.approx(-0.1 * (100 - (bottom - top)), abs=1.5)
    turned = box(vary(corner, rotation=90.0))
    assert (turned[2] - turned[0]) / 120 == pytest.approx((bottom - top) / 100, abs=0.03)


@pytest.mark.parametrize("shift", [[-9.0, 0.0], [9.0, 0.0], [0.0, -9.0], [9.0, 9.0]])
def test_ink_neither_outgrows_its_picture_nor_leaves_it(shift: list[float]) -> None:
    for number in range(5):
        picture = page("viii", number)
        assert ink(vary(picture, shift=shift)) > 0.85 * ink(picture)
        left, top, right, bottom = box(vary(picture, scale=9.0, shift=shift))
        height, width = picture.shape
        assert max((right - left) / width, (bottom - top) / height) > 0.9
        assert ink(vary(picture, scale=9.0, shift=shift)) > 0.85 * ink(vary(picture, scale=9.0))


@pytest.mark.parametrize("size", [0.3, 0.6, 0.95])
def test_ink_takes_as_much_of_the_picture_as_is_drawn_however_large_it_was(size: float) -> None:
    for number in range(5):
        for picture in (page("viii", number), affine(page("viii", number), size=0.4)):
            left, top, right, bottom = box(affine(picture, size=size))
            height, width = picture.shape
            assert max((right - left) / width, (bottom - top) / height) == pytest.approx(size, abs=0.1)


def test_new_corners_are_paper_not_black() -> None:
    for tone in (240, 200):
        turned = affine(bar(tone=tone), rotation=20.0, size=0.4)
        assert {int(turned[y, x]) for y in (0, -1) for x in (0, -1)} == {tone}
    colour = np.full((60, 60, 3), (250, 220, 190), np.uint8)
    np.testing.assert_array_equal(affine(colour, rotation=20.0), colour)


@pytest.mark.parametrize("place", [[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [1.0, 1.0]])
def test_hardly_any_ink_leaves_the_picture(place: list[float]) -> None:
    for number in range(5):
        picture = page("viii", number)
        assert ink(affine(picture, place=place)) > 0.85 * ink(affine(picture))


def ink(picture: np.ndarray) -> int:
    return int((picture < np.median(picture) - 60).sum())


def test_elastic_moves_a_little_and_smoothly() -> None:
    picture = page()
    moved = only(picture, "elastic", deviation=0.015, seed=7)
    assert not np.array_equal(moved, picture)
    assert ink(moved) == pytest.approx(ink(picture), rel=0.1)
    np.testing.assert_array_equal(only(picture, "elastic", deviation=0.0, seed=7), picture)


@pytest.mark.parametrize("inverted", [False, True], ids=["dark ink", "light ink"])
@pytest.mark.parametrize(("width", "pixels"), [(0.14, 14), (0.08, 8), (0.10, 10), (0.5, 20), (0.01, 6)])
def test_strokes_get_the_width_that_is_drawn_but_no_more_than_double(width: float, pixels: int, inverted: bool) -> None:
    picture = 255 - bar() if inverted else bar()  # 100 pixels high, its stroke 10 wide
    changed = only(picture, "stroke", width=width)
    left, _, right, _ = box(255 - changed if inverted else changed)
    assert right - left == pytest.approx(pixels, abs=1)


def test_small_numerals_get_the_same_pen_as_large_ones() -> None:
    for size in (0.4, 0.8):
        drawn_small = only(affine(page(), size=size), "stroke", width=0.05)
        width = stroke_width(drawn_small) / min(page().shape)
        assert width == pytest.approx(0.05, abs=0.012)


def stroke_width(picture: np.ndarray) -> float:
    """Pixels: the mean of the dark pixels' runs, each along its row or its column, whichever is shorter."""
    dark = picture < 130
    return float(np.minimum(_runs(dark), _runs(dark.T).T)[dark].mean())


def _runs(dark: np.ndarray) -> np.ndarray:
    lengths = np.zeros(dark.shape)
    for row, out in zip(dark, lengths, strict=True):
        edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            out[start:end] = end - start
    return lengths


def test_thin_strokes_are_not_thinned_away() -> None:
    thin = np.full((100, 100), 240, np.uint8)
    thin[20:80, 50] = 20
    np.testing.assert_array_equal(only(thin, "stroke", width=0.001), thin)


def test_brightness_moves_the_paper_and_contrast_the_ink() -> None:
    changed = only(bar(), "brightness", contrast=0.5, brightness=-20.0)
    assert set(np.unique(changed)) == {240 - 20, 240 - 110 - 20}
    assert set(np.unique(only(bar(tone=10), "brightness", contrast=1.0, brightness=-25.0))) == {0}
    colour = np.full((9, 9, 3), (250, 200, 150), np.uint8)
    colour[4, 4] = (50, 0, 150)
    changed = only(colour, "brightness", contrast=0.5, brightness=-10.0)
    assert changed[0, 0].tolist() == [240, 190, 140]
    assert changed[4, 4].tolist() == [140, 90, 140]


def test_tones_are_those_of_paper_and_ink_whichever_is_lighter() -> None:
    for picture, turn in ((bar(), 0), (255 - bar(), 255)):
        changed = abs(turn - only(picture, "tones", paper=0.6, ink=0.2).astype(int))
        assert set(np.unique(changed)) == {153, 51}
    faded = np.where(bar() > 100, 240, 200).astype(np.uint8)
    assert set(np.unique(only(faded, "tones", paper=0.6, ink=0.0))) == {153, 113}  # the 40 tones apart that they were
    empty = np.full((9, 9), 250, np.uint8)
    assert set(np.unique(only(empty, "tones", paper=0.6, ink=0.2))) == {153}
    colour = np.full((9, 9, 3), (250, 200, 150), np.uint8)
    colour[4, 4] = (50, 0, 150)
    changed = only(colour, "tones", paper=0.8, ink=0.4)  # from 200 apart to 102
    assert changed[0, 0].tolist() == [254, 204, 154]
    assert changed[4, 4].tolist() == [152, 102, 154]


# --- pictures that are not ink ------------------------------------------------------------------


def photograph() -> np.ndarray:
    """60 x 90 pixels in colours that change from left to right and from top to bottom."""
    y, x = np.mgrid[0:60, 0:90]
    return np.stack([60 + x, 80 + 2 * y, 200 - x], axis=-1).astype(np.uint8)


def test_pictures_are_changed_otherwise_than_ink() -> None:
    for picture in (photograph(), photograph()[..., 0]):
        for seed in SEEDS:
            operations = draw_operations(seed, ["horizontal"], PICTURES)
            names = [step["operation"] for step in operations if step["operation"] != "flip"]
            assert names == ["reduce", "rotate", "window", "light", "colour"]
            changed = apply_operations(picture, operations)
            assert (changed.shape, changed.dtype) == (picture.shape, np.uint8)
            assert not np.array_equal(changed, picture)
            again = apply_operations(picture, json.loads(json.dumps(operations)))  # as the manifest has them
            np.testing.assert_array_equal(again, changed)


def test_each_change_of_a_picture_does_what_it_says() -> None:
    picture = photograph()
    np.testing.assert_array_equal(only(picture, "rotate", degrees=0.0), picture)
    turned = only(picture, "rotate", degrees=180.0)
    np.testing.assert_array_equal(turned[1:-1, 1:-1], picture[::-1, ::-1][1:-1, 1:-1])
    left = only(picture, "window", share=0.5, place=[-1.0, -1.0])
    assert left[..., 0].max() == pytest.approx(60 + 44, abs=1)
    right = only(picture, "window", share=0.5, place=[1.0, 1.0])
    assert right[..., 0].min() == pytest.approx(60 + 45, abs=1)
    np.testing.assert_array_equal(only(picture, "window", share=1.0, place=[0.3, 0.3]), picture)
    assert only(picture, "light", brightness=1.2, contrast=1.0).mean() == pytest.approx(1.2 * picture.mean(), rel=0.02)
    assert only(picture, "light", brightness=1.0, contrast=0.5).std() == pytest.approx(picture.std() / 2, rel=0.02)
    gray = only(picture, "colour", saturation=0.0, balance=[1.0, 1.0, 1.0])
    assert np.ptp(gray, axis=2).max() == 0
    blue = only(picture, "colour", saturation=1.0, balance=[1.1, 1.0, 1.0])
    np.testing.assert_array_equal(blue[..., 1:], picture[..., 1:])
    assert blue[..., 0].mean() == pytest.approx(1.1 * picture[..., 0].mean(), rel=0.01)
    np.testing.assert_array_equal(
        only(picture[..., 0], "colour", saturation=0.5, balance=[1.1, 1.0, 1.0]), picture[..., 0]
    )


# --- how many -----------------------------------------------------------------------------------


def test_augmentation_is_a_multiple_of_what_train_has_unless_a_number_is_given() -> None:
    usual = GOOD._replace(augment_to=-1)
    assert usual.count_wanted(train=72, val=20) == 5 * 72 + 20
    assert usual.count_wanted(train=2067, val=813) == 10_000  # the competition's images: as many as it allows
    assert usual._replace(augment_times=0).count_wanted(train=72, val=20) == 20
    assert usual._replace(augment_to=0).count_wanted(train=72, val=20) == 0
    assert usual._replace(augment_to=500).count_wanted(train=72, val=20) == 500


def test_large_pictures_become_smaller() -> None:
    large = np.full((300, 1024), 255, np.uint8)
    assert only(large, "reduce", longest_side=512).shape == (150, 512)
    assert only(large[:, :512], "reduce", longest_side=512).shape == (300, 512)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_images": 0}, "max_images is 0; it must be 1 or more"),
        ({"augment_to": -2}, "augment_to is -2; it must be from -1 to max_images, 10000"),
        ({"augment_to": 10_001}, "augment_to is 10001; it must be from -1 to max_images, 10000"),
        ({"augment_times": -1.0}, "augment_times is -1.0; it must be 0 or more"),
        ({"augment_times": float("inf")}, "augment_times is inf; it must be 0 or more"),
        ({"hard_weight": -0.5}, "hard_weight is -0.5; it must be from 0 to 1,000,000"),
        ({"hard_weight": 1e308}, r"hard_weight is 1e\+308; it must be from 0 to 1,000,000"),
        ({"hard_weight": float("nan")}, "hard_weight is nan; it must be from 0 to 1,000,000"),
        ({"ink_variation": "wild"}, "ink_variation is 'wild'; it must be mild or strong"),
        ({"ink_tones": 1.5}, "ink_tones is 1.5; it must be from 0 to 1"),
        ({"ink_tones": float("nan")}, "ink_tones is nan; it must be from 0 to 1"),
        ({"seed": -1}, "seed is -1; it must be from 0 to 2147483647"),
        ({"flips": {"x": "vertical"}}, "flips has 'vertical' for x; it must be a list of horizontal and vertical"),
        ({"flips": {"x": ["up"]}}, r"flips has \['up'\] for x; it must be a list"),
    ],
)
def test_settings_out_of_range_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_augmentation(GOOD._replace(**changed))
