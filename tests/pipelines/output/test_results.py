"""The files of results/: written whole or not at all, in place of those of the last run."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.output.results import keep_results
from tests.conftest import ROOT, contents
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


def test_a_link_to_nothing_in_results_stays(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine").symlink_to(tmp_path / "gone")
    write_evaluation(tmp_path / "first", "1.dir", {"val": 20}, 1)
    keep_results(tmp_path / "first", None, tmp_path / "results")
    assert (tmp_path / "results/mine").readlink() == tmp_path / "gone"
    assert (tmp_path / "results/metrics.json").is_file()


@pytest.mark.parametrize("name", ["metrics.json", "plots", "plots/confusion"])
def test_nothing_is_written_through_a_link_in_results(tmp_path: Path, name: str) -> None:
    write_evaluation(tmp_path / "evaluation", "new.dir", {"val": 6}, 1)
    somebodys = tmp_path / "somebody's"
    somebodys.mkdir()
    (somebodys / "training.csv").write_text("kept")
    link = tmp_path / "results" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(somebodys / "training.csv" if name.endswith(".json") else somebodys)
    with pytest.raises(UserError, match=re.escape(f"{link}: a link; put a file or folder of its own there")):
        keep_results(tmp_path / "evaluation", None, tmp_path / "results")
    assert (somebodys / "training.csv").read_text() == "kept"
    assert sorted(path.name for path in somebodys.iterdir()) == ["training.csv"]


def test_results_name_the_version_of_the_training_when_it_is_another(tmp_path: Path) -> None:
    result = write_evaluation(tmp_path / "evaluation", "2.dir", {"val": 20}, 1)
    (tmp_path / "evaluation/evaluation.json").write_text(json.dumps({**result, "trained_on": "1.dir"}))
    keep_results(tmp_path / "evaluation", None, tmp_path / "results")
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert (metrics["data_version"], metrics["trained_on"]) == ("2.dir", "1.dir")


def test_results_have_the_mean_and_the_range_of_several_seeds(tmp_path: Path) -> None:
    result = write_evaluation(tmp_path / "evaluation", "2.dir", {"val": 20, "test": 20}, 1)
    val = {**result["val"], "accuracies": [0.5, 0.75, 0.25]}
    (tmp_path / "evaluation/evaluation.json").write_text(json.dumps({**result, "val": val}))
    keep_results(tmp_path / "evaluation", None, tmp_path / "results")
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    assert [metrics["val"][f"accuracy_{name}"] for name in ("mean", "min", "max")] == [0.5, 0.25, 0.75]
    assert "accuracy_mean" not in metrics["test"]


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


KEEP = """
import os, signal, sys
from pathlib import Path
from pipelines.output.results import keep_results
evaluation, results, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = 0
def kill_at_last(event, arguments):
    global seen
    changes = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
    if event in changes and str(Path(results).parent) in str(arguments):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill_at_last)
keep_results(evaluation, None, Path(results))
"""


def start_keeping(evaluation: Path, results: Path, last: int = 0) -> subprocess.Popen[bytes]:
    """A process that is killed when it opens, makes, renames or removes something for the `last` time, from 1."""
    command = [sys.executable, "-c", KEEP, evaluation, results, last]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT)


def test_a_kill_at_any_moment_leaves_the_figures_of_one_version(tmp_path: Path) -> None:
    whole = {}
    for version, splits in {"1.dir": {"val": 20, "test": 5}, "2.dir": {"val": 20}}.items():
        write_evaluation(tmp_path / version, version, splits, 1)
        keep_results(tmp_path / version, None, tmp_path / f"whole-{version}")
        whole[version] = contents(tmp_path / f"whole-{version}")
    results = tmp_path / "results"
    left = set()
    for last in range(1, 200):
        keep_results(tmp_path / "1.dir", None, results)
        code = start_keeping(tmp_path / "2.dir", results, last).wait(60)
        left |= {version for version, files in whole.items() if contents(results) == files}
        assert contents(results) in whole.values(), last
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert last > 10
    assert left == {"1.dir", "2.dir"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1.dir",
        "2.dir",
        "results",
        *(f"whole-{v}" for v in whole),
    ]


def test_runs_that_end_together_do_not_mix_their_results(tmp_path: Path) -> None:
    whole = []
    for number, version in enumerate(["1.dir", "2.dir", "3.dir"]):
        write_evaluation(tmp_path / version, version, {"val": 20 + number, "test": 5}, number)
        keep_results(tmp_path / version, None, tmp_path / "results")
        whole.append(contents(tmp_path / "results"))
    for _ in range(5):
        processes = [start_keeping(tmp_path / f"{number}.dir", tmp_path / "results") for number in (1, 2, 3)]
        assert [process.wait(60) for process in processes] == [0, 0, 0]
        assert contents(tmp_path / "results") in whole
