"""The notebooks from top to bottom, as `make notebook` opens them: this machine, and a cluster that is a stand-in."""

import datetime
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from components.shared.formats.changes import read_changes
from tests.conftest import ROOT, Folders, copy_project
from tests.end_to_end.test_end_to_end import CONFIG
from tests.fakes.kfp_rules import Frame
from tests.pipelines.cluster.lab import STAGES, Lab, comparison
from tests.pipelines.cluster.test_waiting import leave_results

NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def run(
    path: Path,
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    then: Sequence[str] = (),
    **parameters: Any,
) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a folder, with other values for its parameters.

    At its end a person goes on: each of `then` is code, or the beginning of a cell of the notebook, which runs again.
    """
    notebook = read(path)
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for step in then:
        again = next((code for code in codes if code.startswith(step)), step)
        notebook.cells.append(nbformat.v4.new_code_cell(again))
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    place = {"metadata": {"path": folder}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.execute(env=environment or dict(os.environ))
    return notebook


def find_output(notebook: nbformat.NotebookNode, beginning: str, kind: str = "text/html") -> str:
    """What the cell that begins so shows, the first time that it is run."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(beginning))
    shown = [output for output in cell.outputs if output.output_type in ("display_data", "execute_result")]
    return "\n".join(str(output["data"][kind]) for output in shown if kind in output["data"])


def find_text(notebook: nbformat.NotebookNode, beginning: str) -> str:
    """What the cell that begins so prints at its end, the first time that it is run: text alone, which is one block."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(beginning))
    blocks = itertools.groupby(cell.outputs, lambda output: output.get("name"))
    *_, (name, last) = ((name, "".join(output.get("text", "") for output in group)) for name, group in blocks)
    assert name == "stdout"
    return last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_begins_with_how_it_is_opened(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert "`make notebook`" in notebook.cells[0].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert notebook.metadata.kernelspec.name == "python3"


def test_one_turn_of_the_loop_on_this_machine(tmp_path: Path, tiny: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    project = copy_project(tmp_path / "project")
    train = {"parameters": {"epochs": 5, "batch_size": 8}}
    config = yaml.safe_dump({"stages": {**CONFIG, "train": train}})
    (project / "pipelines/config/tiny.yaml").write_text(config, encoding="utf-8")
    images = shutil.copytree(tiny.data, tmp_path / "images")
    shutil.copy(images / "train/x/00.png", images / "train/v/x.png")  # which the audit doubts in any case
    data = {"DATA": str(images), "TEST_DATA": str(tiny.test), "CONFIG": "tiny"}
    (project / "notebooks").mkdir()
    again = ["audited = ", "trained = ", "validated = "]  # the later first, so that each continues from a first run
    decide = ['print(Path(DECISIONS).read_text(), "as nobody decides")', 'decisions.decide("drop")', "curated = "]
    notebook = run(ROOT / "notebooks/interactive.ipynb", project / "notebooks", then=[*again, *decide], **data)
    names = ["ingest", "validate", "transform", "train", "evaluate", "audit", "curate", "training", "comparison"]
    records = [json.loads(path.read_text()) for path in (project / "runs/notebook").glob("*/run.json")]
    records.sort(key=lambda record: datetime.datetime.fromisoformat(record["started"]))
    folders = [project / "runs/notebook" / record["run"] for record in records]
    assert [re.sub(r"^[\d-]+-", "", folder.name) for folder in folders] == [
        *names,
        *("audit", "train", "validate", "curate"),
    ]
    assert {record["state"] for record in records} == {"succeeded"}

    curve = find_output(notebook, "trained = ")
    assert re.search(r"accuracy on val from 0 to 1, epoch 1 to 5, now \d\.\d{3}", curve)
    assert "succeeded" in curve
    figures = json.loads((folders[4] / "evaluation.json").read_text())
    shown = find_output(notebook, "make_frame(evaluated.evaluation())")
    assert f"<td>{figures['val']['images']}</td>" in shown
    assert find_output(notebook, "Gallery(examples").count("<figure") == 16
    assert find_output(notebook, "Gallery(transformed").count('src="data:image/png;base64,') == 16
    assert "srcdoc=" in find_output(notebook, "compared.page")
    assert records[6]["stages"]["curate"]["parameters"]["decisions_uris"] == {
        "decisions": str(project / "decisions.csv")
    }
    assert records[7]["arguments"]["data_uri"] == records[6]["artifacts"]["data"]

    # A cell that is run again when all have been takes what it took before.
    for first, second in zip((records[5], records[3], records[1]), records[9:12], strict=True):
        ((stage, task),) = first["stages"].items()
        assert second["stages"][stage]["inputs"] == task["inputs"]
        assert second["stages"][stage]["made_by"] == first["run"]

    # Running all cells decides nothing; what is decided then reaches curate.
    header = "sha256,filename,label,decision,new_label,decided_at"
    assert find_text(notebook, "print(Path(DECISIONS)").split() == [header, "as", "nobody", "decides"]
    (decided,) = (project / "decisions.csv").read_text().splitlines()[1:]
    _, filename, _, decision, *_ = decided.split(",")
    assert decision == "drop"
    decided_by = [
        {change.filename for change in read_changes(record["artifacts"]["changes"]) if change.decided_by == "person"}
        for record in (records[6], records[12])
    ]
    assert decided_by == [set(), {filename}]

    # What a stage says at its end is one block of text, without links and commands.
    said = find_text(notebook, "audited = ")
    assert re.search(r'^audit report +run\.page\("audit"\)$', said, re.MULTILINE)
    review = (folders[5] / "review.html").relative_to(project)
    assert re.search(rf"^review +{review}, in a browser$", said, re.MULTILINE)
    assert said.endswith('\nNext:\n  look at its pages:\n    run.page("index")\n')
    assert not re.search(r"file://|python |\x1b", said)
    assert find_output(notebook, "audited = ").count("<table>") == 1


def test_a_mistake_is_a_sentence_without_a_trace(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(
        cells=[*read(ROOT / "notebooks/interactive.ipynb").cells[1:3], nbformat.v4.new_code_cell('Machine("gone")')]
    )
    place = {"metadata": {"path": project / "notebooks"}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place, allow_errors=True).execute()
    (shown,) = notebook.cells[-1].outputs
    assert (shown.ename, shown.traceback) == ("UserError", [shown.evalue])
    assert re.fullmatch(r"[^\n]*gone[^\n]*\.", shown.evalue)


class Script:
    """How each run on the stand-in goes: it succeeds, and leaves what the notebook opens."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __iter__(self) -> Iterator[Frame]:
        run = self.lab.runs()[-1]
        tasks = {"evaluate": ["evaluate"], "compare": ["yardstick", "compare"]}
        kind = "compare" if "before_evaluation_uri" in run["runtime_config"]["parameters"] else ""
        kind = kind or ("evaluate" if "model_uri" in run["runtime_config"]["parameters"] else "")
        yield Frame("RUNNING", {tasks.get(kind, STAGES)[0]: "RUNNING"})
        if kind == "compare":
            self.lab.leave(run, "compare/comparison/comparison.json", content=json.dumps(comparison()))
        else:
            leave_results(self.lab, run, "4567.dir")
            self.lab.leave(run, "ingest/examples/examples.json", "train/model/x", "evaluate/predictions")
        yield Frame("SUCCEEDED", dict.fromkeys(tasks.get(kind, STAGES), "SUCCEEDED"))


