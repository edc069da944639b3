"""Turns of the loop: what counts as a gain, how the next turn begins, and what people decided before it."""

import csv
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError
from components.shared.formats.changes import Change, write_changes
from components.shared.formats.comparison import DIFFERENCES, Comparison, read_comparison, write_comparison
from components.shared.formats.decisions import EARLIER_FILE, Decision, read_decisions
from components.shared.formats.manifest import CuratedImage, write_manifest
from pipelines.compiler.config import Config, StageConfig
from pipelines.output.display import TurnFigures, print_turns
from pipelines.submission.request import RunRequest
from pipelines.submission.turns import (
    Turn,
    choose_seeds,
    continue_from,
    describe_gain,
    find_adoptable,
    has_left_out,
    is_corrected,
    keep_decisions,
    read_gain,
    tabulate_turns,
)
from tests.components.shared.formats.test_comparison import COMPARISON

IMPROVEMENT = RunRequest("default", "sample", pipeline="improvement", data="data")


def make_config(**parameters: dict[str, Any]) -> Config:
    """A config with these parameters of its stages."""
    return Config(name="sample", stages={name: StageConfig(parameters=each) for name, each in parameters.items()})


def compare(**splits: dict[str, Any]) -> Comparison:
    """A comparison with these figures in its splits."""
    return {**COMPARISON, "splits": {name: COMPARISON["splits"]["val"] | figures for name, figures in splits.items()}}


def across_seeds(change: float, margin: float, before: float = 0.5, within: float = 0.0) -> dict[str, Any]:
    """The figures of two models of each version; other images would show a change within so much of this one."""
    models = [before - 0.01, before + 0.01]
    after = [accuracy + change for accuracy in models]
    of_images = {"low": change - within, "high": change + within}
    return {"seeds": {"before": models, "after": after, "change": change, "margin": margin, "p": 0.5, **of_images}}


def of_one_seed(change: float, low: float, high: float) -> dict[str, Any]:
    accuracy = {"before": 0.5, "after": 0.5 + change, "change": change, "low": low, "high": high}
    return {"seeds": None, "accuracy": accuracy}


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (
            {"val": across_seeds(0.0312, 0.011), "test": across_seeds(-0.2, 0.01)},
            "Turn 2 brought a gain beyond the seed and the choice of images (+0.031 ± 0.011 on val).",
        ),
        (
            {"val": across_seeds(0.003, 0.011), "test": across_seeds(0.2, 0.01)},
            "Turn 2 brought no gain beyond the seed (+0.003 ± 0.011 on val), so this is the last.",
        ),
        (
            {"val": across_seeds(0.01, 0.01)},
            "Turn 2 brought no gain beyond the seed (+0.010 ± 0.010 on val), so this is the last.",
        ),
        (
            {"val": across_seeds(0.04, 0.01, within=0.05)},
            "Turn 2 brought no gain beyond the choice of images (+0.040 on val, 90 %: -0.010…+0.090), so this is the"
            " last.",
        ),
        (
            {"val": across_seeds(0.04, 0.05, within=0.05)},
            "Turn 2 brought no gain beyond the seed (+0.040 ± 0.050 on val), so this is the last.",
        ),
        (
            {"val": of_one_seed(0.05, 0.012, 0.088)},
            "Turn 2 brought a gain beyond the choice of images (+0.050 on val, 90 %: +0.012…+0.088); with one seed, the"
            " seed alone may explain it.",
        ),
        (
            {"val": of_one_seed(0.05, 0.0, 0.1)},
            "Turn 2 brought no gain beyond the choice of images (+0.050 on val, 90 %: +0.000…+0.100), so this is the"
            " last.",
        ),
    ],
)
def test_only_a_gain_on_val_beyond_chance_is_followed_by_another_turn(
    tmp_path: Path, splits: dict[str, Any], sentence: str
):
    write_comparison(tmp_path, {**compare(**splits), "confidence_level": 0.9})
    comparison = read_comparison(tmp_path)
    turn = Turn("run-1", tmp_path, "data", comparison, comparison)
    assert describe_gain(2, turn) == sentence
    assert turn.gain.is_real == ("no gain" not in sentence)


