"""Waiting for a run on a cluster: what its tasks do, until it ends in whatever state."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kfp_server_api import V2beta1Run
from rich.console import Group
from rich.live import Live
from rich.markup import escape

from pipelines.cluster import runs
from pipelines.cluster.connection import Cluster, NoAnswerYetError
from pipelines.cluster.nodes import TaskNodes, find_end, find_nodes, has_come, has_ended
from pipelines.cluster.pods import explain_wait
from pipelines.compiler.spec import Task
from pipelines.output.console import OutputConsole
from pipelines.output.display import write_task

FINAL = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELED": "cancelled", "SKIPPED": "skipped"}
STATES = {**FINAL, "PENDING": "waiting", "RUNNING": "running", "CANCELING": "cancelling", "PAUSED": "paused"}
PATIENCE = 600  # seconds without an answer
SETTLING = 10  # seconds; the server records the end of a run before the ends of its last tasks
LONG = 60  # seconds after which it is worth a look why a pod still waits


class StillRunning(Exception):
    """The time to wait is over; the run continues."""


class TaskProgress(NamedTuple):
    """How a task goes."""

    state: str  # in one word
    seconds: float | None = None  # that it took, or has taken so far; None if it has not begun
    attempt: int = 1  # the number of the last one


def wait_for_run(
    cluster: Cluster, run_id: str, *, tasks: list[Task], limit: float | None = None
) -> tuple[V2beta1Run, str]:
    """The run when it has ended, and how: succeeded, failed, cancelled or skipped.

    Meanwhile it shows the tasks, on a terminal in a live table, otherwise with a line per change; and once why a task
    waits for long.

    Raises:
        StillRunning: `limit` seconds are over.
        UserError: the endpoint gave no answer for ten minutes.
    """
    end = time.monotonic() + limit if limit else float("inf")
    settled = float("inf")  # when the end of its tasks is not waited for any longer
    shown: dict[str, TaskProgress] = {}
    explained: set[tuple[str, int]] = set()
    was_cancelled = False
    run: Any = None
    pause = 0.5
    with _display([task.name for task in tasks]) as (show, tell), cluster.within(limit):
        while True:
            asked = time.monotonic()
            is_over = bool(run and run.state in FINAL)
            try:
                run = runs.read(cluster, run_id, patience=0 if is_over else PATIENCE)
            except NoAnswerYetError:
                if not is_over:
                    if asked + PATIENCE > end:
                        raise StillRunning from None
                    raise
                settled = asked  # what is known has to do
            nodes = find_nodes(run, tasks)
            now = _describe_tasks(run, nodes, tasks)
            show(now)
            was_cancelled |= read_state(run) in ("cancelling", "cancelled")
            if run.state in FINAL:
                settled = min(settled, time.monotonic() + SETTLING, end)
                if _is_settled(run, nodes, now) or time.monotonic() >= settled:
                    # not every server's history says that it was cancelled
                    return run, "cancelled" if was_cancelled and run.state == "FAILED" else read_state(run)
            else:
                for task, attempt in _list_stuck(run, nodes) if tasks else ():
                    if (task, attempt) not in explained:
                        explained.add((task, attempt))
                        tell(explain_wait(cluster, run, task))
            states = {name: progress._replace(seconds=None) for name, progress in now.items()}
            pause = 0.5 if states != shown or run.state in FINAL else min(1.5 * pause, 5)
            shown = states
            if time.monotonic() + pause > end and run.state not in FINAL:
                raise StillRunning
            time.sleep(pause)


def read_state(run: V2beta1Run) -> str:
    """The run's state in one word; servers may call a run failed that was cancelled."""
    if run.state == "FAILED" and _list_cancellations(run):
        return "cancelled"
    return STATES.get(run.state, "waiting")


def list_failed(run: V2beta1Run, tasks: list[Task]) -> list[str]:
    """The tasks that failed, themselves or their drivers, and not because somebody ended the run, first to last."""
    nodes = find_nodes(run, tasks)
    progress = _describe_tasks(run, nodes, tasks)
    failed = [task.name for task in tasks if progress[task.name].state == "failed"]
    return sorted(failed, key=lambda name: find_end(nodes[name].failure))


def read_progress(run: V2beta1Run, tasks: list[Task]) -> dict[str, TaskProgress]:
    """How each task goes, in the order in which they began."""
    return _describe_tasks(run, find_nodes(run, tasks), tasks)


def read_task_states(run: V2beta1Run, tasks: list[Task]) -> dict[str, str]:
    """The state of each task in one word, in the order of the pipeline."""
    progress = read_progress(run, tasks)
    return {task.name: progress[task.name].state for task in tasks}


