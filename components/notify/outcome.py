"""What became of a run, asked from within it, when all other tasks have ended."""

import time
from http.client import HTTPException
from typing import NamedTuple
from urllib.request import ProxyHandler, build_opener

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.deadlines import TooLate, run_within

PATIENCE = 10  # seconds for which the API is asked: it hears of the last task's end a moment after this task has begun
PAUSE = 0.5  # seconds between two questions
# What Kubeflow Pipelines may call the end of a group of tasks, by version.
WORDS = {
    "SUCCEEDED": "succeeded",
    "COMPLETE": "succeeded",
    "CACHED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "cancelled",
    "CANCELLED": "cancelled",
}
DONE = ("SUCCEEDED", "SKIPPED", "CACHED")


class Outcome(NamedTuple):
    """How a run ended."""

    state: str  # succeeded, failed or cancelled; ended if nobody knows
    failed: str = ""  # the task that failed first, if that is known


class _Node(TypedDict, total=False):
    """A task, its driver, or what else the workflow of a run has; one that was left out has no state."""

    display_name: str
    state: str
    end_time: str  # in UTC as protobuf writes it, so sorting the strings sorts the times


class _Details(TypedDict, total=False):
    task_details: list[_Node]


class _Run(TypedDict, total=False):
    """What is read of the API's answer, V2beta1Run."""

    run_details: _Details


def find_outcome(state: str, *, api: str, run_id: str, tasks: list[str]) -> Outcome:
    """How the run ended, by what the API says of its tasks; if that does not answer, by what the task was told.

    The former knows the task that failed, and what Kubeflow Pipelines tells the task may still be RUNNING: some of its
    versions overlook nested pipelines, cached tasks, importers and lost pods (kubeflow/pipelines#11979, #13321).

    Args:
        state: what the task was told, in the words of PipelineTaskFinalStatus.
        api: the address of the API of Kubeflow Pipelines.
        run_id: the id of the run.
        tasks: the names of all other tasks that run a container.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            nodes = run_within(end - time.monotonic(), lambda: _ask(api, run_id))
        except (TooLate, OSError, HTTPException, ValueError) as error:
            print(f"notify: the API of Kubeflow Pipelines does not answer ({type(error).__name__}).", flush=True)
            break
        if outcome := read_outcome(nodes, tasks):
            return outcome
        time.sleep(PAUSE)
    return Outcome(WORDS.get(state, "ended"))


def read_outcome(nodes: list[_Node], tasks: list[str]) -> Outcome | None:
    """How the tasks ended; None if that cannot be said yet.

    A task has failed if it or its driver has: the driver is what prepares it.
    """
    names = {node: task for task in tasks for node in (task, f"{task}-driver")}
    known = [node for node in nodes if node.get("display_name") in names]
    failed = [node for node in known if node.get("state") == "FAILED"]
    if failed:
        first = min(failed, key=lambda node: node.get("end_time", ""))
        return Outcome("failed", names[first["display_name"]])
    done = {node["display_name"] for node in known if node.get("state") in DONE}
    return Outcome("succeeded") if done.issuperset(tasks) else None


def _ask(api: str, run_id: str) -> list[_Node]:
    """What the API says of the run's nodes; the way there is inside the cluster, where no proxy is.

    Raises:
        OSError, HTTPException: there is no answer.
        ValueError: it is not that of Kubeflow Pipelines.
    """
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"{api}/apis/v2beta1/runs/{run_id}", timeout=PATIENCE) as answer:
        run = TypeAdapter(_Run).validate_json(answer.read())
    return run.get("run_details", {}).get("task_details", [])
