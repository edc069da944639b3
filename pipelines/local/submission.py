"""A run on this machine, from the request to its results."""

import contextlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

from rich.markup import escape

from components.shared.errors import UserError
from components.shared.files import hold_folder, new_file
from components.shared.formats import comparison, evaluation
from components.shared.formats.decisions import EARLIER_FILE
from components.shared.formats.image_table import is_table_name
from pipelines.compiler.config import load_config
from pipelines.compiler.packages import write_package
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.spec import Task, list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.data.dvc_version import DataVersion, resolve_version
from pipelines.data.ignored import list_ignored
from pipelines.local.cache import FOLDER as CACHE
from pipelines.local.kfp_log import Watcher
from pipelines.local.overview import describe_run
from pipelines.local.processes import Interruption
from pipelines.local.record import (
    ArtifactRecord,
    RunRecord,
    find_last_task,
    find_measured_before,
    find_record,
    make_folder,
)
from pipelines.local.runner import PACKAGE, check_paths, check_runner, check_texts, read_artifacts, run_package
from pipelines.output.console import OutputConsole, print_line
from pipelines.output.display import (
    ASKING,
    print_comparison,
    print_figures,
    print_steps,
    show_progress,
    show_way_to,
)
from pipelines.output.index import FILE as INDEX
from pipelines.output.index import EarlierFigures, write_index
from pipelines.output.results import REPORTS, RESULTS, keep_results, locate_report, name_report
from pipelines.submission.arguments import EarlierRun, check_not_comparison, inherit_task, select_beginning
from pipelines.submission.commands import Command, keep_command
from pipelines.submission.forecast import describe_forecast, make_forecast
from pipelines.submission.next_steps import Ending, list_steps, write_adoption
from pipelines.submission.notification import notify_end
from pipelines.submission.preparation import prepare
from pipelines.submission.request import LocalOptions, RunRequest
from pipelines.submission.turns import LeftOut, keep_decisions


class LocalTarget:
    """This machine, as preparation.Target describes it."""

    knows_content = True
    repeats = False

    def __init__(self, runs: Path, experiment: str, dvc_remote: str) -> None:
        """Looks for earlier runs in runs/<experiment>, and for data versions in the DVC remote."""
        self._runs, self._experiment, self._dvc_remote = runs, experiment, dvc_remote

    def locate_folder(self, folder: Path, rev: str | None) -> DataVersion:
        """A folder or a table as it is, or one of its versions in the DVC remote."""
        if rev:
            return resolve_version(folder, rev, self._dvc_remote or None)
        if is_table_name(folder.name) and not folder.is_dir():
            if not folder.is_file():
                raise UserError(f"{folder}: no such file; --data and --test-data name folders or a table of images.")
            return DataVersion(str(folder.resolve()), "")
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; --data and --test-data name folders or a table of images.")
        runs = self._runs / self._experiment
        if runs.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{runs}: lies among the images of {folder}; give --runs a folder outside of them.")
        ignored = list_ignored(folder)
        if shown := [name for name in ignored if not Path(name).name.startswith(".")]:
            more = f" and {len(shown) - 1:,} more" if len(shown) > 1 else ""
            print_line(f"{folder}: DVC ignores {shown[0]}{more}, so the run leaves that out.")
        return DataVersion(str(folder.resolve()), "", tuple(ignored))

    def locate_file(self, file: Path, kind: str) -> str:
        """A file as it is."""
        return str(file.resolve())

    def find_run(self, name: str, stages: Stages, stage: str | None) -> EarlierRun:
        """An earlier run, by its run.json."""
        record = find_record(self._runs, self._experiment, name)
        check_not_comparison(record["pipeline"], record["run"])
        is_here = (self._runs / self._experiment / record["run"]).is_dir()
        run_id = record["run"] if is_here else str(Path(name).resolve())
        run = EarlierRun(run_id, record["run"], record["artifacts"], {}, {})
        if stage and (task := find_last_task(record, stage)):
            return replace(run, parameters=task["parameters"], inputs=task["inputs"])
        if stage and (before := record["arguments"].get(FROM_RUN)):
            changed = {task["stage"] for task in record["stages"].values()}
            if not is_here:  # that run was found by its name among those beside this one
                before = str(Path(name).resolve().parent / before)
            return inherit_task(run, self.find_run(before, stages, stage), stages.list_affected(*changed))
        return run

    def find_beginning(self, name: str) -> EarlierRun:
        """The first part of an improvement, by its run.json."""
        record = find_record(self._runs, self._experiment, name)
        made = {
            (task, output): artifact["uri"]
            for task, content in record["stages"].items()
            for output, artifact in content["artifacts"].items()
        }
        return select_beginning(EarlierRun(record["run"], record["run"], {}, {}, {}), made)


