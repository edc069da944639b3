"""Several turns of the loop with the real stages: the second begins with what the first has made, and is the last."""

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from components.shared.formats.changes import read_changes
from components.shared.formats.decisions import SavedDecision, write_decisions
from tests.conftest import copy_project, run_python
from tests.end_to_end.test_end_to_end import TURN, Run, digests, read_makers

CLASSES = ("i", "v", "x")
IMAGES = {"train": 16, "val": 12, "test": 4}  # per class
CONFIG = {
    "train": {"parameters": {"epochs": 10, "batch_size": 4, "learning_rate": 0.001, "seed": 7}},
    "audit": {"parameters": {"folds": 2, "repeats": 1, "epochs": 1}},
    "curate": {"parameters": {"policy_splits": [], "hard_weight": 0.0, "augment_times": 2.0}},
    "validate": {"parameters": {"severity": {"schema": "warning"}}},
    "compare": {"parameters": {"resamples": 100}},
}


class Turns(NamedTuple):
    workplace: Path
    runs: list[Run]  # in their order
    output: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With data of which every training image has the label of the next class, and a person's decisions about them."""
    from sample import draw_page

    folder = tmp_path_factory.mktemp("turns")
    project = copy_project(folder / "project")
    (project / "pipelines/config/tiny.yaml").write_text(yaml.safe_dump({"stages": CONFIG}))
    decisions = []
    for part, (split, count) in enumerate(IMAGES.items()):
        for number, shown in enumerate(CLASSES):
            label = CLASSES[(number + 1) % len(CLASSES)] if split == "train" else shown
            place = folder / ("test" if split == "test" else f"data/{split}") / label
            place.mkdir(parents=True)
            for index in range(count):
                path = place / f"{shown}{index:02d}.png"
                draw_page(np.random.default_rng([part, number, index]), shown).save(path)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                if split == "train":
                    name = path.relative_to(folder / "data").as_posix()
                    decisions.append(SavedDecision(sha256, name, label, "relabel", shown, "2026-11-22T12:00:00Z"))
    write_decisions(folder / "decisions.csv", decisions)
    return folder


@pytest.fixture(scope="module")
def turns(workplace: Path) -> Turns:
    """Up to four turns, of which two are taken."""
    options = ["--config", "tiny", "--pipeline", "improvement", "--data", "data", "--test-data", "test"]
    return take(workplace, *options, "--decisions", "decisions.csv", "--turns", "4")


