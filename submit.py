"""Runs a pipeline, or one stage of it: on a Kubeflow Pipelines endpoint, or with --local on this machine."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import command_line, delay_interrupt, parse_options

if TYPE_CHECKING:
    from pipelines.submission.request import ClusterOptions, RunRequest

EXIT_CODES = {"succeeded": 0, "failed": 1, "skipped": 1, "cancelled": 3, "timeout": 124, "interrupted": 130}


def main() -> None:
    """Does what the command line asks for, and exits with the code of the final state."""
    with command_line():
        options = _parse_options()
        if options.notify:
            _check_webhook(options.notify)
        if options.prune:
            _prune(options)  # any name: older versions let an experiment be a path, whose runs can still be pruned
            return
        _check_experiment(options.experiment)
        state = _run_here(options) if options.local else _run_on_cluster(options)
        sys.exit(EXIT_CODES[state])


def _check_webhook(address: str) -> None:
    from components.shared.webhook import check_webhook  # here, so that --help is quick

    check_webhook(address)


def _check_experiment(name: str) -> None:
    from pipelines.submission.request import check_experiment_name  # as above

    check_experiment_name(name)  # also for --list and --attach, which make no request


def _prune(options: argparse.Namespace) -> None:
    with delay_interrupt():
        from pipelines.local.pruning import prune  # as above
        from pipelines.output.console import print_line
        from pipelines.output.project import write_command

    survey = prune(options.runs, options.experiment, options.keep or 5, remove=options.yes)
    if survey.removable and not options.yes:
        print_line(f"To remove them: {write_command('submit.py', *sys.argv[1:], '--yes')}")


def _run_here(options: argparse.Namespace) -> str:
    with delay_interrupt():
        from pipelines.local.submission import submit  # here, so that --help and mistakes are quick
        from pipelines.local.turns import take_turns
        from pipelines.submission.request import LocalOptions

    request, local = _read_request(options), LocalOptions(options.runner, options.cold)
    if options.turns:
        state = take_turns(request, options.turns, local, options.notify)[-1]["state"]
    else:
        state = submit(request, local, options.notify)["state"]
    return "interrupted" if state == "cancelled" else state


def _run_on_cluster(options: argparse.Namespace) -> str:
    with delay_interrupt():
        from pipelines.cluster import actions, runs  # as above
        from pipelines.cluster.connection import open_cluster
        from pipelines.cluster.submission import submit, wait_for_results

    runs.check_names(options.experiment, options.recurring, options.cron)
    request, on_cluster = _read_request(options), _read_cluster_options(options)
    cluster = open_cluster(options.config, on_cluster.endpoint)
    if options.check:
        return actions.check(cluster, request, on_cluster)
    if options.list:
        return actions.list_runs(cluster, request, on_cluster)
    if options.terminate:
        return actions.terminate(cluster, options.terminate, request=request, options=on_cluster)
    if options.attach:
        return actions.attach(cluster, options.attach, request=request, options=on_cluster, webhook=options.notify)
    if options.change:
        return actions.change_schedule(cluster, options.recurring, options.change)
    started = submit(cluster, request, on_cluster)
    if started and options.wait:
        return wait_for_results(cluster, started, request=request, options=on_cluster, webhook=options.notify)
    if started:
        actions.say_how_to_wait(started, request, on_cluster)
    return "succeeded"


def _read_request(options: argparse.Namespace) -> "RunRequest":
    with delay_interrupt():
        from pipelines.submission.request import LATEST, RunRequest  # as above

    return RunRequest(
        experiment=options.experiment,
        config=options.config,
        pipeline=options.pipeline,
        component=options.component,
        data=options.data,
        test_data=options.test_data,
        rev=options.rev,
        decisions=tuple(options.decisions),
        schema=options.schema,
        params=tuple(options.param),
        from_run=options.from_run or LATEST,
        before=options.before,
        no_cache=options.no_cache,
        runs=options.runs,
    )


def _read_cluster_options(options: argparse.Namespace) -> "ClusterOptions":
    with delay_interrupt():
        from pipelines.submission.connection_options import read_endpoint  # as above
        from pipelines.submission.request import ClusterOptions

    return ClusterOptions(
        endpoint=read_endpoint(options),
        force=options.force,
        wait=options.wait,
        timeout=options.timeout,
        recurring=options.recurring,
        cron=options.cron,
    )


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit codes: 0 success, 1 failure, 3 the run was cancelled, 124 --timeout has expired, 130 Ctrl-C.",
    )
    parser.add_argument("--experiment", default="default", help="the runs it belongs with (default: %(default)s)")
    parser.add_argument("--config", help="a name in pipelines/config (default: gke, with --local: local)")
    parser.add_argument(
        "--data", help="the images: a folder tracked by DVC, or gs://BUCKET/FOLDER; locally any folder or table"
    )
    parser.add_argument("--test-data", help="the test split, likewise, if --data has none")
    parser.add_argument("--rev", help="which version of --data: a commit, tag or branch of git")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the pipeline"
    )
    parser.add_argument(
        "--pipeline", help="training (the default), improvement: one turn of the loop, or comparison of two runs"
    )
    parser.add_argument(
        "--decisions",
        action="append",
        default=[],
        metavar="FILE",
        help="decisions.csv of the review, or what Label Studio or FiftyOne exports, for the improvement; of several"
        " people one each, named decisions-NAME.csv",
    )
    parser.add_argument(
        "--schema", metavar="FILE", help="schema.pbtxt that the images must fit (default: the config's, else inferred)"
    )
    parser.add_argument("--component", metavar="STAGE", help="run this stage alone, on the artifacts of an earlier run")
    parser.add_argument("--from-run", metavar="RUN", help="that earlier run (default: latest)")
    parser.add_argument(
        "--before",
        metavar="RUN",
        help="for the comparison: the run that --from-run is compared with; RUN:before is what an improvement began"
        " with",
    )
    parser.add_argument(
        "--notify", metavar="URL", default="", help="a webhook, Slack's or the like, to tell how the run ended"
    )
    parser.add_argument("--no-cache", action="store_true", help="run every stage, whatever is in the cache")
    _add_local_options(parser)
    _add_cluster_options(parser)
    with delay_interrupt():
        from pipelines.submission.connection_options import add_connection_options  # as above
    add_connection_options(parser)
    options = parse_options(parser)
    if options.config is None:
        options.config = "local" if options.local else "gke"
    if problem := _find_contradiction(options):
        parser.error(problem)
    return options


def _add_local_options(parser: argparse.ArgumentParser) -> None:
    local = parser.add_argument_group("on this machine")
    local.add_argument("--local", action="store_true", help="run here, through kfp.local")
    local.add_argument(
        "--runner", choices=["subprocess", "docker"], default="subprocess", help="docker: each stage in its image"
    )
    local.add_argument("--cold", action="store_true", help="start each stage in a new Python, which takes longer")
    local.add_argument(
        "--turns",
        type=int,
        metavar="N",
        help="take up to N turns of --pipeline improvement, each on what the last one made, until one brings no gain",
    )
    local.add_argument(
        "--prune", action="store_true", help="show the old runs of --experiment, and what removing them would free"
    )
    local.add_argument(
        "--keep", type=number_of_runs, metavar="N", help="for --prune: so many of the newest are not old (default: 5)"
    )
    local.add_argument("--yes", action="store_true", help="remove what --prune shows")
    local.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")


def _add_cluster_options(parser: argparse.ArgumentParser) -> None:
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument("--wait", action="store_true", help="show the run until it ends, then fetch its results")
    cluster.add_argument("--timeout", type=minutes, metavar="MINUTES", help="wait no longer than this")
    cluster.add_argument(
        "--force",
        action="store_true",
        help="allow images that the registry lacks, or whose tag may come to stand for other code, such as latest",
    )
    action = cluster.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="test everything that a run needs, but start nothing")
    action.add_argument("--list", action="store_true", help="list the newest runs of the experiment")
    action.add_argument("--attach", metavar="RUN", help="wait for this run: its id, its name, or latest")
    action.add_argument("--terminate", metavar="RUN", help="end this run")
    action.add_argument("--recurring", metavar="NAME", help="a recurring run of this name; with --cron it is created")
    change = cluster.add_mutually_exclusive_group()
    change.add_argument("--cron", metavar="'S M H D M W'", help="when --recurring runs: six fields, seconds first")
    for name in ("pause", "resume", "delete"):
        change.add_argument(f"--{name}", dest="change", action="store_const", const=name, help=f"{name} --recurring")


def minutes(text: str) -> float:
    """Reads a number above 0; argparse uses this function's name in its message about a wrong value."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def number_of_runs(text: str) -> int:
    """Reads a number of 1 or more; see minutes."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def _find_contradiction(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are right one by one."""

    def first(*names: str) -> str | None:
        return next((f"--{name.replace('_', '-')}" for name in names if getattr(options, name)), None)

    runner = "--runner" if options.runner != "subprocess" else None
    if options.turns is not None and not options.local:
        return (
            "--turns goes with --local; on a cluster, take the next turn by running the improvement again, with --data"
            " and the address of the folder `data` that curate has written"
        )
    if options.local:
        if name := first("wait", "timeout", "force", "check", "list", "attach", "terminate", "recurring"):
            return f"{name} is for a cluster; leave out --local"
    elif name := first("prune", "cold") or runner:
        return f"{name} goes with --local"
    elif options.notify and not (options.wait or options.attach):
        return "--notify goes with --local, --wait or --attach; for other runs, set `notify` in the config"
    if bool(options.recurring) != bool(options.cron or options.change):
        return "--recurring NAME goes with --cron, --pause, --resume or --delete"
    if not options.prune and (name := first("keep", "yes")):
        return f"{name} goes with --prune"
    if options.prune and (name := first("notify", "cold") or runner):
        return f"{name} is for starting a run"
    starts = not (options.list or options.attach or options.terminate or options.change or options.prune)
    of_data = ("data", "test_data", "rev", "decisions", "schema")
    of_runs = (*of_data, "param", "component", "before", "no_cache", "force", "wait", "turns")
    if not starts and (name := first("pipeline", *of_runs)):
        return f"{name} is for starting a run"
    if options.wait and options.cron:
        return "--wait is for a single run; --cron creates a recurring one"
    if options.timeout and not (options.wait or options.attach):
        return "--timeout goes with --wait or --attach"
    from pipelines.submission.request import find_contradiction, find_wrong_turns  # as above

    request = _read_request(options)
    wrong = None if options.turns is None else find_wrong_turns(request, options.turns)
    return wrong or find_contradiction(request)


if __name__ == "__main__":
    main()