def test_that_a_longer_training_may_be_why_is_told_with_the_gain(tmp_path: Path):
    longer: Comparison = {**compare(val=across_seeds(0.371, 0.223)), "length_may_explain": True}
    turn = Turn("run-1", tmp_path, "data", longer, longer)
    assert describe_gain(1, turn) == (
        "Turn 1 brought a gain beyond the seed and the choice of images (+0.371 ± 0.223 on val); but the lengths of"
        " the trainings differ, and that alone may be why."
    )


def test_a_turn_that_made_other_copies_alone_is_the_last(tmp_path: Path):
    """The first copies are images that a model has not seen, and as such a change."""
    turn = make_turn(tmp_path / "run-1", 0.1, 0.1)
    comparison = turn.comparison

    def describe(copies_before: int, **changed: int) -> str:
        counts = {"before": 9, "after": 9, "augmented_before": copies_before, "augmented_after": 36}
        none = dict.fromkeys(DIFFERENCES, 0) | {"augmented": 36}
        data = {**comparison["data"], **none, **changed, "images": {"train": {"i": counts}}}
        taken = turn._replace(comparison={**comparison, "data": data})  # type: ignore[typeddict-item]
        assert find_adoptable([taken]) == (taken if "a gain" in describe_gain(2, taken) else None)
        return describe_gain(2, taken)

    gain = "Turn 2 brought a gain beyond the seed and the choice of images (+0.100 ± 0.010 on val)."
    assert describe(36) == "Turn 2 changed nothing: no label and no image but copies, so this is the last."
    assert describe(36, augmented=0) == describe(36) == describe(0, augmented=0)
    assert describe(0) == gain
    for name in ("relabelled", "moved", "dropped", "added", "altered"):
        assert describe(36, **{name: 1}) == gain


def test_a_gain_is_one_on_the_corrected_labels_of_val():
    figures = across_seeds(0.04, 0.01)
    val = COMPARISON["splits"]["val"] | across_seeds(-0.02, 0.01)
    for relabelled, gain in ((1, "+0.040 ± 0.010"), (0, "-0.020 ± 0.010")):
        corrected = {**val, **figures, "images": 3, "relabelled": relabelled, "verdict": ""}
        assert str(read_gain(compare(val={**val, "corrected": corrected}))) == gain


def test_a_comparison_of_before_there_were_seeds_is_one_of_one_seed():
    assert str(read_gain(COMPARISON)) == "+0.250 (-0.100…+0.400)"


@pytest.mark.parametrize(
    ("params", "configured", "chosen"),
    [
        (("epochs=2",), {}, ("epochs=2", "seeds=3")),
        (("seeds=1",), {}, ("seeds=1",)),
        (("seeds=5", "epochs=2"), {}, ("seeds=5", "epochs=2")),
        ((), {"seeds": 2}, ()),
        ((), {"seeds": 1}, ()),
    ],
)
def test_turns_have_three_seeds_unless_the_command_or_the_config_has_others(
    params: tuple[str, ...], configured: dict[str, int], chosen: tuple[str, ...]
):
    request = RunRequest("default", "sample", pipeline="improvement", data="data", params=params)
    assert choose_seeds(request, make_config(train=configured)).params == chosen


def make_turn(folder: Path, change: float, since_first: float) -> Turn:
    data = {
        **COMPARISON["data"],
        "images": {
            "train": {
                "i": {"before": 1000, "after": 950, "augmented_before": 0, "augmented_after": 4050},
                "v": {"before": 100, "after": 100, "augmented_before": 1, "augmented_after": 2},
            }
        },
    }
    own = compare(val=across_seeds(change, 0.01, before=0.6))
    first = compare(val=across_seeds(since_first, 0.02), test=across_seeds(since_first / 2, 0.02, before=0.7))
    return Turn(folder.name, folder, str(folder / "artifacts/data"), own, {**first, "data": data})  # type: ignore[typeddict-item]


def test_the_last_turn_with_a_gain_is_to_be_adopted(tmp_path: Path):
    first, second, third = (make_turn(tmp_path / str(number), 0.02, 0.1) for number in range(3))
    without = make_turn(tmp_path / "3", 0.01, 0.1)
    assert find_adoptable([first, second, third]) is third
    assert find_adoptable([first, second, without]) is second
    assert find_adoptable([without]) is None
    assert find_adoptable([]) is None


