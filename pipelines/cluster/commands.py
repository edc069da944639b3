"""What submit.py does on a cluster: check, run, wait, list, terminate, repeat."""

import argparse
import datetime
import sys
import tempfile
import uuid
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.examples import file_sha256
from components.files import UserError
from pipelines import arguments, packages, results
from pipelines.cluster import checks, runs, storage, waiting
from pipelines.cluster.connection import Cluster, endpoint
from pipelines.config import Config, Endpoint, load_config
from pipelines.data import DataVersion, resolve
from pipelines.display import print_adoption, print_comparison, print_figures
from pipelines.stages import Stages
from pipelines.versions import commit, is_fixed

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

RESULTS = Path("results")


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
    if options.component and not (options.component == "ingest" and options.data):
        given = {**_from_run(options, config, cluster, stages), **given}
    if options.before:
        given = _from_two_runs(options, config, cluster, stages)
    if options.decisions:
        given["decisions_uri"] = _decisions_uri(options.decisions, config.pipeline_root)
    values = arguments.checked(pipeline, given, options.param)

    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary, f"{name}.yaml")
        packages.write(pipeline, package)
        if not options.force:
            _check_images(package)
        version = runs.version_name(package, stages.tag)
        if options.decisions and not options.decisions.startswith("gs://"):
            storage.upload(Path(options.decisions), given["decisions_uri"])
        uploaded = runs.pipeline_version(cluster, pipeline.name, package, version)
    submission = runs.Submission(
        options.recurring or _run_name(pipeline.name, data, stages.tag),
        _description(options, data, values, stages.tag),
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
        if data.startswith("gs://"):
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
    if not version.uri.startswith("gs://"):
        raise UserError(
            f"{data}: its DVC remote is a folder of this machine ({version.uri}), which no cluster can read; "
            "set `dvc_remote` in the config to a gs:// remote, and dvc push there."
        )
    return version


def _decisions_uri(decisions: str, root: str) -> str:
    """Where the cluster finds a person's decisions; a file goes to a place that its content names."""
    if decisions.startswith("gs://"):
        return decisions
    if not Path(decisions).is_file():
        raise UserError(f"{decisions}: no such file; --decisions names what the review saved.")
    return f"{root.rstrip('/')}/decisions/{file_sha256(Path(decisions))}.csv"


def _from_run(options: argparse.Namespace, config: Config, cluster: Cluster, stages: Stages) -> dict[str, Any]:
    """The arguments that repeat the stage on an earlier run: its parameters, and what it wrote or was given."""
    earlier = runs.find(cluster, options.from_run, options.experiment, succeeded=True)
    contract = stages.contracts[options.component]
    own, artifacts = _artifacts(cluster, earlier, config, stages)
    taken = _taken(_spec(cluster, earlier), own, options.component)
    available = {name: uri for name, uri in {**artifacts, **taken}.items() if uri}
    names = {port.name for port in contract.inputs if port.is_parameter}
    parameters = {name: value for name, value in _parameters(earlier).items() if name in names}
    return arguments.from_run(contract, earlier.display_name, parameters, available)


def _from_two_runs(options: argparse.Namespace, config: Config, cluster: Cluster, stages: Stages) -> dict[str, str]:
    """The arguments that compare the run with the one before."""
    given: dict[str, str] = {}
    for name, artifacts in ((options.before, arguments.BEFORE), (options.from_run, arguments.AFTER)):
        run = runs.find(cluster, name, options.experiment, succeeded=True)
        given |= arguments.uris(artifacts, run.display_name, _artifacts(cluster, run, config, stages)[1])
    return given


def _artifacts(
    cluster: Cluster, run: "V2beta1Run", config: Config, stages: Stages
) -> tuple[list[storage.Artifact], dict[str, str]]:
    """What the run wrote itself, and the URIs by name of that and of what it was given."""
    if _pipeline_name(cluster, run) == "comparison":  # was given the artifacts of two runs, under the same names
        raise UserError(
            f"run {run.display_name}: compared two other runs; name one of these, by --from-run or --before."
        )
    parameters = _parameters(run).items()
    given = {name.removesuffix("_uri"): uri for name, uri in parameters if name in stages.artifact_parameters}
    own = storage.find_artifacts(_folder(cluster, run, config))
    # A run of one stage was given the artifacts of another run, which has more of them.
    others = [storage.find_artifacts(folder) for folder in {uri.rsplit("/", 3)[0] for uri in given.values()}]
    written = {each.output: each.uri for each in [*chain(*others), *own] if each.task in stages.contracts}
    return own, {**written, **given}


def _parameters(run: "V2beta1Run") -> dict[str, Any]:
    return (run.runtime_config and run.runtime_config.parameters) or {}


def _taken(spec: dict[str, Any], artifacts: list[storage.Artifact], stage: str) -> dict[str, str | None]:
    """What the run's last task of the stage took from its other tasks, by input; None came from KFP's cache."""
    tasks = packages.tasks(spec)
    found = storage.by_task(artifacts, tasks)
    last = [task.name for task in tasks if task.base_name == stage][-1:]
    sources = {port: source for name in last for port, source in packages.sources(spec, name).items()}
    names = {task.name for task in tasks}
    return {port: found.get(source) for port, source in sources.items() if source[0] in names}


def _wait(options: argparse.Namespace, config: Config, cluster: Cluster, run: "V2beta1Run") -> str:
    """Shows the run until it ends; after a success its results are in results/, its reports below --runs."""
    again = f"python submit.py --config {config.name} --attach {run.run_id}"
    limit = options.timeout * 60 if options.timeout else None
    tasks = packages.tasks(_spec(cluster, run))
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
        folder = _folder(cluster, run, config)
        written = storage.find_artifacts(folder)
        if "evaluate" in {task.base_name for task in tasks}:
            _keep_results(folder, written)
        uris = storage.by_task(written, tasks)
        if ("compare", "comparison") in uris:
            _show_comparison(uris["compare", "comparison"])
        _keep_reports(uris, options.runs / options.experiment / run.run_id)
        wrote = {task for task, _ in uris}
        if cached := [task.name for task in tasks if task.name not in wrote]:
            _print(f"from the cache, so their reports are with an earlier run: {', '.join(cached)}")
        if ("curate", "data") in uris:
            print_adoption(uris["curate", "data"])
    return state


def _keep_results(folder: str, written: list[storage.Artifact]) -> None:
    uris = {(each.task, each.output): each.uri for each in written}
    if ("evaluate", "evaluation") not in uris:
        raise UserError(
            f"{folder}: no evaluation; the stage came from the cache of an earlier run. "
            "Set `caching: false` for evaluate in the config."
        )
    with tempfile.TemporaryDirectory() as temporary:
        evaluation = storage.fetch(uris["evaluate", "evaluation"], Path(temporary, "evaluation"))
        history = None
        if ("train", "history") in uris:
            history = storage.fetch(uris["train", "history"], Path(temporary, "history"))
        results.keep(evaluation, history, RESULTS)
        print_figures(RESULTS / "metrics.json")
    _print(f"results in {RESULTS}/")


def _show_comparison(uri: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        print_comparison(storage.fetch(uri, Path(temporary, "comparison")) / "comparison.json")


def _keep_reports(uris: dict[tuple[str, str], str], folder: Path) -> None:
    """Fetches the pages that a person opens in a browser."""
    reports = {
        results.report_name(task, output): uri for (task, output), uri in uris.items() if output in results.REPORTS
    }
    for name, uri in reports.items():
        storage.fetch(uri, folder / name)
    if reports:
        _print(f"reports in {folder}/: {', '.join(sorted(reports))}")


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


def _description(options: argparse.Namespace, data: Data, values: dict[str, Any], tag: str) -> str:
    lines = {
        "data": ", ".join(data.versions) or values.get("data_version", ""),
        "revision": options.rev,
        "code": commit(),
        "images": tag,
        "config": options.config,
        "from run": options.from_run if options.component or options.before else None,
        "before": options.before,
        "overridden": ", ".join(options.param) or "nothing",
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)


def _pipeline_name(cluster: Cluster, run: "V2beta1Run") -> str:
    pipeline_id = _reference(run).pipeline_id
    return cluster.call(lambda client: client.get_pipeline(pipeline_id)).display_name


def _spec(cluster: Cluster, run: "V2beta1Run") -> dict[str, Any]:
    """Of the pipeline as it was when the run was started."""
    ids = _reference(run).pipeline_id, _reference(run).pipeline_version_id
    spec = cluster.call(lambda client: client.get_pipeline_version(*ids)).pipeline_spec
    return spec.get("pipeline_spec", spec)  # beside it may be what Kubernetes alone is told


def _reference(run: "V2beta1Run") -> Any:
    if not (run.pipeline_version_reference and run.pipeline_version_reference.pipeline_id):
        raise UserError(f"run {run.display_name}: was not started from an uploaded pipeline.")
    return run.pipeline_version_reference


def _folder(cluster: Cluster, run: "V2beta1Run", config: Config) -> str:
    """Where the run writes its artifacts."""
    root = (run.runtime_config and run.runtime_config.pipeline_root) or config.pipeline_root
    return f"{root.rstrip('/')}/{_pipeline_name(cluster, run)}/{run.run_id}"


def _print(text: str, markup: bool = False) -> None:
    Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=markup).print(text)
