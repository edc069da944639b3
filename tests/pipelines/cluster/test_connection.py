"""How `submit.py` comes to the endpoint, and what it says when it does not."""

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.shared.errors import UserError
from components.shared.hosts import check_private
from pipelines.cluster import answers
from pipelines.cluster.connection import Cluster, choose_endpoint
from pipelines.compiler.config import Config, Endpoint
from tests.fakes.kfp_rules import Frame, progress
from tests.fakes.kfp_server import API, KUBE_PROXY, Fault, KfpServer, kubeconfig
from tests.fakes.kubernetes import EVERY
from tests.pipelines.cluster.lab import STAGES, Lab, together

IN_CLUSTER = "ml-pipeline.kubeflow.svc.cluster.local:8888/apis"  # kfp's own address there, without a scheme


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
        assert terminated.startswith(f"terminating {run['display_name']}\n")
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
            (
                here,
                r".*: the credentials are not accepted \(401: .* bearer token\); give --token-file, --header-file, .*",
            ),
            ((*here, "--token-file", token), rf".*\(401: .* bearer token\); put a fresh token into {token}\."),
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
        with contextlib.suppress(OSError):  # it has been shut down
            while True:
                accepted.append(listening.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, args=(listening,), daemon=True)
        accepting.start()
        cluster = Cluster(Config(name="lab"), Endpoint(host=f"http://127.0.0.1:{listening.getsockname()[1]}"))
        start = time.monotonic()
        with pytest.raises(UserError, match=r": no answer for 1 s; check that"):
            cluster.call(lambda client: client.list_experiments(), patience=0.1)
        assert time.monotonic() - start >= 1
        assert len(accepted) == 1
        listening.shutdown(socket.SHUT_RDWR)  # else the thread would go on with whatever gets its number next
        accepting.join()


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


TOKEN = "0123456789abcdef-0123456789abcdef"


def test_what_a_server_says_has_no_token(lab: Lab, tmp_path: Path):
    """Neither the one that was sent, wherever it comes back, nor what looks like one."""
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    lab.begin(f"run of {TOKEN}", [Frame("FAILED")])
    lab.server.token = TOKEN
    listing = ("--list", "--token-file", token)
    assert "run of [token]" in lab.done(*listing)
    said = f"no {TOKEN}, Bearer abcdefghijkl, ya29.abc-d_e, eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
    lab.server.faults.append(Fault("GET", "^/healthz$", 403, body=json.dumps({"message": said}).encode()))
    assert lab.refused(*listing) == (
        f"{lab.server.url}: not allowed (403): no [token], Bearer [token], [token], [token]; "
        "ask whoever runs the cluster for the role."
    )


@pytest.mark.parametrize(
    "address", ["https://kfp.example", "http://127.0.0.1:8080/x", "http://localhost", "http://[::1]:80", IN_CLUSTER]
)
def test_a_token_goes_by_tls_or_to_this_machine(address: str):
    check_private(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://kfp.example:8080",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://localhost@kfp.example",
        "http://kfp.example#localhost",
        "http://ml-pipeline.kubeflow.svc.cluster.local.example",
        "kfp.example:8888",
    ],
)
def test_a_token_goes_to_nobody_who_could_be_overheard(address: str):
    with pytest.raises(UserError, match=r": a token would be sent unencrypted; give an address that begins with https"):
        check_private(address)


def test_the_token_of_a_kubeconfig_is_not_sent_unencrypted(lab: Lab, tmp_path: Path):
    path = kubeconfig(lab.server, tmp_path / "kubeconfig", token=TOKEN)
    path.write_text(path.read_text().replace("127.0.0.1", "kfp.example"))
    port = lab.server.url.rpartition(":")[2]
    assert lab.refused("--list", KFP_HOST="", KUBECONFIG=str(path)) == (
        f"http://kfp.example:{port}: a token would be sent unencrypted; give an address that begins with https."
    )