def test_the_table_has_each_version_on_the_images_of_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    turns = [make_turn(tmp_path / "a", 0.1, 0.1), make_turn(tmp_path / "b", -0.004, 0.12)]
    rows = [*tabulate_turns(turns)]
    assert rows == [
        TurnFigures("first", 1101, 1, {"val": 0.5, "test": 0.7}, "", ""),
        TurnFigures(
            "turn 1", 5102, 4052, pytest.approx({"val": 0.6, "test": 0.75}), "+0.100 ± 0.010", "+0.100 ± 0.020"
        ),
        TurnFigures(
            "turn 2", 5102, 4052, pytest.approx({"val": 0.62, "test": 0.76}), "-0.004 ± 0.010", "+0.120 ± 0.020"
        ),
    ]
    print_turns(rows, "90 %", has_left_out=False, is_corrected=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].strip() == "all models on val and test of the first version; gains on val, 90 %"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown]
    assert [row for row in cells if row and row[0]] == [
        ["first", "1,101", "1", "0.500", "0.700", "", ""],
        ["turn 1", "5,102", "4,052", "0.600", "0.750", "+0.100 ± 0.010", "+0.100 ± 0.020"],
        ["turn 2", "5,102", "4,052", "0.620", "0.760", "-0.004 ± 0.010", "+0.120 ± 0.020"],
    ]


def test_the_table_says_that_images_from_which_a_model_learned_do_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    turn = make_turn(tmp_path / "a", 0.1, 0.1)
    for images, expected in ((0, False), (7, True)):
        val = {**turn.since_first["splits"]["val"], "left_out": {"images": images, "why": "The reason."}}
        splits = {**turn.since_first["splits"], "val": val}
        changed = turn._replace(since_first={**turn.since_first, "splits": splits})  # type: ignore[typeddict-item]
        assert has_left_out([turn, changed]) is expected
    assert not has_left_out([turn])
    print_turns(tabulate_turns([turn]), "95 %", has_left_out=True, is_corrected=False)
    title = capsys.readouterr().out.partition("┏")[0]
    assert " ".join(title.split()) == (
        "all models on the images of val and test of the first version that no model learned from; gains on val, 95 %"
    )


def test_the_table_says_that_gains_are_those_on_corrected_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    turn = make_turn(tmp_path / "a", 0.1, 0.1)
    val = turn.comparison["splits"]["val"]
    for relabelled, expected in ((0, False), (2, True)):
        corrected = {**val, "corrected": {**val, "images": 3, "relabelled": relabelled, "verdict": ""}}
        assert is_corrected([turn, turn._replace(since_first=compare(val=corrected))]) is expected
    print_turns(tabulate_turns([turn]), "95 %", has_left_out=False, is_corrected=True)
    title = capsys.readouterr().out.partition("┏")[0]
    assert " ".join(title.split()) == (
        "all models on val and test of the first version; gains on the corrected labels of val, 95 %"
    )


def test_the_next_turn_is_the_improvement_of_what_was_curated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    turn = make_turn(tmp_path / "runs/default/20260101-000000-improvement", 0.1, 0.1)
    request = RunRequest(
        "default",
        "sample",
        pipeline="improvement",
        data="data",
        test_data="test",
        rev="v1",
        decisions=("decisions-anna.csv",),
        schema="schema.pbtxt",
        params=("epochs=2", "on_bad_image=quarantine", "val_to_train=0.5", "seeds=3"),
    )
    expected = RunRequest(
        "default",
        "sample",
        pipeline="improvement",
        data="runs/default/20260101-000000-improvement/artifacts/data",
        schema="schema.pbtxt",
        params=("epochs=2", "seeds=3"),
    )
    assert continue_from(request, turn, make_config()) == expected
    turn.folder.mkdir(parents=True)
    (turn.folder / EARLIER_FILE).touch()
    decisions = (f"runs/default/20260101-000000-improvement/{EARLIER_FILE}",)
    assert continue_from(request, turn, make_config()).decisions == decisions


