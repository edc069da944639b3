"""What a person sees of a run on this machine: the stages while it runs, the figures at the end."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipelines.compiler.packages import read_spec, tasks
from pipelines.local.runner import Watcher, run_locally

DIFFERENCES = ("relabelled", "moved", "dropped", "added", "altered", "augmented")  # of comparison.json
SYMBOLS = {"waiting": "[dim]·[/]", "running": "[cyan]▶[/]", "succeeded": "[green]✓[/]", "failed": "[red]✗[/]"}


def run_with_progress(
    run: Path, arguments: dict[str, Any], artifacts: dict[str, str], runner: str = "subprocess"
) -> dict[str, Any]:
    """Runs run/pipeline.yaml; on a terminal with a live table, otherwise with a line per change."""
    console = Console(file=sys.stdout)  # bound now: stdout is redirected while kfp.local runs
    package = run / "pipeline.yaml"
    watcher = Watcher(tasks(read_spec(package)))
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _stages(watcher), console=console, redirect_stdout=False, redirect_stderr=False
        ):
            return run_locally(package, arguments, artifacts, run, watcher, runner)
    watcher.changed = lambda stage: console.print(_line(watcher, stage), highlight=False)
    return run_locally(package, arguments, artifacts, run, watcher, runner)


def print_outcome(run: Path, summary: dict[str, Any]) -> None:
    """The figures and the reports; after a failure, what the stage said."""
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    for stage, content in summary["stages"].items():
        if content["state"] == "failed":
            console.print(f"[red]{stage} failed:[/] {escape(content['message'])}")
    if (run / "metrics.json").is_file():
        print_figures(run / "metrics.json")
    if (run / "comparison.json").is_file():
        print_comparison(run / "comparison.json")
    console.print(f"{summary['state']} after {summary['seconds']:.0f} s")
    for report in [*sorted(run.glob("*.html")), *run.glob("issues.csv")]:
        name = report.stem if report.stem in ("review", "issues") else f"{report.stem} report"
        console.print(f"{name:<24} {_short(report)}")
    console.print(f"{'log':<24} {_short(run / 'run.log')}")
    if summary["state"] == "succeeded" and "curate" in summary["stages"]:
        print_adoption(_short(Path(summary["stages"]["curate"]["artifacts"]["data"]["uri"])))


def print_figures(metrics: Path) -> None:
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    console.print(_figures(json.loads(metrics.read_text())))


def print_comparison(comparison: Path) -> None:
    """What the new data version changed, in a table, and how its images differ."""
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    content = json.loads(comparison.read_text())
    console.print(_changes(content))
    counts = (f"{content['data'][name]:,} {name}" for name in DIFFERENCES)
    console.print(f"images: {', '.join(counts)}")


def print_adoption(curated: str) -> None:
    """How to make the curated folder, a path or gs:// address, the next DVC version."""
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False)
    console.print(f"to keep the new images:  python adopt.py --data DIR --curated {shlex.quote(curated)}")


def _stages(watcher: Watcher) -> Table:
    table = Table.grid(padding=(0, 1))
    for stage in watcher.states:
        table.add_row(_line(watcher, stage))
    return table


def _line(watcher: Watcher, stage: str) -> str:
    state = watcher.states[stage]
    progress = watcher.progress.get(stage, "") if state == "running" else ""
    return stage_line(stage, state, watcher.elapsed(stage), progress)


def stage_line(stage: str, state: str, seconds: float | None, progress: str = "") -> str:
    """A stage's line with rich's markup: symbol, name, state, seconds, progress."""
    time_taken = "" if state == "waiting" or seconds is None else f"{seconds:6.1f} s"
    return f"{SYMBOLS.get(state, SYMBOLS['waiting'])} {stage:<16} {state:<9} {time_taken}  {escape(progress)}".rstrip()


def _figures(metrics: dict[str, Any]) -> Table:
    table = Table(title=f"data version {metrics['data_version']}", title_justify="left")
    for heading in ("split", "images", "accuracy", "95 %", "macro F1", "log loss", "calibration"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in ("val", "test"):
        if figures := metrics.get(split):
            low, high = figures["accuracy_interval"]
            table.add_row(
                split,
                f"{figures['images']:,}",
                f"{figures['accuracy']:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{figures['macro_f1']:.3f}",
                f"{figures['log_loss']:.3f}",
                f"{figures['calibration_error']:.3f}",
            )
    return table


def _changes(comparison: dict[str, Any]) -> Table:
    """Both models on the images and labels of the version before; beside it, the new one on the new version's."""
    table = Table(title="both models on the images of before; p is McNemar's", title_justify="left")
    level = f"{100 * comparison['confidence_level']:g} %"
    for heading in ("split", "images", "before", "after", "change", level, "p", "new data"):
        width = 13 if heading == level else None  # so that on a narrow terminal a heading is broken, and no figure
        table.add_column(heading, justify="left" if heading == "split" else "right", min_width=width)
    for split, figures in comparison["splits"].items():
        accuracy, new = figures["accuracy"], figures["new_data"]
        table.add_row(
            split,
            f"{figures['images']:,}",
            f"{accuracy['before']:.3f}",
            f"{accuracy['after']:.3f}",
            f"{accuracy['change']:+.3f}",
            f"{accuracy['low']:+.3f}…{accuracy['high']:+.3f}",
            f"{figures['mcnemar_p']:.2g}",
            f"{new['accuracy']:.3f}" if new else "",
        )
    return table


def _short(path: Path) -> str:
    return os.path.relpath(path)
