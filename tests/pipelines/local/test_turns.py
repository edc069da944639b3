"""Several turns of the loop: which runs follow one another, when they end, and what is said; no stage runs."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError
from components.shared.formats.comparison import Comparison, write_comparison
from pipelines.compiler.config import Config
from pipelines.local import turns
from pipelines.local.record import ArtifactRecord, RunRecord
from pipelines.submission.request import LocalOptions, RunRequest
from tests.pipelines.submission.test_turns import across_seeds, compare

IMPROVEMENT = RunRequest(
    "default", "sample", pipeline="improvement", data="data", test_data="test", params=("seeds=2",), runs=Path("runs")
)
EXAMPLES: ArtifactRecord = {"uri": "examples", "metadata": {}}


class Runs:
    """Stands in for `submit`: its runs have these gains or comparisons, or end in another state."""

    def __init__(self, *outcomes: float | Comparison | str | UserError) -> None:
        self.outcomes, self.requests, self.left = [*outcomes], list[RunRequest](), list[int]()

    def submit(
        self, request: RunRequest, options: LocalOptions, webhook: str, *, says_next: bool, turns: int = 0
    ) -> RunRecord:
        assert (options, webhook, says_next) == (LocalOptions("docker"), "https://hook", False)
        self.requests.append(request)
        self.left.append(turns)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, UserError):
            raise outcome
        name = f"{len(self.requests)}-{request.pipeline}"
        folder = request.runs / "default" / name
        folder.mkdir(parents=True)
        (folder / "review.html").touch()
        (folder / "before-validate.html").touch()
        if isinstance(outcome, float):
            outcome = compare(val=across_seeds(outcome, 0.01))
        if isinstance(outcome, dict):
            write_comparison(folder, outcome)
        return {
            "run": name,
            "pipeline": str(request.pipeline),
            "state": outcome if isinstance(outcome, str) else "succeeded",
            "started": "2026-01-01T00:00:00+00:00",
            "arguments": {},
            "seconds": 1.0,
            "stages": {"before-ingest": {"stage": "ingest", "artifacts": {"examples": EXAMPLES}}},  # type: ignore[typeddict-item]
            "artifacts": {"data": str((folder / "data").resolve())},
        }


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Takes turns with these outcomes; returns the runs' states, what they were asked for, and what was said."""
    monkeypatch.chdir(tmp_path)

    def call(*outcomes: float | Comparison | str, most: int, request: RunRequest = IMPROVEMENT) -> Any:
        runs = Runs(*outcomes)
        monkeypatch.setattr(turns, "submit", runs.submit)
        capsys.readouterr()
        records = turns.take_turns(request, most, LocalOptions("docker"), "https://hook")
        return [record["state"] for record in records], runs.requests, capsys.readouterr().out

    return call