@pytest.mark.parametrize(
    ("params", "configured", "continued"),
    [
        (("val_to_train=0.5",), {}, ()),
        ((), {"val_to_train": 0.0}, ()),
        ((), {"val_to_train": 0.5}, ("val_to_train=0",)),
        (("val_to_train=0.25", "epochs=2"), {"val_to_train": 0.5}, ("epochs=2", "val_to_train=0")),
        (("val_to_train=0",), {"val_to_train": 0.5}, ("val_to_train=0",)),
    ],
)
def test_images_move_to_train_in_the_first_turn_alone(
    tmp_path: Path, params: tuple[str, ...], configured: dict[str, float], continued: tuple[str, ...]
):
    request = RunRequest("default", "sample", pipeline="improvement", data="data", params=params)
    config = make_config(curate=configured)
    assert continue_from(request, make_turn(tmp_path, 0.1, 0.1), config).params == continued


def test_what_people_decided_counts_for_the_images_as_they_are_in_the_next_version(tmp_path: Path):
    """An image that curate has converted has another content there, and a relabelled one another name."""
    path, data, changes = tmp_path / EARLIER_FILE, tmp_path / "data", tmp_path / "changes.csv"
    rows = [
        ("train/i/0.png", "train/i/0.png", "i", "kept", "person", ""),
        ("train/i/1.png", "train/v/1.png", "v", "relabelled", "person", "As decided for a copy of it."),
        ("train/i/2.png", "", "", "dropped", "person", ""),
        ("train/i/3.png", "train/v/3.png", "v", "relabelled", "policy", "The audit is sure."),
        ("train/i/4.png", "train/i/4.png", "i", "kept", "", ""),
        ("train/i/5.png", "train/i/5.png", "i", "kept", "", "Undecided: anna keep, ben drop."),
        ("val/i/6.tif", "val/i/6.png", "i", "kept", "person", ""),
    ]
    write_changes(
        changes,
        [
            Change(old, old[-5] * 64, "i", new, label, action, decided_by, why)
            for old, new, label, action, decided_by, why in rows
        ],
    )
    names = [new for _, new, *_ in rows if new]
    sha256s = {name: ("f" if name == "val/i/6.png" else name[-5]) * 64 for name in names}
    data.mkdir()
    write_manifest(data, [CuratedImage(name, sha256s[name], name, "0" * 64, name, "i", [], None) for name in names])
    keep_decisions(path, str(changes), str(data))
    examples = {(sha256s[name], name): name.split("/")[1] for name in names}
    kept = ["train/i/0.png", "train/v/1.png", "train/i/5.png", "val/i/6.png"]
    assert read_decisions(path, examples, ["i", "v"], reviewer="earlier") == {
        "earlier": [Decision(sha256s[name], name, name.split("/")[1], "keep") for name in kept]
    }
    with path.open(encoding="utf-8", newline="") as file:
        assert {row["decided_at"] for row in csv.DictReader(file)} == {""}


def test_copies_of_a_picture_that_people_left_with_different_labels_keep_both(tmp_path: Path):
    """No policy is to decide in the next turn what it may not in this one."""
    path, data, changes = tmp_path / EARLIER_FILE, tmp_path / "data", tmp_path / "changes.csv"
    why = "Undecided: anna keep, ben drop."
    names = {"train/i/a.png": "0" * 64, "train/v/b.png": "0" * 64, "train/i/c.png": "1" * 64, "val/i/d.png": "1" * 64}
    labels = {name: name.split("/")[1] for name in names}
    write_changes(
        changes, [Change(name, names[name], label, name, label, "kept", "", why) for name, label in labels.items()]
    )
    data.mkdir()
    images = [CuratedImage(name, sha256, name, sha256, name, labels[name], [], None) for name, sha256 in names.items()]
    write_manifest(data, images)
    keep_decisions(path, str(changes), str(data))
    examples = {(sha256, name): labels[name] for name, sha256 in names.items()}
    assert read_decisions(path, examples, ["i", "v"], reviewer="earlier") == {
        "earlier": [Decision(sha256, name, labels[name], "keep") for name, sha256 in names.items()]
    }
    write_manifest(data, images[:1])
    with pytest.raises(UserError) as refused:
        keep_decisions(path, str(changes), str(data))
    assert str(refused.value) == (
        f"{changes}: has train/v/b.png, which the manifest.csv of the curated folder has not; give the outputs"
        " `changes` and `data` of the same run of curate."
    )
