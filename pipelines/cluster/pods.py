"""What Kubernetes says of a run's pods, which no field of Kubeflow Pipelines' API has: why one waits, or was ended.

Of a pod that is gone the run's workflow still has the message, until it goes itself, an hour after its end.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from kfp_server_api import V2beta1Run

from components.shared.errors import UserError, shorten
from pipelines.cluster.connection import Cluster
from pipelines.cluster.kubeconfig import leads_to, list_pods, list_workflows

LABEL = "pipeline/runid"  # of each pod of a run
NODE = "workflows.argoproj.io/node-name"  # an annotation, such as WORKFLOW.root.before(0).before-train(0).executor(0)
BEGINNING = ("PodInitializing", "ContainerCreating")  # reasons for which a pod waits as it should
Pod = dict[str, Any]  # as Kubernetes has it in JSON
Node = dict[str, Any]  # of a workflow, likewise

TOO_LARGE = (
    "it needed more memory than it may have (OOMKilled); raise its `limits` in the config, or give it less to do at "
    "once"
)
TOO_LATE = "it took longer than its `timeout` (DeadlineExceeded); raise that in the config"
DELETED = "its pod was deleted, perhaps with its node; start the run again, and what was done comes from the cache"
# What stands in the message of a workflow's node, and what that means; nothing if the stage's own program has ended.
MESSAGES = {
    "OOMKilled": TOO_LARGE,
    "active on the node longer than the specified deadline": TOO_LATE,
    "pod deleted": DELETED,
    ": Error (exit code": "",
}


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
    pods, nodes = _list_pods(cluster, run, task), _list_workflow_nodes(cluster, run, task)
    if pods and (not nodes or nodes[-1]["name"] == _read_path(pods[-1])):
        return _describe_end(pods[-1])
    return _describe_message(nodes[-1]) if nodes else ""


def _list_pods(cluster: Cluster, run: V2beta1Run, task: str) -> list[Pod]:
    """The pods of a task, or of all, the oldest first; none where Kubernetes cannot be asked."""
    if not leads_to(cluster):
        return []
    with contextlib.suppress(UserError, AttributeError, KeyError, TypeError):  # or it is not Kubernetes that answers
        pods = list_pods(cluster, f"{LABEL}={run.run_id}")
        return sorted(
            (pod for pod in pods if not task or _leads_to_task(_read_path(pod), task)),
            key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
        )
    return []


def _list_workflow_nodes(cluster: Cluster, run: V2beta1Run, task: str) -> list[Node]:
    """What the run's workflow has of the pods of a task, the oldest first; none where it is gone or cannot be read."""
    if not leads_to(cluster):
        return []
    with contextlib.suppress(UserError, AttributeError, KeyError, TypeError):
        workflows = list_workflows(cluster, f"{LABEL}={run.run_id}")
        nodes = [node for workflow in workflows for node in workflow["status"]["nodes"].values()]
        return sorted(
            (node for node in nodes if node["type"] == "Pod" and _leads_to_task(node["name"], task)),
            key=lambda node: (str(node.get("startedAt")), len(node["name"]), node["name"]),
        )
    return []


def _read_path(pod: Pod) -> str:
    """The name of a pod's node in the workflow, which has the names of all that it is in."""
    return str(pod["metadata"].get("annotations", {}).get(NODE, ""))


def _leads_to_task(path: str, task: str) -> bool:
    """Whether a node is one of a task or of its driver."""
    return bool({task, f"{task}-driver"} & {re.sub(r"\(\d+\)$", "", step) for step in path.split(".")})


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
        return TOO_LATE if status["reason"] == "DeadlineExceeded" else _join(status)
    for container in status.get("containerStatuses") or []:
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return TOO_LARGE
    return next(_list_waits(pod), "")


def _describe_message(node: Node) -> str:
    """Why a pod was ended, by its node; empty if its own program ended."""
    if node.get("phase") not in ("Failed", "Error"):
        return ""
    message = str(node.get("message") or "")
    return next((said for words, said in MESSAGES.items() if words in message), shorten(message))


def _join(said: dict[str, Any]) -> str:
    return shorten(": ".join(filter(None, (said.get("reason"), said.get("message")))))
