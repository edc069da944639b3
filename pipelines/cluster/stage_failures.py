"""Why a task of a run failed: the sentence of its stage, what Kubernetes says of its pod, or the end of its log.

The fields of Kubeflow Pipelines' API for that are empty.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.cloud_storage import fetch_object, list_objects
from components.shared.errors import UserError, blot, clean
from pipelines.cluster.artifacts import LOG, Execution
from pipelines.cluster.connection import Cluster
from pipelines.cluster.nodes import TaskNodes, find_nodes
from pipelines.cluster.pods import explain_end
from pipelines.output.last_words import ESCAPES, find_last_lines, find_sentence

TAIL = 2**20  # bytes of a log that are read


class Log(NamedTuple):
    """What an attempt of a task printed."""

    text: str
    attempt: int  # its number, from 1
    address: str = ""  # of the object that has it, if it was read there


class StageFailure(NamedTuple):
    """Why a task failed."""

    task: str
    reason: str  # a sentence, perhaps of several lines; empty if nobody has said one
    last_lines: str  # where there is no sentence
    attempt: int  # the last one
    log: str  # the address of the object with its log; empty if there is none

    @property
    def said(self) -> str:
        """What there is to say, if anything."""
        return "\n".join(filter(None, (self.reason, self.last_lines)))

    @property
    def again(self) -> str:
        """Which attempt it was, if it was not the first; else empty."""
        return f"at attempt {self.attempt}" if self.attempt > 1 else ""


def explain_failures(cluster: Cluster, execution: Execution, failed: list[str]) -> list[StageFailure]:
    """Why each of these tasks failed, as far as it can be found out."""
    nodes = find_nodes(execution.run, execution.tasks)
    stages = {task.name: task.stage for task in execution.tasks}
    failures = []
    for task in failed:
        kept = _fetch_log(execution, task)
        is_last = kept and kept.attempt >= len(nodes[task].attempts)  # a pod that is killed does not keep its log
        log = kept if is_last else _ask_log(cluster, execution, task, nodes[task])
        lines = [ESCAPES.sub("", line).strip() for line in log.text.splitlines()] if log else []
        sentence = find_sentence([line for line in lines if line])
        reason = sentence or explain_end(cluster, execution.run, task)
        last_lines = "" if sentence else find_last_lines(lines, stage=stages[task], log="its log")
        attempt = max(nodes[task].attempt, log.attempt if log else 1)
        address = log.address if log else ""
        failures.append(StageFailure(task, _make_printable(reason), _make_printable(last_lines), attempt, address))
    return failures


def _fetch_log(execution: Execution, task: str) -> Log | None:
    """What the last attempt of a task that kept its log printed, from beside its outputs; None if none did."""
    folder = f"{execution.folder}/{task}"
    with contextlib.suppress(UserError), tempfile.TemporaryDirectory() as temporary:
        logs = [(found, LOG.fullmatch(found.name.partition("/")[2])) for found in list_objects(folder)]
        kept = [(found.updated, found.address, int(match[1] or 0)) for found, match in logs if match]
        if kept:
            _, address, number = max(kept)
            path = Path(temporary, "log")
            fetch_object(address, path)
            return Log(_read_tail(path), number + 1, address)
    return None


def _ask_log(cluster: Cluster, execution: Execution, task: str, nodes: TaskNodes) -> Log | None:
    """What the last attempt of a task printed, from Kubeflow Pipelines, which has it from the pod or its archive."""
    place = f"/{execution.run.run_id}/{task}/"  # of an output, in what kfp's executor prints of its inputs and outputs
    for pod in _list_pod_names(nodes):
        text = _ask_pod(cluster, str(execution.run.run_id), pod)
        if text and (place in text or "executor_input" not in text):
            return Log(text[-TAIL:], nodes.attempt)
    return None


def _ask_pod(cluster: Cluster, run_id: str, pod: str) -> str:
    """The log of a pod; empty if there is none, or no such pod."""

    def ask(client: Any) -> str:
        answer = client.runs.api_client.call_api(
            "/apis/v1alpha1/runs/{run}/nodes/{pod}/log",  # no newer version has one
            "GET",
            path_params={"run": run_id, "pod": pod},
            auth_settings=["Bearer"],
            _preload_content=False,
        )
        text: str = answer.data.decode(errors="replace")
        return "" if text.lstrip().startswith("<") else text  # the page of a proxy

    with contextlib.suppress(UserError):
        return cluster.call(ask, patience=0)
    return ""


def _list_pod_names(nodes: TaskNodes) -> Iterator[str]:
    """Yields what may be the pod of a task's last attempt.

    A node does not have its own name, but the names of those that come after it. Those of a container with numbered
    attempts are its attempts; what an earlier one of them printed is not what the last one did.
    """
    is_numbered = any(node.display_name != "executor" for node in nodes.containers)
    parents = [node for node in nodes.containers if node.display_name == "executor"] + [*nodes.runs, nodes.task]
    names = [child.pod_name for node in parents if node for child in reversed(node.child_tasks or [])]
    yield from dict.fromkeys(filter(None, names[:1] if is_numbered else names))


def _read_tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL, 0))
        return file.read().decode(errors="replace")


def _make_printable(text: str) -> str:
    """The text, line by line without what a terminal would obey, and without tokens."""
    return "\n".join(clean(blot(line)) for line in text.splitlines())
