"""What a run on a cluster has made, fetched to this machine: the figures of its model, and the pages to open."""

import contextlib
import tempfile
from pathlib import Path
from typing import NamedTuple

from kfp_server_api import V2beta1Run

from components.shared.cloud_storage import fetch, fetch_object
from components.shared.errors import UserError
from components.shared.formats.comparison import Comparison, read_comparison
from components.shared.formats.decisions import EARLIER_FILE
from components.shared.formats.documents import read_document
from components.shared.formats.evaluation import Evaluation, read_evaluation
from components.shared.formats.examples import MANIFEST, ExamplesManifest
from components.shared.formats.manifest import FILE as CURATED
from pipelines.cluster import runs, waiting
from pipelines.cluster.artifacts import Execution, Uris, find_artifacts, find_made, read_execution
from pipelines.cluster.connection import Cluster
from pipelines.cluster.nodes import find_nodes
from pipelines.cluster.stage_failures import StageFailure
from pipelines.compiler.spec import Task
from pipelines.output.display import print_comparison, print_figures, print_steps
from pipelines.output.doubt import describe_doubt
from pipelines.output.index import FILE as INDEX
from pipelines.output.index import EarlierFigures, RunOverview, TaskOutput, write_index
from pipelines.output.results import REPORTS, RESULTS, keep_results, locate_report, name_report
from pipelines.submission.commands import Command, read_command
from pipelines.submission.next_steps import Ending, list_steps, write_adoption
from pipelines.submission.request import RunRequest
from pipelines.submission.turns import LeftOut, keep_decisions


class EndedRun(NamedTuple):
    """A run that has ended, and what is known of it here."""

    execution: Execution
    state: str
    uris: Uris  # of what its tasks have made
    folder: Path  # on this machine, for its pages
    request: RunRequest  # whose experiment and folder of runs it belongs to; it may have asked for --attach alone
    command: Command | None  # that started the run, if it was started from this machine
    failures: list[StageFailure]


def locate_folder(request: RunRequest, run: V2beta1Run) -> Path:
    """The folder that a run on a cluster has on this machine."""
    return request.runs / request.experiment / str(run.run_id)


def fetch_results(
    cluster: Cluster, execution: Execution, *, state: str, request: RunRequest, failures: list[StageFailure]
) -> None:
    """Shows and keeps what a run has made: of a success its figures, of any run its reports, with a first page.

    Args:
        cluster: where it took place.
        execution: the run, which has ended.
        state: how it ended.
        request: whose experiment and folder of runs it belongs to.
        failures: of its tasks.

    Raises:
        UserError: what it has made cannot be found.
    """
    folder = locate_folder(request, execution.run)
    tasks = waiting.read_task_states(execution.run, execution.tasks)
    uris = find_made(cluster, execution)
    ended = EndedRun(execution, state, uris, folder, request, read_command(folder), failures)
    figures = _show_figures(ended) if state == "succeeded" else None
    compared = ended.uris.get(("compare", "comparison")) if state == "succeeded" else None
    doubt = _describe_doubt(uris) if compared else ""
    comparison = _show_comparison(compared, doubt) if compared else None
    _keep_reports(uris, folder)
    if state == "succeeded":
        _keep_decisions(execution, uris, folder)
        _tell_cached(execution, uris)
    earlier = _find_measured_before(cluster, execution.run, request) if figures else None
    examples = _read_manifests(ended)
    write_index(folder, _describe_run(cluster, ended, figures, comparison, examples)._replace(doubt=doubt), earlier)
    print_steps(list_steps(_describe_ending(ended, tasks, comparison, examples), ended.command))


def _show_figures(ended: EndedRun) -> Evaluation | None:
    """Shows and keeps the figures of the model, if the run has measured one."""
    evaluate = _find_evaluate(ended.execution)
    return _keep_results(ended.execution, ended.uris, evaluate) if evaluate else None


