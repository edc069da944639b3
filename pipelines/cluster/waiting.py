"""Waiting for a run on a cluster: what its tasks do, until it ends in whatever state."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any

from kfp_server_api import V2beta1Run
from rich.console import Group
from rich.live import Live

from pipelines.cluster import runs
from pipelines.cluster.connection import Cluster, NoAnswerYetError
from pipelines.compiler.spec import Task
from pipelines.output.console import OutputConsole
from pipelines.output.display import write_task

FINAL = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}
STATES = {**FINAL, "PENDING": "waiting", "RUNNING": "running", "CANCELING": "cancelling", "PAUSED": "paused"}
PATIENCE = 600  # seconds without an answer


class StillRunning(Exception):
    """The time to wait is over; the run continues."""


def wait_for_run(
    cluster: Cluster, run_id: str, *, tasks: list[Task], limit: float | None = None
) -> tuple[V2beta1Run, str]:
    """The run when it has ended, and how: succeeded, failed, cancelled or skipped.

    Meanwhile it shows the tasks, on a terminal in a live table, otherwise with a line per change.

    Raises:
        StillRunning: `limit` seconds are over.
        UserError: the endpoint gave no answer for ten minutes.
    """
    end = time.monotonic() + limit if limit else float("inf")
    shown: dict[str, str] = {}
    pause = 0.5
    was_cancelled = False
    with _display([task.name for task in tasks]) as show, cluster.within(limit):
        while True:
            asked = time.monotonic()
            try:
                run = runs.read(cluster, run_id, patience=PATIENCE)
            except NoAnswerYetError:
                if asked + PATIENCE > end:
                    raise StillRunning from None
                raise
            now = read_progress(run, tasks)
            show(now)
            was_cancelled |= read_state(run) in ("cancelling", "cancelled")
            if run.state in FINAL:  # not every server's history says that it was cancelled
                return run, "cancelled" if was_cancelled and run.state == "FAILED" else read_state(run)
            states = {name: state for name, (state, _) in now.items()}
            pause = 0.5 if states != shown else min(1.5 * pause, 5)
            shown = states
            if time.monotonic() + pause > end:
                raise StillRunning
            time.sleep(pause)


def read_state(run: V2beta1Run) -> str:
    """The run's state in one word; servers may call a run failed that was cancelled."""
    if run.state == "FAILED" and any(status.state == "CANCELING" for status in run.state_history or []):
        return "cancelled"
    return STATES.get(run.state, "waiting")


def list_failed(run: V2beta1Run, tasks: list[Task]) -> list[str]:
    """The tasks that failed, themselves or their drivers; only their logs say why."""
    nodes, drivers = _find_nodes(run, tasks), _find_nodes(run, tasks, "-driver")
    failed = {name for found in (nodes, drivers) for name, node in found.items() if node.state == "FAILED"}
    return [task.name for task in tasks if task.name in failed]


def read_progress(run: V2beta1Run, tasks: list[Task]) -> dict[str, tuple[str, float | None]]:
    """The state and the seconds of each task, in the order in which they began."""
    found = {
        name: (STATES.get(node.state, "waiting"), measure_seconds(node.start_time or node.create_time, node.end_time))
        for name, node in _find_nodes(run, tasks).items()
    }
    return found | {task.name: ("waiting", None) for task in tasks if task.name not in found}


def read_task_states(run: V2beta1Run, tasks: list[Task]) -> dict[str, str]:
    """The state of each task in one word; one whose driver failed has failed."""
    states = {name: state for name, (state, _) in read_progress(run, tasks).items()}
    return states | dict.fromkeys(list_failed(run, tasks), "failed")


def measure_seconds(start: datetime.datetime | None, end: datetime.datetime | None) -> float | None:
    """How long something took, or has taken so far; the server writes year 1970 or earlier for `not yet`.

    What began a moment ago by a server's clock that goes before this machine's has taken no time.
    """
    if not start or start.year <= 1970:
        return None
    if not end or end.year <= 1970:
        end = datetime.datetime.now(datetime.UTC)
    return max((end - start).total_seconds(), 0)


def _find_nodes(run: V2beta1Run, tasks: list[Task], suffix: str = "") -> dict[str, Any]:
    """What the server says of each task that has begun, or of its driver; the earliest first.

    Beside these it has the workflow itself, nodes around those of the tasks, and one for each attempt: the last counts.
    """
    names = {f"{task.name}{suffix}": task.name for task in tasks}
    nodes = sorted((run.run_details and run.run_details.task_details) or [], key=_rank_start)
    return {names[node.display_name]: node for node in nodes if node.display_name in names}


def _rank_start(node: Any) -> tuple[bool, str]:
    return not node.start_time or node.start_time.year <= 1970, str(node.start_time)


@contextlib.contextmanager
def _display(stages: list[str]) -> Iterator[Callable[[dict[str, tuple[str, float | None]]], None]]:
    console = OutputConsole()
    shown = dict.fromkeys(stages, "waiting")

    def print_changes(tasks: dict[str, tuple[str, float | None]]) -> None:
        for stage, (state, seconds) in tasks.items():
            if shown[stage] != state:
                shown[stage] = state
                console.print(write_task(stage, state, seconds))

    if not console.is_terminal:
        yield print_changes
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda tasks: live.update(
            Group(*(write_task(stage, state, seconds) for stage, (state, seconds) in tasks.items())), refresh=True
        )
