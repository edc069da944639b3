"""What a run on a cluster has made, fetched to this machine: the figures of its model, and the pages to open."""

import tempfile
from pathlib import Path

from components.shared.cloud_storage import fetch
from components.shared.errors import UserError
from pipelines.cluster.artifacts import Execution, Uris
from pipelines.compiler.spec import Task
from pipelines.output.display import print_adoption, print_comparison, print_figures
from pipelines.output.results import REPORTS, RESULTS, keep_results, locate_report, name_report


def fetch_results(execution: Execution, uris: Uris, reports: Path) -> None:
    """Shows and keeps the results of a successful run; its reports go into the folder `reports`.

    Raises:
        UserError: its evaluation is not found.
    """
    evaluations = [task for task in execution.tasks if task.stage == "evaluate" and task.is_own]
    if evaluations:
        _keep_results(execution, uris, evaluations[-1])
    if ("compare", "comparison") in uris:
        _show_comparison(uris["compare", "comparison"])
    _keep_reports(uris, reports)
    _tell_cached(execution, uris)
    if ("curate", "data") in uris:
        print_adoption(uris["curate", "data"])


def _keep_results(execution: Execution, uris: Uris, evaluate: Task) -> None:
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
    print(f"results in {RESULTS}/")


def _show_comparison(uri: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        print_comparison(fetch(uri, Path(temporary, "comparison")))


def _keep_reports(uris: Uris, folder: Path) -> None:
    """Fetches the pages that a person opens in a browser."""
    reports = {
        name_report(task, output): locate_report(uri, output)
        for (task, output), uri in uris.items()
        if output in REPORTS
    }
    for name, uri in reports.items():
        fetch(uri, folder / name)
    if reports:
        print(f"reports in {folder}/: {', '.join(sorted(reports))}")


def _tell_cached(execution: Execution, uris: Uris) -> None:
    made = {task for (task, _), uri in uris.items() if uri.startswith(execution.folder)}
    cached = [task.name for task in execution.tasks if task.name not in made]
    if cached:
        print(f"from the cache: {', '.join(cached)}")
    lost = set(cached) - {task for task, _ in uris}
    if lost:
        print(f"no artifacts found, so no reports of: {', '.join(sorted(lost))}")