def _find_evaluate(execution: Execution) -> Task | None:
    """The task that measures the run's own model on its own images."""
    evaluations = [task for task in execution.tasks if task.stage == "evaluate" and task.is_own]
    return evaluations[-1] if evaluations else None


def _keep_results(execution: Execution, uris: Uris, evaluate: Task) -> Evaluation:
    if (evaluate.name, "evaluation") not in uris:
        place, reason = f"{execution.folder}/{evaluate.name}", "the stage has succeeded, but it is not there"
        if evaluate.name in execution.list_cached(uris):
            place, reason = execution.folder, "the stage came from the cache of an earlier run that is gone"
        if evaluate.name not in find_nodes(execution.run, execution.tasks):
            reason = "it is not there, and the server does not say whether the stage ran or came from the cache"
        raise UserError(f"{place}: no evaluation; {reason}. Run again with --no-cache.")
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


def _describe_doubt(uris: Uris) -> str:
    """What the audit of an improvement says about the labels of val; empty for nothing."""
    issues, changes = uris.get(("audit", "issues")), uris.get(("curate", "changes"))
    if not (issues and changes):
        return ""
    with tempfile.TemporaryDirectory() as temporary:
        fetched = [fetch(uri, Path(temporary, name)) for name, uri in (("issues", issues), ("changes", changes))]
        return describe_doubt(*fetched)


def _show_comparison(uri: str, doubt: str) -> Comparison:
    with tempfile.TemporaryDirectory() as temporary:
        comparison = fetch(uri, Path(temporary, "comparison"))
        print_comparison(comparison, doubt)
        return read_comparison(comparison)


def _keep_reports(uris: Uris, folder: Path) -> None:
    """Fetches the pages that a person opens in a browser, if there are any."""
    reports = {
        name_report(task, output): locate_report(uri, output)
        for (task, output), uri in uris.items()
        if output in REPORTS
    }
    kept = [name for name, uri in reports.items() if _keep_report(uri, folder / name)]
    if kept:
        print(f"reports in {folder}/: {', '.join(sorted(kept))}")


def _keep_report(uri: str, path: Path) -> bool:
    """Fetches a page; whether it is one, as empty ones are not."""
    fetch(uri, path)
    if not path.stat().st_size:
        path.unlink()
    return path.exists()


def _keep_decisions(execution: Execution, uris: Uris, folder: Path) -> None:
    """Writes what people have decided about the images that the run has curated, if they have decided anything."""
    changes, data = uris.get(("curate", "changes")), uris.get(("curate", "data"))
    if not (execution.parameters.get("decisions_uris") and changes and data):
        return
    with tempfile.TemporaryDirectory() as temporary:
        fetch(changes, Path(temporary, "changes.csv"))
        fetch_object(f"{data}/{CURATED}", Path(temporary, CURATED))
        keep_decisions(folder / EARLIER_FILE, str(Path(temporary, "changes.csv")), temporary)


def _tell_cached(execution: Execution, uris: Uris) -> None:
    if cached := execution.list_cached(uris):
        print(f"from the cache: {', '.join(cached)}")
    lost = execution.outputs.keys() - {task for task, _ in uris}
    if lost:
        print(f"no artifacts found, so no reports of: {', '.join(sorted(lost))}")


def _describe_run(
    cluster: Cluster,
    ended: EndedRun,
    figures: Evaluation | None,
    comparison: Comparison | None,
    examples: list[ExamplesManifest],
) -> RunOverview:
    run, tasks, parameters = ended.execution.run, ended.execution.tasks, ended.execution.parameters
    took = waiting.measure_seconds(run.created_at, run.finished_at)
    return RunOverview(
        pipeline=ended.execution.pipeline,
        run=run.display_name,
        end=f"started {run.created_at:%Y-%m-%d %H:%M} UTC, {ended.state} after {took or 0:,.0f} s",
        failures={failure.task: _write_said(failure) for failure in ended.failures},
        origin={
            "experiment": ended.request.experiment,
            "images": str(parameters.get("data_uri", "")),
            "test images": str(parameters.get("test_data_uri", "")),
            "data version": " → ".join(_list_versions(examples, figures)),
            "config": cluster.config.name,
            "command": str(ended.command or ""),
        },
        outputs=[
            TaskOutput(task.name, task.stage, output)
            for task in tasks
            for maker, output in ended.uris
            if maker == task.name
        ],
        figures=figures,
        comparison=comparison,
        details={"Logs, parameters and artifacts are at": link_to_run(cluster, run)},
    )