def submit(
    request: RunRequest, options: LocalOptions, webhook: str = "", *, says_next: bool = True, turns: int = 0
) -> RunRecord:
    """Runs what is asked for and shows what came out.

    Args:
        request: what to run.
        options: how.
        webhook: the address that is told how the run ended; empty for none.
        says_next: whether to say what comes next after a success, too.
        turns: how many turns of the loop are left with this one, if it is one of several.

    Returns:
        The content of its run.json.

    Raises:
        UserError: it cannot be run, or its figures cannot be kept.
    """
    # Without the exit handler, whose webhook is in a secret of the cluster, and with all folds in one task, which
    # judges as many at once as there are cores.
    config = load_config(request.config).model_copy(update={"notify": None, "parallel_folds": None})
    prepared = prepare(request, config, LocalTarget(request.runs, request.experiment, config.dvc_remote))
    artifacts = [prepared.arguments.get(name, "") for name in prepared.stages.artifact_parameters]
    check_paths(request.runs / request.experiment, artifacts)
    check_texts(request.runs / request.experiment, prepared.pipeline, prepared.arguments, options.runner)
    check_runner(options.runner, prepared.pipeline, request.runs / request.experiment, prepared.arguments)
    kept = prepared.earlier["from run"].artifacts if "from run" in prepared.earlier else {}
    if request.component:
        outdated = prepared.stages.list_affected(request.component)
        kept = {name: uri for name, uri in kept.items() if name not in outdated}
    if forecast := make_forecast(prepared, request):
        print_line(describe_forecast(forecast))
        if (request.runs / CACHE).is_dir() and not request.no_cache:
            print_line("What earlier runs have done is taken from them.")
    command = Command(request, options)
    interruption = Interruption()
    # From here on there is a folder, which is to say how the run ended.
    with interruption.hold(), contextlib.ExitStack() as stack:
        folder = make_folder(request.runs, request.experiment, prepared.name)
        stack.enter_context(hold_folder(folder))
        keep_command(folder, command)
        write_package(prepared.pipeline, folder / PACKAGE)
        watcher = Watcher(list_tasks(read_spec(folder / PACKAGE)))
        watcher.on_success = partial(_keep_reports_early, folder)
        print_line(f"Its pages and its log appear in {os.path.relpath(folder)} while it runs.")
        with show_progress(watcher):
            record = run_package(
                folder,
                runs=request.runs,
                experiment=request.experiment,
                arguments=prepared.arguments,
                artifacts=kept,
                origin={"command": str(command), "config": config.name},
                watcher=watcher,
                options=options,
                interruption=interruption,
            )
        _keep_reports(folder, record)
        measured = find_measured_before(request.runs, request.experiment, record)
        earlier = EarlierFigures(measured[0], f"../{quote(measured[0])}/{INDEX}", measured[1]) if measured else None
        overview = describe_run(folder, record, request.experiment)
        write_index(folder, overview, earlier)
        problem = _keep_results(folder, record)
    _notify_end(webhook, folder, record)
    _print_outcome(folder, record, watcher.warnings, overview.doubt)
    if says_next or record["state"] != "succeeded":
        print_steps(list_steps(_describe_ending(folder, record, request), command, turns))
    if problem:
        raise problem
    return record


def _notify_end(webhook: str, folder: Path, record: RunRecord) -> None:
    failed = next((name for name, task in record["stages"].items() if task["state"] == "failed"), "")
    notify_end(webhook, f"{folder.parent.name}/{folder.name}", record["state"], failed=failed)


def _describe_ending(folder: Path, record: RunRecord, request: RunRequest) -> Ending:
    curation = next((task["state"] for task in record["stages"].values() if task["stage"] == "curate"), "")
    adoption = write_adoption(request, "--from-run", folder.name) if curation else ""
    compared = comparison.read_comparison(folder) if (folder / comparison.FILE).is_file() else None
    return Ending(record["state"], folder, curation, adoption, compared, count_left_out(record))


