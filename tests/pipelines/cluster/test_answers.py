"""What `submit.py` says to each wrong answer of a server, whatever it was asked to do."""

import contextlib
import copy
import datetime
import functools
import itertools
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from components.shared.errors import UserError
from pipelines.cluster import actions, answers, checks, connection, runs, waiting
from pipelines.cluster.connection import Cluster
from pipelines.cluster.submission import submit
from pipelines.compiler.config import Config, Endpoint
from pipelines.submission.request import ClusterOptions, RunRequest
from tests.fakes.gcs import EMULATOR, Gcs
from tests.fakes.kfp_rules import Frame, Json, progress
from tests.fakes.kfp_server import API, Fault, KfpServer, Request
from tests.fakes.registry import open_registry
from tests.pipelines.cluster.lab import SMILE, STAGES, VERSIONED, Lab, finished, together, until

RUN = "01234567-89ab-cdef-0123-456789abcdef"
HEALTH = {"commit_sha": "unknown", "tag_name": "2.4.0", "multi_user": False}
LOGIN = b"<!doctype html><title>\n Sign in &amp; go on\x1b[2J</title><form>login</form>"
RIGHT = "check that --host or KFP_HOST is right."
FORWARD = "check that the port-forward is running and that --host or KFP_HOST is right."
CREDENTIALS = "give --token-file, --header-file, --client-id (IAP), or leave out --host to use the kubeconfig."
AGAIN = "if it happens again, ask whoever runs the cluster."


class Wrong(NamedTuple):
    """What a server sends to every request, and what is said of it."""

    says: str  # after the address
    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    length: int | None = None  # what it says that the body has
    act: str = ""  # what else it does
    pause: float = 2  # seconds of a server that is silent


def other(what: str) -> str:
    return f"the answer is not one of Kubeflow Pipelines ({what}); {RIGHT}"


PAGE = f"a web page ('Sign in & go on�[2J') came instead of an answer, such as that of a login; {CREDENTIALS}"
CUT = f"the answer was cut short; {FORWARD}"
SHAPES = {"runs": 5, "experiments": 5, "pipelines": 5, "recurringRuns": 5, "multi_user": "no", "run_id": 5}
ROWS = dict.fromkeys(("runs", "experiments", "pipelines", "recurringRuns"), [{}])
WRONG = {
    "login page": Wrong(PAGE, LOGIN, headers=(("Content-Type", "text/html"),)),
    "login page in a strange charset": Wrong(PAGE, LOGIN, headers=(("Content-Type", "text/html; charset=x-none"),)),
    "way to a login page": Wrong(PAGE, LOGIN, act="redirect"),
    "empty": Wrong(other("it is empty")),
    "no content": Wrong(other("it is empty"), status=204),
    "null": Wrong(other("it is JSON, but no object"), b"null"),
    "list": Wrong(other("it is JSON, but no object"), b"[]"),
    "number": Wrong(other("it is JSON, but no object"), b"5"),
    "text": Wrong(other("it is no JSON"), b"ok\xff"),
    "half": Wrong(other("it was cut short"), b'{"runs": [{"run_id": "a'),
    "connection that ends": Wrong(CUT, b'{"runs": [', length=1000),
    "depth": Wrong(other("its JSON is nested too deeply"), b'{"runs":' + b"[" * 100_000),
    "other object": Wrong(other("it has no multi_user"), b'{"status": "ok"}'),
    "other shape": Wrong(other("multi_user is of type str, not bool"), json.dumps(SHAPES).encode()),
    "empty rows": Wrong(other("it has no multi_user"), json.dumps(ROWS).encode()),
    "endless": Wrong(other("it is endless"), b" " * 5000),
    "drips": Wrong(other("it did not come to its end in time"), b"{" * 100, act="drip"),
    "drips its head": Wrong(other("it did not come to its end in time"), b"x" * 100, act="drip head"),
    "not there": Wrong(
        "not found (404): Not Found; check that this is the address of Kubeflow Pipelines.", b"<html>lost</html>", 404
    ),
    "busy": Wrong(f"answered 503: Service Unavailable; {AGAIN}", b"<html>busy</html>", 503),
    "gateway in a strange charset": Wrong(f"answered 502: Bad Gateway; {AGAIN}", b"<html>\xff\xfe</html>", 502),
    "error of depth": Wrong(f"answered 500: Internal Server Error; {AGAIN}", b"[" * 100_000, 500),
    "slow down": Wrong(
        "answered 429: Too Many Requests; it asks you to come back in 3600 seconds.",
        b"slow down",
        429,
        (("Retry-After", "3600"),),
    ),
    "busy for an hour": Wrong(
        "answered 503: Service Unavailable; it asks you to come back in 3600 seconds.",
        b"",
        503,
        (("Retry-After", "3600"),),
    ),
    "silent": Wrong(f"no answer for 1 s; {FORWARD}", act="sleep"),
    "hangs up": Wrong(
        f"no answer (Remote end closed connection without response); {FORWARD}",
        act="hang up",
    ),
}
# What is said instead when the server was right about its health.
LATER = {
    "other object": {
        "list": "it has no experiments",
        "attach latest": "it has no experiments",
        "attach": "it has no created_at",
        "terminate": "it has no created_at",
        "data": "it has no next_page_token",
        "component": "it has no experiments",
        "delete": "it has no next_page_token",
    },
    "other shape": {
        "list": "experiments is of type int, not list",
        "attach latest": "experiments is of type int, not list",
        "attach": "run_id is of type int, not str",
        "terminate": "run_id is of type int, not str",
        "data": "pipelines is of type int, not list",
        "component": "experiments is of type int, not list",
        "delete": "recurringRuns is of type int, not list",
    },
    "empty rows": {
        "list": "experiments[0] has no experiment_id",
        "attach latest": "experiments[0] has no experiment_id",
        "attach": "it has no created_at",
        "terminate": "it has no created_at",
        "data": "pipelines[0] has no pipeline_id",
        "component": "experiments[0] has no experiment_id",
        "delete": "recurringRuns[0] has no recurring_run_id",
    },
}

