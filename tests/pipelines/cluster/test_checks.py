"""`submit.py --check`: a line for each thing that a run needs, passed or with what to do."""

import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from components.shared.errors import UserError
from pipelines.cluster.checks import check_images, takes_google_token
from tests.fakes.kfp_rules import Json
from tests.fakes.kfp_server import KUBE_PROXY, WORKFLOW_DEFAULTS, Fault, KfpServer, Request, kubeconfig
from tests.fakes.kubernetes import EVERY
from tests.pipelines.cluster.lab import STAGES, Lab, find_tags, together, until, version_of

REGISTRY = Path("/usr/bin/docker-registry")  # Debian's docker-registry
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
NAMES = ["endpoint", "credentials", "experiment", "bucket", "data", "images"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real registry."""
    if not REGISTRY.exists():
        pytest.skip("apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    storage = f"storage: {{filesystem: {{rootdirectory: {folder / 'images'}}}}}"
    # It takes a port that is free, and says which: one chosen here might be taken before it begins.
    http = "http: {addr: '127.0.0.1:0'}"
    (folder / "config.yml").write_text(f"version: 0.1\nlog: {{level: info}}\n{storage}\n{http}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([REGISTRY, "serve", folder / "config.yml"], stdout=log, stderr=log)

    def address() -> re.Match[str] | None:
        assert process.poll() is None, (folder / "log").read_text()
        return re.search(r'listening on (127\.0\.0\.1:\d+)"', (folder / "log").read_text())

    try:
        until(address)
        host = address()[1]
        requests.get(f"http://{host}/v2/", timeout=60).raise_for_status()
        yield host
    finally:
        process.terminate()
        process.wait(timeout=60)


def push_image(host: str, name: str, tag: str) -> None:
    """An image without layers."""
    config = b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    place = requests.post(f"http://{host}/v2/{name}/blobs/uploads/", timeout=10).headers["Location"]
    requests.put(place, params={"digest": digest}, data=config, timeout=10).raise_for_status()
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}
    address = f"http://{host}/v2/{name}/manifests/{tag}"
    requests.put(address, json=manifest, headers={"Content-Type": MANIFEST}, timeout=10).raise_for_status()


def lines(printed: str, names: list[str] = NAMES) -> dict[str, str]:
    """What each line says, by its name, with the sign in front."""
    found = dict(re.findall(r"^[✓✗·] (\w+) +(.*)$", printed, re.M))
    tried = re.findall(r"^[✓✗] (\w+)", printed, re.M)
    assert tried == [name for name in names if name in tried], printed
    assert sorted(found) == sorted(names), printed
    assert len(printed.partition("\nNext:")[0].splitlines()) == len(names)
    signs = re.findall(r"^[✓✗·]", printed, re.M)
    return {name: f"{sign} {text}" for sign, (name, text) in zip(signs, found.items(), strict=True)}


def failed(lab: Lab, *options: str | Path, **environment: str) -> dict[str, str]:
    outcome = lab.submit("--check", *options, **environment)
    assert (outcome.returncode, outcome.stderr) == (1, "")
    return lines(outcome.stdout)


def test_each_line_passes_or_says_what_to_do(lab: Lab, registry: str, closed_port: int):
    for stage in STAGES:
        push_image(registry, f"pipelines/{stage}", find_tags(lab.project)[stage])
        if stage != "evaluate":
            push_image(registry, f"pipelines/{stage}", "v2")
    all_there = lab.configure("checked", registry=f"{registry}/pipelines")
    one_missing = lab.configure("missing", registry=f"{registry}/pipelines", tag="v2")
    wrong = {"pipeline_root": "gs://no-such-bucket/runs", "registry": f"127.0.0.1:{closed_port}/pipelines"}
    lab.configure("wrong", **wrong)
    bare = lab.configure("bare", registry="", pipeline_root="/tmp/runs")
    objects = [blob.name for blob in lab.gcs.client.list_blobs(lab.gcs.bucket)]
    data = ("--data", "gs://images/numerals", "--experiment", "images")
    printed, missing, elsewhere, nowhere, latest = together(
        lambda: lab.done("--check", *data, "--config", all_there),
        lambda: failed(lab, "--config", one_missing),
        lambda: failed(lab, "--config", "wrong", "--data", "."),
        lambda: failed(lab, "--config", bare),
        lambda: failed(lab, "--config", lab.configure("newest", tag="latest")),
    )
    start = f"{lab.program} --config checked --experiment images --data gs://images/numerals --wait"
    assert printed.endswith(f"\nNext:\n  start the run, and wait for it:\n    {start}\n")
    passed = lines(printed)
    assert re.fullmatch(
        rf"✓ {lab.server.url}: Kubeflow Pipelines 2\.17\.0, kfp 2\.\d+\.\d+ here", passed.pop("endpoint")
    )
    assert passed == {
        "credentials": "✓ accepted",
        "experiment": "✓ images: does not exist yet; the first run makes it",
        "bucket": f"✓ {lab.root}: written, read back, deleted",
        "data": f"✓ {version_of('numerals')}",
        "images": "✓ all 5 in the registry",
    }
    assert missing["images"] == (
        f"✗ {registry}/pipelines/evaluate:v2: not in the registry; run: make images push REGISTRY=..."
    )
    assert missing["experiment"] == "✓ default: does not exist yet; the first run makes it"
    assert missing["data"] == "· not tried; name the images with --data"
    assert [name for name in NAMES if missing[name].startswith("✗")] == ["images"]
    assert elsewhere["bucket"].startswith("✗ gs://no-such-bucket/runs: not found in Cloud Storage")
    assert elsewhere["data"].startswith("✗ .: not in a DVC repository; run `git init` and `dvc init`")
    assert "the registry does not answer (ConnectionError); is `registry` in the config right?" in elsewhere["images"]
    assert nowhere["images"].endswith(": has no registry; set `registry` in the config.")
    assert "not a place in Cloud Storage; pipeline_root must be gs://BUCKET/FOLDER" in nowhere["bucket"]
    assert ":latest: has no tag that stands for one version of the code" in latest["images"]
    assert [request for request in lab.server.requests if request.method != "GET"] == []
    assert [blob.name for blob in lab.gcs.client.list_blobs(lab.gcs.bucket)] == objects


class OldServer(KfpServer):
    def answer(self, request: Request) -> Json:
        answer = super().answer(request)
        return {**answer, "tag_name": "2.2.0"} if request.path == "/healthz" else answer


def test_each_line_tells_of_the_endpoint_what_is_wrong_with_it(lab: Lab, closed_port: int, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("old")
    lab.server.token = "new"
    closed = f"http://127.0.0.1:{closed_port}"
    with KfpServer(multi_user=True) as shared, OldServer() as old:
        old.faults.append(Fault("GET", "^/experiments$", 403))
        refused, away, team, mine, aged = together(
            lambda: failed(lab, "--token-file", token),
            lambda: failed(lab, "--host", closed),
            lambda: failed(lab, "--host", shared.url),
            lambda: lines(lab.done("--check", "--host", shared.url, "--user-namespace", "team")),
            lambda: failed(lab, "--host", old.url),
        )
    unknown = "401: Request header error: there is no valid bearer token"
    fresh = f"✗ {lab.server.url}: the credentials are not accepted ({unknown}); put a fresh token into {token}."
    assert refused["credentials"] == refused["experiment"] == fresh
    for name in ("endpoint", "credentials", "experiment"):
        assert away[name].startswith(f"✗ {closed}: no answer (")
    assert team["endpoint"] == f"✗ {shared.url} is in multi-user mode; name your namespace with --user-namespace."
    assert mine["endpoint"].startswith("✓ ")
    assert mine["experiment"] == "✓ default: does not exist yet; the first run makes it"
    assert aged["endpoint"] == f"✗ {old.url} runs Kubeflow Pipelines 2.2.0; this project needs 2.3 or a newer 2.x."
    assert aged["credentials"].startswith(f"✗ {old.url}: not allowed (403): Refused on purpose; ")
    for said in (refused, away, team, mine, aged):
        assert said["bucket"].startswith("✓ ")  # one line does not hang on another


def answer_always(status: int, kind: str) -> ThreadingHTTPServer:
    """A server that gives the same answer to whoever asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (200, "text/html; charset=utf-8", "what answers is no registry of images (text/html); is `registry` in the "),
        (404, "text/html", "what answers is no registry of images (text/html); is `registry` in the "),
        (503, "text/html", "the registry answers 503; try again, or ask whoever runs it."),
        (429, "application/json", "the registry answers 429; try again, or ask whoever runs it."),
    ],
)
def test_what_is_no_answer_of_a_registry_says_nothing_of_images(status: int, kind: str, said: str):
    server = answer_always(status, kind)
    host = f"127.0.0.1:{server.server_port}"
    with pytest.raises(UserError) as raised:
        check_images([f"{host}/pipelines/train:v1"])
    server.shutdown()
    assert str(raised.value).startswith(f"{host}: {said}")