def test_runs_on_a_cluster(lab: Lab) -> None:
    lab.server.script = Script(lab)  # type: ignore[assignment]
    environment = {**lab.environment, "KFP_HOST": lab.server.url}
    asked = {"CONFIG": "lab", "DATA": "gs://images/numerals", "PARAMS": {"epochs": 3}}
    (lab.project / "notebooks").mkdir(exist_ok=True)
    notebook = run(ROOT / "notebooks/cluster.ipynb", lab.project / "notebooks", environment=environment, **asked)
    checks = find_output(notebook, "make_frame(cluster.check")
    assert re.search(r"<td>credentials</td>\s*<td>True</td>\s*<td>accepted</td>", checks)
    first, again, second, compared = lab.runs()
    names = [run["display_name"] for run in (first, again, second, compared)]
    assert [name.split("-")[0] for name in names] == ["training", "single", "training", "comparison"]
    assert first["runtime_config"]["parameters"]["epochs"] == 3
    assert second["runtime_config"]["parameters"]["seed"] == 7
    assert again["runtime_config"]["parameters"]["gallery_size"] == 20
    assert find_output(notebook, "run.wait()", "text/plain").endswith("'succeeded'")
    assert "0.75" in find_output(notebook, "make_frame(run.evaluation())")
    assert first["run_id"] in find_output(notebook, "run = cluster.start", "text/plain")
    assert "0.03125" in find_output(notebook, "make_frame(compared.comparison())")
    listed = find_output(notebook, 'make_frame({"run"')
    assert [name for name in names if name in listed] == names
