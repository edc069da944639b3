"""What submit.py does on a cluster: check, run, wait, list, terminate, repeat."""

import argparse
import datetime
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.shared.cloud_storage import is_address, upload
from components.shared.errors import UserError
from components.shared.formats.examples import hash_file
from pipelines.cluster import artifacts, checks, earlier, runs, waiting
from pipelines.cluster.connection import Cluster, endpoint
from pipelines.cluster.fetching import fetch_results
from pipelines.compiler import packages
from pipelines.compiler.code_version import commit, is_fixed
from pipelines.compiler.config import Config, Endpoint, load_config
from pipelines.compiler.stages import Stages
from pipelines.data.dvc_version import DataVersion, resolve
from pipelines.submission import arguments

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run


class Data(NamedTuple):
    """Where the cluster finds the images, and which version they are, as far as that is known before the run."""

    arguments: dict[str, str]
    versions: list[str]


def run(options: argparse.Namespace) -> str:
    """Does what the options say; returns the final state of a run that was waited for, otherwise `succeeded`."""
    runs.check_name("--experiment", options.experiment)
    if options.recurring:
        runs.check_name("--recurring", options.recurring)
    if options.cron:
        runs.check_cron(options.cron)
    config = load_config(options.config)
    cluster = Cluster(endpoint(config, {name: getattr(options, name) for name in Endpoint.model_fields}))
    if options.check:
        return _check(options, config, cluster)
    if options.list:
        return _list(options, cluster)
    if options.terminate:
        return _terminate(options, cluster)
    if options.attach:
        found = runs.find(cluster, options.attach, options.experiment)
        return _wait(options, config, cluster, found)
    if options.change:
        runs.change_schedule(cluster, options.recurring, options.change)
        _print(f"recurring run {options.recurring}: {options.change}d")
        return "succeeded"
    return _submit(options, config, cluster)


def _submit(options: argparse.Namespace, config: Config, cluster: Cluster) -> str:
    """Compiles, uploads and starts a run, or makes it a recurring one."""
    data = _data(options, config)
    stages = Stages(_with_caching(options, config, data))
    name = packages.chosen(options.pipeline, options.component, stages)
    pipeline = packages.build(name, stages)
    given: dict[str, Any] = dict(data.arguments)
    named = _named_runs(options, cluster)
    if options.before:
        given = earlier.comparison_arguments(cluster, config, stages, named["before"], named["from run"])
    elif named:
        given = {**earlier.stage_arguments(cluster, config, stages, named["from run"], options.component), **given}
    if options.decisions:
        given["decisions_uri"] = _decisions_uri(options.decisions, config.pipeline_root)
    values = arguments.checked(pipeline, given, options.param)

    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary, f"{name}.yaml")
        packages.write(pipeline, package)
        if not options.force:
            _check_images(package)
        version = runs.version_name(package, stages.tag)
        if options.decisions and not is_address(options.decisions):
            upload(Path(options.decisions), given["decisions_uri"])
        uploaded = runs.pipeline_version(cluster, pipeline.name, package, version)
    submission = runs.Submission(
        options.recurring or _run_name(pipeline.name, data, stages.tag),
        _description(options, data, values, stages.tag, named),
        options.experiment,
        uploaded,
        values,
        config.pipeline_root,
        config.service_account,
    )
    if options.cron:
        runs.schedule(cluster, submission, options.cron)
        _print(f"recurring run {options.recurring} of {pipeline.name}, version {version}: {options.cron}")
        return "succeeded"
    started = runs.start(cluster, submission)
    _print(f"started {started.display_name}\n{cluster.address(f'runs/details/{started.run_id}')}")
    return _wait(options, config, cluster, started) if options.wait else "succeeded"


def _named_runs(options: argparse.Namespace, cluster: Cluster) -> dict[str, "V2beta1Run"]:
    """The earlier runs that this one goes on from; the description holds their names."""
    names = {"before": options.before} if options.before else {}
    if options.before or (options.component and not (options.component == "ingest" and options.data)):
        names["from run"] = options.from_run
    return {key: runs.find(cluster, name, options.experiment, succeeded=True) for key, name in names.items()}


def _with_caching(options: argparse.Namespace, config: Config, data: Data) -> Config:
    """KFP's cache knows data by its address: where that names no version, ingest must look for itself."""
    if options.no_cache:
        return config.without_cache(*Stages(config).contracts)
    versioned = data.versions and all(version.endswith(".dir") for version in data.versions)
    return config if versioned else config.without_cache("ingest")


def _check_images(package: Path) -> list[str]:
    """The images of the package, each of which must be named for ever."""
    images = packages.images(packages.read_spec(package))
    for image in images:
        if not is_fixed(image):
            raise UserError(
                f"{image}: its tag can mean another code tomorrow; commit, then make images and push, "
                "or insist with --force."
            )
    return images


def _data(options: argparse.Namespace, config: Config) -> Data:
    given: dict[str, str] = {}
    versions = []
    for parameter, data, rev in (("data_uri", options.data, options.rev), ("test_data_uri", options.test_data, None)):
        if not data:
            continue
        if is_address(data):
            given[parameter] = data
            versions.append(data)
            continue
        version = _resolved(data, rev, config.dvc_remote)
        given[parameter] = version.uri
        versions.append(version.version)
        if parameter == "data_uri":
            given["data_version"] = version.version
    return Data(given, versions)


