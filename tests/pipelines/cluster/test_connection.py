"""How `submit.py` comes to the endpoint, and what it says when it does not."""

import json
import logging
import re
import socket
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.cluster import answers
from pipelines.cluster.connection import Cluster
from pipelines.compiler.config import Config, Endpoint
from tests.fakes.kfp_server import KUBE_PROXY, Fault, KfpServer, kubeconfig
from tests.pipelines.cluster.lab import Lab, together


def test_a_flag_goes_before_the_environment_and_that_before_the_configuration(lab: Lab, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret")
    lab.server.token = "secret"
    with KfpServer() as second, KfpServer() as third:
        configured = lab.configure("near", endpoint={"host": lab.server.url, "token_file": str(token)})
        listed = ("--list", "--config", configured)
        together(
            lambda: lab.done(*listed, KFP_HOST=""),
            lambda: lab.done(*listed, KFP_HOST=second.url),
            lambda: lab.done(*listed, "--host", third.url, KFP_HOST=second.url),
        )
        assert [len(server.requests) > 0 for server in (lab.server, second, third)] == [True] * 3
        # the token of the first one was for the first one alone
        assert len({len(server.requests) for server in (lab.server, second, third)}) == 1


def test_by_tls_with_its_own_authority(lab: Lab, tmp_path: Path):
    with KfpServer(folder=tmp_path) as server:
        by_flag, by_environment, untrusted, not_one = together(
            lambda: lab.done("--list", "--host", server.url, "--ca-file", server.ca_file),
            lambda: lab.done("--list", KFP_HOST=server.url, KFP_CA_FILE=str(server.ca_file)),
            lambda: lab.refused("--list", "--host", server.url),
            lambda: lab.refused("--list", "--host", server.url, "--ca-file", lab.project / "submit.py"),
        )
    assert by_flag == by_environment == "experiment default: no runs yet\n"
    assert (
        untrusted == f"{server.url}: its certificate is not trusted; name its authority with --ca-file or KFP_CA_FILE."
    )
    assert not_one == f"--ca-file {lab.project / 'submit.py'}: has no certificate; it must be a file in PEM."


def test_through_the_kubeconfig_of_the_cluster(lab: Lab, tmp_path: Path):
    """Without a host; the second one comes to no server, and says what to do."""
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        server.token = "secret"
        path = kubeconfig(server, tmp_path / "kubeconfig")
        data = ("--data", "gs://images/numerals")
        printed, none, context = together(
            lambda: lab._replace(server=server).done(*data, KFP_HOST="", KUBECONFIG=str(path)),
            lambda: lab.refused("--list", KFP_HOST=""),
            lambda: lab.refused("--list", "--kube-context", "other", KFP_HOST="", KUBECONFIG=str(path)),
        )
        (run,) = server.stored["run"].values()
    assert printed.splitlines()[1] == f"http://localhost:8080/#/runs/details/{run['run_id']}"
    assert none.startswith("no endpoint: neither --host nor a kubeconfig (")
    assert none.endswith("for a GKE cluster: gcloud container clusters get-credentials CLUSTER.")
    assert "other" in context


def test_in_multi_user_mode_by_the_namespace_of_the_user(lab: Lab):
    with KfpServer(multi_user=True) as server:
        lab = lab._replace(server=server)
        data = ("--data", "gs://images/numerals", "--user-namespace", "team")
        lab.done(*data, "--experiment", "images")
        (run,) = server.stored["run"].values()
        assert server.stored["experiment"][run["experiment_id"]]["namespace"] == "team"
        listed, other, terminated, recurring = together(
            lambda: lab.done("--list", "--experiment", "images", KFP_USER_NAMESPACE="team"),
            lambda: lab.done("--list", "--experiment", "images", "--user-namespace", "other"),
            lambda: lab.done("--terminate", run["display_name"], "--user-namespace", "team"),
            lambda: lab.done(*data, "--recurring", "nightly", "--cron", "0 0 3 * * *"),
        )
        assert run["display_name"] in listed
        assert other == "experiment images: no runs yet\n"
        assert terminated == f"terminating {run['display_name']}\n"
        assert recurring.startswith("recurring run nightly of training")
        lab.done("--recurring", "nightly", "--delete", "--user-namespace", "team")
        assert server.stored["recurring_run"] == {}
        assert "namespace" in lab.refused("--terminate", "lost")


def test_what_keeps_it_away_is_one_sentence(lab: Lab, closed_port: int, tmp_path: Path):
    """Of the ways to authenticate, those by Google's servers cannot be tried here but for their absence."""
    closed = f"http://127.0.0.1:{closed_port}"
    token = tmp_path / "token"
    token.write_text("old")
    user = tmp_path / "user.json"
    user.write_text(
        json.dumps({"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"})
    )
    with KfpServer() as private:
        private.token = "new"
        here = ("--list", "--host", private.url)
        cases = [
            (
                ("--list", "--host", closed),
                rf"{closed}: no answer \(.*refused\); check that the port-forward is running.*",
            ),
            (("--list", "--host", "127.0.0.1:8080"), r"--host 127.0.0.1:8080: must begin with https:// .*"),
            (
                ("--list", "--host", lab.server.url + "/pipeline"),
                r".*: not found \(404\): .*address of Kubeflow Pipelines\.",
            ),
            (here, r".*: the credentials are not accepted \(401\); give --token-file, --client-id \(IAP\), .*"),
            ((*here, "--token-file", token), rf".*\(401\); put a fresh token into {token}\."),
            (
                ("--list", "--host", "http://kfp.example", "--token-file", token),
                r"http://kfp\.example: a token would be sent unencrypted; give an address that begins with https\.",
            ),
            ((*here, "--token-file", tmp_path / "lost"), r"--token-file .*/lost: no such file, or it cannot be read\."),
            ((*here, "--token-file", tmp_path), rf"--token-file {tmp_path}: no such file, or it cannot be read\."),
            ((*here, "--ca-file", tmp_path / "lost"), r"--ca-file .*/lost: no such file, or it cannot be read\."),
            (
                ("--list", "--host", "https://a.googleusercontent.com"),
                "no Google credentials for the inverse proxy; run: gcloud auth application-default login",
            ),
            ((*here, "--client-id", "iap"), "no credentials of a Google service account, which IAP wants; run: .*"),
        ]
        calls = [partial(lab.refused, *options) for options, _ in cases]
        *messages, by_user = together(
            *calls, partial(lab.refused, *here, "--client-id", "iap", GOOGLE_APPLICATION_CREDENTIALS=str(user))
        )
    for message, (options, expected) in zip(messages, cases, strict=True):
        assert re.fullmatch(expected, message), (options, message)
    assert by_user == messages[-1]
    assert {request.method for request in private.requests} == {"GET"}


def test_a_proxy_before_a_server_that_stays_away(lab: Lab):
    lab.server.faults += [Fault("GET", "^/experiments$", 503)] * 20
    assert (
        lab.refused("--list")
        == f"{lab.server.url}: answered 503: Service Unavailable; if it happens again, ask whoever runs the cluster."
    )


def test_a_server_that_says_nothing_is_noticed_within_one_time_out(monkeypatch: pytest.MonkeyPatch):
    """Neither the generated client nor urllib3 below it waits longer, or asks again on its own."""
    monkeypatch.setattr(answers, "SILENCE", 1)
    accepted: list[socket.socket] = []

    def accept(listening: socket.socket) -> None:
        while True:
            accepted.append(listening.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        cluster = Cluster(Config(name="lab"), Endpoint(host=f"http://127.0.0.1:{listening.getsockname()[1]}"))
        start = time.monotonic()
        with pytest.raises(UserError, match=r": no answer for 1 s; check that"):
            cluster.call(lambda client: client.list_experiments(), patience=0.1)
        assert time.monotonic() - start >= 1
        assert len(accepted) == 1


def test_asking_changes_nothing_for_the_whole_process():
    def settings() -> tuple[object, ...]:
        return list(warnings.filters), logging.root.manager.disable, socket.getdefaulttimeout()

    with KfpServer() as server:
        before = settings()
        cluster = Cluster(Config(name="lab"), Endpoint(host=server.url))
        assert cluster.call(lambda client: client.list_experiments()).total_size == 1
        server.faults.append(Fault("GET", "^/experiments$", 403))
        with pytest.raises(UserError):
            cluster.call(lambda client: client.list_experiments())
        assert settings() == before
