"""What is kept of a finished fold: read as it was written, or not at all."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.audit.finished_folds import keep_verdict, read_verdict
from components.audit.judge import Verdict

VERDICT = Verdict(
    np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], np.float32),
    np.array([0, 0.5, 1], np.float32),
    np.array([0.125, 0.5, 0.25], np.float32),
)


def test_a_verdict_is_read_as_it_was_kept(tmp_path: Path):
    keep_verdict(tmp_path / "cleared/fold.verdict", VERDICT)  # its folder is made again
    read = read_verdict(tmp_path / "cleared/fold.verdict", pictures=3, classes=2)
    assert read is not None
    for values, kept in zip(read, VERDICT, strict=True):
        np.testing.assert_array_equal(values, kept)
    assert [path.name for path in (tmp_path / "cleared").iterdir()] == ["fold.verdict"]


@given(st.data())
def test_a_damaged_verdict_counts_as_not_kept(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("folds") / "fold.verdict"
    keep_verdict(path, VERDICT)
    whole = path.read_bytes()
    place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    flipped = whole[:place] + bytes([whole[place] ^ value]) + whole[place + 1 :]
    for damaged in (flipped, whole[:place], whole + b"\0", b""):
        path.write_bytes(damaged)
        assert read_verdict(path, pictures=3, classes=2) is None


def test_a_verdict_on_other_pictures_or_none_counts_as_not_kept(tmp_path: Path):
    assert read_verdict(tmp_path / "fold.verdict", pictures=3, classes=2) is None
    keep_verdict(tmp_path / "fold.verdict", VERDICT)
    assert read_verdict(tmp_path / "fold.verdict", pictures=2, classes=2) is None


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_reading_runs_nothing(tmp_path: Path):
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    (tmp_path / "fold.verdict").write_bytes(trap)
    assert read_verdict(tmp_path / "fold.verdict", pictures=3, classes=2) is None
    assert not (tmp_path / "sprung").exists()


def test_a_folder_that_cannot_be_written_costs_the_verdict_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    keep_verdict(tmp_path / "file/fold.verdict", VERDICT)
    assert capsys.readouterr().out == f"audit: {tmp_path}/file: a finished fold cannot be kept (File exists)\n"