def test_googles_token_goes_to_no_address_that_only_ends_like_the_proxys(lab: Lab, tmp_path: Path):
    """Nor to where kfp's own variables lead."""
    sent: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            token = {"access_token": TOKEN, "id_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            self.wfile.write(json.dumps({"multi_user": False, **(token if self.path == "/token" else {})}).encode())

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "a@b",
        "token_uri": f"{url}/token",
        "private_key": key.private_bytes(*form).decode(),
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json")}
    variables = {"KF_PIPELINES_IAP_OAUTH2_CLIENT_ID": "iap", "KF_PIPELINES_ENDPOINT": "http://kfp.example"}
    lab.submit("--list", "--host", f"{url}/a.googleusercontent.com", **environment, **variables)
    http.shutdown()
    assert sent
    assert {authorization for _, authorization in sent} == {None}
    assert "/token" not in {path for path, _ in sent}


def test_a_token_is_not_taken_along_to_where_an_answer_leads(lab: Lab, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with KfpServer() as other:
        other.token = TOKEN  # it refuses who has none
        target = (("Location", f"{other.url}{API}/experiments"),)
        lab.server.faults += [Fault("GET", "^/experiments$", 302, body=b"", headers=target)] * 20
        said = lab.refused("--list", "--token-file", token)
    assert said == (
        f"{lab.server.url}: the credentials are not accepted (401: Request header error: there is no valid bearer "
        f"token); put a fresh token into {token}."
    )


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "it is empty"), (b"one\ntwo", "it is no token"), (b"\xff\xfe", "it is no token")]
)
def test_a_file_without_a_token_is_named(lab: Lab, tmp_path: Path, content: bytes, problem: str):
    token = tmp_path / "token"
    token.write_bytes(content)
    said = lab.refused("--list", "--token-file", token)
    assert said == f"{token}: cannot be read ({problem}); put a fresh token there."


def test_files_and_addresses_that_cannot_be_used_are_named(lab: Lab, tmp_path: Path):
    (tmp_path / "kubeconfig").write_text("a: [")
    (tmp_path / "list").write_text("- a")
    (tmp_path / "home/.config/kfp").mkdir(parents=True)
    context = tmp_path / "home/.config/kfp/context.json"
    context.write_text("{")
    broken, listed, user, port, own = together(
        lambda: lab.refused("--list", KFP_HOST="", KUBECONFIG=str(tmp_path / "kubeconfig")),
        lambda: lab.refused("--list", KFP_HOST="", KUBECONFIG=str(tmp_path / "list")),
        lambda: lab.refused("--list", "--host", "https://me:secret@kfp.example"),
        lambda: lab.refused("--list", "--host", "https://kfp.example:port"),
        lambda: lab.refused("--list", HOME=str(tmp_path / "home")),
    )
    assert broken.startswith("no endpoint: neither --host nor a kubeconfig (")
    assert listed.startswith("no endpoint: neither --host nor a kubeconfig (")
    assert user == (
        "--host: leave out the user name and password; "
        "give --token-file, --header-file, --client-id (IAP), or leave out --host to use the kubeconfig."
    )
    assert port.startswith("--host https://kfp.example:port: is no address (")
    assert own == (
        f"{context}: cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
        "repair or delete it."
    )


WHO = "anna@example.com"
COOKIE = "oauth2_proxy_kubeflow=djEuYWJjZGVmZ2hpamtsbW5vcA; other=1"


@pytest.fixture
def shared() -> Iterator[KfpServer]:
    """A server with users, behind a proxy that knows one by the cookie of a login, or by a token."""
    with KfpServer(multi_user=True) as server:
        server.users = {WHO: {"team"}}
        server.logins = {COOKIE: WHO, f"Bearer {TOKEN}": WHO}
        yield server


def test_a_server_with_users_is_told_who_one_is(lab: Lab, shared: KfpServer, tmp_path: Path):
    header, cookie, token = tmp_path / "header", tmp_path / "cookie", tmp_path / "token"
    header.write_text(f"\nkubeflow-userid: {WHO}\n")
    cookie.write_text(f"Cookie: {COOKIE}")
    token.write_text(TOKEN)
    here = ("--list", "--host", shared.url, "--user-namespace", "team")
    listed = together(
        lambda: lab.done(*here, "--header-file", header),
        lambda: lab.done(*here, KFP_HEADER_FILE=str(cookie)),
        lambda: lab.done(*here, "--token-file", token),
    )
    assert listed == ["experiment default: no runs yet\n"] * 3