def _resolved(data: str, rev: str | None, remote: str) -> DataVersion:
    version = resolve(Path(data), rev, remote or None)
    if not is_address(version.uri):
        raise UserError(
            f"{data}: its DVC remote is a folder of this machine ({version.uri}), which no cluster can read; "
            "set `dvc_remote` in the config to a gs:// remote, and dvc push there."
        )
    return version


def _decisions_uri(decisions: str, root: str) -> str:
    """Where the cluster finds a person's decisions; a file goes to a place that its content names."""
    if is_address(decisions):
        return decisions
    if not Path(decisions).is_file():
        raise UserError(f"{decisions}: no such file; --decisions names what the review saved.")
    return f"{root.rstrip('/')}/decisions/{hash_file(Path(decisions))}.csv"


def _wait(options: argparse.Namespace, config: Config, cluster: Cluster, run: "V2beta1Run") -> str:
    """Shows the run until it ends; after a success its results are in results/, its reports below --runs."""
    again = f"python submit.py --config {config.name} --attach {run.run_id}"
    limit = options.timeout * 60 if options.timeout else None
    execution = artifacts.execution(cluster, run, config)
    tasks = execution.tasks
    try:
        run, state = waiting.wait(cluster, run.run_id, tasks, limit)
    except waiting.StillRunning:
        _print(f"not finished after {options.timeout:g} minutes; the run goes on. To wait on: {again}")
        return "timeout"
    except KeyboardInterrupt:
        _print(f"\nthe run goes on. To wait on: {again}")
        return "interrupted"
    for name in waiting.failed(run, tasks):
        _print(f"{name} failed; its log is at {cluster.address(f'runs/details/{run.run_id}')}")
    took = waiting.seconds(run.created_at, run.finished_at)
    _print(f"{state} after {took or 0:.0f} s")
    if state == "succeeded":
        uris = artifacts.of_run(cluster, execution, config)
        fetch_results(execution, uris, options.runs / options.experiment / run.run_id)
    return state


def _check(options: argparse.Namespace, config: Config, cluster: Cluster) -> str:
    stages = Stages(config)

    def check_data() -> str:
        if not options.data:
            return "not tried; name the images with --data"
        return ", ".join(_data(options, config).versions)

    def check_images() -> str:
        with tempfile.TemporaryDirectory() as temporary:
            package = Path(temporary, "pipeline.yaml")
            packages.write(packages.build(packages.chosen(options.pipeline, None, stages), stages), package)
            return checks.check_images(_check_images(package))

    failed = False
    for name, passed, message in checks.run_checks(
        {
            "endpoint": lambda: checks.check_endpoint(cluster),
            "credentials": lambda: checks.check_credentials(cluster),
            "experiment": lambda: checks.check_experiment(cluster, options.experiment),
            "bucket": lambda: checks.check_bucket(config.pipeline_root),
            "data": check_data,
            "images": check_images,
        }
    ):
        failed |= not passed
        _print(f"{'[green]✓[/]' if passed else '[red]✗[/]'} {name:<12} {escape(message)}", markup=True)
    return "failed" if failed else "succeeded"


def _list(options: argparse.Namespace, cluster: Cluster) -> str:
    table = Table(title=f"experiment {options.experiment}", title_justify="left")
    for heading in ("run", "state", "started", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=True)
    for run in runs.newest(cluster, options.experiment):
        took = waiting.seconds(run.created_at, run.finished_at)
        table.add_row(
            escape(run.display_name),
            waiting.state(run),
            f"{run.created_at.astimezone():%Y-%m-%d %H:%M}" if run.created_at else "",
            f"{took:,.0f}" if took is not None else "",
        )
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = 200  # a name that is cut is no use to --attach
    console.print(table if table.row_count else f"experiment {options.experiment}: no runs yet")
    return "succeeded"


def _terminate(options: argparse.Namespace, cluster: Cluster) -> str:
    found = runs.find(cluster, options.terminate, options.experiment)
    if found.state in waiting.FINAL:
        raise UserError(f"run {found.display_name}: has ended already ({waiting.state(found)}).")
    runs.terminate(cluster, found.run_id)
    _print(f"terminating {found.display_name}")
    return "succeeded"


def _run_name(pipeline: str, data: Data, tag: str) -> str:
    """Such as training-1f0e3d9a-a1b2c3d4e5f6-20261122-142501-7c31: pipeline, data version, code, time in UTC, and a
    few random characters, because the name tells runs apart.
    """
    version = data.arguments.get("data_version", "")[:8]
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return "-".join(part for part in (pipeline, version, tag, stamp, uuid.uuid4().hex[:4]) if part)


def _description(
    options: argparse.Namespace, data: Data, values: dict[str, Any], tag: str, named: dict[str, "V2beta1Run"]
) -> str:
    lines = {
        "data": ", ".join(data.versions) or values.get("data_version", ""),
        "revision": options.rev,
        "code": commit(),
        "images": tag,
        "config": options.config,
        **{name: run.display_name for name, run in named.items()},
        "overridden": ", ".join(options.param) or "nothing",
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)


def _print(text: str, markup: bool = False) -> None:
    Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=markup).print(text)
