"""Makes a curated folder the next DVC version of the images: shows what that changes, and with --yes does it."""

import argparse
import contextlib
import os
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import command_line, delay_interrupt, parse_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from components.shared.formats.examples import Quarantined
    from components.shared.formats.manifest import CuratedImage
    from pipelines.data.adoption import Figures, Plan, Snapshot
    from pipelines.data.curated import Curated
    from pipelines.submission.commands import Command


def main() -> None:
    """Shows what adopting the curated folder changes, and does it if the command line says so."""
    with command_line():
        _adopt(_parse_options())


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Without --yes, nothing is changed. If adopt.py was killed, run it again to continue.",
    )
    parser.add_argument("--data", required=True, type=Path, help="the folder tracked by DVC, or one that is to be made")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--curated", metavar="FOLDER", help="what curate made: a folder, or gs://BUCKET/FOLDER")
    source.add_argument(
        "--from-run", default="latest", metavar="RUN", help="the local run that made it (default: %(default)s)"
    )
    parser.add_argument("--experiment", default="default", help="the experiment of that run (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")

    action = parser.add_argument_group("to do")
    action.add_argument("--yes", action="store_true", help="exchange the images, and `dvc add` them")
    action.add_argument(
        "--commit", action="store_true", help="commit the version, with the figures that were measured on it"
    )
    action.add_argument("-m", "--message", default="", help="of the commit (default: what changed, in numbers)")
    action.add_argument("--tag", default="", help="tag the commit")
    action.add_argument(
        "--push", nargs="?", const="", metavar="REMOTE", help="`dvc push` (default: to DVC's default remote)"
    )
    action.add_argument("--new", action="store_true", help="make --data a new data set, which DVC does not track yet")
    action.add_argument(
        "--force", action="store_true", help="replace the present version by one that was made from another"
    )
    options = parse_options(parser)
    if (options.tag or options.message) and not options.commit:
        parser.error("--tag and --message go with --commit")
    return options


def _adopt(options: argparse.Namespace) -> None:
    with delay_interrupt():
        from pipelines.data.adoption import (
            AdoptionOptions,
            Figures,
            carry_out,
            check_origin,
            make_plan,
        )  # here, so that --help is quick
        from pipelines.data.curated import open_curated
        from pipelines.data.dvc_version import open_repository
        from pipelines.local.record import find_curated, find_measurement
        from pipelines.submission.request import check_experiment_name

    def find_figures(version: str) -> "Figures | None":
        record = find_measurement(options.runs, options.experiment, version)
        if record is None:
            return None
        history = Path(record["artifacts"].get("history", ""))
        return Figures(record["run"], Path(record["artifacts"]["evaluation"]), history if history.is_file() else None)

    check_experiment_name(options.experiment)
    chosen = AdoptionOptions(options.commit, options.message, options.tag, options.push, options.new, options.force)
    place = options.curated or find_curated(options.runs, options.experiment, options.from_run)
    with open_repository(options.data) as (repo, folder), open_curated(place) as source:
        earlier = _list_earlier(place)
        plan = make_plan(repo, folder, source, options=chosen, find_figures=find_figures, earlier=earlier)
        _show(plan, source, left_out=_find_left_out(place))
        if plan.is_adopted and not options.commit and options.push is None:
            print(f"\nThere is nothing to do: {options.data} has this version, and git's last commit names it.")
            return
        _show_what_to_do(plan, source)
        if not options.yes:
            print(_say_how_to_go_on(options, plan))
            return
        check_origin(plan, source)
        print()
        carry_out(repo, plan, source, done=lambda step: print(f"done: {step}"))
        print(_say_what_is_next(options, plan, place))


def _list_earlier(place: str) -> "Iterator[list[CuratedImage]]":
    """Yields the images of the version from which a run on this machine has curated a folder, if that is another one.

    After several turns of the loop these are as many versions, the last before the first.

    Args:
        place: the path or address of the curated folder.
    """
    from components.shared.cloud_storage import is_address  # as above
    from components.shared.errors import UserError
    from components.shared.formats.manifest import read_manifest
    from pipelines.local.record import find_last_task, find_maker

    with contextlib.suppress(UserError, KeyError):  # what is damaged tells nothing, nor does a run without such a task
        while (
            not is_address(place) and (curating := find_maker(place)) and (task := find_last_task(curating, "curate"))
        ):
            ingesting = find_maker(task["inputs"]["examples"])  # that run, or the one from which curate ran again
            place = str(ingesting["arguments"]["data_uri"]) if ingesting else ""
            if is_address(place) or not find_maker(place):
                return
            yield read_manifest(Path(place))


