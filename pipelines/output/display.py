"""What a user sees of a run: the stages while it runs, the figures at the end."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from components.shared.formats.comparison import (
    DIFFERENCES,
    AccuracyChange,
    Comparison,
    SeedChange,
    is_relabelled,
    list_verdicts,
    read_comparison,
)
from components.shared.formats.evaluation import Evaluation, list_measured_splits, read_evaluation
from components.shared.seeds import format_seeds
from pipelines.output.console import OutputConsole, is_notebook, link_to
from pipelines.output.live import Progress, show_in_notebook

SYMBOLS = {
    "waiting": "[dim]·[/]",
    "running": "[cyan]▶[/]",
    "succeeded": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "cancelling": "[yellow]■[/]",
    "cancelled": "[yellow]■[/]",
    "skipped": "[dim]-[/]",
}
ASKING = ("review", "disputed")  # the pages on which a person decides


class Step(NamedTuple):
    """One line: why, and either a page to open or a command to type."""

    reason: str
    page: Path | None = None
    command: str = ""


class TurnFigures(NamedTuple):
    """A version of the images in the table of the turns."""

    name: str
    images: int  # of train
    copies: int  # of these
    accuracies: dict[str, float]  # on the val and test images of the first version
    gain: str  # against the version before; this and the next are empty for the first version
    gain_since_first: str


@contextlib.contextmanager
def show_progress(progress: Progress) -> Iterator[None]:
    """Shows the tasks while the block runs: on a terminal or in a notebook live, otherwise with a line per change."""
    if is_notebook():
        with show_in_notebook(progress):
            yield
        return
    console = OutputConsole(soft_wrap=False)  # its live table must not be wider than the terminal

    def write_line(task: str) -> str:
        state = progress.states[task]
        return write_task(task, state, progress.measure_seconds(task), progress=progress.progress.get(task, ""))

    def draw_table() -> Table:
        table = Table.grid(padding=(0, 1))
        for task in progress.states:
            table.add_row(write_line(task))
        return table

    if console.is_terminal:
        live = Live(get_renderable=draw_table, console=console, redirect_stdout=False, redirect_stderr=False)
        live.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the terminal was closed: what the run made is to be kept all the same
                live.stop()
        return

    def print_change(task: str) -> None:
        try:
            console.print(write_line(task))
        except OSError:  # its reader has gone, or its disk is full: the run goes on, and the outcome meets it again
            progress.on_change = lambda task: None

    progress.on_change = print_change
    yield


def write_task(task: str, state: str, seconds: float | None, *, progress: str = "") -> str:
    """A task's line with rich's markup: symbol, name, state, seconds, progress."""
    time_taken = "" if state == "waiting" or seconds is None else f"{seconds:6.1f} s"
    name = escape(f"{task:<16}")
    return f"{SYMBOLS.get(state, SYMBOLS['waiting'])} {name} {state:<9} {time_taken}  {escape(progress)}".rstrip()


def print_figures(folder: Path) -> None:
    """The table of an evaluation; `folder` has its evaluation.json."""
    OutputConsole().print(_draw_figures(read_evaluation(folder)))


def print_comparison(folder: Path, doubt: str = "") -> None:
    """What the new data version changed, in a table and in sentences.

    Args:
        folder: which has the comparison.json.
        doubt: what makes it doubtful, as a sentence; empty for nothing.
    """
    console = OutputConsole()
    content = read_comparison(folder)
    console.print(_draw_changes(content))
    counts = (f"{content['data'][name]:,} {name}" for name in DIFFERENCES)
    console.print(f"images: {', '.join(counts)}")
    for sentence in filter(None, [*list_verdicts(content), doubt]):
        console.print(escape(sentence))


def print_turns(turns: Iterable[TurnFigures], level: str, *, has_left_out: bool, is_corrected: bool) -> None:
    """The table of the turns of the loop.

    Args:
        turns: its rows.
        level: the confidence level of the gains, such as 95 %.
        has_left_out: whether images of val and test do not count, since a model learned from them.
        is_corrected: whether gains are those on corrected labels of val.
    """
    rows = [*turns]
    splits = [*rows[0].accuracies]
    yardstick = f"{' and '.join(splits)} of the first version"
    if has_left_out:
        yardstick = f"the images of {yardstick} that no model learned from"
    gains = "gains on the corrected labels of val" if is_corrected else "gains on val"
    title = f"all models on {yardstick}; {gains}, {level}"
    table = Table(title=title, title_justify="left")
    for heading in ("images", "train", "copies", *splits, "gain", "since the first"):
        width = 15 if heading in ("gain", "since the first") else None  # so that narrow terminals break no figure
        table.add_column(heading, justify="left" if heading == "images" else "right", min_width=width)
    for name, images, copies, accuracies, gain, gain_since_first in rows:
        shown = (f"{accuracies[split]:.3f}" for split in splits)
        table.add_row(name, f"{images:,}", f"{copies:,}", *shown, gain, gain_since_first)
    OutputConsole().print(table)


def print_steps(steps: Iterable[Step]) -> None:
    """What to do next, a line each; in a notebook without the commands, which are for a shell."""
    ways = [
        f"  {step.reason}:\n    {show_way_to(step.page) if step.page else escape(step.command)}"
        for step in steps
        if step.page or not is_notebook()
    ]
    if ways:
        OutputConsole().print("\n".join(["\nNext:", *ways]))


def show_way_to(page: Path) -> str:
    """How to open a page of a run, with rich's markup.

    On a terminal that is a link. In a notebook it is what shows the page below a cell, but not those on which a person
    decides, since they keep and save the decisions in a browser alone.
    """
    if not is_notebook():
        return link_to(page)
    if page.suffix != ".html":
        return escape(os.path.relpath(page))
    if page.stem in ASKING:
        return f"{escape(os.path.relpath(page))}, in a browser"
    return f'run.page("{escape(page.stem)}")'


def _draw_figures(content: Evaluation) -> Table:
    """The figures of each split. What all of several seeds reached takes the place of two, which the report has."""
    table = Table(title=f"data version {escape(content['data_version'])}", title_justify="left")
    measured = list_measured_splits(content)
    has_seeds = any("accuracies" in figures for figures in measured.values())
    others = ["accuracy, all seeds"] if has_seeds else ["log loss", "calibration"]
    for heading in ("split", "images", "accuracy", "95 %", "macro F1", *others):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, figures in measured.items():
        low, high = figures["accuracy_interval"]
        both = f"{figures['log_loss']:.3f}", f"{figures['calibration_error']:.3f}"
        table.add_row(
            split,
            f"{figures['images']:,}",
            f"{figures['accuracy']:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{figures['macro_f1']:.3f}",
            *([format_seeds(figures["accuracies"])] if has_seeds else both),
        )
    return table


def _write_rows(name: str, images: int, change: AccuracyChange) -> list[list[str]]:
    """The row of the two models and, of several seeds, the one of their mean."""
    rows = [_write_change(name, images, change)]
    if seeds := change.get("seeds"):
        rows.append(_write_seeds(name, images, seeds))
    return rows


def _write_change(name: str, images: int, change: AccuracyChange) -> list[str]:
    accuracy = change["accuracy"]
    return [
        name,
        f"{images:,}",
        f"{accuracy['before']:.3f}",
        f"{accuracy['after']:.3f}",
        f"{accuracy['change']:+.3f}",
        f"{accuracy['low']:+.3f}…{accuracy['high']:+.3f}",
        f"{change['mcnemar_p']:.2g}",
    ]


def _write_seeds(split: str, images: int, seeds: SeedChange) -> list[str]:
    return [
        f"{split}, mean of seeds",
        f"{images:,}",
        f"{mean(seeds['before']):.3f}",
        f"{mean(seeds['after']):.3f}",
        f"{seeds['change']:+.3f}",
        f"± {seeds['margin']:.3f}",
        f"{seeds['p']:.2g}",
    ]


def _draw_changes(content: Comparison) -> Table:
    """Both models on the previous version's images and labels, and the new model on those of the new version.

    Where each version was trained with several seeds, a row has the mean of their models. Where these images or labels
    were corrected, a row has both models on those that stayed, with their new labels; where they got other labels, it
    comes first.
    """
    p = "McNemar's, for means Welch's" if any(each.get("seeds") for each in content["splits"].values()) else "McNemar's"
    table = Table(title=f"both models on the images of before; p is {p}", title_justify="left")
    level = f"{100 * content['confidence_level']:g} %"
    for heading in ("split", "images", "before", "after", "change", level, "p", "new data"):
        width = 13 if heading == level else None  # so that narrow terminals wrap the headings and not the figures
        table.add_column(heading, justify="left" if heading == "split" else "right", min_width=width)
    for split, figures in content["splits"].items():
        new, corrected = figures["new_data"], figures["corrected"]
        rows = _write_rows(split, figures["images"], figures)
        rows[0].append(f"{new['accuracy']:.3f}" if new else "")
        if corrected:
            rows_corrected = _write_rows(f"{split}, corrected", corrected["images"], corrected)
            rows = rows_corrected + rows if is_relabelled(figures) else rows + rows_corrected
        for row in rows:
            table.add_row(*row)
    return table