def _write_said(failure: StageFailure) -> str:
    if not failure.said:
        return "its log is on the page that is named last."
    return f"{failure.said}{f' ({failure.again})' if failure.again else ''}"


def _list_versions(examples: list[ExamplesManifest], figures: Evaluation | None) -> list[str]:
    """The data versions that the run has ingested, of an improvement both; else that of its figures."""
    return [each.data_version for each in examples] or ([figures["data_version"]] if figures else [])


def _read_manifests(ended: EndedRun) -> list[ExamplesManifest]:
    """What the run has ingested, of an improvement both versions."""
    manifests = []
    for task in ended.execution.tasks:
        if task.stage == "ingest" and (uri := ended.uris.get((task.name, "examples"))):
            with tempfile.TemporaryDirectory() as temporary, contextlib.suppress(UserError):
                path = Path(temporary, MANIFEST)
                fetch_object(f"{uri}/{MANIFEST}", path)
                manifests.append(read_document(path, ExamplesManifest, "run again"))
    return manifests


def _find_measured_before(cluster: Cluster, run: V2beta1Run, request: RunRequest) -> EarlierFigures | None:
    """The figures of the experiment's latest success before a run, if it measured a model.

    Runs whose figures are gone or damaged are passed over.
    """
    for earlier in runs.list_newest(cluster, request.experiment, count=runs.LARGEST_PAGE):
        is_before = earlier.experiment_id == run.experiment_id and earlier.created_at < run.created_at
        if is_before and earlier.state == "SUCCEEDED":
            with contextlib.suppress(UserError):
                if figures := _fetch_figures(cluster, earlier):
                    is_here = (locate_folder(request, earlier) / INDEX).is_file()
                    page = f"../{earlier.run_id}/{INDEX}" if is_here else link_to_run(cluster, earlier)
                    return EarlierFigures(earlier.display_name, page, figures)
    return None


def _fetch_figures(cluster: Cluster, run: V2beta1Run) -> Evaluation | None:
    execution = read_execution(cluster, run)
    evaluate = _find_evaluate(execution)
    uris = find_artifacts(cluster, execution, {evaluate.name}) if evaluate else {}
    if not evaluate or (evaluate.name, "evaluation") not in uris:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        return read_evaluation(fetch(uris[evaluate.name, "evaluation"], Path(temporary, "evaluation")))


def _describe_ending(
    ended: EndedRun, states: dict[str, str], comparison: Comparison | None, examples: list[ExamplesManifest]
) -> Ending:
    """How the run ended, for what comes next; `states` are those of its tasks."""
    curation = next((task.name for task in ended.execution.tasks if task.stage == "curate"), "")
    curated = ended.uris.get((curation, "data"))
    request = ended.command.request if ended.command else ended.request
    adoption = write_adoption(request, "--curated", curated) if curated else ""
    left_out = LeftOut(
        sum(len(each.made_split.duplicates) for each in examples if each.made_split),
        sum(len(each.quarantined) for each in examples),
    )
    return Ending(ended.state, ended.folder, states.get(curation, ""), adoption, comparison, left_out)


def link_to_run(cluster: Cluster, run: V2beta1Run) -> str:
    """The address of the run's page in Kubeflow Pipelines."""
    return cluster.link_to(f"runs/details/{run.run_id}")
