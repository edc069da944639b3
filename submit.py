"""Runs a pipeline, or one stage of it: on a Kubeflow Pipelines endpoint, or with --local on this machine."""

import argparse
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError, command_line
from components.shared.files import new_file

RESULTS = Path("results")  # the figures of the last run, for `dvc metrics` and `dvc plots`
EXIT_CODES = {"succeeded": 0, "failed": 1, "skipped": 1, "cancelled": 3, "timeout": 124, "interrupted": 130}


def main() -> None:
    warnings.simplefilter("ignore")  # the libraries' notes about Python versions
    with command_line():
        options = _options()
        state = _run_locally(options) if options.local else _run_on_cluster(options)
        sys.exit(EXIT_CODES[state])


def _options() -> argparse.Namespace:
    from pipelines.compiler.config import Endpoint

    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit codes: 0 success, 1 failure, 3 the run was cancelled, 124 --timeout is over, 130 Ctrl-C.",
    )
    parser.add_argument("--experiment", default="default", help="the runs it belongs to (default: %(default)s)")
    parser.add_argument("--config", help="a name in pipelines/config (default: gke, with --local: local)")
    parser.add_argument("--data", help="the images: a folder tracked by DVC, or gs://BUCKET/FOLDER; locally any folder")
    parser.add_argument("--test-data", help="the test split, likewise, if --data has none")
    parser.add_argument("--rev", help="which version of --data: a commit, tag or branch of git")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the pipeline"
    )
    parser.add_argument(
        "--pipeline", help="training (the default), improvement: one turn of the loop, or comparison of two runs"
    )
    parser.add_argument("--decisions", metavar="FILE", help="decisions.csv of the review, for the improvement")
    parser.add_argument("--component", metavar="STAGE", help="run this stage alone, on the artifacts of an earlier run")
    parser.add_argument("--from-run", default="latest", metavar="RUN", help="that earlier run (default: %(default)s)")
    parser.add_argument("--before", metavar="RUN", help="for the comparison: the run that --from-run is compared with")

    local = parser.add_argument_group("on this machine")
    local.add_argument("--local", action="store_true", help="run here, through kfp.local")
    local.add_argument(
        "--runner", choices=["subprocess", "docker"], default="subprocess", help="docker: each stage in its image"
    )
    local.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")

    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument("--wait", action="store_true", help="show the run until it ends, then fetch its results")
    cluster.add_argument("--timeout", type=minutes, metavar="MINUTES", help="wait no longer than this")
    cluster.add_argument("--no-cache", action="store_true", help="run every stage, whatever is in KFP's cache")
    cluster.add_argument("--force", action="store_true", help="take images tagged latest or of uncommitted code")
    action = cluster.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="try everything that a run needs, start nothing")
    action.add_argument("--list", action="store_true", help="list the newest runs of the experiment")
    action.add_argument("--attach", metavar="RUN", help="wait for this run: its id, its name, or latest")
    action.add_argument("--terminate", metavar="RUN", help="end this run")
    action.add_argument("--recurring", metavar="NAME", help="with --cron: run again and again, under this name")
    change = cluster.add_mutually_exclusive_group()
    change.add_argument("--cron", metavar="'S M H D M W'", help="when --recurring runs: six fields, seconds first")
    for name in ("pause", "resume", "delete"):
        change.add_argument(f"--{name}", dest="change", action="store_const", const=name, help=f"{name} --recurring")

    connection = parser.add_argument_group("connection", "Given here, as KFP_HOST and so on, or in the config.")
    for name, field in Endpoint.model_fields.items():
        connection.add_argument(f"--{name.replace('_', '-')}", help=field.description)

    options = parser.parse_args()
    options.config = options.config or ("local" if options.local else "gke")
    if problem := _contradiction(options):
        parser.error(problem)
    return options


def minutes(text: str) -> float:
    """argparse names the function in what it says of a wrong value."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _contradiction(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are right one by one."""

    def first(*names: str) -> str | None:
        return next((f"--{name.replace('_', '-')}" for name in names if getattr(options, name)), None)

    if options.local:
        if name := first("wait", "timeout", "no_cache", "force", "check", "list", "attach", "terminate", "recurring"):
            return f"{name} is for a cluster; leave out --local"
    elif options.runner != "subprocess":
        return "--runner goes with --local"
    if bool(options.recurring) != bool(options.cron or options.change):
        return "--recurring NAME goes with --cron, --pause, --resume or --delete"
    starts = not (options.list or options.attach or options.terminate or options.change)
    of_runs = ("data", "test_data", "rev", "param", "component", "decisions", "before", "no_cache", "force", "wait")
    if not starts and (name := first("pipeline", *of_runs)):
        return f"{name} is for starting a run"
    if options.pipeline and options.component:
        return "--pipeline runs a whole pipeline, --component one stage; leave out one"
    if options.decisions and options.pipeline != "improvement" and options.component != "curate":
        return "--decisions goes with --pipeline improvement or --component curate"
    if bool(options.before) != (options.pipeline == "comparison"):
        return "--pipeline comparison goes with --before RUN, the run to compare with"
    if options.before and (name := first("data", "test_data", "rev")):
        return f"{name} is for a run on images; --pipeline comparison takes two runs"
    if options.wait and options.cron:
        return "--wait is for one run; --cron makes it run again and again"
    if options.timeout and not (options.wait or options.attach):
        return "--timeout goes with --wait or --attach"
    if options.rev and not options.data:
        return "--rev goes with --data, the folder it is a version of"
    if options.rev and is_address(options.data):
        return f"--rev goes with a folder tracked by DVC, not with {options.data}"
    return None


