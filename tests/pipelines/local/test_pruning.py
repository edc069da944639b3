"""`submit.py --local --prune`: what goes, what stays and why, and what is freed."""

import json
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.shared.files import hold_folder
from pipelines.local.cache import FOLDER
from pipelines.local.pruning import SETTLED
from pipelines.local.record import RunRecord, write_record
from pipelines.output.project import ROOT
from tests.conftest import contents, run_killed, run_python

START = datetime(2026, 11, 30, tzinfo=UTC)
SIZE = 1_000_000  # bytes of each run's model


class Runs:
    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "runs"
        self._minutes = 0

    def add(
        self,
        name: str,
        experiment: str = "default",
        *,
        state: str = "succeeded",
        takes: str = "",
        from_run: str = "",
        artifact: str = "model",
        own_name: str = "",
        **arguments: object,
    ) -> Path:
        """A run that has ended, the next in time; what it takes is a path below the folder of the runs."""
        self._minutes += 1
        folder = self.folder / experiment / name
        (folder / "artifacts").mkdir(parents=True)
        (folder / "artifacts/model").write_bytes(os.urandom(SIZE))
        inputs = {"model": str(self.folder / takes)} if takes else {}
        record: RunRecord = {
            "run": own_name or name,
            "pipeline": "training",
            "state": state,
            "started": (START + timedelta(minutes=self._minutes)).isoformat(),
            "arguments": {**({"from_run": from_run} if from_run else {}), **arguments},
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
            "artifacts": {artifact: str(folder / "artifacts/model")},
        }
        write_record(folder, record)
        return folder

    def prune(self, *options: str) -> "subprocess.CompletedProcess[str]":
        return run_python(ROOT / "submit.py", "--local", "--prune", *options, cwd=self.home)

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


def test_the_latest_curated_folder_stays_which_may_not_be_adopted_yet(runs: Runs):
    for name, artifact in (("a", "data"), ("b", "data"), ("c", "model"), ("d", "model")):
        runs.add(name, artifact=artifact)
    assert runs.prune("--keep", "1", "--yes").returncode == 0
    assert runs.list_names() == ["b", "d"]


def test_a_turn_stays_whose_images_a_later_one_begins_with(runs: Runs):
    """Likewise one whose decisions it keeps to."""
    first, second = runs.add("a", artifact="data"), runs.add("b")
    runs.add("c")
    decisions = {"earlier": str(second / "decisions-earlier.csv")}
    runs.add("d", artifact="data", data_uri=str(first / "artifacts/model"), decisions_uris=decisions)
    assert runs.prune("--keep", "1", "--yes").stdout == (
        "c: removed, 1 MB\na: stays, since default/d takes artifacts from it\n"
        "b: stays, since default/d takes artifacts from it\n1 MB freed\n"
    )


@pytest.mark.parametrize("own_name", ["..", "../..", "/", "b", "x/../../other"])
def test_the_folder_of_a_run_counts_and_not_what_its_record_calls_it(runs: Runs, own_name: str):
    runs.add("a", own_name=own_name)
    runs.add("b")
    runs.add("c", "other")
    assert runs.prune("--keep", "1", "--yes").stdout == "a: removed, 1 MB\n1 MB freed\n"
    assert runs.list_names() == ["b"]
    assert runs.list_names("other") == ["c"]


