"""The drawn sample, looked at from outside: the command is run and its files are read."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[1] / "sample.py"
CLASSES = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]
COPIES = {"duplicate", "conflicting_duplicate"}


def run(out: Path, seed: int = 123, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--seed", str(seed)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def split_of(path: str) -> str:
    return path.removeprefix("data/").split("/")[0]


def ink(path: Path) -> int:
    return int((np.asarray(Image.open(path)) < 250).sum())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "sample"
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    command = f"python submit.py --local --config sample --data {out}/data --test-data {out}/test\n"
    assert done.stdout.endswith(f" Next: {command}")
    return out


@pytest.fixture(scope="module")
def faults(sample: Path) -> list[dict[str, str]]:
    with (sample / "faults.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_counts_and_layout(sample: Path) -> None:
    images = [path.relative_to(sample).parts for path in sample.rglob("*.png")]
    train = Counter(parts[2] for parts in images if parts[:2] == ("data", "train"))
    val = Counter(parts[2] for parts in images if parts[:2] == ("data", "val"))
    test = Counter(parts[1] for parts in images if parts[0] == "test")
    assert set(train) == set(val) == set(CLASSES)
    assert test == dict.fromkeys(CLASSES, 10)
    assert 650 <= train.total() <= 750
    assert 180 <= val.total() <= 220
    assert train.total() + val.total() + test.total() == len(images)


def test_images_look_like_scans(sample: Path) -> None:
    for path in sample.rglob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "L"
            assert 100 <= image.width <= 500
            assert 100 <= image.height <= 500
            assert np.asarray(image).mean() > 128, path  # dark ink on a white page


def test_share_of_faults(sample: Path, faults: list[dict[str, str]]) -> None:
    per_split = Counter(split_of(row["path"]) for row in faults)
    train = sum(1 for _ in (sample / "data/train").rglob("*.png"))
    val = sum(1 for _ in (sample / "data/val").rglob("*.png"))
    assert 0.08 <= per_split["train"] / train <= 0.10
    assert 0.02 <= per_split["val"] / val <= 0.03
    assert per_split["test"] == 0
    assert {row["fault"] for row in faults} == {"wrong_label", "scribble", "blank", *COPIES}


def test_fault_rows_agree_with_the_files(sample: Path, faults: list[dict[str, str]]) -> None:
    assert len({row["path"] for row in faults}) == len(faults)
    for row in faults:
        assert (sample / row["path"]).is_file()
        assert row["given_label"] == Path(row["path"]).parent.name
        assert bool(row["duplicate_of"]) == (row["fault"] in COPIES)
        if row["fault"] in ("scribble", "blank"):
            assert row["true_label"] == ""
        else:
            same = row["given_label"] == row["true_label"]
            assert row["true_label"] in CLASSES
            assert same == (row["fault"] == "duplicate")


def test_copies_are_copies(sample: Path, faults: list[dict[str, str]]) -> None:
    listed = {row["path"] for row in faults}
    for row in faults:
        if row["fault"] not in COPIES:
            continue
        original = row["duplicate_of"]
        assert (sample / row["path"]).read_bytes() == (sample / original).read_bytes()
        assert original not in listed
        assert Path(original).parent.name == row["true_label"]
        splits = {split_of(row["path"]), split_of(original)}
        assert splits == ({"train", "val"} if row["fault"] == "duplicate" else {"train"})


def test_no_unlisted_copies(sample: Path, faults: list[dict[str, str]]) -> None:
    same = defaultdict(set)
    for path, digest in digests(sample).items():
        if path.endswith(".png"):
            same[digest].add(path)
    found = {frozenset(paths) for paths in same.values() if len(paths) > 1}
    copies = [row for row in faults if row["fault"] in COPIES]
    assert found == {frozenset((row["path"], row["duplicate_of"])) for row in copies}


def test_blanks_and_only_blanks_have_no_ink(sample: Path, faults: list[dict[str, str]]) -> None:
    paths = (path.relative_to(sample).as_posix() for path in sample.rglob("*.png"))
    empty = {path for path in paths if ink(sample / path) == 0}
    assert empty == {row["path"] for row in faults if row["fault"] == "blank"}


def test_same_seed_same_bytes_other_seed_other_bytes(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is no obstacle
    assert run(tmp_path / "again", PYTHONHASHSEED="7").returncode == 0
    assert digests(tmp_path / "again") == digests(sample)
    assert run(tmp_path / "other", seed=124).returncode == 0
    assert digests(tmp_path / "other") != digests(sample)
    assert {path.name for path in tmp_path.iterdir()} == {"again", "other"}  # no drafts left


def test_second_call_touches_nothing(sample: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [sample, *sample.rglob("*")]}
    done = run(sample)
    assert done.returncode == 0, done.stderr
    assert "already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in [sample, *sample.rglob("*")]} == before


def test_the_folder_is_a_link_where_the_terminal_takes_it(sample: Path) -> None:
    done = run(sample, FORCE_COLOR="1", TERM="xterm-256color")
    assert f";file://{sample}\x1b\\{sample}\x1b" in done.stdout


def test_what_is_missing_from_a_sample_is_said(tmp_path: Path) -> None:
    run(tmp_path / "sample")
    (tmp_path / "sample/data/val/i/0001.png").unlink()
    (tmp_path / "sample/test/x/0001.png").unlink()
    done = run(tmp_path / "sample")
    assert done.returncode == 0
    assert (
        " of seed 123, but without data/val/i/0001.png and 1 more; remove the folder to have all drawn again. Next: "
        in (done.stdout)
    )


def test_two_at_once_draw_one_sample(sample: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "sample")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate()[0].partition(" ")[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said == [str(tmp_path / "sample"), "Wrote"]
    assert digests(tmp_path / "sample") == digests(sample)


def refused(out: Path, seed: int = 123) -> None:
    done = run(out, seed)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(out) in done.stderr
    assert "Traceback" not in done.stderr


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    refused(tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]
    assert (tmp_path / "mine/notes.txt").read_text() == "keep me"


def test_sample_of_another_seed_is_refused(sample: Path) -> None:
    before = digests(sample)
    refused(sample, seed=124)
    assert digests(sample) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_ended_while_it_draws_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "sample")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not any(tmp_path.rglob("*.png")) and time.monotonic() < end:
            time.sleep(0.01)
        assert [path.name.startswith(".partial.") for path in tmp_path.iterdir()] == [True]
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    refused(tmp_path / "file")
    refused(tmp_path / "file/below")
    assert (tmp_path / "file").read_text() == "keep me"


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "out", seed=-1)
    assert (done.returncode, done.stderr) == (1, "--seed is -1; it must be 0 or more.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_the_tools_is_told_what_installs_them(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-E", str(SCRIPT), "--out", str(tmp_path / "sample")]  # -S: no site-packages
    done = subprocess.run(command, capture_output=True, text=True)
    sentence = f"numpy is not installed for {sys.executable}; run: make setup-tools && . .venv/bin/activate\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