def take(workplace: Path, *options: str) -> Turns:
    before = set(workplace.glob("runs/default/*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(workplace / "home"))  # the audit keeps its finished folds below it
        result = run_python(workplace / "project/submit.py", "--local", *options, cwd=workplace)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    folders = sorted(set(workplace.glob("runs/default/*")) - before)
    records = [(folder, json.loads((folder / "run.json").read_text())) for folder in folders]
    runs = [Run(folder, record, result.stdout, digests(folder)) for folder, record in records]
    return Turns(workplace, runs, result.stdout)


def read_comparison(run: Run) -> dict[str, Any]:
    return json.loads((run.folder / "comparison.json").read_text())


def test_the_turns_end_with_the_first_that_brings_no_gain(turns: Turns):
    assert [run.summary["pipeline"] for run in turns.runs] == ["improvement", "improvement", "comparison"]
    assert turns.output.startswith(
        "Trains 3 models of each version, to tell a gain from the noise of their seeds; --param seeds=1 trains one, and"
        " cannot tell.\n\nTurn 1 of at most 4, on data\n"
    )
    first, second = (read_comparison(run)["splits"]["val"]["seeds"] for run in turns.runs[:2])
    assert first["change"] > first["margin"]
    assert first["low"] > 0
    assert second["change"] <= second["margin"]
    shown = f"({first['change']:+.3f} ± {first['margin']:.3f} on val)"
    longer = "but the lengths of the trainings differ, and that alone may be why"  # twice, and val has not settled
    assert f"\nTurn 1 brought a gain beyond the seed and the choice of images {shown}; {longer}.\n" in turns.output
    assert "\nTurn 2 changed nothing: no label and no image but copies, so this is the last.\n" in turns.output
    curated = os.path.relpath(turns.runs[0].artifact("curate", "data"), turns.workplace)
    assert f"\nTo adopt: what turn 1 has made, {curated}\n" in turns.output
    assert turns.output.count("\nNext:\n") == 1
    assert turns.output.endswith(f"adopt.py --data DIR --new --from-run {turns.runs[0].folder.name}\n")


def test_the_second_turn_begins_with_the_model_that_the_first_has_trained(turns: Turns):
    first, second, _ = turns.runs
    makers = read_makers(second)
    begun = [task for task in TURN if task.startswith("before-")]
    assert {task: makers[task] for task in begun} == dict.fromkeys(begun, first.folder.name)
    assert makers["audit"] == makers["curate"] == ""
    for stage, output in (("ingest", "examples"), ("train", "model"), ("evaluate", "evaluation")):
        made, taken = first.artifact(f"after-{stage}", output), second.artifact(f"before-{stage}", output)
        assert digests(taken) == digests(made)
    after, before = (read_comparison(run)["splits"]["val"]["seeds"] for run in (first, second))
    assert before["before"] == after["after"]
    assert len(before["before"]) == 3


def test_the_second_version_is_compared_with_the_first_one_of_all(turns: Turns):
    first, second, comparison = turns.runs
    arguments = comparison.summary["arguments"]
    assert arguments["examples_uri"] == str(first.artifact("before-ingest", "examples"))
    assert arguments["before_evaluation_uri"] == str(first.artifact("before-evaluate", "evaluation"))
    assert arguments["model_uri"] == str(second.artifact("after-train", "model"))
    own, whole = read_comparison(first)["splits"], read_comparison(comparison)["splits"]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in turns.output.splitlines()]
    shown = {row[0]: row[3:5] for row in rows if row and row[0] in ("first", "turn 1", "turn 2")}
    assert shown == {
        name: [f"{mean(splits[split]['seeds'][version]):.3f}" for split in ("val", "test")]
        for name, splits, version in (("first", own, "before"), ("turn 1", own, "after"), ("turn 2", whole, "after"))
    }
    assert comparison.summary["command"].endswith(
        f" --pipeline comparison --from-run {second.folder.name} --before {first.folder.name}:before"
    )


def test_what_a_person_decided_counts_in_the_second_turn(turns: Turns):
    changes = [read_changes(run.artifact("curate", "changes")) for run in turns.runs[:2]]
    decided = [
        {change.new_filename: change.new_label for change in each if change.decided_by == "person"} for each in changes
    ]
    assert len(decided[0]) == len(CLASSES) * IMAGES["train"]
    assert decided[1] == decided[0]
    assert {change.action for change in changes[1]} == {"kept"}


def test_the_same_again_and_a_single_turn_are_taken_from_the_cache(turns: Turns):
    """What was interrupted goes on with the same command; its last turn alone has a command of its own."""
    options = ["--config", "tiny", "--pipeline", "improvement", "--data", "data", "--test-data", "test"]
    again = take(turns.workplace, *options, "--decisions", "decisions.csv", "--turns", "4")
    assert [run.summary["pipeline"] for run in again.runs] == ["improvement", "improvement", "comparison"]
    for run, made in zip(again.runs, turns.runs, strict=True):
        assert all(read_makers(run).values())
        assert read_comparison(run) == read_comparison(made)
    _, _, *words = shlex.split(turns.runs[1].summary["command"])
    assert "--turns" not in words
    (single,) = take(turns.workplace, *(word for word in words if word != "--local")).runs
    assert all(read_makers(single).values())
    assert read_comparison(single) == read_comparison(turns.runs[1])


def test_a_turn_that_fails_says_what_comes_next(workplace: Path):
    broken = workplace / "broken"
    shutil.copytree(workplace / "data", broken)
    (broken / "val/i/i00.png").write_bytes(b"no image")
    options = ["--experiment", "broken", "--config", "tiny", "--pipeline", "improvement", "--data", "broken"]
    command = [workplace / "project/submit.py", "--local", *options, "--turns", "2", "--param", "seeds=2"]
    result = run_python(*command, cwd=workplace)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("\nTurn 1 of at most 2, on broken\n")
    assert "\nbefore-ingest failed: 1 bad image; " in result.stdout
    _, _, steps = result.stdout.partition("\nNext:\n")
    program = os.path.relpath((workplace / "project/submit.py").resolve(), workplace)
    shown = "--local --config tiny --experiment broken --pipeline improvement --data broken --param seeds=2"
    assert steps.endswith(
        f"  once the cause is corrected, run it again:\n    python {program} {shown} --turns 2\n"
        "The turns ended early. What was done stays, and the same command takes it from the cache.\n"
    )