def test_a_server_with_users_says_who_one_is_and_what_is_missing(lab: Lab, shared: KfpServer, tmp_path: Path):
    header = tmp_path / "header"
    header.write_text(f"kubeflow-userid: {WHO}\n")
    data = ("--data", "gs://images/numerals")
    here = ("--host", shared.url, "--user-namespace")
    nobody, stranger, runs = together(
        lambda: lab.refused("--list", *here, "team"),
        lambda: lab.refused("--list", *here, "others", "--header-file", header),
        lambda: lab.refused(*data, *here, "others", "--header-file", header),
    )
    assert nobody == (
        f"{shared.url}: the credentials are not accepted (401: Request header error: there is no user identity "
        "header); say who you are, by --header-file or --token-file."
    )
    assert stranger == (
        f"{shared.url}: not allowed (403): you are {WHO} there, who may not list experiments in the namespace others; "
        "ask whoever runs the cluster for the role, or name a namespace of yours with --user-namespace."
    )
    assert runs.startswith(f"{shared.url}: not allowed (403): you are {WHO} there, who may not list ")
    lab.done(*data, *here, "team", "--header-file", header)
    (experiment,) = shared.stored["experiment"].values()
    assert experiment["namespace"] == "team"


def test_kubernetes_says_who_one_is_and_what_is_missing(lab: Lab, tmp_path: Path):
    with KfpServer(prefix=KUBE_PROXY, folder=tmp_path) as server:
        server.kubernetes.users[TOKEN] = WHO
        path = kubeconfig(server, tmp_path / "kubeconfig", token=TOKEN)
        said = lab.refused("--list", KFP_HOST="", KUBECONFIG=str(path))
        server.kubernetes.rights[WHO] = {"team": {EVERY}}
        assert lab.refused("--list", KFP_HOST="", KUBECONFIG=str(path)) == said
        server.kubernetes.rights[WHO] = {"kubeflow": {"services/proxy"}}
        assert lab.done("--list", KFP_HOST="", KUBECONFIG=str(path)) == "experiment default: no runs yet\n"
        server.kubernetes.users = {}  # the token has expired
        assert lab.refused("--list", KFP_HOST="", KUBECONFIG=str(path)) == (
            "the kubeconfig's cluster: the credentials are not accepted (401); run: gcloud container clusters "
            "get-credentials CLUSTER"
        )
    assert said == (
        f"the kubeconfig's cluster: not allowed (403): you are {WHO} there, who may not get services/proxy in the "
        'namespace kubeflow (requires one of ["container.services.proxy"]); ask whoever runs the cluster for the role.'
    )


def test_what_authenticates_is_in_no_parameter_no_label_and_no_log(lab: Lab, shared: KfpServer, tmp_path: Path):
    cookie, token = tmp_path / "cookie", tmp_path / "token"
    cookie.write_text(f"Cookie: {COOKIE}\nX-Auth-Token: {TOKEN[::-1]}\n")
    token.write_text(TOKEN)
    shared.script = progress(STAGES, failed="ingest")
    flags = ("--host", shared.url, "--user-namespace", "team", "--token-file", token, "--header-file", cookie)
    outcome = lab.submit("--data", "gs://images/numerals", "--wait", *flags)
    shared.faults.append(Fault("GET", "^/experiments$", 403, body=f'{{"message": "no {COOKIE}"}}'.encode()))
    refused = lab.refused("--list", *flags)
    role = "ask whoever runs the cluster for the role."
    assert refused == f"{shared.url}: not allowed (403): no oauth2_proxy_kubeflow=[token]; other=1; {role}"
    written = [path.read_bytes().decode(errors="replace") for path in lab.workplace.rglob("*") if path.is_file()]
    told = [*map(repr, shared.requests), *written, outcome.stdout, outcome.stderr]
    assert any(str(token) in text for text in written)  # the command of the run, which names the file
    for secret in (TOKEN, TOKEN[::-1], COOKIE.split("; ")[0].partition("=")[2]):
        assert [text for text in told if secret in text] == []


