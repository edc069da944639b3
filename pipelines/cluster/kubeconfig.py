"""What Kubernetes itself says of a cluster to which the kubeconfig leads: settings, nodes, and the pods of a run."""

from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote

from kubernetes.utils.quantity import parse_quantity

from components.shared.errors import UserError
from pipelines.cluster.answers import read_object
from pipelines.cluster.client import Client
from pipelines.cluster.connection import Cluster

NODES = 500  # that are asked for
CLOUDS = ("gce", "aws", "azure")  # as the names of their machines begin


class ClusterNode(NamedTuple):
    """A machine of the cluster."""

    labels: dict[str, str]
    cpu: Decimal  # that pods may have
    is_of_cloud: bool  # so that there may be more and other ones in a minute


def leads_to(cluster: Cluster) -> bool:
    """Whether the kubeconfig leads to the cluster of an endpoint; of a host nobody knows which cluster that is of."""
    return not cluster.endpoint.host


def read_config_map(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """The data of a ConfigMap.

    Raises:
        UserError: it cannot be read.
    """
    data = _ask(cluster, f"/api/v1/namespaces/{quote(namespace)}/configmaps/{quote(name)}").get("data") or {}
    return data if isinstance(data, dict) else {}


def list_cluster_nodes(cluster: Cluster) -> list[ClusterNode]:
    """The nodes that pods may come to, of a very large cluster some of them.

    Raises:
        UserError: they cannot be read.
    """
    listed = _ask(cluster, f"/api/v1/nodes?limit={NODES}").get("items") or []
    try:
        return [_read_cluster_node(node) for node in listed if not node["spec"].get("unschedulable")]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{cluster.name}: what it says of its nodes is not what Kubernetes says.") from None


def list_pods(cluster: Cluster, label: str) -> list[dict[str, Any]]:
    """The pods of runs that have a label, NAME=VALUE, as Kubernetes has them in JSON.

    Raises:
        UserError: they cannot be read.
    """
    return _list_labelled(cluster, "/api/v1", "pods", label)


def list_workflows(cluster: Cluster, label: str) -> list[dict[str, Any]]:
    """The workflows of runs that have a label, NAME=VALUE, as Kubernetes has them in JSON.

    Raises:
        UserError: they cannot be read.
    """
    return _list_labelled(cluster, "/apis/argoproj.io/v1alpha1", "workflows", label)


def _list_labelled(cluster: Cluster, version: str, kind: str, label: str) -> list[dict[str, Any]]:
    path = f"{version}/namespaces/{quote(cluster.namespace)}/{kind}?labelSelector={quote(label)}"
    return _ask(cluster, path).get("items") or []


def _read_cluster_node(node: dict[str, Any]) -> ClusterNode:
    provider = str(node["spec"].get("providerID", "")).partition("://")[0]
    labels = dict(node["metadata"].get("labels") or {})
    return ClusterNode(labels, parse_quantity(node["status"]["allocatable"]["cpu"]), provider in CLOUDS)


def _ask(cluster: Cluster, path: str) -> dict[str, Any]:
    """What Kubernetes has at a path, with the credentials with which Kubeflow Pipelines is asked.

    Raises:
        UserError: there is no answer, or a refusal.
    """

    def ask(client: Client) -> dict[str, Any]:
        api = client.runs.api_client
        host = api.configuration.host.partition("/api/v1/namespaces/")[0]
        answer = api.call_api(path, "GET", auth_settings=["Bearer"], _preload_content=False, _host=host)
        return read_object(answer.data, "")

    return cluster.call(ask, patience=0)