def count_left_out(record: RunRecord) -> LeftOut:
    """How much ingest left out, of all versions that the run has ingested."""
    made = [task["artifacts"] for task in record["stages"].values() if task["stage"] == "ingest"]
    metadata = [each["examples"]["metadata"] for each in made if "examples" in each]
    return LeftOut(
        *(sum(int(each.get(name, 0)) for each in metadata) for name in ("duplicates_left_out", "quarantined"))
    )


def _keep_reports_early(folder: Path, task: Task) -> None:
    """Copies the reports of a task that has just ended: a person can decide while another model is trained.

    What cannot be copied now is copied, or told, at the end of the run.
    """
    with contextlib.suppress(OSError, ValueError):
        _keep_reports_of(folder, task.name, read_artifacts(folder, task))


def _keep_reports_of(folder: Path, task: str, artifacts: dict[str, ArtifactRecord]) -> None:
    for output in REPORTS:
        if artifact := artifacts.get(output):
            report = Path(locate_report(artifact["uri"], output))
            if report.stat().st_size:
                _copy(report, folder / name_report(task, output))


def _keep_reports(folder: Path, record: RunRecord) -> None:
    """Copies the reports and the figures beside run.json, where a browser opens them."""
    for task, content in record["stages"].items():
        _keep_reports_of(folder, task, content["artifacts"])
    if record["state"] != "succeeded":
        return
    made = _list_made(folder, record)
    for artifact, file in (("evaluation", evaluation.FILE), ("comparison", comparison.FILE)):
        if artifact in made:
            _copy(made[artifact] / file, folder / file)
    if record["arguments"].get("decisions_uris") and {"changes", "data"} <= made.keys():
        keep_decisions(folder / EARLIER_FILE, str(made["changes"]), str(made["data"]))


def _copy(source: str | Path, target: Path) -> None:
    """Copies a file, all of it or nothing."""
    with new_file(target) as path:
        path.write_bytes(Path(source).read_bytes())  # not shutil, which at a full disk names the source


def _list_made(folder: Path, record: RunRecord) -> dict[str, Path]:
    """The artifacts that are the run's own and not of one that it continues from."""
    return {name: Path(uri) for name, uri in record["artifacts"].items() if Path(uri).is_relative_to(folder)}


def _keep_results(folder: Path, record: RunRecord) -> UserError | None:
    """Copies the figures of a run that measured its model to results/; what is wrong is told after the outcome."""
    made = _list_made(folder, record)
    if record["state"] == "succeeded" and "evaluation" in made:
        history = Path(record["artifacts"].get("history", ""))
        try:
            keep_results(made["evaluation"], history if history.is_file() else None, RESULTS)
        except UserError as error:
            return error
    return None


def _print_metrics(record: RunRecord) -> None:
    """Prints the figures of a stage that ran alone, as its output `metrics` has them."""
    for task, content in record["stages"].items():
        figures = content["artifacts"].get("metrics", {"metadata": {}})["metadata"]
        shown = [
            f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in figures.items()
            if isinstance(value, int | float)
        ]
        if shown:
            OutputConsole().print(escape(f"{task}: {', '.join(shown)}"))


def _print_outcome(folder: Path, record: RunRecord, warnings: list[str], doubt: str) -> None:
    """Prints the figures and the reports of a run; after a failure, what the stage said."""
    console = OutputConsole()
    for task, content in record["stages"].items():
        if content["state"] == "failed":
            console.print(f"[red]{task} failed:[/] {escape(content.get('message', ''))}")
    for warning in warnings:
        console.print(f"[yellow]{escape(warning)}[/]")
    if (folder / evaluation.FILE).is_file():
        print_figures(folder)
    if (folder / comparison.FILE).is_file():
        print_comparison(folder, doubt)
    if len(record["stages"]) == 1 and not (folder / evaluation.FILE).is_file():
        _print_metrics(record)
    console.print(f"{record['state']} after {record['seconds']:.0f} s")
    reports = [path for path in sorted(folder.glob("*.html")) if path.name != INDEX]
    for report in [*reports, *folder.glob("issues.csv"), *folder.glob("*schema.pbtxt")]:
        is_of_a_stage = report.suffix == ".html" and report.stem not in ASKING
        name = f"{report.stem} report" if is_of_a_stage else report.stem
        console.print(f"{name:<24} {show_way_to(report)}")
    console.print(f"{'log':<24} {show_way_to(folder / 'run.log')}")