def measure_seconds(start: datetime.datetime | None, end: datetime.datetime | None) -> float | None:
    """How long something took, or has taken so far; None if it has not begun.

    What began a moment ago by a server's clock that goes before this machine's has taken no time.
    """
    if not (start and has_come(start)):
        return None
    last = end if end and has_come(end) else datetime.datetime.now(datetime.UTC)
    return max((last - start).total_seconds(), 0)


def _describe_tasks(run: V2beta1Run, nodes: dict[str, TaskNodes], tasks: list[Task]) -> dict[str, TaskProgress]:
    found = {name: _describe_progress(run, each) for name, each in nodes.items()}
    return found | {task.name: TaskProgress("waiting") for task in tasks if task.name not in found}


def _describe_progress(run: V2beta1Run, nodes: TaskNodes) -> TaskProgress:
    """How a task goes; one whose driver failed has failed, and one whose pod waits is waiting."""
    state = STATES.get(nodes.task.state, "waiting") if nodes.task else "waiting"
    if nodes.failure:
        state = "cancelled" if _was_cut_off(run, nodes.failure) else "failed"
    elif state == "running" and nodes.waiting:
        state = "waiting"
    node = nodes.task
    seconds = measure_seconds(node.start_time or node.create_time, node.end_time) if node and node.state else None
    return TaskProgress(state, seconds, nodes.attempt)


def _was_cut_off(run: V2beta1Run, node: Any) -> bool:
    """Whether a node that counts as failed was ended because somebody ended the run."""
    if cancellations := _list_cancellations(run):
        return not has_ended(node) or node.end_time >= cancellations[0]
    return bool(run.state == "CANCELED")


def _list_cancellations(run: V2beta1Run) -> list[datetime.datetime]:
    """When somebody ended the run."""
    history = run.state_history or []
    return [status.update_time for status in history if status.state == "CANCELING" and status.update_time]


def _is_settled(run: V2beta1Run, nodes: dict[str, TaskNodes], progress: dict[str, TaskProgress]) -> bool:
    """Whether the server knows how all tasks, of which `progress` tells, ended of a run that has ended."""
    if any(map(_goes_on, nodes.values())):
        return False
    if run.state == "SUCCEEDED" or not progress:  # none where nobody knows the stages any more
        return len(nodes) == len(progress)
    return run.state != "FAILED" or any(task.state in ("failed", "cancelled") for task in progress.values())


def _goes_on(nodes: TaskNodes) -> bool:
    """Whether a task is still to end; one whose driver failed does not begin."""
    if not nodes.task:
        return not nodes.failure
    return STATES.get(nodes.task.state) in ("waiting", "running", "cancelling")


def _list_stuck(run: V2beta1Run, nodes: dict[str, TaskNodes]) -> list[tuple[str, int]]:
    """The tasks whose pods have waited for long, and at which attempt; the name is empty if the run itself waits."""
    if not nodes:
        all_nodes = (run.run_details and run.run_details.task_details) or []
        return [("", 1)] if any(_waits_long(node) for node in all_nodes if node.state == "PENDING") else []
    return [(name, each.attempt) for name, each in nodes.items() if each.waiting and _waits_long(each.waiting)]


def _waits_long(node: Any) -> bool:
    """Whether a node has waited for long; one whose pod was lost may have begun to wait again."""
    waits = [status.update_time for status in node.state_history or [] if status.state == "PENDING"]
    return (measure_seconds(waits[-1] if waits else node.start_time, None) or 0) > LONG


@contextlib.contextmanager
def _display(tasks: list[str]) -> Iterator[tuple[Callable[[dict[str, TaskProgress]], None], Callable[[str], None]]]:
    """Yields a function that shows how the tasks go, and one that says something else."""
    console = OutputConsole()
    shown = dict.fromkeys(tasks, TaskProgress("waiting"))

    def tell(line: str) -> None:
        console.print(escape(line))

    def print_changes(progress: dict[str, TaskProgress]) -> None:
        for task, now in progress.items():
            before, shown[task] = shown[task], now
            if (before.state, before.attempt) != (now.state, now.attempt):
                console.print(_write_progress(task, now))

    if not console.is_terminal:
        yield print_changes, tell
        return
    with Live(console=console, auto_refresh=False) as live:
        yield (
            lambda progress: live.update(
                Group(*(_write_progress(task, now) for task, now in progress.items())), refresh=True
            ),
            tell,
        )


def _write_progress(task: str, progress: TaskProgress) -> str:
    """The line of a task, with rich's markup."""
    again = f"attempt {progress.attempt}" if progress.attempt > 1 else ""
    return write_task(task, progress.state, progress.seconds, progress=again)
