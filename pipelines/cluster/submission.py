"""A run on a cluster, from the request to its results."""

import contextlib
import datetime
import tempfile
import uuid
from pathlib import Path

from kfp_server_api import V2beta1Run

from components.shared.cloud_storage import is_address, upload
from components.shared.errors import UserError
from components.shared.files import hash_file
from pipelines.cluster import runs, waiting
from pipelines.cluster.artifacts import Execution, PipelineDeleted, find_made, read_execution
from pipelines.cluster.checks import check_endpoint
from pipelines.cluster.connection import Cluster, NoAnswerYetError
from pipelines.cluster.earlier import describe_run
from pipelines.cluster.fetching import fetch_results, link_to_run, locate_folder
from pipelines.cluster.kubeconfig import leads_to
from pipelines.cluster.kubernetes_checks import check_requests
from pipelines.cluster.stage_failures import StageFailure, explain_failures
from pipelines.cluster.start_checks import check_start
from pipelines.compiler.code_version import find_commit
from pipelines.compiler.config import Config, check_names_are_filled_in
from pipelines.compiler.image_tags import is_fixed
from pipelines.compiler.packages import write_package
from pipelines.compiler.spec import list_images, list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.data.dvc_version import DataVersion, resolve_version
from pipelines.output.console import print_line
from pipelines.output.display import Step, print_steps
from pipelines.submission.arguments import EarlierRun, select_beginning
from pipelines.submission.commands import Command, keep_command, write_action
from pipelines.submission.forecast import describe_forecast, make_forecast
from pipelines.submission.notification import notify_end
from pipelines.submission.preparation import PreparedRun, choose_schema, name_reviewers, prepare
from pipelines.submission.request import ClusterOptions, RunRequest


class ClusterTarget:
    """A cluster, as preparation.Target describes it."""

    knows_content = False

    def __init__(self, cluster: Cluster, experiment: str, *, repeats: bool = False) -> None:
        """Looks for the latest run in the experiment; a recurring run `repeats`."""
        self._cluster, self._experiment, self.repeats = cluster, experiment, repeats

    def locate_folder(self, folder: Path, rev: str | None) -> DataVersion:
        """A version in a DVC remote in Cloud Storage."""
        version = resolve_version(folder, rev, self._cluster.config.dvc_remote or None)
        if not is_address(version.uri):
            raise UserError(
                f"{folder}: its DVC remote is a folder of this machine ({version.uri}), which no cluster can read; "
                "set `dvc_remote` in the config to a gs:// remote, and dvc push there."
            )
        return version

    def locate_file(self, file: Path, kind: str) -> str:
        """An address that contains the hash of the file, which is uploaded when the run is started."""
        return f"{self._cluster.config.pipeline_root.rstrip('/')}/{kind}/{hash_file(file)}{file.suffix}"

    def find_run(self, name: str, stages: Stages, stage: str | None) -> EarlierRun:
        """An earlier run, by its outputs in Cloud Storage."""
        run = runs.find(self._cluster, name, self._experiment, succeeded=True)
        return describe_run(self._cluster, run, stages=stages, stage=stage)

    def find_beginning(self, name: str) -> EarlierRun:
        """The first part of an improvement, by its outputs in Cloud Storage."""
        run = runs.find(self._cluster, name, self._experiment, succeeded=True)
        made = find_made(self._cluster, read_execution(self._cluster, run))
        return select_beginning(EarlierRun(run.run_id, run.display_name, {}, {}, {}), made)


def submit(cluster: Cluster, request: RunRequest, options: ClusterOptions) -> V2beta1Run | None:
    """Compiles, uploads and starts a run, or makes it a recurring one.

    Returns:
        The run that has started; None if it is a recurring one.

    Raises:
        UserError: it cannot be run.
    """
    check_is_for_clusters(cluster.config)
    prepared = prepare(request, cluster.config, ClusterTarget(cluster, request.experiment, repeats=bool(options.cron)))
    check_endpoint(cluster)
    if forecast := make_forecast(prepared, request):
        print_line(describe_forecast(forecast._replace(seconds=None)))  # which no cluster shares
    submission = _upload(cluster, prepared, request=request, options=options)
    if options.cron:
        runs.schedule(cluster, submission, options.cron)
        version = submission.version.display_name
        print_line(f"recurring run {submission.name} of {prepared.pipeline.name}, version {version}: {options.cron}")
        print_steps([Step("see how its runs go", command=write_action(request, options, "--list"))])
        return None
    started = runs.start(cluster, submission)
    with contextlib.suppress(OSError):  # the run goes on, whatever becomes of this folder
        keep_command(locate_folder(request, started), Command(request, options))
    print_line(f"started {started.display_name}\n{link_to_run(cluster, started)}")
    return started


def check_is_for_clusters(config: Config) -> None:
    """Checks that a configuration names the places of a cluster, as it does not where --local was meant.

    Raises:
        UserError: it names none, or still those of the template.
    """
    if config.platform == "vertex":
        raise UserError(
            f"{config.path}: is for Vertex AI Pipelines, which has no API of Kubeflow Pipelines; compile the packages "
            f"with compile.py --config {config.name}, and start them as docs/vertex.md says."
        )
    check_names_are_filled_in(config)
    if not config.registry and not config.pipeline_root:
        raise UserError(
            f"{config.path}: has no registry and no pipeline_root, so it is for this machine; add --local, or choose "
            "the --config of a cluster."
        )


def check_tags(images: list[str]) -> None:
    """Checks that no image's tag can come to mean other code, as KFP's cache assumes.

    Raises:
        UserError: an image has no such tag.
    """
    for image in images:
        if not is_fixed(image):
            raise UserError(
                f"{image}: has no tag that stands for one version of the code, which Kubeflow Pipelines' cache needs; "
                "name another tag in the config, component.yaml or --tag (without one, an image that `make images` can "
                "build gets its own), or insist with --force."
            )