@pytest.mark.parametrize(
    ("header", "said", "shown"),
    [
        ("Cookie: a=abc%2Bdefghij%3Dklm", "abc+defghij=klm or abc%2Bdefghij%3Dklm", "[token] or [token]"),
        ('Cookie: b="quoted-secret-value"', "quoted-secret-value", "[token]"),
        ("Authorization: Basic YW5uYTpwYXNzd29yZHM=", "anna:passwords, and passwords", "[token], and passwords"),
        ("Authorization: Basic YW5uYTpsb25nIHBhc3N3b3Jk", "anna's long password", "anna's [token]"),
    ],
)
def test_what_a_server_has_read_of_a_secret_is_not_shown(lab: Lab, tmp_path: Path, header: str, said: str, shown: str):
    path = tmp_path / "header"
    path.write_text(header)
    lab.server.faults.append(Fault("GET", "^/experiments$", 403, body=json.dumps({"message": said}).encode()))
    assert lab.refused("--list", "--header-file", path) == (
        f"{lab.server.url}: not allowed (403): {shown}; ask whoever runs the cluster for the role."
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "it is empty"), ("kubeflow-userid", "each line must be NAME: VALUE"), ("a b: c", "each line must be")],
)
def test_a_file_without_headers_is_named(lab: Lab, tmp_path: Path, content: str, problem: str):
    header = tmp_path / "header"
    header.write_text(content)
    said = lab.refused("--list", "--header-file", header)
    assert said.startswith(f"{header}: cannot be read ({problem}")
    assert said.endswith("); put a fresh header there.")
    lost = lab.refused("--list", "--header-file", tmp_path / "lost")
    assert lost == f"--header-file {tmp_path / 'lost'}: no such file, or it cannot be read."


def test_a_file_of_headers_is_looked_into_before_anything_is_asked(tmp_path: Path):
    header = tmp_path / "header"
    own = (
        "Host: a",
        "content-length: 5",
        "Content-Type: text/plain",
        "Transfer-Encoding: chunked",
        "Connection: close",
    )
    twice = "Cookie: a=1\ncookie: b=2"
    sentences = {
        "Cookie": f"{header}: cannot be read (each line must be NAME: VALUE); put a fresh header there.",
        twice: f"{header}: has cookie twice; write one line (with `; ` between the values of a Cookie).",
    }
    for line in own:
        name = line.partition(":")[0]
        sentences[line] = f"{header}: has {name}, which each request sets for itself; leave that line out."
    for content, sentence in sentences.items():
        header.write_text(content)
        with pytest.raises(UserError) as refused:
            choose_endpoint(Config(name="lab"), {"header_file": str(header)})
        assert str(refused.value) == sentence


def test_a_file_of_headers_from_windows_is_read(lab: Lab, shared: KfpServer, tmp_path: Path):
    header = tmp_path / "header"
    header.write_bytes(f"\ufeffkubeflow-userid: {WHO}\r\n".encode())
    here = ("--list", "--host", shared.url, "--user-namespace", "team")
    assert lab.done(*here, "--header-file", header) == "experiment default: no runs yet\n"


def test_headers_are_neither_sent_unencrypted_nor_taken_along(lab: Lab, shared: KfpServer, tmp_path: Path):
    header = tmp_path / "header"
    header.write_text(f"kubeflow-userid: {WHO}\n")
    assert lab.refused("--list", "--host", "http://kfp.example", "--header-file", header) == (
        "http://kfp.example: a token would be sent unencrypted; give an address that begins with https."
    )
    target = (("Location", f"{shared.url}{API}/experiments"),)
    lab.server.faults += [Fault("GET", "^/experiments$", 302, body=b"", headers=target)] * 20
    assert lab.refused("--list", "--header-file", header) == (
        f"{lab.server.url}: the credentials are not accepted (401: Request header error: there is no user identity "
        "header); say who you are, by --header-file or --token-file."
    )


def by_plugin(path: Path, command: str, *args: str, server: object = "http://127.0.0.1:1", **more: str) -> Path:
    """Writes a kubeconfig whose user logs in by a command."""
    version = {"apiVersion": "client.authentication.k8s.io/v1beta1", "interactiveMode": "Never"}
    return by_user(path, {"exec": {**version, "command": command, "args": [*args], **more}}, server)


