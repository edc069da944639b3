"""`submit.py --local --prune`: what goes, what stays and why, and what is freed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.local.cache import FOLDER
from pipelines.local.record import RunRecord, write_record
from pipelines.output.project import ROOT
from tests.conftest import contents, run_killed

START = datetime(2026, 11, 30, tzinfo=UTC)
SIZE = 1_000_000  # bytes of each run's model


class Runs:
    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "runs"
        self._minutes = 0

    def add(
        self, name: str, experiment: str = "default", *, state: str = "succeeded", takes: str = "", from_run: str = ""
    ) -> Path:
        """A run that has ended, the next in time; what it takes is a path below the folder of the runs."""
        self._minutes += 1
        folder = self.folder / experiment / name
        (folder / "artifacts").mkdir(parents=True)
        (folder / "artifacts/model").write_bytes(os.urandom(SIZE))
        inputs = {"model": str(self.folder / takes)} if takes else {}
        record: RunRecord = {
            "run": name,
            "pipeline": "training",
            "state": state,
            "started": (START + timedelta(minutes=self._minutes)).isoformat(),
            "arguments": {"from_run": from_run} if from_run else {},
            "seconds": 1.0,
            "stages": {
                "train": {
                    "stage": "train",
                    "state": state,
                    "seconds": 1.0,
                    "parameters": {},
                    "inputs": inputs,
                    "artifacts": {"model": {"uri": str(folder / "artifacts/model"), "metadata": {}}},
                }
            },
            "artifacts": {"model": str(folder / "artifacts/model")},
        }
        write_record(folder, record)
        return folder

    def prune(self, *options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(ROOT / "submit.py"), "--local", "--prune", *options]
        return subprocess.run(command, cwd=self.home, capture_output=True, text=True, timeout=60)

    def list_names(self, experiment: str = "default") -> list[str]:
        return sorted(path.name for path in (self.folder / experiment).iterdir())


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_it_shows_what_would_go_and_removes_it_when_told_to(runs: Runs):
    for name in ("a", "b", "c", "d"):
        runs.add(name)
    runs.add("a", "other")
    before = contents(runs.folder)
    shown = runs.prune("--keep", "2")
    assert (shown.returncode, shown.stderr) == (0, "")
    program = os.path.relpath(ROOT / "submit.py", runs.home)
    assert shown.stdout == (
        "a: would be removed, 1 MB\nb: would be removed, 1 MB\n2 MB would be freed\n"
        f"To remove them: python {program} --local --prune --keep 2 --yes\n"
    )
    assert contents(runs.folder) == before
    done = runs.prune("--keep", "2", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "a: removed, 1 MB\nb: removed, 1 MB\n2 MB freed\n"
    assert runs.list_names() == ["c", "d"]
    kept = {name: content for name, content in before.items() if not name.startswith(("default/a", "default/b"))}
    assert contents(runs.folder) == kept


def test_five_runs_stay_unless_another_number_is_given_and_none_need_go(runs: Runs):
    for number in range(5):
        runs.add(str(number))
    assert runs.prune("--yes").stdout == "0 MB freed\n"
    runs.add("5")
    assert runs.prune("--yes").stdout.startswith("0: removed")


def test_the_latest_success_stays_from_which_other_runs_continue(runs: Runs):
    runs.add("a")
    runs.add("b")
    runs.add("c", state="failed")
    runs.add("d", state="cancelled")
    assert runs.prune("--keep", "1", "--yes").returncode == 0
    assert runs.list_names() == ["b", "d"]


def test_what_another_run_takes_something_from_stays(runs: Runs):
    runs.add("unused")
    runs.add("used")
    runs.add("between", takes="default/used/artifacts/model")
    runs.add("continued")
    runs.add("data")
    runs.add("newest", takes="default/between/artifacts/model", from_run="continued")
    runs.add("elsewhere", "nested/other", takes="default/data")
    done = runs.prune("--keep", "1", "--yes")
    assert done.stdout == (
        "unused: removed, 1 MB\n"
        "between: stays, since default/newest takes artifacts from it\n"
        "continued: stays, since default/newest takes artifacts from it\n"
        "data: stays, since nested/other/elsewhere takes artifacts from it\n"
        "used: stays, since default/between takes artifacts from it\n"
        "1 MB freed\n"
    )
    assert runs.list_names() == ["between", "continued", "data", "newest", "used"]


def test_what_only_old_runs_take_goes_with_them(runs: Runs):
    runs.add("a")
    runs.add("b", takes="default/a/artifacts/model")
    runs.add("c")
    runs.prune("--keep", "1", "--yes")
    assert runs.list_names() == ["c"]


@pytest.mark.parametrize("name", ["decisions.csv", "artifacts/model", "artifacts/link"])
def test_what_a_person_has_written_there_stays(runs: Runs, name: str):
    folder = runs.add("a")
    runs.add("b")
    path = folder / name
    if name == "artifacts/link":
        path.symlink_to("/")
    else:
        path.write_text("mine")
    later = (folder / "run.json").stat().st_mtime + 60
    os.utime(path, (later, later), follow_symlinks=False)
    assert runs.prune("--keep", "1", "--yes").stdout == (
        f"a: stays, since {name} was written after it ended\n0 MB freed\n"
    )
    assert runs.list_names() == ["a", "b"]


def test_a_run_that_has_not_ended_stays(runs: Runs):
    """Or that was killed: it is not known which."""
    (runs.folder / "default/started/artifacts").mkdir(parents=True)
    runs.add("a")
    runs.add("b")
    runs.prune("--keep", "1", "--yes")
    assert runs.list_names() == ["b", "started"]


def test_a_link_to_another_place_is_removed_and_not_followed(runs: Runs, tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_bytes(b"image")
    folder = runs.add("a")
    (folder / "artifacts/images").symlink_to(tmp_path / "images")
    runs.add("b")
    runs.prune("--keep", "1", "--yes")
    assert runs.list_names() == ["b"]
    assert contents(tmp_path / "images") == {"1.png": b"image"}


def test_a_damaged_record_stops_it_since_it_might_need_any_run(runs: Runs):
    runs.add("a")
    runs.add("b")
    (runs.add("c", "other") / "run.json").write_text("{")
    before = contents(runs.folder)
    done = runs.prune("--keep", "1", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{runs.folder}/other/c/run.json: ")
    assert contents(runs.folder) == before


def test_an_experiment_without_runs_is_named(runs: Runs):
    runs.add("a")
    done = runs.prune("--experiment", "numeral")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{runs.folder}/numeral: has no runs; name the experiment by --experiment.\n"


def test_entries_of_the_cache_that_have_nothing_to_copy_go_too(runs: Runs):
    old, new = runs.add("a"), runs.add("b")
    (runs.folder / FOLDER).mkdir()
    for name, folder in (("old", old), ("new", new)):
        (runs.folder / FOLDER / f"{name}.json").write_text(
            f'{{"made_by": "x/y", "folder": "{folder}/artifacts", "files": {{}}, "artifacts": {{}}}}'
        )
    (runs.folder / FOLDER / "broken.json").write_text("{")
    runs.prune("--keep", "1", "--yes")
    assert [path.name for path in (runs.folder / FOLDER).iterdir()] == ["new.json"]


def test_what_was_killed_is_finished_the_next_time(runs: Runs):
    for name in ("a", "b", "c"):
        runs.add(name)
    code = (
        "import shutil, sys; from pathlib import Path; from pipelines.local.pruning import prune\n"
        "shutil.rmtree = lambda path, **_: print('removing')\n"
        "prune(Path(sys.argv[1]), 'default', 1, remove=True)"
    )
    run_killed(code, "removing", runs.folder)
    assert [name for name in runs.list_names() if not name.startswith(".partial.")] == ["b", "c"]
    assert len(runs.list_names()) == 3
    runs.prune("--keep", "1", "--yes")
    assert runs.list_names() == ["c"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--prune"], "--prune goes with --local"),
        (["--local", "--yes"], "--yes goes with --prune"),
        (["--local", "--keep", "3"], "--keep goes with --prune"),
        (["--local", "--prune", "--data", "x"], "--data is for starting a run"),
        (["--local", "--prune", "--keep", "0"], "argument --keep: invalid number_of_runs value: '0'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str], problem: str):
    command = [sys.executable, ROOT / "submit.py", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith(f"submit.py: error: {problem}\n")