def test_turns_follow_one_another_until_one_brings_no_gain(take: Callable[..., Any]):
    states, requests, said = take(0.05, 0.02, 0.07, 0.004, 0.074, most=9)
    assert states == ["succeeded"] * 5
    second = replace(IMPROVEMENT, data="runs/default/1-improvement/data", test_data=None)
    third = replace(second, data="runs/default/2-improvement/data")
    comparison = RunRequest("default", "sample", pipeline="comparison", before="1-improvement:before")
    assert requests == [
        IMPROVEMENT,
        second,
        replace(comparison, from_run="2-improvement"),
        third,
        replace(comparison, from_run="4-improvement"),
    ]
    lines = said.splitlines()
    assert [line for line in lines if line.startswith(("Turn", "What turn", "To adopt", "There is"))] == [
        "Turn 1 of at most 9, on data",
        "Turn 1 brought a gain beyond the seed and the choice of images (+0.050 ± 0.010 on val).",
        "Turn 2 of at most 9, on runs/default/1-improvement/data",
        "What turn 2 has made, compared with the first version",
        "Turn 2 brought a gain beyond the seed and the choice of images (+0.020 ± 0.010 on val).",
        "Turn 3 of at most 9, on runs/default/2-improvement/data",
        "What turn 3 has made, compared with the first version",
        "Turn 3 brought no gain beyond the seed (+0.004 ± 0.010 on val), so this is the last.",
        "To adopt: what turn 2 has made, runs/default/2-improvement/data",
    ]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert [(row[0], row[-2], row[-1]) for row in cells if row[0]] == [
        ("first", "", ""),
        ("turn 1", "+0.050 ± 0.010", "+0.050 ± 0.010"),
        ("turn 2", "+0.020 ± 0.010", "+0.070 ± 0.010"),
        ("turn 3", "+0.004 ± 0.010", "+0.074 ± 0.010"),
    ]
    turn = "--local --runner docker --config sample --pipeline improvement"
    assert said.partition("\nNext:\n")[2].replace("../", "") == (
        "  look at the pages of turn 2:\n    runs/default/2-improvement/index.html\n"
        "  decide on the images that are doubted now; the page saves decisions.csv:\n"
        "    runs/default/4-improvement/review.html\n"
        "  move decisions.csv here, and go on from there with it:\n"
        f"    {submit()} {turn} --data runs/default/2-improvement/data --decisions decisions.csv --param seeds=2"
        " --turns 9\n"
        "  keep the new images of turn 2:\n"
        f"    {submit('adopt.py')} --data data --new --from-run 2-improvement\n"
    ).replace("../", "")


def submit(program: str = "submit.py") -> str:
    """How its commands begin."""
    from pipelines.output.project import write_command

    return write_command(program)


def test_without_a_gain_nothing_is_to_be_adopted_but_to_be_reviewed(take: Callable[..., Any]):
    states, requests, said = take(-0.05, most=3)
    assert (states, requests) == (["succeeded"], [IMPROVEMENT])
    assert "\nTurn 1 brought no gain beyond the seed (-0.050 ± 0.010 on val), so this is the last.\n" in said
    assert (
        "\nNo turn brought a gain, so there is nothing to adopt yet; what a person decides may bring one: "
        "runs/default/1-improvement/review.html\n" in said
    )
    assert "adopt.py" not in said
    assert "--data data --test-data test --decisions decisions.csv --param seeds=2 --turns 3\n" in said


def test_decisions_that_brought_no_gain_are_replaced_by_those_that_the_page_saves(take: Callable[..., Any]):
    decided = replace(IMPROVEMENT, decisions=("decisions-anna.csv", "decisions.csv"))
    _, _, said = take(0.0, most=3, request=decided)
    assert (
        "--test-data test --decisions decisions-anna.csv --decisions decisions.csv --param seeds=2 --turns 3\n" in said
    )


def test_after_as_many_turns_as_asked_for_the_next_ones_are_a_command(take: Callable[..., Any]):
    _, requests, said = take(0.05, 0.02, 0.07, most=2)
    assert len(requests) == 3
    assert "so this is the last" not in said
    assert (
        "  take more turns:\n"
        f"    {submit()} --local --runner docker --config sample --pipeline improvement "
        "--data runs/default/2-improvement/data --param seeds=2 --turns 2\n"
    ) in said
    assert said.endswith("--data data --new --from-run 2-improvement\n")


@pytest.mark.parametrize(
    ("outcomes", "taken"),
    [(("cancelled",), 0), ((0.05, "failed"), 1), ((0.05, 0.02, "cancelled"), 1)],
    ids=["in the first turn", "in the second turn", "in its comparison with the first version"],
)
def test_a_run_that_does_not_succeed_ends_the_turns(
    take: Callable[..., Any], outcomes: tuple[float | str, ...], taken: int
):
    states, requests, said = take(*outcomes, most=3)
    assert (states[-1], len(requests)) == (outcomes[-1], len(outcomes))
    assert (
        "\nThe turns ended early. What was done stays, and the same command takes it from the cache.\n" in f"\n{said}"
    )
    assert ("\nTo adopt: what turn 1 has made, runs/default/1-improvement/data\n" in said) == bool(taken)
    assert "turn 2   " not in said


