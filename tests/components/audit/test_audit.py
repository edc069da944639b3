"""The audit of a small data set whose faults are known."""

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.audit.audit import audit_examples
from components.audit.judging import Settings
from components.files import UserError
from tests.conftest import BEAM, ROOT, contents

CLASSES = ["i", "v", "x"]
SETTINGS = Settings(folds=2, repeats=1, epochs=40, seed=1)
FAULTS = {
    "train/v/flipped.png": "x",
    "train/x/flipped.png": "v",
    "train/i/flipped.png": "x",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of drawn numerals: three wrong labels, a blank page, a copy, a picture moved on its page."""
    from sample import blank_page, draw_page

    root = tmp_path_factory.mktemp("faulty")
    for split, count in {"train": 22, "val": 8, "test": 1}.items():
        for label in CLASSES:
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([*split.encode(), CLASSES.index(label), number])
                draw_page(rng, label).save(folder / f"{number:02d}.png")
    for number, (filename, truth) in enumerate(FAULTS.items()):
        draw_page(np.random.default_rng([7, number]), truth).save(root / "data" / filename)
    blank_page(0).save(root / "data/train/v/blank.png")
    shutil.copyfile(root / "data/val/i/00.png", root / "data/train/i/copy.png")
    picture = Image.open(root / "data/train/x/03.png")
    page = Image.new("L", (picture.width + 60, picture.height + 40), 255)
    page.paste(picture, (50, 10))
    page.save(root / "data/train/x/moved.png")
    return ingested(root / "data", root)


def ingested(data: Path, root: Path) -> Path:
    from components.ingest.ingestion import ingest_folders

    ingest_folders(str(data), "", "", CLASSES, "fail", 10_000, 50_000_000, 2, BEAM, str(root / "examples"))
    return root / "examples"


@pytest.fixture(scope="module")
def issues(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    output = tmp_path_factory.mktemp("audit") / "issues.csv"
    audit_examples(str(faulty), SETTINGS, str(output))
    assert list(contents(output.parent)) == ["issues.csv"]
    return read(output)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def row(issues: list[dict[str, str]], filename: str) -> dict[str, str]:
    return next(issue for issue in issues if issue["filename"] == filename)


def test_every_image_of_train_and_val_has_one_row(issues: list[dict[str, str]]):
    assert [int(issue["rank"]) for issue in issues] == list(range(1, 3 * 30 + 7))
    assert len({issue["filename"] for issue in issues}) == len(issues)
    assert {issue["filename"].split("/")[0] for issue in issues} == {"train", "val"}
    assert {issue["decision"] + issue["decided_label"] for issue in issues} == {""}


def test_wrong_labels_come_first_with_the_right_one(issues: list[dict[str, str]]):
    for filename, truth in FAULTS.items():
        found = row(issues, filename)
        assert int(found["rank"]) <= 10
        assert "label" in found["kinds"]
        assert (found["prediction"], found["new_label"]) == (truth, truth)
        assert float(found["label_probability"]) < float(found["probability"])


def test_a_blank_page_is_to_be_dropped(issues: list[dict[str, str]]):
    found = row(issues, "train/v/blank.png")
    assert (found["kinds"], found["action"], found["new_label"]) == ("blank", "drop", "")
    assert int(found["rank"]) <= 10


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("val/i/00.png", "train/i/copy.png", "exact_duplicate"),
        ("train/x/03.png", "train/x/moved.png", "near_duplicate"),
    ],
)
def test_duplicates_are_one_group(issues: list[dict[str, str]], one: str, other: str, kind: str):
    first, second = row(issues, one), row(issues, other)
    assert first["group"] == second["group"] != ""
    assert [issue["filename"] for issue in issues if issue["group"] == first["group"]] == [one, other]
    assert kind in first["kinds"].split(";")
    assert first["action"] == second["action"] == "keep_one"
    assert other in first["why"]


def test_most_good_images_need_nothing(issues: list[dict[str, str]]):
    good = [issue for issue in issues if not issue["kinds"]]
    assert len(good) > 0.7 * len(issues)
    assert {(issue["action"], issue["new_label"], issue["why"]) for issue in good} == {("", "", "")}
    assert int(good[0]["rank"]) == len(issues) - len(good) + 1


def test_a_killed_audit_continues_and_gives_the_same(faulty: Path, tmp_path: Path):
    settings = SETTINGS._replace(repeats=2, epochs=2)
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed" / "issues.csv"
    audit_examples(str(faulty), settings, str(whole))
    call = f"audit_examples({str(faulty)!r}, Settings{tuple(settings)}, {str(killed)!r})"
    code = f"from components.audit.audit import *; {call}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    folds = killed.with_name(".issues.csv.folds")
    until(lambda: (folds / "repeat-1-fold-1.npz").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    os.link(folds / "repeat-1-fold-1.npz", tmp_path / "kept.npz")
    before = (tmp_path / "kept.npz").stat().st_mtime_ns
    audit_examples(str(faulty), settings, str(killed))
    assert (tmp_path / "kept.npz").stat().st_mtime_ns == before
    assert list(contents(killed.parent)) == ["issues.csv"]
    assert killed.read_bytes() == whole.read_bytes()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"folds": 1}, "folds is 1; it must be 2 or more."),
        ({"repeats": 0}, "repeats is 0; it must be 1 or more."),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more."),
        ({"seed": -1}, "seed is -1; it must be from 0 to 2147483647."),
        ({"folds": 40}, "the class i has 31 different images in train and val, fewer than the 40 folds"),
    ],
)
def test_a_wrong_setting_is_named(faulty: Path, tmp_path: Path, setting: dict[str, int], sentence: str):
    with pytest.raises(UserError, match=sentence):
        audit_examples(str(faulty), SETTINGS._replace(**setting), str(tmp_path / "issues.csv"))
    assert not (tmp_path / "issues.csv").exists()
