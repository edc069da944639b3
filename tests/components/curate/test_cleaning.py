import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.curate.cleaning import OPERATIONS, check_cleaning, clean
from components.shared.errors import UserError


@pytest.fixture
def bar() -> np.ndarray:
    """Dark ink on light paper, 10 pixels wide."""
    picture = np.full((100, 120), 230, np.uint8)
    picture[30:70, 50:60] = 30
    return picture


@pytest.mark.parametrize("operation", ["median", "opening"])
def test_dust_goes_and_strokes_stay(bar: np.ndarray, operation: str) -> None:
    dusty = bar.copy()
    dusty[10::20, 5::15] = 30
    assert not np.array_equal(dusty, bar)
    changed = clean(dusty, [operation])
    assert (changed != bar).sum() <= 4  # the corners of the bar
    assert changed[50, 55] == 30


def test_opening_removes_what_is_thinner_than_a_pen(bar: np.ndarray) -> None:
    ruled = bar.copy()
    ruled[90:92] = 30
    np.testing.assert_array_equal(clean(ruled, ["opening"]), bar)


def test_threshold_gives_black_on_white_in_whatever_light(bar: np.ndarray) -> None:
    shadow = np.linspace(0.4, 1, 120)
    dark = (bar * shadow).astype(np.uint8)
    for picture in (dark, np.stack([dark] * 3, axis=-1)):
        changed = clean(picture, ["threshold"])
        assert changed.shape == (100, 120)
        assert set(np.unique(changed)) == {0, 255}
        assert (changed[32:68, 51:53] == 0).all()
        assert (changed[:20] == 255).all()


def test_crop_leaves_the_ink_and_a_margin(bar: np.ndarray) -> None:
    changed = clean(bar, ["crop"])
    np.testing.assert_array_equal(changed, bar[26:74, 46:64])
    np.testing.assert_array_equal(clean(bar[30:, 50:], ["crop"]), bar[30:74, 50:64])
    blank = np.full((20, 30, 3), 250, np.uint8)
    np.testing.assert_array_equal(clean(blank, ["crop"]), blank)


def test_operations_come_in_their_order(bar: np.ndarray) -> None:
    dusty = bar.copy()
    dusty[2, 2] = 30
    assert clean(dusty, ["median", "crop"]).shape == (48, 18)
    assert clean(dusty, ["crop", "median"]).shape == (77, 67)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([None, 3]),
    st.integers(0, 99),
    st.lists(st.sampled_from(sorted(OPERATIONS))),
)
def test_whatever_picture_can_be_cleaned(
    height: int, width: int, channels: int | None, seed: int, operations: list[str]
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    picture = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    before = picture.copy()
    changed = clean(picture, operations)
    assert changed.dtype == np.uint8
    assert min(changed.shape) > 0
    np.testing.assert_array_equal(picture, before)


def test_unknown_operation_is_named() -> None:
    check_cleaning(["median", "opening", "threshold", "crop"])
    with pytest.raises(UserError, match="cleaning has 'sharpen'; it may hold median, opening, threshold, crop"):
        check_cleaning(["median", "sharpen"])
