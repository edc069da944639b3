"""Writes the images that an audit doubts for the tools in which people label: Label Studio, or FiftyOne."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import command_line, delay_interrupt, parse_options

if TYPE_CHECKING:
    from pipelines.api.run import Run

NEXT = {
    "label-studio": "In Label Studio, make a project, paste {folder}/config.xml as the code of its labelling interface,"
    " and import {folder}/tasks.json. Export it as JSON or JSON-MIN",
    "fiftyone": "Load {folder} in FiftyOne as a FiftyOneImageClassificationDataset. Export the images that you have"
    " decided about as one; its labels.json has the decisions",
}


def main() -> None:
    """Writes what the command line asks for, and says what comes next."""
    with command_line():
        _export(_parse_options())


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=list(NEXT), help="the tool in which people label")
    parser.add_argument("folder", type=Path, help="the folder to write, which must not be there")
    parser.add_argument("--from-run", default="latest", metavar="RUN", help="the run that audited (default: latest)")
    parser.add_argument("--experiment", default="default", help="the experiment of that run (default: %(default)s)")
    parser.add_argument("--limit", type=count, default=1000, help="the most images (default: %(default)s)")
    parser.add_argument("--local", action="store_true", help="the run was one on this machine, not on a cluster")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--config", help="a name in pipelines/config, for a run on a cluster (default: gke)")
    with delay_interrupt():
        from pipelines.submission.connection_options import add_connection_options, read_endpoint
    add_connection_options(parser)
    options = parse_options(parser)
    if options.local and (options.config or read_endpoint(options)):
        parser.error("--config and the connection are for a cluster; leave out --local, or these")
    return options


def count(text: str) -> int:
    """Reads a number above 0; argparse uses this function's name in its message about a wrong value."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _export(options: argparse.Namespace) -> None:
    with delay_interrupt():
        from pipelines.api.machine import Machine  # here, so that --help is quick
    if options.local:
        run: Run = Machine(runs=options.runs).find_run(options.from_run, options.experiment)
    else:
        with delay_interrupt():
            from pipelines.api.cluster import Cluster  # as above
            from pipelines.submission.connection_options import read_endpoint

        cluster = Cluster(options.config or "gke", runs=options.runs, **read_endpoint(options))
        run = cluster.find_run(options.from_run, options.experiment)
    folder = run.export_issues(options.tool, options.folder, limit=options.limit)
    has_audited = any(output == "issues" for _, output in run.outputs)
    audit = f"of run {run.name} doubts" if has_audited else f"doubts that run {run.name} took from an earlier run"
    print(f"{folder}: what the audit {audit}.")
    print(f"{NEXT[options.tool].format(folder=folder)}, and give that file to submit.py with --decisions.")


if __name__ == "__main__":
    main()
