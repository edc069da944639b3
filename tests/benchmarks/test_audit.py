"""The faults that the benchmark of the audit puts into pictures, and the shares that it prints."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.audit import Fault, Picture, format_table, measure, measure_kinds, read_faults, spoil_pictures
from benchmarks.spoiling import SPOILERS, has_ink, spoil
from components.audit.state import measure_state
from components.shared.ink import find_ink
from sample import draw_blank_page, draw_page
from tests.rows import make_issue


def encode(page: np.ndarray) -> bytes:
    return cv2.imencode(".png", page)[1].tobytes()


def decode(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)


def draw_pictures(count: int) -> list[Picture]:
    return [
        Picture(f"train/v/{n}.png", "v", encode(np.array(draw_page(np.random.default_rng(n), "v"))))
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two numerals on pages of 120 x 100 pixels."""
    pages = np.full((2, 120, 100), 240, np.uint8)
    pages[0, 40:80, 45:50] = 20
    pages[1, 50:70, 60:64] = 20
    return pages[0], pages[1]


def test_a_faded_picture_has_less_contrast(pair: tuple[np.ndarray, np.ndarray]) -> None:
    page = decode(spoil(np.random.default_rng(1), "fade", encode(pair[0]), encode(pair[1])))
    assert (page == 240).sum() == 12000 - 200
    assert 0.15 * 220 <= 240 - page.min() <= 0.45 * 220 + 1


def test_broken_strokes_lose_ink_alone(pair: tuple[np.ndarray, np.ndarray]) -> None:
    page = decode(spoil(np.random.default_rng(1), "break", encode(pair[0]), encode(pair[1])))
    assert measure_state(page, find_ink(page)).parts > 4
    assert set(page[page != pair[0]].tolist()) == {240}


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_cuts_off_a_part_of_the_ink(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    page = decode(spoil(np.random.default_rng(seed), "crop", encode(pair[0]), encode(pair[1])))
    left = (page == 20).sum() / 200
    assert 0.55 <= left <= 0.85
    assert measure_state(page, find_ink(page)).side


@pytest.mark.parametrize("seed", range(8))
def test_an_overlay_holds_the_ink_of_both(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    page = decode(spoil(np.random.default_rng(seed), "overlay", encode(pair[0]), encode(pair[1])))
    assert (page == 20).sum() == 200 + 80
    assert page.shape in ((120, 100), (120, 200))


@pytest.mark.parametrize("seed", range(8))
def test_a_frame_has_the_ink_in_it(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    page = decode(spoil(np.random.default_rng(seed), "frame", encode(pair[0]), encode(pair[1])))
    assert measure_state(page, find_ink(page)).framed


def test_as_many_pictures_are_spoiled_in_each_way_and_the_others_stay_as_they_are() -> None:
    pictures = draw_pictures(20)
    pictures[0] = pictures[0]._replace(encoded=encode(np.array(draw_blank_page(0))))
    assert not has_ink(pictures[0].encoded)
    spared = {"train/v/1.png"}
    spoiled, faults = spoil_pictures(pictures, share=0.1, spared=spared, seed=1)
    assert sorted(fault.kind for fault in faults.values()) == sorted([*SPOILERS] * 2)
    changed = {new.filename for old, new in zip(pictures, spoiled, strict=True) if old != new}
    assert changed == faults.keys()
    assert not changed & {"train/v/0.png", *spared}
    assert spoil_pictures(pictures, share=0.1, spared=spared, seed=1) == (spoiled, faults)


def test_faults_of_the_sample_are_wrong_labels_and_junk(tmp_path: Path) -> None:
    rows = [("path", "fault", "true_label"), ("data/train/i/1.png", "wrong_label", "v"), ("test/i/1.png", "blank", "")]
    rows += [("data/train/i/2.png", "scribble", ""), ("data/train/i/3.png", "duplicate", "i")]
    with (tmp_path / "faults.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = read_faults(tmp_path / "faults.csv")
    assert found == {"train/i/1.png": Fault("wrong label", "v"), "train/i/2.png": Fault("junk")}
    assert read_faults(tmp_path / "none.csv") == {}


def test_shares_are_those_of_the_first_rows_and_of_each_kind() -> None:
    names = [f"train/i/{n}.png" for n in range(30)]
    faults = {names[0]: Fault("wrong label", "v"), names[1]: Fault("crop"), names[5]: Fault("crop")}
    faults |= {names[9]: Fault("wrong label", "x")}
    issues = [make_issue(rank=n + 1, filename=name) for n, name in enumerate(names)]
    issues[0] = issues[0]._replace(kinds=("label",), new_label="v")
    issues[1] = issues[1]._replace(kinds=("cut", "label"))
    issues[2] = issues[2]._replace(kinds=("cut",))
    assert measure(issues, faults) == {
        "images": "30",
        "faults": "4",
        "in as many rows": "0.500",
        "in a tenth of the rows": "0.500",
        "in twice as many rows": "0.750",
        "right new label": "0.500",
    }
    assert format_table(measure_kinds(issues, faults)).splitlines() == [
        "| fault | images | in twice as many rows | named | others named so |",
        "| --- | --- | --- | --- | --- |",
        "| wrong label | 2 | 0.500 |  |  |",
        "| crop | 2 | 1.000 | 0.500 | 1 |",
    ]
    assert format_table([]) == ""