def by_user(path: Path, user: dict[str, Any], server: object = "http://127.0.0.1:1") -> Path:
    parts = {"cluster": {"server": server}, "user": user, "context": {"cluster": "test", "user": "test"}}
    content: dict[str, Any] = {f"{kind}s": [{"name": "test", kind: part}] for kind, part in parts.items()}
    content |= {"apiVersion": "v1", "kind": "Config", "current-context": "test"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_plugin_of_the_kubeconfig_that_hangs_is_named_and_ended(lab: Lab, tmp_path: Path):
    script = f"echo $$ > '{tmp_path}/process'; exec sleep 300"
    path = by_plugin(tmp_path / "kubeconfig", "/bin/sh", "-c", script)
    run = "01234567-89ab-cdef-0123-456789abcdef"
    start = time.monotonic()
    said = lab.refused("--attach", run, "--timeout", "0.05", KFP_HOST="", KUBECONFIG=str(path))
    assert time.monotonic() - start < 40
    assert said == (
        "the plugin sh, by which the kubeconfig logs in, has given no answer for 3 s; `kubectl cluster-info` shows "
        "whether it works."
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_a_plugin_of_the_kubeconfig_that_gives_no_token_is_named_with_what_it_says(lab: Lab, tmp_path: Path):
    plugin = partial(by_plugin, server=lab.server.url)
    failing = plugin(tmp_path / "failing", "sh", "-c", "echo 'your login has expired' >&2; exit 1")
    missing = plugin(tmp_path / "missing", "gke-auth", installHint="Install gke-auth by gcloud.")
    unnamed = plugin(tmp_path / "unnamed", "gke-auth")
    talking = plugin(tmp_path / "talking", "echo", "a secret")
    listing = partial(lab.refused, "--list", KFP_HOST="")
    said = together(
        *(partial(listing, KUBECONFIG=str(path)) for path in (failing, missing, unnamed, talking)),
    )
    check = "`kubectl cluster-info` shows whether it works."
    missed = "the plugin gke-auth, by which the kubeconfig logs in, cannot be started (No such file or directory)"
    assert said == [
        f"the plugin sh, by which the kubeconfig logs in, failed (your login has expired); {check}",
        f"{missed}; Install gke-auth by gcloud.",
        f"{missed}; install it, or put it on the PATH.",
        f"the plugin echo, by which the kubeconfig logs in, has printed no token; {check}",
    ]
    assert lab.server.requests == []


def test_a_server_of_the_kubeconfig_that_is_not_there_has_nothing_to_do_with_a_port_forward(
    lab: Lab, closed_port: int, tmp_path: Path
):
    path = by_user(tmp_path / "kubeconfig", {}, f"http://127.0.0.1:{closed_port}")
    said = lab.refused("--list", KFP_HOST="", KUBECONFIG=str(path))
    assert re.fullmatch(
        r"the kubeconfig's cluster: no answer \(.*refused\); check that `kubectl cluster-info` works and that the "
        r"context of the kubeconfig is right\.",
        said,
    )


def test_a_kubeconfig_that_cannot_be_used_is_one_sentence(lab: Lab, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    google = by_user(tmp_path / "google", {"auth-provider": {"name": "gcp"}}, lab.server.url)
    number = by_user(tmp_path / "number", {"token": TOKEN}, 5)
    listing = partial(lab.refused, "--list", KFP_HOST="")
    said = together(*(partial(listing, KUBECONFIG=str(path)) for path in (google, number, tmp_path / "folder")))
    beginning = "no endpoint: neither --host nor a kubeconfig ("
    end = "); for a GKE cluster: gcloud container clusters get-credentials CLUSTER."
    for sentence, problem in zip(
        said,
        ("Your default credentials were not found. .*", "'int' object .*", f".*Is a directory: '{tmp_path}/folder'"),
        strict=True,
    ):
        assert re.fullmatch(f"{re.escape(beginning)}{problem}{re.escape(end)}", sentence), sentence
