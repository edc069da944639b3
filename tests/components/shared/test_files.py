import os
import re
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from components.shared.errors import UserError
from components.shared.files import find_cache_folder, new_directory, new_file, remove_temporary
from tests.conftest import contents, run_python

KINDS = {"file": new_file, "directory": new_directory}
KILLED = """
import os, signal, sys
from components.shared.files import new_directory, new_file
kind, target, kill = sys.argv[1:]
with {"file": new_file, "directory": new_directory}[kind](target) as path:
    inner = path if kind == "file" else path / "inner"
    with inner.open("w") as file:
        file.write("first half, ")
        file.flush()
        if kill == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        file.write("second half")
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def opened(kind: str, target: Path) -> AbstractContextManager[Path]:
    return KINDS[kind](target)


def inner(kind: str, path: Path) -> Path:
    return path if kind == "file" else path / "inner"


def put(kind: str, target: Path, text: str) -> None:
    inner(kind, target).parent.mkdir(parents=True, exist_ok=True)
    inner(kind, target).write_text(text)


def test_target_appears_only_when_it_is_whole(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "target.ext"
    with opened(kind, target) as path:
        inner(kind, path).write_text("whole")
        assert not target.exists()
        assert path.parent == target.parent, "a rename is only atomic on one file system"
    assert inner(kind, target).read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_old_target_stays_until_the_new_one_is_whole(kind: str, tmp_path: Path) -> None:
    put(kind, tmp_path / "target", "old")
    with opened(kind, tmp_path / "target") as path:
        inner(kind, path).write_text("new")
        assert inner(kind, tmp_path / "target").read_text() == "old"
    assert inner(kind, tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
@pytest.mark.parametrize("old", [True, False], ids=["old target", "no target"])
def test_error_changes_nothing(kind: str, old: bool, error: type[BaseException], tmp_path: Path) -> None:
    if old:
        put(kind, tmp_path / "target", "old")
    before = contents(tmp_path)

    def write() -> None:
        with opened(kind, tmp_path / "target") as path:
            inner(kind, path).write_text("half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("left", ["file", "directory"])
@pytest.mark.parametrize("name", ["target", ".partial.0123456789abcdef.target"])
def test_leftovers_are_cleared(kind: str, left: str, name: str, tmp_path: Path) -> None:
    if left == "file":
        (tmp_path / name).write_text("left")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").write_text("left")
    with opened(kind, tmp_path / "target") as path:
        inner(kind, path).write_text("new")
    put(kind, tmp_path / "expected" / "target", "new")
    assert contents(tmp_path / "expected") == {
        path: data for path, data in contents(tmp_path).items() if not path.startswith("expected")
    }


@pytest.mark.parametrize(
    "name", [".partial.target", ".partial.old.target", ".partial.mine", ".partial.0123456789abcdef.other", "x.target"]
)
def test_what_a_person_called_partial_stays(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with opened(kind, tmp_path / "target") as path:
        inner(kind, path).write_text("new")
    assert (tmp_path / name).read_text() == "mine"


def test_link_at_the_temporary_name_is_removed_and_not_followed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/0.png").write_text("mine")
    (tmp_path / ".partial.0123456789abcdef.target").symlink_to(tmp_path / "scans")
    with opened(kind, tmp_path / "target") as path:
        inner(kind, path).write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["scans", "target"]
    assert os.listdir(tmp_path / "scans") == ["0.png"]


def test_only_temporary_names_of_ours_are_removed_from_a_folder(tmp_path: Path) -> None:
    names = ["a/.partial.mine", ".partial.data", "a/.partial.0123456789abcdef.b/c", ".partial.0123456789abcdef.d"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    remove_temporary(tmp_path)
    assert sorted(contents(tmp_path)) == [".partial.data", "a", "a/.partial.mine"]


def test_killed_writer_shows_nothing_and_runs_again(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    killed = run_python("-c", KILLED, kind, target, "kill")
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.partial\.[0-9a-f]{16}\.target", left.name), "it was killed in mid-write"
    again = run_python("-c", KILLED, kind, target, "live")
    assert again.returncode == 0, again.stderr
    assert inner(kind, target).read_text() == "first half, second half"
    assert os.listdir(tmp_path) == ["target"]


def test_cache_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache/data-centric-pipeline/train"
    assert find_cache_folder("train") == folder
    assert folder.is_dir()


def test_what_was_left_in_the_cache_a_month_ago_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = find_cache_folder("train")
    for name, days in (("old file", 31), ("new file", 29), ("old folder/inner", 31), ("new folder/inner", 29)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        for changed in {path, folder / name.split("/")[0]}:
            os.utime(changed, 2 * (time.time() - days * 24 * 3600,))
    find_cache_folder("audit")
    assert len(list(folder.iterdir())) == 4
    find_cache_folder("train")
    assert sorted(contents(folder)) == ["new file", "new folder", "new folder/inner"]


@pytest.mark.parametrize("home", [None, "file"])
def test_cache_folder_without_a_home_is_temporary(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", str(tmp_path / home))
    folder = find_cache_folder("train")
    assert folder.parent == tmp_path / "temporary"
    assert folder.is_dir()