def wait_for_results(
    cluster: Cluster, run: V2beta1Run, *, request: RunRequest, options: ClusterOptions, webhook: str = ""
) -> str:
    """Shows the run until it ends; then its pages are in its folder, and after a success its figures in results/.

    Args:
        cluster: where the run is.
        run: the run.
        request: whose experiment and folder of runs it belongs to.
        options: how long to wait, and which cluster that is.
        webhook: the address that is told how the run ended, or that the time is over; empty for none.

    Returns:
        The final state, or timeout, or interrupted.
    """
    command, timeout = write_action(request, options, "--attach", str(run.run_id)), options.timeout
    execution: Execution | None = None
    with cluster.within(options.limit):
        try:
            execution = read_execution(cluster, run)
        except PipelineDeleted:
            print_line(f"waiting for {run.display_name}, whose stages cannot be shown: its pipeline was deleted")
    tasks, link = execution.tasks if execution else [], link_to_run(cluster, run)
    try:
        run, state = waiting.wait_for_run(cluster, run.run_id, tasks=tasks, limit=options.limit)
    except waiting.StillRunning:
        notify_end(webhook, run.display_name, f"not finished after {timeout:g} minutes", link=link)
        print_line(f"not finished after {timeout:g} minutes; the run continues. To keep waiting: {command}")
        return "timeout"
    except runs.STOPPED as stop:
        print_line(f"\nthe run continues. To keep waiting: {command}")
        if isinstance(stop, SystemExit):
            raise
        return "interrupted"
    except NoAnswerYetError:
        notify_end(webhook, run.display_name, "its server does not answer any more", link=link)
        raise
    failures: list[StageFailure] = []
    if execution:
        execution = execution._replace(run=run)
        with cluster.within(options.limit):
            failures = explain_failures(cluster, execution, waiting.list_failed(run, tasks))
    first = failures[0] if failures and state == "failed" else None
    failed, reason = (first.task, first.reason) if first else ("", "")
    notify_end(webhook, run.display_name, state, failed=failed, reason=reason, link=link)
    for failure in failures:
        print_line(_write_failure(failure, link))
    took = waiting.measure_seconds(run.created_at, run.finished_at)
    print_line(f"{state} after {took or 0:.0f} s")
    try:
        execution = execution or read_execution(cluster, run)
        fetch_results(cluster, execution, state=state, request=request, failures=failures)
    except UserError as error:
        if state == "succeeded":
            raise
        print_line(f"no page of this run, because what it made cannot be fetched: {error}")
    return state


def _write_failure(failure: StageFailure, link: str) -> str:
    """What a task that failed said, and where the rest of it is."""
    places = " and ".join(filter(None, (failure.log, link)))
    what = " ".join(filter(None, (failure.task, "failed", failure.again)))
    return f"{what}: {failure.said}\nits log is at {places}" if failure.said else f"{what}; its log is at {places}"


def _upload(
    cluster: Cluster, prepared: PreparedRun, *, request: RunRequest, options: ClusterOptions
) -> runs.Submission:
    """Uploads the compiled pipeline and the files of people; what already exists is kept."""
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary, f"{prepared.name}.yaml")
        write_package(prepared.pipeline, package)
        spec = read_spec(package)
        runs.check_characters(str(cluster.config.path), [spec, cluster.config.pipeline_root])
        for name, value in prepared.arguments.items():
            runs.check_characters(f"the parameter {name}", value)
        if leads_to(cluster):
            check_requests(cluster, {task.stage for task in list_tasks(spec)})
        images = [] if options.force else list_images(spec)
        check_tags(images)
        for doubt in check_start(cluster.config.pipeline_root, images, prepared, request):
            print_line(f"not checked: {doubt}")
        version = runs.name_version(package)
        for reviewer, file in name_reviewers(request.decisions).items():
            if not is_address(file):
                upload(Path(file), prepared.arguments["decisions_uris"][reviewer])
        if (schema := choose_schema(request, cluster.config)) and not is_address(schema):
            upload(Path(schema), prepared.arguments["curated_schema_uri"])
        uploaded = runs.find_or_upload(cluster, pipeline=prepared.pipeline.name, package=package, version=version)
    return runs.Submission(
        name=options.recurring or _name_run(prepared),
        description=_describe(request, prepared),
        experiment=request.experiment,
        version=uploaded,
        arguments=prepared.arguments,
        pipeline_root=cluster.config.pipeline_root,
        service_account=cluster.config.service_account,
    )


def _name_run(prepared: PreparedRun) -> str:
    """Such as training-1f0e3d9a-a1b2c3d4e5f6-20261122-142501-7c31, because the name tells runs apart.

    Its parts are the pipeline, the data version, the commit of the code, the time in UTC, and a few random characters.
    """
    version = prepared.arguments.get("data_version", "")[:8]
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    beginning = "-".join(part for part in (prepared.pipeline.name, version, find_commit()) if part)
    end = f"-{stamp}-{uuid.uuid4().hex[:4]}"
    return beginning[: runs.NAME_LENGTH - len(end)] + end


def _describe(request: RunRequest, prepared: PreparedRun) -> str:
    """What a person reads about the run in the UI, cut to the server's limit; no program reads it."""
    lines = {
        "data": ", ".join(prepared.versions) or prepared.arguments.get("data_version", ""),
        "revision": request.rev,
        "code": find_commit(),
        "images": prepared.stages.tag,
        "config": request.config,
        **{relation: run.name for relation, run in prepared.earlier.items()},
        "overridden": ", ".join(request.params) or "nothing",
    }
    return runs.describe("\n".join(f"{name}: {value}" for name, value in lines.items() if value))