def test_googles_token_goes_to_googles_registries_alone():
    hosts = ["gcr.io", "eu.gcr.io", "europe-west4-docker.pkg.dev", "EU.GCR.IO"]
    others = ["evilgcr.io", "gcr.io.example", "pkg.dev.example", "a.pkg.dev:80", "evilpkg.dev", "pkg.dev"]
    assert [host for host in (*hosts, *others) if takes_google_token(host)] == hosts
    for host in ("kfp.example#.gcr.io", "kfp.example?.gcr.io", "gcr.io@kfp.example", "kfp.example\\.gcr.io"):
        with pytest.raises(UserError, match=r"is no host of a registry; correct `registry` in the config\."):
            check_images([f"{host}/pipelines/train:v1"])


AS_SAID = "as often as `retries` says"


def put_node(server: KfpServer, cpu: str, provider: str, **labels: str) -> None:
    allocatable = {"cpu": cpu, "memory": "6Gi"}
    spec = {"providerID": provider} if provider else {}
    server.kubernetes.put("Node", f"node-{cpu}", labels=labels, spec=spec, status={"allocatable": allocatable})


def test_with_a_kubeconfig_kubernetes_is_asked_too(lab: Lab, tmp_path: Path):
    """What `retries` means there, and whether a node has as many CPUs as a stage asks for."""
    defaults = {"node_selector": {"pool": "stages"}}
    larger = lab.configure("larger", defaults=defaults, stages={"train": {"requests": {"cpu": "3500m"}}})
    names = [*NAMES, "requests", "retries"]
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        path = kubeconfig(server, tmp_path / "kubeconfig")
        environment = {"KFP_HOST": "", "KUBECONFIG": str(path)}
        small = ("1930m", "gce://project/zone/node", "stages")
        large = ("4", "gce://project/zone/node", "stages")
        own = ("2", "kind://docker/kind/kind-control-plane", "stages")
        other = ("8", "gce://project/zone/node", "others")

        def check(nodes: list[tuple[str, str, str]], config_map: dict[str, str] | None) -> tuple[int, str, str]:
            kubernetes = server.kubernetes
            kubernetes.delete(*kubernetes.list("Node"), *kubernetes.list("ConfigMap"))
            for cpu, provider, pool in nodes:
                put_node(server, cpu, provider, pool=pool)
            if config_map is not None:
                kubernetes.put("ConfigMap", "workflow-controller-configmap", data=config_map)
            outcome = lab.submit("--check", "--config", larger, **environment)
            said = lines(outcome.stdout, names)
            return outcome.returncode, said["requests"], said["retries"]

        published = {"workflowDefaults": WORKFLOW_DEFAULTS, "artifactRepository": "archiveLogs: true\n"}
        always = {"workflowDefaults": WORKFLOW_DEFAULTS.replace("OnError", "Always")}
        transient = {"workflowDefaults": WORKFLOW_DEFAULTS.replace("OnError", "OnTransientError")}
        fits = "✓ each stage has a node that is large enough"
        needs = "train: `requests` has 3.5 CPUs, and the largest node"
        assert check([small, large], published) == (
            0,
            fits,
            f"✓ a pod that is lost is started again {AS_SAID}, and 2 times where that is 0; a stage that ends with an "
            "error is not (retryPolicy OnError in workflow-controller-configmap)",
        )
        assert check([small, other], {"executor": "imagePullPolicy: IfNotPresent\n"}) == (
            0,
            f"✓ {needs} 1.93 now; a pool of the cluster must bring one",
            f"✓ a stage that ends with an error is started again {AS_SAID}; a pod that is deleted is not (no "
            "templateDefaults in workflow-controller-configmap)",
        )
        config = lab.project / "pipelines/config/larger.yaml"
        assert check([own], always) == (
            1,
            f"✗ {needs} 2 now; change that in {config}, or add a node.",
            f"✓ a pod that is lost or ends with an error is started again {AS_SAID}, and 2 times where that is 0 "
            "(retryPolicy Always in workflow-controller-configmap)",
        )
        refused = lab.refused("--data", "gs://images/numerals", "--config", larger, **environment)
        assert refused == f"{needs} 2 now; change that in {config}, or add a node."
        assert [request.method for request in server.requests if request.method != "GET"] == []
        status, requests_said, retries_said = check([other], transient)
        assert status == 0
        assert requests_said == (
            f"✓ {', '.join(sorted(STAGES))}: no node has the labels of `node_selector` now; a pool of the cluster must "
            "bring one"
        )
        assert retries_said == "✓ not known: workflow-controller-configmap has the retryPolicy OnTransientError"
        server.kubernetes.users["hers"] = "anna@example.com"
        server.kubernetes.rights["anna@example.com"] = {"kubeflow": {"services/proxy"}, "team": {EVERY}}
        kubeconfig(server, path, token="hers")
        status, requests_said, retries_said = check([large], published)
        assert status == 0
        assert requests_said == (
            "✓ not known: the kubeconfig's cluster: not allowed (403): you are anna@example.com there, who may not "
            'list nodes (requires one of ["container.nodes.list"]); ask whoever runs the cluster for the role'
        )
        assert retries_said == (
            "✓ not known: the kubeconfig's cluster: not allowed (403): you are anna@example.com there, who may not get "
            'configmaps in the namespace kubeflow (requires one of ["container.configmaps.get"]); ask whoever runs the '
            "cluster for the role"
        )
        kubeconfig(server, path)
        status, requests_said, retries_said = check([large], None)
        assert (status, requests_said) == (0, fits)
        assert retries_said == (
            '✓ not known: the kubeconfig\'s cluster: not found (404): configmaps "workflow-controller-configmap" not '
            "found; check that this is the address of Kubeflow Pipelines"
        )