def test_images_that_ingest_left_out_are_told_after_the_turns(
    take: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(EXAMPLES["metadata"], "duplicates_left_out", 12)
    _, _, said = take(0.05, 0.02, 0.07, most=2)
    assert (
        "  check the 12 images that ingest left out, each as the same picture as one of val or test: simple shapes may"
        " only look alike:\n    runs/default/1-improvement/before-validate.html\n"
    ) in said


def test_each_turn_knows_how_many_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    runs = Runs(0.05, 0.02, 0.07, "failed")
    monkeypatch.setattr(turns, "submit", runs.submit)
    turns.take_turns(IMPROVEMENT, 4, LocalOptions("docker"), "https://hook")
    assert [request.pipeline for request in runs.requests] == [
        "improvement",
        "improvement",
        "comparison",
        "improvement",
    ]
    assert runs.left == [4, 3, 0, 2]


def test_a_turn_with_other_copies_alone_is_the_last_and_is_not_adopted(take: Callable[..., Any]):
    copies = compare(val=across_seeds(0.02, 0.01))
    copies["data"] = {**copies["data"], "relabelled": 0, "augmented": 0}
    _, requests, said = take(0.05, copies, 0.07, most=3)
    assert len(requests) == 3
    assert "\nTurn 2 changed nothing: no label and no image but copies, so this is the last.\n" in said
    assert "\nTo adopt: what turn 1 has made, runs/default/1-improvement/data\n" in said


def test_what_a_longer_training_may_explain_is_tried_after_the_turns(take: Callable[..., Any]):
    longer = compare(val=across_seeds(0.05, 0.01))
    longer["length_may_explain"], longer["equal_epochs"] = True, 60
    _, _, said = take(longer, most=1, request=replace(IMPROVEMENT, params=("seeds=2", "epochs=12")))
    options = "--local --runner docker --config sample"
    assert (
        "  see what 60 epochs bring on the images as they were, since a longer training may explain the gain:\n"
        f"    {submit()} {options} --data data --test-data test --param seeds=2 --param epochs=60\n"
        "  and, when that has ended, compare with it:\n"
        f"    {submit()} {options} --pipeline comparison --from-run 1-improvement --before latest\n"
    ) in said


def test_three_seeds_are_taken_unless_somebody_has_chosen_them(
    take: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(turns, "load_config", lambda name: Config(name=name))
    _, requests, said = take(0.0, most=1, request=replace(IMPROVEMENT, params=("epochs=2",)))
    assert requests[0].params == ("epochs=2", "seeds=3")
    assert said.startswith(
        "Trains 3 models of each version, to tell a gain from the noise of their seeds; --param seeds=1 trains one, and"
        " cannot tell.\n\nTurn 1 of at most 1, on data\n"
    )


def test_a_later_run_that_cannot_be_started_does_not_hide_what_was_reached(
    take: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    refusal = UserError("the file is broken.")
    for outcomes in ((0.05, refusal), (0.05, 0.02, refusal)):
        with pytest.raises(UserError, match="the file is broken"):
            take(*outcomes, most=3)
        said = capsys.readouterr().out
        assert said.index("turn 1") < said.index("The turns ended early.")
        assert (
            "\nThe turns ended early. What was done stays, and the same command takes it from the cache.\n"
            "To adopt: what turn 1 has made, runs/default/1-improvement/data\n" in said
        )
        assert said.endswith(f"    {submit('adopt.py')} --data data --new --from-run 1-improvement\n")
        shutil.rmtree("runs")
    with pytest.raises(UserError, match="the file is broken"):
        take(refusal, most=3)
    assert capsys.readouterr().out == "\nTurn 1 of at most 3, on data\n"


def test_without_the_cache_nothing_is_taken_from_it(take: Callable[..., Any]):
    _, _, said = take(0.05, "failed", most=3, request=replace(IMPROVEMENT, no_cache=True))
    assert "\nThe turns ended early. What was done stays.\n" in said
