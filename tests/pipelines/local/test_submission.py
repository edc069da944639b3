"""Earlier runs on this machine, as those that a new run continues from."""

from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.compiler.config import load_config
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.stages import Stages
from pipelines.local.record import TaskRecord, write_record
from pipelines.local.submission import LocalTarget
from pipelines.submission.arguments import EarlierRun


@pytest.fixture(scope="module")
def stages() -> Stages:
    return Stages(load_config("local"), tag="0123abc")


def leave(runs: Path, name: str, tasks: dict[str, TaskRecord], *, from_run: str = "", pipeline: str = "x") -> None:
    """A run with the artifacts that its tasks made."""
    (runs / "default" / name).mkdir(parents=True)
    write_record(
        runs / "default" / name,
        {
            "run": name,
            "pipeline": pipeline,
            "state": "succeeded",
            "started": f"2026-01-01T00:{name[-2:]}:00+00:00",
            "arguments": {FROM_RUN: from_run},
            "seconds": 1.0,
            "stages": tasks,
            "artifacts": {name: made["uri"] for task in tasks.values() for name, made in task["artifacts"].items()},
        },
    )


def make_task(stage: str, parameters: dict[str, int], inputs: dict[str, str], **artifacts: str) -> TaskRecord:
    return {
        "stage": stage,
        "state": "succeeded",
        "seconds": 1.0,
        "parameters": parameters,
        "inputs": inputs,
        "artifacts": {name: {"uri": uri, "metadata": {}} for name, uri in artifacts.items()},
    }


def find(runs: Path, stages: Stages, name: str, stage: str) -> EarlierRun:
    return LocalTarget(runs, "default", "").find_run(name, stages, stage)


def test_a_stage_is_repeated_as_it_last_ran_before_the_runs_in_between(tmp_path: Path, stages: Stages):
    train = make_task("train", {"epochs": 7}, {"transformed_examples": "/1/t", "transform_graph": "/1/g"}, model="/1/m")
    leave(tmp_path, "run-01", {"train": train})
    leave(tmp_path, "run-02", {"audit": make_task("audit", {}, {}, issues="/2/i")}, from_run="run-01")
    leave(tmp_path, "run-03", {"evaluate": make_task("evaluate", {}, {}, predictions="/3/p")}, from_run="run-02")
    run = find(tmp_path, stages, "latest", "train")
    assert (run.name, run.parameters, run.inputs) == ("run-03", train["parameters"], train["inputs"])


def test_what_a_run_in_between_made_anew_is_taken_from_there(tmp_path: Path, stages: Stages):
    evaluate = make_task("evaluate", {}, {"model": "/1/m", "examples": "/1/e"}, evaluation="/1/v")
    leave(tmp_path, "run-01", {"evaluate": evaluate})
    leave(tmp_path, "run-02", {"train": make_task("train", {}, {}, model="/2/m")}, from_run="run-01")
    run = find(tmp_path, stages, "latest", "evaluate")
    assert run.artifacts["model"] == "/2/m"
    assert run.inputs == {"examples": "/1/e"}


def test_what_depends_on_a_stage_that_ran_again_is_outdated(tmp_path: Path, stages: Stages):
    evaluate = make_task("evaluate", {}, {"model": "/1/m", "examples": "/1/e"})
    leave(tmp_path, "run-01", {"evaluate": evaluate})
    leave(tmp_path, "run-02", {"transform": make_task("transform", {}, {}, transform_graph="/2/g")}, from_run="run-01")
    run = find(tmp_path, stages, "latest", "evaluate")
    assert "model" not in run.artifacts | run.inputs
    affected = stages.list_affected("train")
    assert {"model", "history", "evaluation", "predictions", "comparison", "data"} <= affected
    assert {"examples", "statistics", "schema", "transformed_examples", "issues"}.isdisjoint(affected)


def test_a_run_of_another_experiment_is_found_again(tmp_path: Path, stages: Stages):
    leave(tmp_path / "elsewhere", "run-01", {"train": make_task("train", {"epochs": 7}, {})})
    folder = tmp_path / "elsewhere/default/run-01"
    first = find(tmp_path, stages, str(folder), "train")
    leave(tmp_path, "run-02", {"audit": make_task("audit", {}, {})}, from_run=first.id)
    assert find(tmp_path, stages, "run-02", "train").parameters == {"epochs": 7}


def test_a_run_of_another_experiment_continued_from_one_beside_it(tmp_path: Path, stages: Stages):
    train = make_task("train", {"epochs": 7}, {"transform_graph": "/1/g"}, model="/1/m")
    leave(tmp_path, "run-01", {"train": train})
    leave(tmp_path, "run-02", {"audit": make_task("audit", {}, {}, issues="/2/i")}, from_run="run-01")
    run = LocalTarget(tmp_path, "other", "").find_run(str(tmp_path / "default/run-02"), stages, "train")
    assert (run.parameters, run.inputs) == (train["parameters"], train["inputs"])


def test_nothing_continues_from_a_comparison(tmp_path: Path, stages: Stages):
    leave(tmp_path, "run-01", {"compare": make_task("compare", {}, {}, comparison="/1/c")}, pipeline="comparison")
    with pytest.raises(UserError, match=r"^run run-01: compared two other runs; name one of these"):
        find(tmp_path, stages, "latest", "train")


def test_an_improvement_has_the_version_that_it_began_with(tmp_path: Path):
    """Its own artifacts are those of the version that it made."""
    tasks = {
        f"{part}-{stage}": make_task(stage, {}, {}, **{artifact: f"/{part}/{artifact}"})
        for part in ("before", "after")
        for stage, artifact in (("ingest", "examples"), ("evaluate", "predictions"))
    }
    leave(tmp_path, "run-01", tasks, pipeline="improvement")
    run = LocalTarget(tmp_path, "default", "").find_beginning("run-01")
    assert run.artifacts == {"examples": "/before/examples", "predictions": "/before/predictions"}
    assert (run.id, run.name) == ("run-01:before", "run-01:before")


def test_only_an_improvement_began_with_another_version(tmp_path: Path):
    leave(tmp_path, "run-01", {"ingest": make_task("ingest", {}, {}, examples="/e")}, pipeline="training")
    with pytest.raises(
        UserError, match=r"^run run-01: is no improvement, so it began with no other version; leave out :before\.$"
    ):
        LocalTarget(tmp_path, "default", "").find_beginning("run-01")
