"""The nodes that Kubeflow Pipelines lists for a run: which of them are a task, its driver, and its attempts.

A task X has several: X-driver prepares it, X and X(0) stand for it, `executor` for its container, and executor(0),
executor(1) and so on for the attempts of that. Those of the containers do not say whose they are, which follows from
when they began, and from which attempt had ended then. Others have neither a name nor a state.
"""

import datetime
import re
from typing import Any, NamedTuple

from kfp_server_api import V2beta1Run

from pipelines.compiler.spec import Task

CONTAINER = re.compile(r"executor(?:\((\d+)\))?")


class TaskNodes(NamedTuple):
    """The nodes of a task that has begun."""

    task: Any  # None while the driver prepares it
    runs: list[Any]  # what stands for it beside that, one per time that it was tried as a whole
    driver: Any  # None where there is none
    containers: list[Any]

    @property
    def attempts(self) -> list[Any]:
        """One node per attempt, the first one first; of a cached task one that was skipped."""
        numbered = [node for node in self.containers if node.display_name != "executor"]
        return sorted(numbered, key=_read_number) or self.containers

    @property
    def attempt(self) -> int:
        """The number of the attempt that is the last so far.

        A container whose pod was lost begins a new attempt, or goes back from running to waiting.
        """
        return max(len(self.attempts), 1) + sum(map(_count_restarts, self.attempts))

    @property
    def failure(self) -> Any:
        """The node with which it failed, its driver's or its own; None if it has not."""
        ends = [node for node in (self.task, self.driver) if node and node.state == "FAILED"]
        return ends[0] if ends else None

    @property
    def is_cached(self) -> bool:
        """Whether its outputs were taken from the cache."""
        return any(node.state == "SKIPPED" for node in self.containers)

    @property
    def waiting(self) -> Any:
        """The node whose pod waits for its image or for a room on a machine; None if there is none."""
        last = (self.attempts or [self.driver])[-1]
        return last if last and last.state == "PENDING" else None


def find_nodes(run: V2beta1Run, tasks: list[Task]) -> dict[str, TaskNodes]:
    """The nodes of each task that has begun, the earliest first."""
    nodes = [node for node in (run.run_details and run.run_details.task_details) or [] if node.display_name]
    nodes.sort(key=_rank_start)
    named = {node.display_name: node for node in nodes}
    found = {
        name: TaskNodes(named.get(name), _find_runs(name, nodes), named.get(f"{name}-driver"), [])
        for name in dict.fromkeys(node.display_name.removesuffix("-driver") for node in nodes)
        if name in {task.name for task in tasks}
    }
    containers = [node for node in nodes if CONTAINER.fullmatch(node.display_name) and has_begun(node)]
    for node in sorted(containers, key=_read_number):  # an attempt after the one before, to find the task by that
        owner = _find_owner(node, list(found.values()))
        if owner:
            owner.containers.append(node)
    return found


def _find_runs(name: str, nodes: list[Any]) -> list[Any]:
    return [node for node in nodes if re.fullmatch(rf"{re.escape(name)}\(\d+\)", node.display_name)]


def _read_number(container: Any) -> int:
    """The number of the attempt that a node stands for, from 0; also 0 for the container as a whole."""
    match = CONTAINER.fullmatch(container.display_name)
    return int(match[1] or 0) if match else 0


def has_begun(node: Any) -> bool:
    """Whether a node has a time at which it began."""
    return has_come(node.start_time)


def has_ended(node: Any) -> bool:
    """Whether a node has a time at which it ended."""
    return has_come(node.end_time)


def has_come(moment: datetime.datetime | None) -> bool:
    """Whether a time is one; the server writes year 1970 or earlier for `not yet`."""
    return bool(moment and moment.year > 1970)


def _find_owner(container: Any, candidates: list[TaskNodes]) -> TaskNodes | None:
    """The task whose container a node is: of those that were going on when it began, the one that began last.

    Of tasks that began at once it is the one that ended with the container; while they go on, nobody knows which.
    """
    possible = [
        nodes
        for nodes in candidates
        if nodes.task
        and has_begun(nodes.task)
        and nodes.task.start_time <= container.start_time
        and (not has_ended(nodes.task) or container.start_time <= nodes.task.end_time)
        and container.display_name not in [other.display_name for other in nodes.containers]
        and _may_follow(container, nodes.containers)
    ]
    latest = max((nodes.task.start_time for nodes in possible), default=None)
    last = [nodes for nodes in possible if nodes.task.start_time == latest]
    if len(last) > 1 and has_ended(container):
        return min(last, key=lambda nodes: abs(find_end(nodes.task) - container.end_time))
    return last[0] if len(last) == 1 else None


def _may_follow(container: Any, others: list[Any]) -> bool:
    """Whether a node is a first attempt, or the one before it is among the others and had ended when it began."""
    number = _read_number(container)
    return number == 0 or any(
        other.display_name == f"executor({number - 1})" and has_ended(other) and other.end_time <= container.start_time
        for other in others
    )


def find_end(node: Any) -> datetime.datetime:
    """When a node ended; now, if it has not."""
    return node.end_time if has_ended(node) else datetime.datetime.now(datetime.UTC)


def _count_restarts(attempt: Any) -> int:
    """How often an attempt has begun again."""
    states = [status.state for status in attempt.state_history or []]
    runs = states.count("RUNNING")
    return max(runs - 1, 0) + (runs > 0 and attempt.state == "PENDING")


def _rank_start(node: Any) -> tuple[bool, str]:
    return not has_begun(node), str(node.start_time)
