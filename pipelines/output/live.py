"""A run on this machine as a notebook shows it while it goes on: its tasks, and the curve of a training."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Protocol

from components.shared.formats.training import parse_progress

INTERVAL = 0.5  # seconds between two looks
WIDTH, HEIGHT = 360, 80  # pixels of a curve
COLOURS = {"running": "#0969da", "succeeded": "#1a7f37", "failed": "#cf222e"}


class Progress(Protocol):
    """What is known of the tasks of a run on this machine while it runs."""

    states: dict[str, str]  # by task, in their order
    progress: dict[str, str]  # what a task that runs said last of its progress, or where one's outputs are taken from
    on_change: Callable[[str], None]  # is called with the name of a task whose state changed

    def measure_seconds(self, name: str) -> float:
        """How long a task took, or has been running."""


class Curves:
    """The accuracy on val of each training, at the epochs that were seen."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self._points: dict[str, dict[int, float]] = {}
        self._epochs: dict[str, int] = {}

    def take(self, task: str, said: str) -> None:
        """Takes what a task says of its progress."""
        if told := parse_progress(said):
            self._points.setdefault(task, {})[told.epoch] = told.val_accuracy
            self._epochs[task] = told.epochs

    def draw(self, task: str) -> str:
        """The curve of a task as SVG; empty if it is no training."""
        if task not in self._points:
            return ""
        points = sorted(self._points[task].items())
        scale = max(self._epochs[task] - 1, 1)
        places = " ".join(f"{(epoch - 1) / scale * WIDTH:.1f},{(1 - value) * HEIGHT:.1f}" for epoch, value in points)
        first, last = f"epoch 1 to {self._epochs[task]}", f"{points[-1][1]:.3f}"
        return (
            f'<svg width="{WIDTH}" height="{HEIGHT}" style="background: #8881" role="img" '
            f'aria-label="accuracy on val, {first}, now {last}"><polyline points="{places}" fill="none" '
            f'stroke="#0969da" stroke-width="2"/></svg><br>accuracy on val from 0 to 1, {first}, now {last}'
        )


@contextlib.contextmanager
def show_in_notebook(progress: Progress) -> Iterator[None]:
    """Shows the tasks below the cell while the block runs, and how they ended when it has."""
    from IPython.display import HTML, display  # which only notebooks have

    curves, has_ended = Curves(), threading.Event()
    shown = display(HTML(draw_tasks(progress, curves)), display_id=True)

    def update() -> None:
        for task, said in list(progress.progress.items()):  # which the run goes on to change
            curves.take(task, said)
        shown.update(HTML(draw_tasks(progress, curves)))

    def follow() -> None:
        while not has_ended.wait(INTERVAL):
            update()

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        has_ended.set()
        follower.join()
        update()


def draw_tasks(progress: Progress, curves: Curves) -> str:
    """The tasks as a table of HTML: name, state, seconds, and what they say, with the curves of trainings."""
    rows = []
    for task, state in progress.states.items():
        said = progress.progress.get(task, "")
        seconds = "" if state == "waiting" else f"{progress.measure_seconds(task):.1f} s"
        curve = curves.draw(task)
        details = curve or escape(said)
        rows.append(
            f'<tr><td style="text-align: left">{escape(task)}</td>'
            f'<td style="text-align: left; color: {COLOURS.get(state, "inherit")}">{escape(state)}</td>'
            f'<td>{seconds}</td><td style="text-align: left">{details}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"
