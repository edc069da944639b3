"""The files of results/: written whole or not at all, in place of those of the last run."""

import json
from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.output.results import keep_results
from tests.conftest import contents
from tests.fakes.evaluation import write_evaluation, write_history


def test_results_of_a_run_replace_those_of_the_last(tmp_path: Path) -> None:
    kept = tmp_path / "results"
    write_evaluation(tmp_path / "first", "1.dir", {"val": 20, "test": 20}, 1)
    keep_results(tmp_path / "first", write_history(tmp_path / "history", 1), kept)
    (kept / "plots/notes.txt").write_text("mine")
    assert [name for name in contents(kept) if "test" in name] == ["plots/classes/test.csv", "plots/confusion/test.csv"]
    second = write_evaluation(tmp_path / "second", "2.dir", {"val": 20}, 2)
    keep_results(tmp_path / "second", None, kept)
    files = ["classes.json", "metrics.json", "plots/classes/val.csv", "plots/confusion/val.csv", "plots/notes.txt"]
    assert [name for name, content in contents(kept).items() if content is not None] == files
    assert json.loads((kept / "metrics.json").read_text())["data_version"] == "2.dir"
    assert len((kept / "plots/confusion/val.csv").read_text().splitlines()) == 1 + second["val"]["images"]


def test_results_name_the_version_of_the_training_when_it_is_another(tmp_path: Path) -> None:
    result = write_evaluation(tmp_path / "evaluation", "2.dir", {"val": 20}, 1)
    (tmp_path / "evaluation/evaluation.json").write_text(json.dumps({**result, "trained_on": "1.dir"}))
    keep_results(tmp_path / "evaluation", None, tmp_path / "results")
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert (metrics["data_version"], metrics["trained_on"]) == ("2.dir", "1.dir")


@pytest.mark.parametrize("left", [None, '{"data_version": '], ids=["missing", "cut"])
def test_results_stay_when_the_evaluation_cannot_be_read(tmp_path: Path, left: str | None) -> None:
    write_evaluation(tmp_path / "first", "1.dir", {"val": 20}, 1)
    keep_results(tmp_path / "first", None, tmp_path / "results")
    before = contents(tmp_path / "results")
    (tmp_path / "second").mkdir()
    if left:
        (tmp_path / "second/evaluation.json").write_text(left)
    with pytest.raises(
        UserError,
        match=r"evaluation.json: (cannot be read|is not JSON) \(.+\); give the output `evaluation` of evaluate",
    ):
        keep_results(tmp_path / "second", None, tmp_path / "results")
    assert contents(tmp_path / "results") == before


def test_results_go_nowhere_when_one_cannot_be_written(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "first", "1.dir", {"val": 20}, 1)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/plots").write_text("mine")
    before = contents(tmp_path / "results")
    with pytest.raises(UserError, match="results: cannot be written"):
        keep_results(tmp_path / "first", None, tmp_path / "results")
    assert contents(tmp_path / "results") == before
