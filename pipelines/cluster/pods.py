"""What Kubernetes says of a run's pods, which no field of Kubeflow Pipelines' API has: why one waits, or was ended."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from kfp_server_api import V2beta1Run

from components.shared.errors import UserError, shorten
from pipelines.cluster.connection import Cluster
from pipelines.cluster.kubeconfig import leads_to, list_pods

LABEL = "pipeline/runid"  # of each pod of a run
NODE = "workflows.argoproj.io/node-name"  # an annotation, such as WORKFLOW.root.before(0).before-train(0).executor(0)
BEGINNING = ("PodInitializing", "ContainerCreating")  # reasons for which a pod waits as it should
Pod = dict[str, Any]  # as Kubernetes has it in JSON


def explain_wait(cluster: Cluster, run: V2beta1Run, task: str) -> str:
    """The line that says why the pod of a task has waited for long, or how to find that out.

    An empty name of a task stands for the run, of which none has begun.
    """
    name = task or "the run"
    reasons = [reason for pod in _list_pods(cluster, run, task) for reason in _list_waits(pod)]
    if reasons:
        return f"{name} has waited for more than a minute: {reasons[-1]}"
    command = cluster.write_kubectl("describe", "pods", "-l", f"{LABEL}={run.run_id}")
    return (
        f"{name} has waited for its image or for a room on a node for more than a minute; the end of what this prints "
        f"says why: {command}"
    )


def explain_end(cluster: Cluster, run: V2beta1Run, task: str) -> str:
    """Why Kubernetes ended the last pod of a task; empty if it did not, or cannot be asked."""
    pods = _list_pods(cluster, run, task)
    return _describe_end(pods[-1]) if pods else ""


def _list_pods(cluster: Cluster, run: V2beta1Run, task: str) -> list[Pod]:
    """The pods of a task, or of all, the oldest first; none where Kubernetes cannot be asked."""
    if not leads_to(cluster):
        return []
    with contextlib.suppress(UserError, AttributeError, KeyError, TypeError):  # or it is not Kubernetes that answers
        pods = list_pods(cluster, f"{LABEL}={run.run_id}")
        return sorted(
            (pod for pod in pods if not task or {task, f"{task}-driver"} & set(_list_steps(pod))),
            key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
        )
    return []


def _list_steps(pod: Pod) -> list[str]:
    """The tasks that lead to a pod, and its own."""
    path = str(pod["metadata"].get("annotations", {}).get(NODE, ""))
    return [re.sub(r"\(\d+\)$", "", step) for step in path.split(".")]


def _list_waits(pod: Pod) -> Iterator[str]:
    """Yields why a pod that has not begun does not."""
    status = pod.get("status") or {}
    if status.get("phase") != "Pending":
        return
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _join(condition)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, *BEGINNING):
            yield _join(waiting)


def _describe_end(pod: Pod) -> str:
    """Why a pod was ended; empty if its own program ended."""
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        return _join(status)
    for container in status.get("containerStatuses") or []:
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return (
                "it needed more memory than it may have (OOMKilled); raise its `limits` in the config, or give it less "
                "to do at once"
            )
    return next(_list_waits(pod), "")


def _join(said: dict[str, Any]) -> str:
    return shorten(": ".join(filter(None, (said.get("reason"), said.get("message")))))