def test_nothing_goes_while_a_run_goes_on_that_may_take_something(runs: Runs):
    runs.add("a")
    runs.add("b")
    going_on = runs.folder / "other/going-on"
    going_on.mkdir(parents=True)
    with hold_folder(going_on):
        done = runs.prune("--keep", "1", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    place = going_on.relative_to(runs.home)
    assert done.stderr == f"{place}: goes on, and may take something from any run; wait until it has ended.\n"
    assert runs.list_names() == ["a", "b"]
    assert runs.prune("--keep", "1", "--yes").returncode == 0


def test_an_experiment_may_be_a_link_to_another_disk(runs: Runs, tmp_path: Path):
    runs.add("a")
    (tmp_path / "disk").mkdir()
    (runs.folder / "linked").symlink_to(tmp_path / "disk")
    runs.add("b", "linked", takes="default/a/artifacts/model")
    runs.add("c")
    runs.add("d", "linked")
    assert runs.prune("--keep", "1", "--yes").stdout.startswith("a: stays, since linked/b takes artifacts from it\n")
    assert runs.prune("--keep", "1", "--yes", "--experiment", "linked").stdout.startswith("b: removed")
    assert runs.prune("--keep", "1", "--yes").stdout.startswith("a: removed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_a_run_that_cannot_be_removed_is_named(runs: Runs):
    folder = runs.add("a")
    runs.add("b")
    folder.parent.chmod(0o555)
    done = runs.prune("--keep", "1", "--yes")
    folder.parent.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{folder}: cannot be removed (Permission denied); make it yours to remove.\n"


def test_what_a_link_leads_to_stays(runs: Runs):
    best = runs.add("a")
    runs.add("b")
    runs.add("c")
    (runs.folder / "default/best").symlink_to(best)
    done = runs.prune("--keep", "1", "--yes")
    assert done.stdout == "b: removed, 1 MB\na: stays, since the link best leads to it\n1 MB freed\n"
    assert runs.list_names() == ["a", "best", "c"]


def test_a_folder_of_runs_that_moved_is_known_by_the_link_in_its_place(runs: Runs, tmp_path: Path):
    runs.add("a")
    runs.add("b", takes="default/a/artifacts/model")
    runs.folder.rename(tmp_path / "moved")
    runs.folder.symlink_to(tmp_path / "moved")
    assert runs.prune("--keep", "1", "--yes").stdout.startswith("a: stays, since default/b takes artifacts from it\n")


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
    time.sleep(SETTLED + 0.1)
    path = folder / name
    if name == "artifacts/link":
        path.symlink_to("/")
    else:
        path.write_text("mine")
        os.utime(path, (0, 0))  # as `cp -p` keeps the time of its original
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
    assert done.stderr.startswith("runs/other/c/run.json: ")
    assert contents(runs.folder) == before


def test_an_experiment_without_runs_is_named(runs: Runs):
    runs.add("a")
    done = runs.prune("--experiment", "numeral")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "runs/numeral: has no runs; name the experiment by --experiment.\n"


def test_entries_of_the_cache_that_have_nothing_to_copy_go_too(runs: Runs):
    old, new = runs.add("a"), runs.add("b")
    (runs.folder / FOLDER).mkdir()
    for name, folder in (("0" * 64, old), ("1" * 64, new)):
        entry = {"made_by": "x/y", "folder": f"{folder}/artifacts", "files": {}, "artifacts": {}, "parameters": {}}
        (runs.folder / FOLDER / f"{name}.json").write_text(json.dumps(entry))
    (runs.folder / FOLDER / f"{'2' * 64}.json").write_text("{")
    (runs.folder / FOLDER / "mine.json").write_text("{")
    runs.prune("--keep", "1", "--yes")
    assert {path.name for path in (runs.folder / FOLDER).iterdir()} == {f"{'1' * 64}.json", "mine.json"}


def test_what_was_killed_is_finished_the_next_time(runs: Runs):
    for name in ("a", "b", "c"):
        runs.add(name)
    code = (
        "import shutil, sys; from pathlib import Path; from pipelines.local.pruning import prune\n"
        "shutil.rmtree = lambda path: print('removing')\n"
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
        (["--local", "--prune", "--runner", "docker"], "--runner is for starting a run"),
        (["--local", "--prune", "--keep", "0"], "argument --keep: invalid number_of_runs value: '0'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str], problem: str):
    done = run_python(ROOT / "submit.py", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"{problem}.\n"