IMAGES = RunRequest(experiment="images", config="lab", runs=Path("lost"))
COMMANDS: dict[str, Callable[[Cluster], Any]] = {
    "list": lambda cluster: actions.list_runs(cluster, IMAGES, ClusterOptions({})),
    "attach latest": lambda cluster: actions.attach(
        cluster, "latest", request=IMAGES, options=ClusterOptions({}, timeout=1)
    ),
    "attach": lambda cluster: actions.attach(cluster, RUN, request=IMAGES, options=ClusterOptions({})),
    "terminate": lambda cluster: actions.terminate(cluster, RUN, request=IMAGES, options=ClusterOptions({})),
    "data": lambda cluster: start(cluster, data=VERSIONED),
    "component": lambda cluster: start(cluster, component="train"),
    "delete": lambda cluster: actions.change_schedule(cluster, "nightly", "delete"),
}


def start(cluster: Cluster, options: dict[str, str] | None = None, **what: str) -> str:
    request = RunRequest(experiment="images", config="lab", **what)
    return submit(cluster, request, ClusterOptions({}, **(options or {})))


@contextlib.contextmanager
def serve(wrong: Wrong, healthy: bool) -> Iterator[str]:
    """The address of a server that gives the same wrong answer to each request, perhaps but for that of its health."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = wrong
            if healthy and self.path == f"{API}/healthz":
                answer = Wrong("", json.dumps(HEALTH).encode())
            if answer.act == "redirect" and self.path != "/login":
                answer = Wrong("", status=302, headers=(("Location", "/login"),))
            self.close_connection = answer.act in ("sleep", "hang up") or answer.length is not None
            if answer.act == "sleep":
                time.sleep(answer.pause)
            if answer.act in ("sleep", "hang up"):
                return
            if answer.act == "drip head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            else:
                self.send_response(answer.status)
                for name, value in (*answer.headers, ("Content-Length", str(answer.length or len(answer.body)))):
                    self.send_header(name, value)
                self.end_headers()
            self.write(answer.body, slowly=answer.act.startswith("drip"))

        def write(self, data: bytes, *, slowly: bool) -> None:
            with contextlib.suppress(OSError):  # nobody waits for it any more
                for part in (bytes([byte]) for byte in data) if slowly else (data,):
                    self.wfile.write(part)
                    time.sleep(0.1 if slowly else 0)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()


def make_cluster(url: str) -> Cluster:
    config = Config(name="lab", registry=f"{open_registry().host}/pipelines", tag="v1", pipeline_root="gs://lab/runs")
    return Cluster(config, Endpoint(host=url))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, bucket: Gcs) -> None:
    """So that what would take a minute takes a second; the bucket of make_cluster is there."""
    monkeypatch.setenv(EMULATOR, bucket.url)
    if not bucket.client.bucket("lab").exists():
        bucket.client.create_bucket("lab")
    monkeypatch.setattr(connection, "PATIENCE", 0)
    monkeypatch.setattr(answers, "SILENCE", 1)
    monkeypatch.setattr(answers, "LONGEST", 1)
    monkeypatch.setattr(answers, "LARGEST", 4000)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("healthy", [False, True], ids=["from the start", "later"])
@pytest.mark.parametrize("mode", WRONG)
def test_a_wrong_answer_is_one_sentence_to_every_command(
    mode: str, healthy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    wrong = WRONG[mode]
    if "depth" in mode:
        monkeypatch.setattr(answers, "LARGEST", 10**6)
    with serve(wrong, healthy) as url:
        for name, command in COMMANDS.items():
            began = time.monotonic()
            with pytest.raises(UserError) as raised:
                command(make_cluster(url))
            later = LATER.get(mode, {}).get(name)
            assert (name, str(raised.value)) == (name, f"{url}: {other(later) if healthy and later else wrong.says}")
            assert time.monotonic() - began < 10
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_answer_ends_submit_with_1_and_its_time_out_counts(lab: Lab):
    """A server that says nothing would keep it for half a minute."""
    with serve(WRONG["login page"], healthy=False) as page, serve(WRONG["silent"]._replace(pause=60), True) as silent:
        pages = [("--list",), ("--terminate", "latest"), ("--data", "gs://images/numerals")]
        *said, late = together(
            *(partial(lab.refused, *options, "--host", page) for options in pages),
            partial(lab.refused, "--attach", "latest", "--timeout", "0.05", "--host", silent),
        )
    assert said == [f"{page}: {PAGE}"] * 3
    assert late == f"{silent}: no answer for 3 s; {FORWARD}"


def test_check_waits_once_for_a_server_that_is_none(lab: Lab):
    lab.server.faults += [Fault("GET", "^/healthz$", body=b"null")] * 100
    outcome = lab.submit("--check")
    assert (outcome.returncode, outcome.stderr) == (1, "")
    said = f"{lab.server.url}: {other('it is JSON, but no object')}"
    assert outcome.stdout.splitlines()[:4] == [
        f"✗ endpoint     {said}",
        f"✗ credentials  {said}",
        f"✗ experiment   {said}",
        f"✓ bucket       {lab.root}: written, read back, deleted",
    ]
    assert len(lab.server.requests) < 8  # in one wait of five seconds


def test_a_time_out_ends_the_wait_for_a_server_that_has_fallen_silent(lab: Lab):
    run = lab.begin("trial", [Frame("RUNNING", {"ingest": "RUNNING"})])
    lab.server.faults += [Fault("GET", "^/runs/[^/]+$"), Fault("GET", "^/runs/[^/]+$", seconds=60)]
    began = time.monotonic()
    outcome = lab.submit("--attach", run["run_id"], "--timeout", "0.1")
    assert (outcome.returncode, outcome.stderr) == (124, "")
    assert outcome.stdout.startswith("not finished after 0.1 minutes; the run continues.")
    assert time.monotonic() - began < 40


def test_a_pause_that_the_server_asks_for_is_made_if_it_is_short():
    with KfpServer() as server:
        server.faults.append(Fault("GET", "^/experiments$", 429, headers=(("Retry-After", "1"),)))
        began = time.monotonic()
        assert runs.find_experiment(make_cluster(server.url), "Default") is not None
        assert time.monotonic() - began >= 1
        assert server.faults == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("POST", "^/runs$", 504, done=True), id="gateway"),
        pytest.param(Fault("POST", "^/runs$", body=LOGIN, done=True), id="login page"),
        pytest.param(Fault("POST", "^/runs$", body=b"{}", done=True), id="empty object"),
        pytest.param(Fault("POST", "^/runs$", body=b'{"run_id": "a", "display_name', done=True), id="half"),
    ],
)
def test_a_run_whose_answer_was_lost_is_found_and_not_started_again(lab: Lab, fault: Fault):
    lab.server.faults.append(fault)
    printed = lab.done("--data", "gs://images/numerals")
    (run,) = lab.runs()
    assert printed.splitlines()[1] == f"{lab.server.url}/#/runs/details/{run['run_id']}"
    assert lab.server.workflows == [run["display_name"]]
    assert lab.server.faults == []


WORKFLOWS = (
    "`kubectl -n kubeflow get workflows -o 'custom-columns=NAME:.metadata.name,"
    r"RUN:.metadata.annotations.pipelines\.kubeflow\.org/run_name'` shows it, and "
    "`kubectl -n kubeflow delete workflows NAME` ends it; look there before you try again"
)
SCHEDULES = (
    "`kubectl -n kubeflow get scheduledworkflows` shows it, and "
    "`kubectl -n kubeflow delete scheduledworkflows NAME` ends it; look there before you try again"
)
DOUBTFUL = {
    "answered 500: Internal Server Error; if it happens again, ask whoever runs the cluster": [
        Fault("POST", "^/{}$", 500)
    ],
    "answered 502: Bad Gateway; if it happens again, ask whoever runs the cluster": [Fault("POST", "^/{}$", 502)],
    "answered 503: Service Unavailable; if it happens again, ask whoever runs the cluster": [
        Fault("POST", "^/{}$", 503)
    ],
    "answered 504: Gateway Timeout; if it happens again, ask whoever runs the cluster": [
        Fault("POST", "^/{}$", 504, done=True),
        *[Fault("GET", "^/{}$", 503)] * 20,  # when it looks for what it has made
    ],
    "answered 408: Refused on purpose; if it happens again, ask whoever runs the cluster": [
        Fault("POST", "^/{}$", 408)
    ],
}


@pytest.mark.parametrize("said", DOUBTFUL)
def test_a_run_of_which_nobody_knows_whether_it_started_is_said_to_be_so(said: str, lab: Lab):
    """The server fails with 500 after it has begun the run, which is in no list then."""
    data = ("--data", "gs://images/numerals")
    for path, options in (("runs", data), ("recurringruns", (*data, "--recurring", "n", "--cron", "0 0 3 * * *"))):
        # a recurring run of that name is looked for before it is made
        first = [Fault("GET", "^/recurringruns$")] if path == "recurringruns" else []
        lab.server.faults = [*first, *(fault._replace(path=fault.path.format(path)) for fault in DOUBTFUL[said])]
        asked = len(lab.server.bodies("POST", f"/{path}"))
        outcome = lab.submit(*options)
        (body,) = lab.server.bodies("POST", f"/{path}")[asked:]
        assert (outcome.returncode, outcome.stdout) == (1, "")
        doubt = {
            "runs": f"the run {body['display_name']} may have started all the same, even if no list shows it: "
            f"{WORKFLOWS}",
            "recurringruns": f"the recurring run n may have been made all the same, even if no list shows it: "
            f"{SCHEDULES}",
        }
        assert outcome.stderr == f"{lab.server.url}: {said}; {doubt[path]}.\n"


def test_a_connection_that_is_cut_while_a_run_is_started_leaves_it_in_doubt(lab: Lab):
    lab.server.faults.append(Fault("POST", "^/runs$", cut="request"))
    outcome = lab.submit("--data", "gs://images/numerals")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"{lab.server.url}: no answer (")
    assert outcome.stderr.endswith(f" may have started all the same, even if no list shows it: {WORKFLOWS}.\n")
    assert lab.server.workflows == []


def test_a_run_that_the_database_refuses_has_begun_once_and_is_not_begun_again(lab: Lab):
    """Of a description that is too long the server says so after it has begun the workflow, which no list shows."""
    cluster = make_cluster(lab.server.url)
    package = lab.project / "build/training.yaml"
    version = runs.find_or_upload(cluster, pipeline="training", package=package, version="v1")
    arguments = {"data_uri": "gs://images/numerals"}
    asked = runs.Submission("a run", "x" * 276, "images", version, arguments, "gs://lab/runs", "")
    with pytest.raises(UserError) as raised:
        runs.start(cluster, asked)
    assert str(raised.value) == (
        f"{lab.server.url}: answered 500: Internal error: Error 1406 (22001): Data too long for column 'Description' "
        f"at row 1; {AGAIN.rstrip('.')}; the run a run may have started all the same, even if no list shows it: "
        f"{WORKFLOWS}."
    )
    assert (lab.server.workflows, lab.runs()) == (["a run"], [])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("POST", "^/{}$", 429), id="429"),
        pytest.param(Fault("POST", "^/{}$", 503, headers=(("Retry-After", "1"),)), id="503 with Retry-After"),
        pytest.param(Fault("POST", "^/{}$", 401), id="401"),
        pytest.param(Fault("POST", "^/experiments$", away=1), id="connection refused"),
    ],
)
def test_a_request_that_has_surely_started_nothing_is_repeated(lab: Lab, fault: Fault):
    data = ("--data", "gs://images/numerals")
    nightly = ("--recurring", "n", "--cron", "0 0 3 * * *")
    for path, options in (("runs", data), ("recurringruns", (*data, *nightly))):
        lab.server.faults.append(fault._replace(path=fault.path.format(path)))
        lab.done(*options, "--experiment", f"of {path}")
        assert lab.server.faults == []
    assert len(lab.runs()) == 1
    assert len(lab.server.stored["recurring_run"]) == 1
    assert lab.server.workflows == [lab.runs()[0]["display_name"], "n"]


def test_a_refusal_to_start_a_run_is_not_said_to_be_in_doubt(lab: Lab):
    lab.server.faults.append(Fault("POST", "^/runs$", 403))
    outcome = lab.submit("--data", "gs://images/numerals")
    assert outcome.stderr.endswith("(403): Refused on purpose; ask whoever runs the cluster for the role.\n")
    assert lab.server.workflows == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_run_is_started_says_that_it_may_have(lab: Lab, number: signal.Signals, code: int):
    lab.server.faults.append(Fault("POST", "^/runs$", seconds=20))
    process = lab.start("--data", "gs://images/numerals")
    until(lambda: lab.server.workflows)
    process.send_signal(number)
    outcome = finished(process)
    assert (outcome.returncode, outcome.stderr) == (code, "")
    (name,) = lab.server.workflows
    said = f"the run {name} may have started all the same, even if no list shows it: {WORKFLOWS}."
    assert outcome.stdout.strip() == f"interrupted; {said}"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_run_is_ended_says_that_it_may_end(lab: Lab, number: signal.Signals, code: int):
    lab.begin("trial", [Frame("RUNNING", {"ingest": "RUNNING"})])
    lab.server.faults.append(Fault("POST", ":terminate$", seconds=20))
    process = lab.start("--terminate", "trial")
    until(lambda: not lab.server.faults)
    process.send_signal(number)
    outcome = finished(process)
    assert (outcome.returncode, outcome.stderr) == (code, "")
    assert outcome.stdout == "\ninterrupted; the run trial may end all the same: --list shows its state.\n"


def test_what_is_ended_or_deleted_by_a_request_whose_answer_was_lost_is_no_failure(lab: Lab):
    lab.begin("trial", [Frame("RUNNING", {"ingest": "RUNNING"})])
    lab.server.faults.append(Fault("POST", ":terminate$", cut="answer"))
    assert lab.done("--terminate", "trial").startswith("terminating trial\n")
    lab.done("--data", "gs://images/numerals", "--recurring", "nightly", "--cron", "0 0 3 * * *")
    lab.server.faults.append(Fault("DELETE", "^/recurringruns/", cut="answer"))
    assert lab.done("--recurring", "nightly", "--delete") == "recurring run nightly: deleted\n"
    assert lab.server.faults == []


def test_what_a_server_finds_without_heeding_the_name_is_not_taken(lab: Lab):
    """A run of another name would be ended."""
    lab.begin("trial", [Frame("RUNNING", {"ingest": "RUNNING"})])
    (run,) = lab.runs()
    lab.server.faults += [Fault("GET", "^/runs$", body=json.dumps({"runs": [run]}).encode())]
    assert lab.refused("--terminate", "lost") == "run lost: there is no run of that name; --list shows the newest."
    other = json.dumps({**run, "run_id": RUN}).encode()
    lab.server.faults += [Fault("GET", "^/runs/[^/]+$", body=other)] * 20
    wrong = "it tells of another run than that which was asked for"
    assert lab.refused("--terminate", run["run_id"]) == f"{lab.server.url}: the answer is not one of " + (
        f"Kubeflow Pipelines ({wrong}); {RIGHT}"
    )


def test_pages_that_go_round_in_a_circle_have_an_end():
    with KfpServer() as server:
        page = json.dumps({"runs": [], "next_page_token": "again"}).encode()
        server.faults += [Fault("GET", "^/runs$", body=page)] * 3
        with pytest.raises(UserError, match=r"Pipelines \(its pages go round in a circle\); check"):
            runs.find(make_cluster(server.url), "lost", "images")


def test_latest_and_names_are_looked_for_beyond_the_first_page(lab: Lab):
    lab.begin("the success", [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))], "images")
    run = lab.runs()[0]
    for number in range(25):
        key = f"{number:08}-89ab-cdef-0123-456789abcdef"
        failed = {**run, "run_id": key, "display_name": f"run {number}", "state": "FAILED"}
        lab.server.scripts[key] = iter(())
        lab.server.stored["run"][key] = {**failed, "created_at": f"2100-01-01T00:00:{number:02}Z"}
    cluster = make_cluster(lab.server.url)
    assert runs.find(cluster, "latest", "images", succeeded=True).display_name == "the success"
    assert runs.find(cluster, "latest", "images").display_name == "run 24"
    assert len(runs.list_newest(cluster, "images")) == 20


def test_a_terminal_gets_no_escape_sequence_and_no_negative_duration(lab: Lab):
    """The server's clock goes before this machine's by more than an hour."""
    lab.server._clock = itertools.count(int(time.time()) + 5000)
    run = lab.begin("\x1b]0;title\x07red \x1b[31m\u202e\ud800", [Frame("RUNNING", {"ingest": "RUNNING"})])
    shown = "�]0;title�red �[31m��"
    lab.server.faults.append(Fault("POST", ":terminate$", 400, body=b'{"error": "\\u001b[2J no \\nway"}'))
    listed, refused, waited = together(
        lambda: lab.done("--list"),
        lambda: lab.submit("--terminate", run["run_id"]).stderr,
        lambda: lab.submit("--attach", run["run_id"], "--timeout", "0.02").stdout,
    )
    (row,) = [line for line in listed.splitlines() if "running" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")][::3] == [shown, "0"]
    assert refused == f"{lab.server.url}: answered 400: �[2J no way; {AGAIN}\n"
    assert re.search(r"ingest +running +0\.0 s", waited)
    run["state"] = "FAILED"
    assert lab.refused("--terminate", run["run_id"]) == f"run {shown}: has ended already (failed)."


def test_what_was_before_1970_or_ends_before_it_begins_has_no_duration():
    moments = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (1, 1970, 2000, 2001)]
    never, epoch, early, late = moments
    assert waiting.measure_seconds(never, late) is waiting.measure_seconds(epoch, late) is None
    assert waiting.measure_seconds(early, late) == 366 * 86400
    assert waiting.measure_seconds(late, early) == 0


def test_texts_keep_to_what_the_database_of_the_server_holds(lab: Lab):
    """Its characters have three bytes; what is longer it refuses after it has begun the run."""
    smile = SMILE
    cannot = f"has '{smile}', which the database of Kubeflow Pipelines cannot hold; use another."
    stages = {"ingest": {"parameters": {"classes": ["i", smile]}}}
    configured = lab.configure("smiling", stages=stages)
    path = lab.project / "pipelines/config/smiling.yaml"
    data = ("--data", "gs://images/numerals")
    refusals = together(
        lambda: lab.refused(*data, "--experiment", smile),
        lambda: lab.refused(*data, "--recurring", smile, "--cron", "0 0 3 * * *"),
        lambda: lab.refused("--data", f"gs://images/{smile}"),
        lambda: lab.refused(*data, "--test-data", f"gs://images/{smile}"),
        lambda: lab.refused(*data, "--config", configured),
    )
    assert refusals == [
        f"--experiment: {cannot}",
        f"--recurring: {cannot}",
        f"the parameter data_uri: {cannot}",
        f"the parameter test_data_uri: {cannot}",
        f"{path}: {cannot}",
    ]
    lab.done(*data, "--config", lab.configure(f"smiling-{smile}", tag="t" * 128))
    (run,) = lab.runs()
    assert "config: smiling-�" in run["description"]
    version = lab.server.stored["pipeline_version"][run["pipeline_version_reference"]["pipeline_version_id"]]
    assert re.fullmatch("[0-9a-f]{16}", version["display_name"])


CASES = int(os.environ.get("FUZZ_CASES", 40))
FUZZ_SEED = os.environ.get("FUZZ_SEED", "")
DONE = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
CHANGES = [None, 5, -1e300, True, "", "x\x1b[2J", "../..", "9999-12-31T23:59:59Z", [], [None], {}, {"a": None}]
CHANGED: dict[str, Callable[[Cluster, Json], Any]] = {
    "list": lambda cluster, _: actions.list_runs(cluster, IMAGES, ClusterOptions({})),
    "attach": lambda cluster, run: actions.attach(
        cluster, run["run_id"], request=IMAGES, options=ClusterOptions({}, timeout=0.001)
    ),
    "terminate": lambda cluster, run: actions.terminate(
        cluster, run["display_name"], request=IMAGES, options=ClusterOptions({})
    ),
    "component": lambda cluster, _: start(cluster, component="train"),
    "data": lambda cluster, _: start(cluster, data="gs://images/numerals"),
    "pause": lambda cluster, _: actions.change_schedule(cluster, "nightly", "pause"),
    "check": lambda cluster, _: checks.check_endpoint(cluster),
}


class ChangingServer(KfpServer):
    """Changes one place of one of its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = itertools.count()
        self.answers: list[Json] = []
        self.number, self.place, self.change = -1, (), None  # which answer, where in it, to what

    def answer(self, request: Request) -> Json:
        content = copy.deepcopy(super().answer(request))
        self.answers.append(copy.deepcopy(content))
        if next(self.count) == self.number:
            *way, last = self.place
            within = functools.reduce(lambda part, key: part[key], way, content)
            within[last] = self.change
        return content


