"""A run on this machine, from the request to its results."""

import shutil
from pathlib import Path
from typing import Any

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError
from components.shared.files import new_file
from components.shared.formats import comparison, evaluation
from pipelines.compiler.config import load_config
from pipelines.compiler.packages import write_package
from pipelines.compiler.spec import list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.data.dvc_version import DataVersion, resolve_version
from pipelines.local.kfp_log import Watcher
from pipelines.local.record import RunRecord, find_last_task, find_record, make_folder
from pipelines.local.runner import check_paths, check_runner, run_package
from pipelines.output.display import print_outcome, show_progress
from pipelines.output.results import REPORTS, keep_results, name_report
from pipelines.submission.arguments import EarlierRun
from pipelines.submission.preparation import prepare
from pipelines.submission.request import LocalOptions, RunRequest

RESULTS = Path("results")  # the figures of the last run, for `dvc metrics` and `dvc plots`


class LocalTarget:
    """This machine, as preparation.Target describes it."""

    def __init__(self, runs: Path, experiment: str, dvc_remote: str) -> None:
        """Looks for earlier runs in runs/<experiment>, and for data versions in the DVC remote."""
        self._runs, self._experiment, self._dvc_remote = runs, experiment, dvc_remote

    def locate_data(self, data: str, rev: str | None) -> DataVersion:
        """A folder as it is, one of its versions in the DVC remote, or a place in Cloud Storage."""
        if rev:
            return resolve_version(Path(data), rev, self._dvc_remote or None)
        if is_address(data):
            return DataVersion(data, "")
        if not Path(data).is_dir():
            raise UserError(f"{data}: no such folder; --data and --test-data name folders of images.")
        return DataVersion(str(Path(data).resolve()), "")

    def locate_decisions(self, decisions: str) -> str:
        """A file as it is, or an object in Cloud Storage."""
        if is_address(decisions):
            return decisions
        if not Path(decisions).is_file():
            raise UserError(f"{decisions}: no such file; --decisions names what the review saved.")
        return str(Path(decisions).resolve())

    def find_run(self, name: str, stages: Stages, stage: str | None) -> EarlierRun:
        """An earlier run, by its run.json."""
        record = find_record(self._runs, self._experiment, name)
        task = find_last_task(record, stage) if stage else None
        parameters, inputs = (task["parameters"], task["inputs"]) if task else ({}, {})
        return EarlierRun(record["run"], record["run"], record["artifacts"], parameters, inputs)


def submit(request: RunRequest, options: LocalOptions) -> str:
    """Runs what is asked for and shows what came out.

    Returns:
        The final state: succeeded, failed or interrupted.

    Raises:
        UserError: it cannot be run.
    """
    config = load_config(request.config)
    prepared = prepare(request, config, LocalTarget(request.runs, request.experiment, config.dvc_remote))
    check_paths(request.runs / request.experiment, prepared.arguments)
    check_runner(options.runner, prepared.pipeline)
    folder = make_folder(request.runs, request.experiment, prepared.name)
    write_package(prepared.pipeline, folder / "pipeline.yaml")
    earlier = prepared.earlier.get("from run")
    record = _run(folder, prepared.arguments, earlier.artifacts if earlier else {}, options.runner)
    _keep_results(folder, record)
    print_outcome(folder, record)
    return "interrupted" if record["state"] == "cancelled" else record["state"]


def _run(folder: Path, arguments: dict[str, Any], artifacts: dict[str, str], runner: str) -> RunRecord:
    watcher = Watcher(list_tasks(read_spec(folder / "pipeline.yaml")))
    with show_progress(watcher):
        return run_package(folder, arguments=arguments, artifacts=artifacts, watcher=watcher, runner=runner)


def _keep_results(folder: Path, record: RunRecord) -> None:
    """Copies the reports beside run.json, where a browser opens them, and the figures to results/."""
    for task, content in record["stages"].items():
        for output in REPORTS:
            if report := content["artifacts"].get(output):
                shutil.copyfile(report["uri"], folder / name_report(task, output))
    if record["state"] != "succeeded":
        return
    made = {name: Path(uri) for name, uri in record["artifacts"].items() if Path(uri).is_relative_to(folder)}
    for artifact, file in (("evaluation", evaluation.FILE), ("comparison", comparison.FILE)):
        if artifact in made:
            with new_file(folder / file) as path:
                shutil.copyfile(made[artifact] / file, path)
    if "evaluation" in made:
        history = record["artifacts"].get("history")
        keep_results(made["evaluation"], Path(history) if history else None, RESULTS)