def _find_left_out(place: str) -> "list[Quarantined]":
    """The images that ingest left out before the curation; none if its run is not on this machine, or was pruned.

    Args:
        place: the path or address of the curated folder.
    """
    from components.shared.cloud_storage import is_address  # as above
    from components.shared.errors import UserError
    from components.shared.formats.examples import read_examples_manifest
    from pipelines.local.record import find_last_task, find_maker

    with contextlib.suppress(UserError):
        maker = None if is_address(place) else find_maker(place)
        task = find_last_task(maker, "curate") if maker else None
        if task and "examples" in task["inputs"]:
            return read_examples_manifest(Path(task["inputs"]["examples"])).left_out
    return []


def _say_how_to_go_on(options: argparse.Namespace, plan: "Plan") -> str:
    """The same command again, but so that it does what it has shown."""
    from pipelines.output.project import write_command  # as above

    command = write_command("adopt.py", *sys.argv[1:], "--yes")
    measured = "without figures" if plan.results_obstacle else "without figures, since no run has measured it"
    figures = "with its figures" if plan.has_figures else measured
    more = "" if options.commit else f"\nand to commit the version {figures}: add --commit --tag NAME"
    return f"Nothing is changed yet. To do it:\n    {command}{more}"


def _find_command(options: argparse.Namespace, place: str) -> "Command":
    """The command that started the run which made the curated folder; if it is not known, one without options.

    Args:
        options: of this command.
        place: the path or address of the folder; runs on this machine write none to Cloud Storage.
    """
    from components.shared.cloud_storage import is_address  # as above
    from pipelines.submission.commands import Command, find_command
    from pipelines.submission.request import ClusterOptions, LocalOptions, RunRequest

    request = RunRequest(options.experiment, "gke" if is_address(place) else "local", runs=options.runs)
    unknown = Command(request, ClusterOptions({}) if is_address(place) else LocalOptions())
    return find_command(options.runs, options.experiment, place) or unknown


def _find_earlier_decisions(options: argparse.Namespace, place: str) -> str:
    """The file of what people had decided about the images of a curated folder; empty if its run has left none.

    Args:
        options: of this command.
        place: the path or address of the folder, which contains the name of the run's folder.
    """
    from components.shared.cloud_storage import is_address  # as above
    from components.shared.formats.decisions import EARLIER_FILE
    from pipelines.local.record import FILE as RECORD

    if is_address(place):
        folders = [path for path in (options.runs / options.experiment).glob("*") if path.name in place.split("/")]
    else:
        folders = [path for path in Path(place).resolve().parents if (path / RECORD).is_file()]
    decided = [folder / EARLIER_FILE for folder in folders[:1] if (folder / EARLIER_FILE).is_file()]
    return os.path.relpath(decided[0]) if decided else ""


def _say_what_is_next(options: argparse.Namespace, plan: "Plan", place: str) -> str:
    from pipelines.output.results import RESULTS
    from pipelines.submission.next_steps import write_next_turn

    steps = []
    if options.commit:
        tag = f" && git push origin {shlex.quote(options.tag)}" if options.tag else ""
        steps.append(f"git push{tag}")
        if plan.now.name and plan.has_figures:
            new = shlex.quote(options.tag or "HEAD")
            steps += [f"dvc metrics diff {new}~1 {new}", f"dvc plots diff {new}~1 {new}"]
    else:
        files = shlex.join(os.path.relpath(path) for path in plan.files if path != RESULTS.resolve())
        steps.append(f"git add {files} && git commit")
    command = _find_command(options, place)
    if not command.is_local and options.push is None:
        steps.append(shlex.join(["dvc", "push", os.path.relpath(plan.folder.path)]))  # for the cluster to read it
    steps.append(write_next_turn(command, str(options.data), _find_earlier_decisions(options, place)))
    return "Next:\n" + "\n".join(f"    {step}" for step in steps)


