"""Waiting for a run on a cluster: what its tasks do, until it ends in whatever state."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live

from components.files import UserError
from pipelines.cluster.connection import Cluster
from pipelines.display import stage_line

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

FINAL = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}
STATES = {**FINAL, "PENDING": "waiting", "RUNNING": "running", "CANCELING": "cancelling", "PAUSED": "paused"}
PATIENCE = 600  # seconds without an answer


class StillRunning(Exception):
    """The time to wait is over; the run goes on."""


def wait(cluster: Cluster, run_id: str, stages: list[str], limit: float | None) -> tuple["V2beta1Run", str]:
    """The run when it has ended, and how: succeeded, failed, cancelled or skipped.

    Meanwhile it shows the stages, on a terminal in a live table, otherwise with a line per change.

    Raises:
        StillRunning: `limit` seconds are over.
        UserError: the endpoint gave no answer for ten minutes.
    """
    end = time.monotonic() + limit if limit else float("inf")
    shown: dict[str, str] = {}
    pause = 0.5
    was_cancelled = False
    with _display(stages) as show:
        while True:
            try:
                run = cluster.call(lambda client: client.get_run(run_id), min(PATIENCE, max(end - time.monotonic(), 0)))
            except UserError:
                if time.monotonic() + pause > end:
                    raise StillRunning from None
                raise
            tasks = _stages(run, stages)
            show(tasks)
            was_cancelled |= state(run) in ("cancelling", "cancelled")
            if run.state in FINAL:  # not every server's history says that it was cancelled
                return run, "cancelled" if was_cancelled and run.state == "FAILED" else state(run)
            states = {stage: state for stage, (state, _) in tasks.items()}
            pause = 0.5 if states != shown else min(1.5 * pause, 5)
            shown = states
            if time.monotonic() + pause > end:
                raise StillRunning
            time.sleep(pause)


def state(run: "V2beta1Run") -> str:
    """The run's state in one word; servers may call a run failed that was cancelled."""
    if run.state == "FAILED" and any(status.state == "CANCELING" for status in run.state_history or []):
        return "cancelled"
    return STATES.get(run.state, "waiting")


def failed(run: "V2beta1Run", stages: list[str]) -> list[str]:
    """The stages that failed, themselves or their drivers; why, only their logs say.

    The run's tasks also have the workflow and every node of it in which something failed.
    """
    names = {task.display_name for task in _tasks(run) if task.state == "FAILED"}
    return [stage for stage in stages if names & {stage, f"{stage}-driver"}]


def seconds(start: datetime.datetime | None, end: datetime.datetime | None) -> float | None:
    """How long something took, or takes until now; the server writes year 1970 or earlier for `not yet`."""
    if not start or start.year <= 1970:
        return None
    if not end or end.year <= 1970:
        end = datetime.datetime.now(datetime.UTC)
    return (end - start).total_seconds()


def _stages(run: "V2beta1Run", stages: list[str]) -> dict[str, tuple[str, float | None]]:
    """The state and the seconds of each stage, those that began first in front."""
    found: dict[str, tuple[str, float | None]] = {}
    for task in sorted(_tasks(run), key=lambda task: str(task.start_time or task.create_time)):
        if task.display_name in stages:
            state = STATES.get(task.state, "waiting")
            found[task.display_name] = (state, seconds(task.start_time or task.create_time, task.end_time))
    return found | {stage: ("waiting", None) for stage in stages if stage not in found}


def _tasks(run: "V2beta1Run") -> list[Any]:
    return (run.run_details and run.run_details.task_details) or []


@contextlib.contextmanager
def _display(stages: list[str]) -> Iterator[Callable[[dict[str, tuple[str, float | None]]], None]]:
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    shown = dict.fromkeys(stages, "waiting")

    def print_changes(tasks: dict[str, tuple[str, float | None]]) -> None:
        for stage, (state, seconds) in tasks.items():
            if shown[stage] != state:
                shown[stage] = state
                console.print(stage_line(stage, state, seconds))

    if not console.is_terminal:
        yield print_changes
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda tasks: live.update(
            Group(*(stage_line(stage, state, seconds) for stage, (state, seconds) in tasks.items())), refresh=True
        )
