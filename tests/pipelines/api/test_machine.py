"""Runs on this machine in Python, without a stage that runs: tests/end_to_end has those."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.shared.errors import UserError
from components.shared.formats.training import write_history
from pipelines.api.machine import Machine
from pipelines.api.run import Task
from pipelines.api.show import make_frame
from pipelines.local.record import RunRecord, TaskRecord, write_record
from pipelines.submission.request import make_request
from tests.pipelines.local.test_record import leave as leave_record

EPOCHS = [{"epoch": 1, "accuracy": 0.5, "loss": 2.0, "val_accuracy": 0.25, "val_loss": 2.5}]


def leave(runs: Path, name: str, state: str = "succeeded") -> RunRecord:
    """A run with two trainings, of which one is its own, and a page."""
    folder = runs / "default" / name
    record = leave_record(runs, name, state, history=str(folder / "artifacts/train/history"))
    tasks: dict[str, TaskRecord] = {}
    for task, number in (("before-train", 1), ("train", 2)):
        history = folder / f"artifacts/{task}/history"
        history.parent.mkdir(parents=True)
        write_history(history, [{**EPOCHS[0], "loss": float(number)}])  # type: ignore[list-item]
        artifacts = {"history": {"uri": str(history), "metadata": {}}}
        tasks[task] = {
            "stage": "train",
            "state": "succeeded",
            "seconds": 2.0,
            "parameters": {},
            "inputs": {},
            "artifacts": artifacts,
        }
    tasks["evaluate"] = {
        **tasks["train"],
        "stage": "evaluate",
        "state": "failed",
        "seconds": None,
        "artifacts": {},
        "message": "no model",
    }
    record["seconds"], record["stages"] = 9.5, tasks
    write_record(folder, record)
    (folder / "index.html").write_text('<p title="a">first</p>')
    return record


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    leave(tmp_path, "run-01")
    leave(tmp_path, "run-02")
    leave(tmp_path, "run-03", state="failed")
    return Machine(runs=tmp_path)


def test_runs_are_listed_from_the_newest_on_and_the_latest_is_the_last_success(machine: Machine) -> None:
    assert [run.name for run in machine.list_runs()] == ["run-03", "run-02", "run-01"]
    assert machine.list_runs("other") == []
    latest = machine.find_run()
    assert (latest.name, latest.state, latest.pipeline, latest.seconds) == ("run-02", "succeeded", "training", 9.5)
    assert latest.started.isoformat() == "2026-01-01T00:02:00+00:00"
    assert repr(latest) == "<MachineRun run-02: succeeded>"


def test_a_run_is_found_by_its_name_and_by_its_folder(machine: Machine, tmp_path: Path) -> None:
    assert machine.find_run("run-01").folder == tmp_path / "default/run-01"
    elsewhere = tmp_path / "moved"
    (tmp_path / "default/run-01").rename(elsewhere)
    assert machine.find_run(str(elsewhere)).pages == ["index"]
    with pytest.raises(UserError, match="^run-01: no such run in .*; give the name or the folder of an earlier run"):
        machine.find_run("run-01")


def test_tasks_say_what_became_of_them(machine: Machine) -> None:
    assert machine.find_run().tasks == [
        Task("before-train", "train", "succeeded", 2.0),
        Task("train", "train", "succeeded", 2.0),
        Task("evaluate", "evaluate", "failed", None, "no model"),
    ]


def test_an_artifact_is_the_runs_own_unless_a_task_is_named(machine: Machine) -> None:
    run = machine.find_run()
    assert [epoch["loss"] for epoch in run.history()] == [2.0]
    assert [epoch["loss"] for epoch in run.history("before-train")] == [1.0]
    assert make_frame(run.history()).to_dict("records") == [{**EPOCHS[0], "loss": 2.0}]


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda run: run.history("trian"),
            "run run-02: the task 'trian' does not exist. Did you mean train? There are",
        ),
        (
            lambda run: run.evaluation("evaluate"),
            "run run-02: evaluate has made no artifact 'evaluation'; its state is failed.",
        ),
        (lambda run: run.issues(), "run run-02: the artifact 'issues' does not exist. There are: history."),
        (lambda run: run.page("audit"), "run run-02: the page 'audit' does not exist. There are: index."),
    ],
)
def test_what_a_run_has_not_made_is_named(machine: Machine, ask: object, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        ask(machine.find_run())  # type: ignore[operator]
    assert str(caught.value).startswith(sentence)


def test_an_artifact_that_is_gone_is_named(machine: Machine) -> None:
    run = machine.find_run()
    path = run.locate("history")
    path.unlink()
    with pytest.raises(UserError, match=f"^{path}: is gone; run again, or name another run.$"):
        run.history()


def test_a_page_is_shown_in_a_frame_of_its_own(machine: Machine) -> None:
    shown = machine.find_run().page()._repr_html_()
    assert 'srcdoc="&lt;p title=&quot;a&quot;&gt;first&lt;/p&gt;"' in shown
    assert 'sandbox="allow-scripts allow-downloads"' in shown


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": "nowhere"}, "nowhere: no such folder; --data and --test-data name folders or a table of images."),
        (
            {"data": ".", "decisions": "x.csv"},
            "--decisions goes with --pipeline improvement or --component curate.",
        ),
        (
            {"data": "images", "experiment": "../out"},
            "--experiment '../out': its runs go into a folder of this name, and",
        ),
        ({"data": "images", "params": {"epochs": 0}}, "--param epochs=0: epochs is 0; it must be 1 or more."),
    ],
)
def test_what_cannot_be_run_is_an_exception_with_the_sentence_of_the_command_line(
    options: dict[str, object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError) as caught:
        Machine().start(**options)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_runs_outside_of_the_folder_of_the_runs_are_not_looked_for(machine: Machine) -> None:
    for ask in (machine.list_runs, lambda experiment: machine.find_run("run-01", experiment)):
        with pytest.raises(
            UserError, match=r"^--experiment 'x/../default': its runs go into a folder of this name, and"
        ):
            ask("x/../default")


def test_a_damaged_record_is_named(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "default/run-01/run.json").write_text(json.dumps({"run": 1}))
    with pytest.raises(UserError, match="run-01/run.json: "):
        machine.list_runs()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Machine("nope"), "pipelines/config/nope.yaml: no such configuration; there are "),
        (lambda: Machine(runner="dokcer"), "the runner 'dokcer' does not exist. Did you mean docker? There are"),  # type: ignore[arg-type]
        (lambda: Machine().start(epochs=20), "the option 'epochs' does not exist. There are: "),  # type: ignore[call-arg]
        (
            lambda: Machine().start(data=".", params={"seed": object()}),
            "seed is of the type object; give a number, a text, a list or a dictionary of them.",
        ),
    ],
)
def test_what_python_alone_can_get_wrong_is_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert sentence in str(caught.value)


def test_values_are_those_of_the_command_line(machine: Machine) -> None:
    params = {"epochs": np.int64(3), "rate": np.float64(0.5), "classes": ["b", "a"], "schema": Path("x")}
    run = machine.find_run("run-01")
    request = make_request({"params": params, "from_run": run, "component": "train"}, config="local", runs=Path("runs"))
    assert request.params == ("epochs=3", "rate=0.5", 'classes=["b", "a"]', "schema=x")
    assert request.from_run == "run-01"


@pytest.mark.parametrize(
    ("turns", "options", "sentence"),
    [
        (0, {"data": "images"}, "--turns is 0; it must be 1 or more."),
        (2, {"data": "images", "pipeline": "training"}, "--turns goes with --pipeline improvement, which is one turn"),
        (2, {}, "--turns goes with --data, the images of the first turn."),
    ],
)
def test_turns_that_cannot_be_taken_are_refused(
    tmp_path: Path, turns: int, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{sentence}"):
        Machine(runs=tmp_path).take_turns(turns, **options)  # type: ignore[arg-type]