def _show(plan: "Plan", source: "Curated", left_out: "list[Quarantined]") -> None:
    from components.shared.formats.guideline import FILE as GUIDELINE  # as above
    from components.shared.formats.manifest import is_image_path
    from pipelines.data.adoption import is_image
    from pipelines.output.console import OutputConsole
    from pipelines.output.results import RESULTS, read_data_version

    console = OutputConsole(markup=False)
    if plan.now.name == plan.next.name:
        console.print(f"{plan.folder.given}: {plan.next.name} is its version already\n")
    else:
        console.print(f"{plan.folder.given}: {plan.now.name or 'no version'} -> {plan.next.name}\n")
    others = sum(is_image(name) and not is_image_path(name) for name in plan.now.md5s)
    console.print(_draw_counts(None if others else plan.now, plan.next))
    if others:
        console.print(
            f"{others:,} images of the present version lie in other folders than train/<class>/, val/<class>/ and "
            "test/<class>/, so the table counts the new version alone."
        )
    if plan.changes is None:
        console.print("The files of the present version are not in DVC's cache, so the table counts them as 0.")
    else:
        console.print(str(plan.changes))
        _show_left_out(plan, source, left_out)
        if plan.is_of_another_version:
            console.print(
                "The added images are not in the current version, so the curated folder was made from another version."
            )
    beside = sorted(name for name in plan.now.md5s if not is_image(name) and name not in plan.next.md5s)
    if beside:
        console.print(f"The new version leaves out the files that are no images of a class: {', '.join(beside[:5])}")
    before, after = (version.md5s.get(GUIDELINE) for version in (plan.now, plan.next))
    if before and after and before != after:  # somebody has written more since the run
        console.print(f"{GUIDELINE} differs from the one in the curated folder, which replaces it.")
    figures_of = read_data_version(RESULTS)
    if plan.options.commit and plan.results_obstacle:
        console.print(f"{plan.results_obstacle}, so the commit leaves out all of {RESULTS}/.")
    elif figures_of not in ("", plan.next.name) and not plan.figures:
        console.print(
            f"{RESULTS}/ holds the figures of another version, {figures_of}, so a commit leaves them out; "
            f"for those of this one, adopt it and run submit.py on {plan.folder.given}, or rerun evaluate on its run."
        )


def _show_left_out(plan: "Plan", source: "Curated", left_out: "list[Quarantined]") -> None:
    """Says which of the removed images the curation never saw, so that its own reports do not count them."""
    from pipelines.output.console import print_line  # as above

    gone = plan.now.md5s.keys() - {image.source_path for image in source.images}
    removed = [entry for entry in left_out if entry.path in gone]
    if removed:
        print_line(f"Of the removed images, ingest had left out {len(removed):,} before the curation:")
    for entry in removed[:10]:
        print_line(f"    {entry.path}: {entry.reason}")
    if len(removed) > 10:
        print_line(f"    and {len(removed) - 10:,} more, which the report of the validation lists")


def _show_what_to_do(plan: "Plan", source: "Curated") -> None:
    from pipelines.output.console import OutputConsole  # as above

    console = OutputConsole(markup=False)
    console.print("\nTo do:")
    if plan.on_disk != plan.next.name:
        console.print(f"    give {plan.folder.given} the content of {source.shown}")
    for command in plan.commands:
        console.print(f"    {command}")


def _draw_counts(now: "Snapshot | None", upcoming: "Snapshot") -> "Table":
    """The number of images of each class and split, in both versions; `now` is None if it has other folders."""
    from rich.table import Table  # as above

    from components.shared.formats.examples import SPLITS
    from components.shared.formats.manifest import is_image_path
    from components.shared.formats.names import sort_classes

    def count(version: "Snapshot") -> Counter[tuple[str, ...]]:
        names = [name.split("/") for name in version.md5s if is_image_path(name)]
        return Counter((split, label) for split, label, _ in names)

    after = count(upcoming)
    before = count(now) if now else after
    splits = [split for split in SPLITS if any(split == filled for filled, _ in before + after)]
    table = Table("images", *splits)
    for label in sort_classes({label for _, label in before + after}):
        table.add_row(label, *(_write_change(before[split, label], after[split, label]) for split in splits))
    table.add_section()
    totals = [
        [sum(images for (place, _), images in counts.items() if place == split) for counts in (before, after)]
        for split in splits
    ]
    table.add_row("all", *(_write_change(*pair) for pair in totals))
    return table


def _write_change(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}" if before != after else f"{before:,}"


if __name__ == "__main__":
    main()
