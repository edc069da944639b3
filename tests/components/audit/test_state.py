"""The state of drawn pictures, and which states are unusual."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from components.audit.state import NO_INK, PictureState, describe_states, measure_state, name_states
from components.shared.ink import find_ink

Picture = NDArray[np.uint8]


def draw_page() -> Picture:
    """Three strokes, 5 pixels wide and 40 high, in the middle of a page of 100 x 120 pixels."""
    page = np.full((100, 120), 240, np.uint8)
    for left in (40, 55, 70):
        page[30:70, left : left + 5] = 20
    return page


def measure(page: Picture) -> PictureState:
    return measure_state(page, find_ink(page))


def test_strokes_in_the_middle_of_a_page() -> None:
    state = measure(draw_page())
    strokes = 3 * 35 / 40  # three on each row, 35 pixels wide and 40 high
    assert list(state) == pytest.approx([3.0, 220.0, 0.0, "", strokes, False])


def test_a_page_without_ink_has_no_state() -> None:
    assert measure(np.full((9, 9), 250, np.uint8)) == NO_INK
    assert name_states([NO_INK, NO_INK], np.array([0, 1])) == [(), ()]


@pytest.mark.parametrize("light", [False, True], ids=["dark ink", "light ink"])
def test_parts_of_ink_are_counted_by_their_size(light: bool) -> None:
    page = np.full((100, 120), 240, np.uint8)
    for number in range(7):
        page[20:60, 10 + 12 * number : 15 + 12 * number] = 20

    def count() -> float:
        return measure(255 - page if light else page).parts

    assert count() == pytest.approx(7)
    page[60, 15] = 20  # at the corner of the first bar
    assert count() == pytest.approx(7, abs=0.01)
    page[90, 10:100:3] = 20  # thirty specks
    assert count() == pytest.approx(7, abs=0.4)
    page[66:86, 10:110] = 20  # 2,000 pixels beside the 1,400 of the bars
    assert 2 < count() < 3


def test_the_edge_that_cuts_the_ink_is_named() -> None:
    page = draw_page()[40:]
    for turns, side in enumerate(("top", "left", "bottom", "right")):
        state = measure(np.rot90(page, turns))
        assert (state.side, state.cut) == (side, pytest.approx(3, rel=0.5))


def test_a_thin_line_or_a_neighbour_at_the_edge_is_no_cut() -> None:
    page = draw_page()
    page[20, :] = 20  # a ruled line
    page[50, :] = 20  # and one through the strokes
    page[:8, 100:105] = 20  # the foot of a numeral above
    assert measure(page).cut == 0


def test_a_frame_is_an_outline_with_ink_in_it() -> None:
    page = draw_page()
    cv2.rectangle(page, (30, 20), (84, 80), 20, 3)
    assert measure(page).framed
    page[30:70, 36:80] = 240  # without the numeral
    assert not measure(page).framed
    page[50:53, 50:53] = 20  # a speck in the box is no numeral
    assert not measure(page).framed


def test_a_frame_may_touch_its_numeral() -> None:
    page = draw_page()
    page[:, 40:45] = page[:, 70:75] = 240  # one stroke is left
    cv2.rectangle(page, (30, 20), (84, 80), 20, 3)
    page[20:70, 55:60] = 20  # it reaches the upper side
    assert measure(page).parts == 1
    assert measure(page).framed
    page[20:80, 55:60] = 20  # and the lower one, too
    assert measure(page).parts == 1
    assert measure(page).framed


def draw_what_is_no_drawing() -> dict[str, Picture]:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    return {
        "uniform noise": rng.integers(0, 256, (64, 64), np.uint8),
        "normal noise": rng.normal(128, 40, (64, 64)).clip(0, 255).astype(np.uint8),
        "clouds": cv2.GaussianBlur(rng.integers(0, 256, (64, 64), np.uint8), (0, 0), 2),
        "dust alone": np.where(rng.random((64, 64)) < 0.1, 20, 240).astype(np.uint8),
        "gradient": (127 * columns + 128).astype(np.uint8),
        "slanting gradient": (60 * (columns + rows) + 128).astype(np.uint8),
        "light in the middle": (255 * (1 - np.hypot(rows, columns)).clip(0, 1)).astype(np.uint8),
        "waves": (127 + 120 * np.sin(10 * columns)).astype(np.uint8),
    }


@pytest.mark.parametrize("name", draw_what_is_no_drawing())
def test_noise_and_gradients_have_no_state(name: str) -> None:
    picture = draw_what_is_no_drawing()[name]
    assert find_ink(picture).any()
    assert measure(picture) == NO_INK


def test_noise_has_no_state_and_takes_no_time() -> None:
    """Its parts and holes have so many outlines that to follow them would take minutes."""
    noise = np.random.default_rng(1).integers(0, 2, (2000, 2000), np.uint8) * 255
    assert measure_state(noise, noise < 128) == NO_INK


def test_a_drawing_on_rough_paper_has_a_state() -> None:
    rough = draw_page() + np.random.default_rng(1).normal(0, 15, (100, 120))
    assert measure(rough.clip(0, 255).astype(np.uint8)).parts == pytest.approx(3, abs=0.2)


def test_bars_over_and_under_a_numeral_are_no_frame() -> None:
    page = draw_page()
    page[27:30, 30:85] = page[70:73, 30:85] = 20
    assert not measure(page).framed


def draw_states() -> list[Picture]:
    framed, bare = draw_page(), draw_page()
    cv2.rectangle(framed, (30, 20), (84, 80), 20, 3)
    return [bare, framed, bare[40:], bare[:, 42:], np.hstack([bare, bare]), np.minimum(bare, np.roll(bare, 7))]


@pytest.mark.parametrize("page", draw_states(), ids=["bare", "framed", "cut", "cut again", "two", "overlaid"])
def test_a_state_is_the_same_in_twice_the_size_and_in_inverted_tones(page: Picture) -> None:
    state = measure(page)
    assert list(measure(255 - page)) == pytest.approx(list(state))
    larger = measure(np.kron(page, np.ones((2, 2), np.uint8)))
    assert larger.strokes == pytest.approx(state.strokes, rel=0.05)  # the ink's box leaves out whole pixels
    assert list(larger._replace(strokes=state.strokes)) == pytest.approx(list(state))


def list_named(states: list[PictureState], labels: list[int]) -> dict[int, tuple[str, ...]]:
    """The states by the place of those that are in one."""
    return {place: kinds for place, kinds in enumerate(name_states(states, np.array(labels))) if kinds}


def test_ink_is_fragmented_beside_that_of_its_label() -> None:
    letters, words = (1, 1, 2, 2, 4, 5.9, 6, 30), (10, 12, 12, 12, 14, 17.9, 18)
    usual = measure(draw_page())
    states = [usual._replace(parts=parts) for parts in (*letters, *words)] + [NO_INK]
    found = list_named(states, [0] * len(letters) + [1] * len(words) + [2])
    assert found == {6: ("fragmented",), 7: ("fragmented",), 14: ("fragmented",)}


def test_ink_is_faded_beside_that_of_the_others() -> None:
    usual = measure(draw_page())
    faded = draw_page() // 3 + 240 - 240 // 3
    states = [*[usual] * 9, measure(np.asarray(faded, np.uint8)), usual._replace(contrast=usual.contrast * 0.6)]
    assert list_named(states, [0] * 11) == {9: ("faded",)}
    pencils = [usual._replace(contrast=contrast) for contrast in range(60, 80)]
    assert list_named(pencils, [0] * 20) == {}


def test_ink_is_crowded_beside_that_of_its_label() -> None:
    one, two = (measure(page)._replace(parts=1) for page in (draw_page(), np.hstack([draw_page(), draw_page()])))
    assert list_named([*[one] * 9, two, *[two] * 10], [0] * 10 + [1] * 10) == {9: ("crowded",)}


def test_what_many_pictures_have_is_how_they_were_made() -> None:
    usual = measure(draw_page())
    framed, cut = usual._replace(framed=True), usual._replace(cut=2.0, side="left")
    assert list_named([*[usual] * 8, framed, cut], [0] * 10) == {8: ("framed",), 9: ("cut",)}
    assert list_named([*[usual] * 6, *[framed] * 3, cut], [0] * 10) == {9: ("cut",)}
    fragmented = usual._replace(parts=20.0)
    assert list_named([*[usual] * 8, *[fragmented] * 2], [0] * 10) == dict.fromkeys((8, 9), ("fragmented",))
    assert list_named([*[usual] * 7, *[fragmented] * 3], [0] * 10) == {}


@pytest.mark.parametrize("kind", ["framed", "cut", "faded"])
def test_what_most_pictures_of_a_label_have_is_how_it_is_made(kind: str) -> None:
    usual = measure(draw_page())
    state = {
        "framed": usual._replace(framed=True),
        "cut": usual._replace(cut=2.0, side="left"),
        "faded": usual._replace(contrast=usual.contrast / 3),
    }[kind]
    circled = [*[state] * 6, *[usual] * 2]
    letters = [*[usual] * 60, state]
    assert list_named([*circled, *letters], [0] * 8 + [1] * 61) == {68: (kind,)}
    few = [*[state] * 4, *[usual] * 2]
    assert list_named([*few, *letters], [0] * 6 + [1] * 61) == dict.fromkeys((0, 1, 2, 3, 66), (kind,))
    half = [*[state] * 6, *[usual] * 6]
    found = list_named([*half, *letters], [0] * 12 + [1] * 61)
    assert found == dict.fromkeys((0, 1, 2, 3, 4, 5, 72), (kind,))


def test_blank_pages_do_not_say_what_is_usual_for_a_label() -> None:
    usual = measure(draw_page())
    word = usual._replace(parts=8.0)
    assert list_named([*[NO_INK] * 9, usual, usual], [0] * 11) == {}
    assert list_named([*[NO_INK] * 9, word, word, *[usual] * 40], [0] * 11 + [1] * 40) == {}


def test_each_state_has_its_own_words() -> None:
    state = PictureState(parts=13.7, contrast=40.0, cut=2.0, side="left", strokes=9.0, framed=True)
    assert describe_states((), state) == ""
    assert describe_states(("crowded", "cut", "framed", "faded", "fragmented"), state) == (
        "Its ink is in about 14 parts. Its ink hardly stands out from its paper. It has a frame around its ink. Its ink"
        " runs into the left edge. It has far more strokes side by side than the others of its label."
    )