def _run_on_cluster(options: argparse.Namespace) -> str:
    from pipelines.cluster.commands import run

    return run(options)


def _run_locally(options: argparse.Namespace) -> str:
    """Runs the pipeline or the stage, shows what came out, and returns its final state."""
    from pipelines.compiler import packages
    from pipelines.compiler.config import load_config
    from pipelines.compiler.stages import Stages
    from pipelines.local import runner as local
    from pipelines.output import display
    from pipelines.submission import arguments

    config = load_config(options.config)
    stages = Stages(config)
    name = packages.chosen(options.pipeline, options.component, stages)
    pipeline = packages.build(name, stages)
    given = _local_data(options, config.dvc_remote)
    artifacts: dict[str, str] = {}
    if options.component and not (options.component == "ingest" and options.data):
        earlier = local.find_run(options.runs, options.experiment, options.from_run)
        artifacts = earlier["artifacts"]
        parameters, inputs = local.given_to(earlier, name)
        available = {**artifacts, **inputs}
        given = {**arguments.from_run(stages.contracts[name], earlier["run"], parameters, available), **given}
    elif options.before:
        earlier, after = (
            local.find_run(options.runs, options.experiment, run) for run in (options.before, options.from_run)
        )
        artifacts = after["artifacts"]
        given = arguments.uris(arguments.BEFORE, earlier["run"], earlier["artifacts"])
        given |= arguments.uris(arguments.AFTER, after["run"], artifacts)
    values = arguments.checked(pipeline, given, options.param)

    local.check_paths(options.runs / options.experiment, values)
    local.check_runner(options.runner, pipeline)
    run = local.new_run(options.runs, options.experiment, name)
    packages.write(pipeline, run / "pipeline.yaml")
    summary = display.run_with_progress(run, values, artifacts, options.runner)
    _keep_results(run, summary)
    display.print_outcome(run, summary)
    return "interrupted" if summary["state"] == "cancelled" else summary["state"]


def _local_data(options: argparse.Namespace, remote: str) -> dict[str, str]:
    """A folder as it is, one of its versions in the DVC remote, or a place in Cloud Storage."""
    from pipelines.data.dvc_version import resolve

    given = {}
    if options.rev:
        version = resolve(Path(options.data), options.rev, remote or None)
        given = {"data_uri": version.uri, "data_version": version.version}
    for parameter, data in (("data_uri", options.data), ("test_data_uri", options.test_data)):
        if data and parameter not in given:
            if not is_address(data) and not Path(data).is_dir():
                raise UserError(f"{data}: no such folder; --data and --test-data name folders of images.")
            given[parameter] = data if is_address(data) else str(Path(data).resolve())
    if decisions := options.decisions:
        if not is_address(decisions) and not Path(decisions).is_file():
            raise UserError(f"{decisions}: no such file; --decisions names what the review saved.")
        given["decisions_uri"] = decisions if is_address(decisions) else str(Path(decisions).resolve())
    return given


def _keep_results(run: Path, summary: dict[str, Any]) -> None:
    """Copies the reports beside run.json, where a browser opens them, and the figures to results/."""
    from pipelines.output import results

    for task, content in summary["stages"].items():
        for output in results.REPORTS:
            if report := content["artifacts"].get(output):
                shutil.copyfile(report["uri"], run / results.report_name(task, output))
    if summary["state"] != "succeeded":
        return
    made = {name for name, uri in summary["artifacts"].items() if Path(uri).is_relative_to(run)}
    for artifact, file in (("evaluation", "metrics.json"), ("comparison", "comparison.json")):
        if artifact in made:
            with new_file(run / file) as path:
                shutil.copyfile(Path(summary["artifacts"][artifact]) / file, path)
    if "evaluation" in made:
        history = summary["artifacts"].get("history")
        results.keep(Path(summary["artifacts"]["evaluation"]), Path(history) if history else None, RESULTS)


if __name__ == "__main__":
    main()
