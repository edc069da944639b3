"""What a run on a cluster has made, fetched to this machine: the figures of its model, and the pages to open."""

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from components.shared.cloud_storage import fetch
from components.shared.errors import UserError
from components.shared.formats.evaluation import Evaluation, read_evaluation
from pipelines.cluster.artifacts import Execution, Uris
from pipelines.compiler.spec import Task
from pipelines.output.display import Step, print_comparison, print_figures, print_steps
from pipelines.output.index import FILE as INDEX
from pipelines.output.index import RunOverview, TaskOutput, write_index
from pipelines.output.results import REPORTS, RESULTS, keep_results, locate_report, name_report


class Place(NamedTuple):
    """Where a run took place, as its first page says."""

    experiment: str
    config: str
    page: str  # the address of the run in Kubeflow Pipelines


def fetch_results(execution: Execution, uris: Uris, reports: Path, *, place: Place, end: str) -> None:
    """Shows and keeps the results of a successful run; its reports go into the folder `reports`.

    Args:
        execution: the run.
        uris: its outputs.
        reports: the folder.
        place: where it took place.
        end: when it started, and how it ended.

    Raises:
        UserError: its evaluation is not found.
    """
    evaluations = [task for task in execution.tasks if task.stage == "evaluate" and task.is_own]
    figures = _keep_results(execution, uris, evaluations[-1]) if evaluations else None
    if ("compare", "comparison") in uris:
        _show_comparison(uris["compare", "comparison"])
    has_reports = _keep_reports(uris, reports)
    _tell_cached(execution, uris)
    if has_reports:
        write_index(reports, _describe_run(execution, uris, figures, place=place, end=end))
    if steps := list(_list_steps(uris, reports if has_reports else None)):
        print_steps(steps)


def _keep_results(execution: Execution, uris: Uris, evaluate: Task) -> Evaluation:
    if (evaluate.name, "evaluation") not in uris:
        raise UserError(
            f"{execution.folder}: no evaluation; the stage came from the cache of an earlier run that is gone. "
            "Run again with --no-cache."
        )
    trainings = [task.name for task in execution.tasks if task.stage == "train" and task.parts == evaluate.parts]
    with tempfile.TemporaryDirectory() as temporary:
        evaluation = fetch(uris[evaluate.name, "evaluation"], Path(temporary, "evaluation"))
        history = None
        for train in trainings:
            if (train, "history") in uris:
                history = fetch(uris[train, "history"], Path(temporary, "history"))
        keep_results(evaluation, history, RESULTS)
        print_figures(evaluation)
        figures = read_evaluation(evaluation)
    print(f"results in {RESULTS}/")
    return figures


def _show_comparison(uri: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        print_comparison(fetch(uri, Path(temporary, "comparison")))


def _keep_reports(uris: Uris, folder: Path) -> bool:
    """Fetches the pages that a person opens in a browser, if there are any."""
    reports = {
        name_report(task, output): locate_report(uri, output)
        for (task, output), uri in uris.items()
        if output in REPORTS
    }
    for name, uri in reports.items():
        fetch(uri, folder / name)
    if reports:
        print(f"reports in {folder}/: {', '.join(sorted(reports))}")
    return bool(reports)


def _describe_run(
    execution: Execution, uris: Uris, figures: Evaluation | None, *, place: Place, end: str
) -> RunOverview:
    stages = {task.name: task.stage for task in execution.tasks}
    return RunOverview(
        pipeline=execution.pipeline,
        run=execution.run.display_name,
        end=end,
        failures={},
        origin={
            "experiment": place.experiment,
            "images": str(execution.parameters.get("data_uri", "")),
            "test images": str(execution.parameters.get("test_data_uri", "")),
            "data version": figures["data_version"] if figures else "",
            "config": place.config,
        },
        outputs=[
            TaskOutput(name, stage, output) for name, stage in stages.items() for task, output in uris if task == name
        ],
        figures=figures,
        details={"Logs, parameters and artifacts are at": place.page},
    )


def _list_steps(uris: Uris, reports: Path | None) -> Iterator[Step]:
    """What comes next after a run on a cluster."""
    if reports:
        yield Step("look at its pages", page=reports / INDEX)
    if reports and ("audit", "review") in uris:
        yield Step(
            "decide on the doubted images; give the decisions.csv that it saves to the next run with --decisions",
            page=reports / "review.html",
        )
    if ("curate", "data") in uris:
        yield Step(
            "keep the new images",
            command=shlex.join(["python", "adopt.py", "--data", "DIR", "--curated", uris["curate", "data"]]),
        )


def _tell_cached(execution: Execution, uris: Uris) -> None:
    made = {task for (task, _), uri in uris.items() if uri.startswith(execution.folder)}
    cached = [task.name for task in execution.tasks if task.name not in made]
    if cached:
        print(f"from the cache: {', '.join(cached)}")
    lost = set(cached) - {task for task, _ in uris}
    if lost:
        print(f"no artifacts found, so no reports of: {', '.join(sorted(lost))}")
