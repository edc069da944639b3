"""What `submit.py --check` finds out of Kubernetes itself: which failures it tries again, and whether stages fit."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from components.shared.errors import UserError
from pipelines.cluster.connection import Cluster
from pipelines.cluster.kubeconfig import ClusterNode, list_cluster_nodes, read_config_map
from pipelines.compiler.config import StageConfig

CONFIG_MAP = "workflow-controller-configmap"  # of the Argo that Kubeflow Pipelines brings along
# What is tried again, and what is not, by Argo's name for it.
POLICIES = {
    "OnError": ("a pod that is lost is started again", "a stage that ends with an error is not"),
    "OnFailure": ("a stage that ends with an error is started again", "a pod that is deleted is not"),
    "Always": ("a pod that is lost or ends with an error is started again", ""),
}


def check_retries(cluster: Cluster) -> str:
    """What the cluster tries again; that one may not know it is no failure."""
    try:
        return describe_retries(read_config_map(cluster, cluster.endpoint.namespace, CONFIG_MAP))
    except UserError as error:
        return f"not known: {str(error).rstrip('.')}"


def describe_retries(data: Mapping[str, str]) -> str:
    """What is tried again, and how often, by the data of CONFIG_MAP.

    Since 2.17, Kubeflow Pipelines comes with templateDefaults in it, which also hold where `retries` is 0. A pipeline
    itself names no policy, and Argo takes OnFailure then.
    """
    strategy = _read_strategy(data)
    policy = strategy.get("retryPolicy", "OnFailure")
    if policy not in POLICIES:
        return f"not known: {CONFIG_MAP} has the retryPolicy {policy}"
    again, never = POLICIES[policy]
    often = "as often as `retries` says"
    if "limit" in strategy:
        often += f", and {strategy['limit']} times where that is 0"
    source = f"retryPolicy {policy} in {CONFIG_MAP}" if strategy else f"no templateDefaults in {CONFIG_MAP}"
    return f"{again} {often}{f'; {never}' if never else ''} ({source})"


def _read_strategy(data: Mapping[str, str]) -> dict[str, Any]:
    """The retryStrategy that completes the one of each stage; empty if there is none."""
    try:
        defaults = yaml.safe_load(data.get("workflowDefaults") or "")
        strategy = defaults["spec"]["templateDefaults"]["retryStrategy"]
    except (yaml.YAMLError, TypeError, KeyError):
        return {}
    return strategy if isinstance(strategy, dict) else {}


def check_requests(cluster: Cluster, stages: Iterable[str]) -> str:
    """Compares the CPUs that each stage asks for with those of the nodes that it may come to.

    Raises:
        UserError: no node has as many, and no cloud brings a larger one.
    """
    try:
        nodes = list_cluster_nodes(cluster)
    except UserError as error:
        return f"not known: {str(error).rstrip('.')}"
    misfits: dict[str, list[str]] = {}
    for name in sorted(stages):
        if reason := _describe_misfit(cluster.config.get_stage(name), nodes):
            misfits.setdefault(reason, []).append(name)
    if not misfits:
        return "each stage has a node that is large enough"
    said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in misfits.items())
    if any(node.is_of_cloud for node in nodes):
        return f"{said}; a pool of the cluster must bring one"
    raise UserError(f"{said}; change that in {cluster.config.path}, or add a node.")


def _describe_misfit(stage: StageConfig, nodes: list[ClusterNode]) -> str:
    """What a stage asks for that no node has; empty if one has it."""
    chosen = [node.cpu for node in nodes if stage.node_selector.items() <= node.labels.items()]
    if not chosen:
        return "no node has the labels of `node_selector` now"
    asked, largest = parse_quantity(stage.requests.cpu or 0), max(chosen)
    if asked <= largest:
        return ""
    return f"`requests` has {asked.normalize():f} CPUs, and the largest node {largest.normalize():f} now"
