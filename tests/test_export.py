"""export.py on a run whose examples ingest made; only the audit's issues are written here."""

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from components.shared.errors import UserError
from components.shared.formats.decisions import read_decisions
from components.shared.formats.examples import open_examples
from components.shared.formats.issues import Issue, write_issues
from components.shared.formats.label_studio import make_choice
from components.shared.labelling import export_issues
from pipelines.api.machine import Machine, MachineRun
from pipelines.local.record import RunRecord, write_record
from tests.conftest import Folders, run_in_stages, run_python
from tests.rows import make_issue

INGEST = """
import contextlib, json, sys
from pathlib import Path
from tests.conftest import ingest_folder

given = json.load(sys.stdin)
with contextlib.redirect_stdout(sys.stderr):
    ingest_folder(Path(given["data"]), Path(given["examples"]), test_data=given["test"])
print("null")
"""


@pytest.fixture(scope="module")
def run(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> MachineRun:
    """A run that has audited the tiny data: it doubts the first five images of train, and no others."""
    runs = tmp_path_factory.mktemp("runs")
    folder = runs / "default" / "run-01"
    examples, issues = folder / "examples", folder / "issues"
    run_in_stages(INGEST, {"data": str(tiny.data), "test": str(tiny.test), "examples": str(examples)})
    images = list(open_examples(examples).read("train"))
    actions: list[dict[str, Any]] = [
        {"action": "relabel", "new_label": "v"},
        {"action": "drop"},
        {"action": "look", "prediction": "x", "probability": 0.5},
        {"action": "keep_one"},
        {"action": "look", "prediction": "", "probability": None},
    ]
    rows = [
        make_issue(
            rank=rank,
            sha256=image.sha256,
            filename=image.filename,
            label=image.class_name,
            **({"kinds": ("label",), "why": f"Reason {rank}.", **actions[rank - 1]} if rank <= len(actions) else {}),
        )
        for rank, image in enumerate(images, 1)
    ]
    write_issues(issues, rows)
    tasks = {
        name: {"stage": name, "state": "succeeded", "seconds": 1.0, "parameters": {}, "inputs": {}, "artifacts": made}
        for name, made in (
            ("ingest", {"examples": {"uri": str(examples), "metadata": {}}}),
            ("audit", {"issues": {"uri": str(issues), "metadata": {}}}),
        )
    }
    record = {
        "run": "run-01",
        "pipeline": "improvement",
        "state": "succeeded",
        "started": "2026-01-01T00:00:00+00:00",
        "arguments": {},
        "seconds": 9.5,
        "stages": tasks,
        "artifacts": {"examples": str(examples), "issues": str(issues)},
    }
    write_record(folder, cast(RunRecord, record))
    return Machine(runs=runs).find_run()


def doubted(run: MachineRun) -> list[Issue]:
    return [issue for issue in run.issues() if issue.kinds]


def known(run: MachineRun) -> dict[tuple[str, str], str]:
    return {(image.sha256, image.filename): image.class_name for image in run.examples().read("train")}


def export(run: MachineRun, *options: str | Path) -> str:
    done = run_python("export.py", *options, "--local", "--runs", run.folder.parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


def test_tasks_of_label_studio_have_pictures_and_predictions_and_come_back(run: MachineRun, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    said = export(run, "label-studio", folder)
    assert said.startswith(f"{folder}: what the audit of run run-01 doubts.\nIn Label Studio, make a project, paste")
    assert sorted(path.name for path in folder.iterdir()) == ["config.xml", "tasks.json"]
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    issues = doubted(run)
    assert [task["data"]["filename"] for task in tasks] == [issue.filename for issue in issues]
    for task in tasks:
        kind, _, encoded = task["data"]["image"].partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        assert max(Image.open(io.BytesIO(base64.b64decode(encoded))).size) <= 400
    predicted = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks if task["predictions"]]
    assert predicted == [["v"], ["drop"], ["x"], [issues[3].prediction]]
    chosen = [*(choices[0] for choices in predicted), issues[4].label]
    exported = [
        {"id": number, **task, "annotations": [{"completed_by": 1, "result": [make_choice(label)]}]}
        for number, (task, label) in enumerate(zip(tasks, chosen, strict=True))
    ]
    (tmp_path / "anna.json").write_text(json.dumps(exported), encoding="utf-8")
    decisions = read_decisions(tmp_path / "anna.json", known(run), run.examples().manifest.classes, reviewer="anna")
    outcomes = ["v", "", "x", issues[3].prediction, issues[4].label]
    assert [decision.outcome for decision in decisions["anna"]] == outcomes


def test_the_data_set_of_fiftyone_has_the_images_as_they_are(run: MachineRun, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    assert "Load" in export(run, "fiftyone", folder, "--limit", "3", "--from-run", "run-01")
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["labels"]
    issues = doubted(run)[:3]
    assert [label["attributes"]["filename"] for label in labels.values()] == [issue.filename for issue in issues]
    encoded = {image.filename: image.encoded for image in run.examples().read("train")}
    files = {path.stem: path.read_bytes() for path in (folder / "data").iterdir()}
    assert files == {name: encoded[label["attributes"]["filename"]] for name, label in labels.items()}
    decisions = read_decisions(folder / "labels.json", known(run), run.examples().manifest.classes)[""]
    assert [(one.filename, one.decision) for one in decisions] == [(issue.filename, "keep") for issue in issues]


def test_issues_as_a_table_of_labels_keep_what_they_name(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label"])
        writer.writerows((issue.filename, issue.label) for issue in doubted(run))
    decisions = read_decisions(path, known(run), run.examples().manifest.classes)[""]
    assert [(one.filename, one.decision) for one in decisions] == [(i.filename, "keep") for i in doubted(run)]


def refusals(run: MachineRun, tmp_path: Path) -> Iterator[tuple[list[str | Path], str]]:
    here: list[str | Path] = ["--local", "--runs", run.folder.parents[1]]
    yield ["fiftyone", tmp_path, *here], f"{tmp_path}: is there already; move it, or name another folder.\n"
    yield (
        ["fiftyone", tmp_path / "new", *here, "--from-run", "other"],
        f"other: no such run in {run.folder.parent}; give the name or the folder of an earlier run.\n",
    )
    yield (
        ["fiftyone", tmp_path / "new", "--local", "--runs", tmp_path],
        f"{tmp_path}/default: no run succeeded yet; run the pipeline first.\n",
    )
    yield (
        ["fiftyone", tmp_path / "new", *here, "--limit", "0"],
        "argument --limit: invalid count value",
    )
    yield ["labelbox", tmp_path / "new", *here], "argument tool: invalid choice: 'labelbox'"


def test_what_cannot_be_written_is_one_sentence_and_leaves_nothing(run: MachineRun, tmp_path: Path) -> None:
    for options, sentence in refusals(run, tmp_path):
        done = run_python("export.py", *options)
        assert done.returncode in (1, 2)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tool_is_named_in_python(run: MachineRun, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        run.export_issues("labelstudio", tmp_path / "new")  # type: ignore[arg-type]
    assert str(refused.value) == (
        "the tool 'labelstudio' does not exist. Did you mean label-studio? There are: fiftyone, label-studio."
    )


def test_a_run_without_an_audit_is_named(run: MachineRun, tmp_path: Path) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    del record["stages"]["audit"], record["artifacts"]["issues"]
    write_record(tmp_path / "default/run-02", {**record, "run": "run-02"})
    with pytest.raises(UserError, match="^run run-02: the artifact 'issues' does not exist. There are: examples.$"):
        Machine(runs=tmp_path).find_run().export_issues("fiftyone", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_later_run_with_other_examples_exports_what_was_audited(run: MachineRun, tmp_path: Path) -> None:
    """A stage alone takes over the artifacts of the run before, whose examples may be those of the next version."""
    record = json.loads((run.folder / "run.json").read_text())
    other = {"examples": {"uri": str(tmp_path / "next"), "metadata": {}}}
    earlier = {**record["stages"], "after-ingest": {**record["stages"]["ingest"], "artifacts": other}}
    earlier["audit"]["inputs"] = {"examples": record["artifacts"]["examples"]}
    write_record(run.folder, {**record, "stages": earlier})
    try:
        artifacts = {**record["artifacts"], "examples": str(tmp_path / "next")}
        later = {**record, "run": "run-02", "pipeline": "single-curate", "stages": {}, "artifacts": artifacts}
        write_record(tmp_path / "default/run-02", later)
        found = Machine(runs=tmp_path).find_run()
        assert found.audited_examples().folder == record["artifacts"]["examples"]
        exported = found.export_issues("fiftyone", tmp_path / "set")
        assert len(list((exported / "data").iterdir())) == 5
    finally:
        write_record(run.folder, record)


def test_a_run_that_took_an_audit_is_not_said_to_have_audited(run: MachineRun, tmp_path: Path) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    write_record(tmp_path / "default/run-02", {**record, "run": "run-02", "pipeline": "single-curate", "stages": {}})
    options = ("--from-run", tmp_path / "default/run-02")
    said = export(run, "fiftyone", tmp_path / "set", *options)
    assert said.startswith(f"{tmp_path / 'set'}: what the audit doubts that run run-02 took from an earlier run.\n")


def test_runs_of_another_experiment_are_named(run: MachineRun, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for experiment in ("scans", "notebook"):
        write_record(runs / experiment / "run-01", json.loads((run.folder / "run.json").read_text()))
    done = run_python("export.py", "fiftyone", tmp_path / "new", "--local", "--runs", runs)
    assert (done.returncode, done.stderr) == (
        1,
        f"{runs}/default: no run succeeded yet; run the pipeline first, or name its --experiment (there are: notebook,"
        " scans).\n",
    )


def test_an_experiment_that_has_no_folder_among_the_runs_is_refused(run: MachineRun, tmp_path: Path) -> None:
    runs = ("--runs", run.folder.parents[1])
    for place in (("--local",), ("--host", "http://127.0.0.1:1")):
        options = (*place, *runs, "--experiment", f"x/../{run.experiment}")
        done = run_python("export.py", "fiftyone", tmp_path / "new", *options)
        assert (done.returncode, done.stderr) == (
            1,
            f"--experiment 'x/../{run.experiment}': its runs go into a folder of this name, and no folder can have it; "
            "give a name without slashes and of at most 255 bytes, such as numerals.\n",
        )


def test_images_that_the_examples_have_not_are_named(run: MachineRun, tmp_path: Path) -> None:
    issue = make_issue(filename="train/i/gone.png", kinds=("label",))
    for tool in ("label-studio", "fiftyone"):
        with pytest.raises(UserError) as refused:
            export_issues(tool, tmp_path / "new", [issue], run.examples())
        assert str(refused.value) == (
            f"'train/i/gone.png' is in the audit, but not in the examples {run.examples().folder}; name the run that"
            " audited them."
        )
    assert not (tmp_path / "new").exists()


def test_options_of_a_cluster_are_refused_for_this_machine(run: MachineRun, tmp_path: Path) -> None:
    for option in (("--config", "sample"), ("--host", "https://kfp.example")):
        done = run_python("export.py", "fiftyone", tmp_path / "new", "--local", *option)
        assert done.returncode == 2
        assert "--config and the connection are for a cluster; leave out --local, or these" in done.stderr


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int, run: MachineRun) -> None:
    with pytest.raises(UserError, match=f"^limit is {limit}; it must be 1 or more.$"):
        run.doubted_issues(limit)
