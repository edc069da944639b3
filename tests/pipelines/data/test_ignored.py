"""What a run on this machine is told that DVC ignores; tests/components/ingest/test_ignored.py compares it with DVC."""

import subprocess
from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.data import ignored
from pipelines.data.ignored import list_ignored
from pipelines.local.submission import LocalTarget
from pipelines.submission.preparation import locate_data
from pipelines.submission.request import RunRequest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    from dvc.repo import Repo

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    Repo.init(str(tmp_path)).close()
    for name in ("data/train/i/0.png", "data/.git/HEAD", "data/notes.txt", "data/raw/0.png", "test/i/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dvcignore").write_text("# beside the images\n*.txt\n/data/raw/\n")
    return tmp_path


def test_folder_in_a_repository(root: Path) -> None:
    assert list_ignored(root / "data") == ["notes.txt", "raw"]


def test_folder_outside_any_repository(tmp_path: Path) -> None:
    (tmp_path / ".dvcignore").write_text("*\n")
    assert list_ignored(tmp_path) == []


def test_file_with_the_name_of_a_repository_is_a_file_like_others(root: Path) -> None:
    (root / "data/.hg").touch()
    (root / ".dvcignore").write_text(".hg\n")
    assert list_ignored(root / "data") == [".hg"]


def test_repository_of_dvc_inside_is_no_part_of_the_version(root: Path) -> None:
    (root / "data/train/i/.dvc").mkdir()
    assert list_ignored(root / "data") == ["notes.txt", "raw", "train/i"]


def test_run_is_told_of_both_folders(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = RunRequest("default", "local", data=str(root / "data"), test_data=str(root / "test"))
    located = locate_data(request, LocalTarget(root / "runs", "default", ""))
    assert located.arguments == {
        "data_uri": str(root / "data"),
        "test_data_uri": str(root / "test"),
        "ignored": ["notes.txt", "raw", "test/i/notes.txt"],
    }
    assert capsys.readouterr().out.splitlines() == [
        f"{root / 'data'}: DVC ignores notes.txt and 1 more, so the run leaves that out.",
        f"{root / 'test'}: DVC ignores i/notes.txt, so the run leaves that out.",
    ]


def test_file_that_keeps_dvc_from_making_a_version_is_named(root: Path) -> None:
    path = root / "data/train/.dvcignore"
    path.write_text("*.txt\n")
    with pytest.raises(UserError) as caught:
        list_ignored(root / "data")
    assert str(caught.value) == (
        f"{path}: DVC makes no version of a folder with such a file inside; move its patterns to {root}/.dvcignore."
    )


def test_more_than_a_parameter_holds_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ignored, "LONGEST", 10)
    with pytest.raises(UserError) as caught:
        list_ignored(root / "data")
    assert str(caught.value) == (
        f"{root}/data: DVC ignores 2 files there, such as notes.txt, which is more than a run can be told of; move "
        "them out of it."
    )
