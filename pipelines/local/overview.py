"""What the first page of a run on this machine says of it."""

from pathlib import Path

from components.shared.formats.comparison import FILE as COMPARISON
from components.shared.formats.comparison import read_comparison
from components.shared.formats.evaluation import FILE as EVALUATION
from components.shared.formats.evaluation import Evaluation, read_evaluation
from pipelines.local.record import RunRecord
from pipelines.output.doubt import describe_doubt
from pipelines.output.index import RunOverview, TaskOutput
from pipelines.output.results import name_report

DETAILS = {"What every stage said is in": "run.log", "parameters and artifacts are in": "run.json"}


def describe_run(folder: Path, record: RunRecord, experiment: str) -> RunOverview:
    """Describes a run that has ended.

    Args:
        folder: of the run, with its evaluation.json if it has measured a model, and its comparison.json if it has
            compared two.
        record: what is in its run.json.
        experiment: that the run belongs to.
    """
    figures = read_evaluation(folder) if (folder / EVALUATION).is_file() else None
    comparison = read_comparison(folder) if (folder / COMPARISON).is_file() else None
    started = record["started"][:16].replace("T", " ")
    tasks = record["stages"].items()
    return RunOverview(
        pipeline=record["pipeline"],
        run=record["run"],
        end=f"started {started} UTC, {record['state']} after {record['seconds']:,.0f} s",
        failures={name: task.get("message", "") for name, task in tasks if task["state"] == "failed"},
        origin={
            "experiment": experiment,
            "images": record["arguments"].get("data_uri", ""),
            "test images": record["arguments"].get("test_data_uri", ""),
            "data version": " → ".join(_list_versions(record, figures)),
            "config": record.get("config", ""),
            "command": record.get("command", ""),
            "not run again": _list_taken(record),
        },
        outputs=[TaskOutput(name, task["stage"], output) for name, task in tasks for output in task["artifacts"]],
        figures=figures,
        comparison=comparison,
        details=DETAILS,
        doubt=_describe_doubt(folder, record) if comparison else "",
    )


def _describe_doubt(folder: Path, record: RunRecord) -> str:
    issues, changes = folder / name_report("audit", "issues"), record["artifacts"].get("changes")
    return describe_doubt(issues, Path(changes) if changes else None) if issues.is_file() else ""


def _list_taken(record: RunRecord) -> str:
    """The tasks whose outputs were taken from the cache, and which runs ran them."""
    tasks: dict[str, list[str]] = {}
    for name, task in record["stages"].items():
        if "made_by" in task:
            tasks.setdefault(task["made_by"], []).append(name)
    return "; ".join(f"{', '.join(names)}: from {run}" for run, names in tasks.items())


def _list_versions(record: RunRecord, figures: Evaluation | None) -> list[str]:
    versions = [
        str(task["artifacts"]["examples"]["metadata"].get("data_version", ""))
        for task in record["stages"].values()
        if task["stage"] == "ingest" and "examples" in task["artifacts"]
    ]
    return versions or ([figures["data_version"]] if figures else [])
