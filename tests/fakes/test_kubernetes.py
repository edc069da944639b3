"""The stand-in for Kubernetes answers as Kubernetes does: what it has, to whom, and with which words it refuses."""

import json
from typing import Any

import pytest

from tests.fakes.kubernetes import ADMIN, EVERY, Kubernetes

PODS = "/api/v1/namespaces/kubeflow/pods"
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy/apis/v2beta1/runs"
ANNA = "anna@example.com"


@pytest.fixture
def kubernetes() -> Kubernetes:
    kubernetes = Kubernetes()
    for namespace in ("kubeflow", "team"):
        kubernetes.put("Pod", "a", namespace=namespace, labels={"run": "1"})
    kubernetes.put("Pod", "b", labels={"run": "2"})
    kubernetes.put("Workflow", "a", labels={"run": "1"})
    kubernetes.users["hers"] = ANNA
    return kubernetes


def ask(kubernetes: Kubernetes, path: str, token: str = ADMIN, *, method: str = "GET", **query: str) -> tuple[int, Any]:
    code, said = kubernetes.answer(method, path, query, f"Bearer {token}" if token else None)
    return code, json.loads(said)


def refusal(kubernetes: Kubernetes, path: str, token: str = ADMIN, **options: str) -> tuple[int, str, str]:
    code, said = ask(kubernetes, path, token, **options)
    assert (said["kind"], said["status"], said["code"]) == ("Status", "Failure", code)
    return code, said["reason"], said["message"]


def test_each_namespace_has_its_own(kubernetes: Kubernetes):
    def names(path: str, **query: str) -> list[tuple[str, str]]:
        code, listed = ask(kubernetes, path, **query)
        assert code == 200
        return [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed["items"]]

    assert names(PODS) == [("kubeflow", "a"), ("kubeflow", "b")]
    assert names(PODS, labelSelector="run=1") == [("kubeflow", "a")]
    assert names("/api/v1/namespaces/team/pods") == [("team", "a")]
    assert names("/api/v1/pods", fieldSelector="metadata.name=a") == [("kubeflow", "a"), ("team", "a")]
    assert names("/api/v1/namespaces/others/pods") == []
    assert names(WORKFLOWS) == [("kubeflow", "a")]
    code, pod = ask(kubernetes, f"{PODS}/b")
    assert (code, pod["kind"], pod["apiVersion"], pod["metadata"]["labels"]) == (200, "Pod", "v1", {"run": "2"})
    assert ask(kubernetes, f"{PODS}/b", method="DELETE")[0] == 200
    assert refusal(kubernetes, f"{PODS}/b") == (404, "NotFound", 'pods "b" not found')
    assert refusal(kubernetes, f"{WORKFLOWS}/b") == (404, "NotFound", 'workflows.argoproj.io "b" not found')
    assert kubernetes.answer("GET", "/apis/batch/v1/jobs", {}, f"Bearer {ADMIN}") == (404, b"404 page not found\n")


def test_it_refuses_by_token_by_namespace_and_by_resource(kubernetes: Kubernetes):
    assert refusal(kubernetes, PODS, "old") == (401, "Unauthorized", "Unauthorized")
    may_not = f'User "{ANNA}" cannot'
    in_kubeflow = 'in the namespace "kubeflow"'
    listing = (
        f'pods is forbidden: {may_not} list resource "pods" in API group "" {in_kubeflow}: requires one of '
        '["container.pods.list"] permission(s).'
    )
    assert refusal(kubernetes, PODS, "hers") == (403, "Forbidden", listing)
    assert refusal(kubernetes, PODS, "") == (403, "Forbidden", listing.replace(ANNA, "system:anonymous"))
    kubernetes.rights[ANNA] = {"team": {EVERY}, "kubeflow": {"services/proxy"}}
    assert refusal(kubernetes, PODS, "hers") == (403, "Forbidden", listing)
    assert ask(kubernetes, "/api/v1/namespaces/team/pods", "hers")[0] == 200
    assert refusal(kubernetes, f"{PODS}/b", "hers", method="DELETE")[2] == (
        f'pods "b" is forbidden: {may_not} delete resource "pods" in API group "" {in_kubeflow}: requires one of '
        '["container.pods.delete"] permission(s).'
    )
    assert refusal(kubernetes, WORKFLOWS, "hers")[2] == (
        f'workflows.argoproj.io is forbidden: {may_not} list resource "workflows" in API group "argoproj.io" '
        f'{in_kubeflow}: requires one of ["container.thirdPartyObjects.list"] permission(s).'
    )
    assert refusal(kubernetes, "/api/v1/nodes", "hers")[2] == (
        f'nodes is forbidden: {may_not} list resource "nodes" in API group "" at the cluster scope: requires one of '
        '["container.nodes.list"] permission(s).'
    )
    assert kubernetes.check_proxy("GET", PROXY, "Bearer hers") is None
    kubernetes.rights[ANNA] = {"kubeflow": {"pods"}}
    assert ask(kubernetes, PODS, "hers")[0] == 200
    refused = kubernetes.check_proxy("POST", PROXY, "Bearer hers")
    assert refused
    assert json.loads(refused[1])["message"] == (
        f'services "ml-pipeline:http" is forbidden: {may_not} create resource "services/proxy" in API group "" '
        f'{in_kubeflow}: requires one of ["container.services.proxy"] permission(s).'
    )