def list_places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a content as JSON has it."""
    pairs: Any = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs:
        yield (*place, key)
        if isinstance(value, (dict, list)):
            yield from list_places(value, (*place, key))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", CHANGED)
def test_an_answer_that_is_changed_in_one_place_ends_in_no_trace(
    name: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A sentence, or what is right; and a terminal gets no escape sequence either way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(EMULATOR, lab.gcs.url)
    monkeypatch.setattr(answers, "LARGEST", 10**7)
    monkeypatch.setattr(runs, "SETTLING", 0)
    monkeypatch.setattr(waiting, "SETTLING", 0)
    command = CHANGED[name]
    with ChangingServer() as server:
        lab = lab._replace(server=server)
        ends = {"component": None, "attach": progress(STAGES, failed="train")[-1:]}
        run = lab.begin("trial", ends.get(name, [Frame("RUNNING", {"ingest": "RUNNING"})]) or DONE, "images")
        lab.leave(run, "ingest/examples", "transform/transform_graph", "transform/transformed_examples")
        start(make_cluster(server.url), options={"recurring": "nightly", "cron": "0 0 3 * * *"}, data="gs://images/n")
        state = copy.deepcopy((server.stored, server.specs))
        server.answers.clear()
        command(make_cluster(server.url), run)
        cases = [
            (number, place, change)
            for number, answer in enumerate(list(server.answers))
            for place in list_places(answer)
            for change in CHANGES
        ]
        capsys.readouterr()
        for number, place, change in random.Random(f"{name}{FUZZ_SEED}").sample(cases, min(CASES, len(cases))):
            server.stored, server.specs = copy.deepcopy(state)
            server.count, server.number, server.place, server.change = itertools.count(), number, place, change
            said = "."
            try:
                command(make_cluster(server.url), server.stored["run"][run["run_id"]])
            except UserError as error:
                said = str(error)
            except Exception as error:
                error.add_note(f"answer {number}, {place} as {change!r}")
                raise
            assert re.fullmatch(r"[^\x00-\x1f\x7f]*\.", said), (number, place, change)
            printed = capsys.readouterr().out
            assert not re.search(r"[\x00-\x09\x0b-\x1f]", printed), (number, place, change)


def test_of_names_that_differ_in_capitals_alone_the_exact_one_is_taken(lab: Lab):
    """The server's database finds both."""
    exact, other = lab.begin("trial", [Frame("RUNNING")]), lab.begin("Trial", [Frame("RUNNING")])
    page = json.dumps({"runs": [other, exact]}).encode()
    for name, expected in (("trial", exact), ("Trial", other), ("TRIAL", other)):
        lab.server.faults.append(Fault("GET", "^/runs$", body=page))
        assert runs.find(make_cluster(lab.server.url), name, "default").run_id == expected["run_id"]
