"""The commands that `submit.py` prints do what it says when they are typed as they stand."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import PATIENCE
from tests.fakes.kfp_rules import Frame, Json, progress
from tests.fakes.kfp_server import KUBE_PROXY, Fault, KfpServer, kubeconfig
from tests.pipelines.cluster.lab import STAGES, Lab, asked, finished, until

RUNS_FOR_EVER = [Frame("RUNNING", {"ingest": "RUNNING"})]
DATA = ("--data", "gs://images/numerals", "--experiment", "my images", "--runs", "my runs")
NIGHTLY = ("--recurring", "nightly", "--cron", "0 30 2 * * *")


def commands(printed: str) -> list[str]:
    """The commands below Next, and the one that stands in a line."""
    return [words for _, words in re.findall(r"^(    |.*To keep waiting: )(python .*)$", printed, re.M)]


def type_in(lab: Lab, command: str) -> subprocess.CompletedProcess[str]:
    """Types a command into a shell that knows of no endpoint but what the command names."""
    line = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
    return subprocess.run(
        line, shell=True, cwd=lab.workplace, env=lab.environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture
def remote(lab: Lab, tmp_path: Path) -> tuple[str | Path, ...]:
    """The flags of a connection that needs them all."""
    token, header = tmp_path / "my token", tmp_path / "my header"
    token.write_text("0123456789abcdef-secret")
    header.write_text("kubeflow-userid: anna@example.com\n")
    lab.server.token, lab.server.multi_user = "0123456789abcdef-secret", True
    lab.server.users = {"anna@example.com": {"team"}}
    flags = ("--host", lab.server.url, "--token-file", token, "--header-file", header, "--user-namespace", "team")
    return (*flags, "--ui", "https://ui.example")


def test_each_command_that_is_printed_works_as_it_stands(lab: Lab, remote: tuple[str | Path, ...]):
    lab.server.script = RUNS_FOR_EVER
    started = lab.done(*DATA, *remote, KFP_HOST="")
    (run,) = lab.runs()
    listed = lab.done("--list", "--experiment", "my images", "--runs", "my runs", *remote, KFP_HOST="")
    recurring = lab.done(*DATA, *NIGHTLY, *remote, KFP_HOST="")
    late = lab.submit("--attach", run["run_id"], "--timeout", "0.02", *DATA[2:], *remote, KFP_HOST="").stdout
    process = lab.start("--attach", run["run_id"], *DATA[2:], *remote, KFP_HOST="")
    before = asked(lab.server, run)
    until(lambda: asked(lab.server, run) >= before + 3)  # it waits
    process.send_signal(signal.SIGINT)
    stopped = finished(process).stdout
    checked = lab.done("--check", *DATA, *remote, KFP_HOST="")
    waits = [command for said in (started, listed, late, stopped) for command in commands(said)]
    assert len(waits) == 4
    assert [*commands(recurring), *commands(checked)] != []

    shown = type_in(lab, commands(recurring)[0])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run["display_name"] in shown.stdout

    terminated = lab.done("--terminate", run["run_id"], *DATA[2:], *remote, KFP_HOST="")
    for command in [*waits, *commands(terminated)]:
        outcome = type_in(lab, command)
        assert (outcome.returncode, outcome.stderr) == (3, ""), (command, outcome)

    lab.server.script = progress(STAGES, failed="ingest")
    outcome = type_in(lab, commands(checked)[0])
    assert (outcome.returncode, outcome.stderr) == (1, ""), outcome
    assert len(lab.runs()) == 2
    (again,) = [command for command in commands(outcome.stdout) if "submit.py" in command]
    assert type_in(lab, again).returncode == 1
    assert len(lab.runs()) == 3


def test_kubernetes_404_is_none_of_kubeflow_pipelines(lab: Lab, tmp_path: Path):
    """A cluster without Kubeflow Pipelines has no run, but that is not what is wrong."""
    run = "01234567-89ab-cdef-0123-456789abcdef"
    with KfpServer(folder=tmp_path) as other:  # which does not answer where a kubeconfig looks for it
        path = kubeconfig(other, tmp_path / "kubeconfig")
        for options in (("--attach", run), ("--terminate", run), ("--list",)):
            assert lab.refused(*options, "--namespace", "pipes", KFP_HOST="", KUBECONFIG=str(path)) == (
                'the kubeconfig\'s cluster: not found (404): services "ml-pipeline" not found; Kubeflow Pipelines is '
                "not in its namespace pipes; name another with --namespace or --kube-context, or its address with "
                "--host."
            )
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        path = kubeconfig(server, tmp_path / "kubeconfig")
        said = lab.refused("--attach", run, KFP_HOST="", KUBECONFIG=str(path))
    assert said == f"run {run}: there is no such run; --list shows the newest."


GROUPS = {
    "argoproj.io/v1alpha1": ("workflows", "Workflow"),
    "kubeflow.org/v1beta1": ("scheduledworkflows", "ScheduledWorkflow"),
}


class Kubernetes(BaseHTTPRequestHandler):
    """As much of Kubernetes as kubectl needs to list and delete what its server has at each path."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/api":
            return self.answer({"kind": "APIVersions", "versions": ["v1"]})
        if path == "/apis":
            groups = [
                {"name": name.partition("/")[0], "versions": [version], "preferredVersion": version}
                for name in GROUPS
                for version in [{"groupVersion": name, "version": name.partition("/")[2]}]
            ]
            return self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        group = path.removeprefix("/apis/")
        if group in GROUPS or path == "/api/v1":
            plural, kind = GROUPS.get(group, ("pods", "Pod"))
            verbs = {"namespaced": True, "verbs": ["get", "list", "delete"]}
            resources = [{"name": plural, "singularName": kind.lower(), "kind": kind, **verbs}]
            version = group if group in GROUPS else "v1"
            return self.answer({"kind": "APIResourceList", "groupVersion": version, "resources": resources})
        objects: dict[str, Json] = self.server.objects  # type: ignore[attr-defined]
        if path in objects:
            return self.answer(objects[path])
        items = [each for place, each in objects.items() if place.rpartition("/")[0] == path]
        if items:
            return self.answer(
                {"kind": f"{items[0]['kind']}List", "apiVersion": items[0]["apiVersion"], "items": items}
            )
        return self.answer({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}, 404)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.server.objects[urlsplit(self.path).path]  # type: ignore[attr-defined]
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def answer(self, content: Json, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
def test_kubectl_shows_and_ends_what_is_perhaps_there(lab: Lab, tmp_path: Path):
    http = ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    cluster = {"cluster": {"server": f"http://127.0.0.1:{http.server_port}"}, "name": "test"}
    context = {"context": {"cluster": "test", "user": "test"}, "name": "the context"}
    content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "test", "user": {}}]}
    (tmp_path / "kubeconfig").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
    data = ("--data", "gs://images/numerals", "--kube-context", "the context")
    kinds = {"runs": ("argoproj.io/v1alpha1", ()), "recurringruns": ("kubeflow.org/v1beta1", NIGHTLY)}
    for path, (group, options) in kinds.items():
        lab.server.faults = [Fault("POST", f"^/{path}$", 500)]
        said = lab.submit(*data, *options).stderr
        name = lab.server.bodies("POST", f"/{path}")[-1]["display_name"]
        plural, kind = GROUPS[group]
        place = f"/apis/{group}/namespaces/kubeflow/{plural}/training-x7k2p"
        annotations = {"pipelines.kubeflow.org/run_name": name}
        metadata = {"name": "training-x7k2p", "namespace": "kubeflow", "uid": "1", "annotations": annotations}
        http.objects = {place: {"kind": kind, "apiVersion": group, "metadata": metadata}}  # type: ignore[attr-defined]
        show, end = re.findall(r"`(kubectl [^`]+)`", said)
        environment = {**lab.environment, "KUBECONFIG": str(tmp_path / "kubeconfig")}
        run = partial(subprocess.run, shell=True, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        shown = run(show)
        assert (shown.returncode, shown.stderr) == (0, ""), shown
        assert shown.stdout.split()[0] == "NAME"
        assert "training-x7k2p" in shown.stdout
        assert path == "recurringruns" or name in shown.stdout
        ended = run(end.replace(" NAME", " training-x7k2p"))
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        assert http.objects == {}  # type: ignore[attr-defined]
    http.shutdown()
