"""The step notify: what the webhook is told, by what the API of Kubeflow Pipelines and the task itself know."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.notify import outcome as module
from tests.conftest import ROOT
from tests.fakes.gcs import unanswered_port
from tests.fakes.kfp_rules import Frame, task_details
from tests.fakes.webhook import Webhook, open_webhook

TASKS = ["before-ingest", "before-train", "audit", "compare"]
RUN = {
    "run_id": "0b5e5c5e-5c0b-4a2e-8a6c-0d1f2e3a4b5c",
    "display_name": "improvement-1f",
    "created_at": "2026-11-22T14:00:00Z",
}
LINK = f"https://kfp.example.com/#/runs/details/{RUN['run_id']}"


class Api:
    """Answers each question about the run by the next of its frames; the last one stays."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.frames: list[Frame | bytes] = []
        self.asked: list[str] = []

    def answer(self, path: str) -> bytes:
        self.asked.append(path)
        frame = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        if isinstance(frame, bytes):
            return frame
        details = task_details(RUN, frame, "2026-11-22T14:05:00Z")
        return json.dumps({**RUN, "state": frame.state, "run_details": {"task_details": details}}).encode()


@pytest.fixture
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = api.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api = Api(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield api
        server.shutdown()
        thread.join()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with open_webhook() as webhook:
        monkeypatch.setenv("WEBHOOK", webhook.url)
        yield webhook


def nodes(**states: str) -> Frame:
    """The state of each task, whose names have a _ for the dash; the task itself runs."""
    in_parts = {
        (f"exit-handler-1/{'before/' if name.startswith('before') else ''}{name.replace('_', '-')}"): state
        for name, state in states.items()
    }
    return Frame("RUNNING", {**in_parts, "notify": "RUNNING"})


DONE = nodes(before_ingest="CACHED", before_train="SUCCEEDED", audit="SUCCEEDED", compare="SUCCEEDED")
FAILED = nodes(before_ingest="SUCCEEDED", before_train="FAILED", audit="OMITTED", compare="OMITTED")


def tell(api: str, told: str = "RUNNING", pages: str = "https://kfp.example.com/#/runs/details/") -> None:
    from kfp.dsl import PipelineTaskFinalStatus

    from components.notify.component import notify

    status = PipelineTaskFinalStatus(told, "improvement-x7k2p", "exit-handler-1", None, "")
    notify(status, run=RUN["display_name"], run_id=RUN["run_id"], tasks=TASKS, api=api, pages=pages)


def test_a_success(api: Api, webhook: Webhook):
    api.frames = [DONE]
    tell(api.url)
    assert webhook.texts == [f"improvement-1f: succeeded, {LINK}"]
    assert api.asked == [f"/apis/v2beta1/runs/{RUN['run_id']}"]


def test_a_failure_names_the_task(api: Api, webhook: Webhook):
    api.frames = [FAILED]
    tell(api.url, "FAILED")
    assert webhook.texts == [f"improvement-1f: failed in before-train, {LINK}"]


def test_of_several_failures_the_first_is_named():
    ends = {"audit": "2026-11-22T14:07:00Z", "before-train": "2026-11-22T14:09:00Z", "root": "2026-11-22T14:01:00Z"}
    found = [{"display_name": name, "state": "FAILED", "end_time": end} for name, end in ends.items()]
    assert module.read_outcome(found, TASKS) == ("failed", "audit")


def test_a_task_whose_driver_failed_has_failed():
    found = [{"display_name": "before-train-driver", "state": "FAILED"}, {"display_name": "before-train"}]
    assert module.read_outcome(found, TASKS) == ("failed", "before-train")


def test_an_attempt_that_was_followed_by_another_is_no_failure():
    done = [{"display_name": name, "state": "SUCCEEDED"} for name in TASKS]
    assert module.read_outcome([{"display_name": "audit(0)", "state": "FAILED"}, *done], TASKS) == ("succeeded", "")


@pytest.mark.parametrize("told", ["SUCCEEDED", "COMPLETE", "RUNNING", "FAILED"])
def test_what_the_api_says_comes_before_what_the_task_was_told(api: Api, webhook: Webhook, told: str):
    api.frames = [FAILED]
    tell(api.url, told)
    assert webhook.texts == [f"improvement-1f: failed in before-train, {LINK}"]


def test_an_api_that_is_late_is_asked_again(api: Api, webhook: Webhook):
    api.frames = [nodes(before_ingest="SUCCEEDED", before_train="RUNNING"), Frame("RUNNING"), FAILED]
    tell(api.url)
    assert webhook.texts == [f"improvement-1f: failed in before-train, {LINK}"]
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("SUCCEEDED", "succeeded"),
        ("COMPLETE", "succeeded"),
        ("FAILED", "failed"),
        ("CANCELLED", "cancelled"),
        ("RUNNING", "ended"),
    ],
)
def test_without_an_api_it_says_what_it_was_told(webhook: Webhook, told: str, state: str):
    with unanswered_port() as port:
        tell(f"http://127.0.0.1:{port}", told)
    assert webhook.texts == [f"improvement-1f: {state}, {LINK}"]


@pytest.mark.parametrize("answer", [b"<html>Log in</html>", b"[]", b'{"run_details": {"task_details": 7}}', b""])
def test_an_api_that_is_something_else_is_left_alone(api: Api, webhook: Webhook, answer: bytes):
    api.frames = [answer]
    tell(api.url, "FAILED")
    assert webhook.texts == [f"improvement-1f: failed, {LINK}"]
    assert len(api.asked) == 1


def test_an_api_that_never_knows_is_not_asked_for_long(api: Api, webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE", 1)
    api.frames = [nodes(before_ingest="RUNNING")]
    tell(api.url, "FAILED")
    assert webhook.texts == [f"improvement-1f: failed, {LINK}"]


def test_without_pages_there_is_no_link(api: Api, webhook: Webhook):
    api.frames = [DONE]
    tell(api.url, pages="")
    assert webhook.texts == ["improvement-1f: succeeded"]


def test_the_address_may_end_with_a_line_break(api: Api, webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    """As it does in a secret that was made of a file."""
    monkeypatch.setenv("WEBHOOK", f"{webhook.url}\n")
    api.frames = [DONE]
    tell(api.url)
    assert len(webhook.texts) == 1


def run_step(api: Api, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The step as its contract starts it, in a process of its own."""
    container = yaml.safe_load((ROOT / "components/notify/component.yaml").read_text())["implementation"]["container"]
    status = {"state": "FAILED", "pipelineJobResourceName": "x7k2p", "pipelineTaskName": "exit-handler-1", "error": {}}
    values = {"status": status, "run": RUN["display_name"], "run_id": RUN["run_id"], "tasks": TASKS, "api": api.url}
    executor_input = {
        "inputs": {"parameterValues": {**values, "pages": ""}},
        "outputs": {"outputFile": str(folder / "o")},
    }
    words = [json.dumps(executor_input) if isinstance(word, dict) else word for word in container["args"]]
    command = [sys.executable, *container["command"][1:], *words]
    clean = {name: value for name, value in os.environ.items() if name != "WEBHOOK"} | {"_KFP_RUNTIME": "true"}
    return subprocess.run(command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True)


def test_its_own_process_sends_the_line_and_logs_it(api: Api, webhook: Webhook, tmp_path: Path):
    api.frames = [FAILED]
    done = run_step(api, tmp_path, WEBHOOK=webhook.url)
    assert done.returncode == 0, done.stderr
    assert webhook.texts == ["improvement-1f: failed in before-train"]
    assert "notify: improvement-1f: failed in before-train\n" in done.stdout
    assert "hush" not in done.stdout + done.stderr


def test_a_dead_webhook_is_one_sentence_in_the_log_and_no_failure(api: Api, tmp_path: Path):
    api.frames = [FAILED]
    with unanswered_port() as port:
        done = run_step(api, tmp_path, WEBHOOK=f"http://127.0.0.1:{port}/services/hush")
    assert done.returncode == 0, done.stderr
    assert "notify: improvement-1f: failed in before-train\n" in done.stdout
    assert "notify: 127.0.0.1: the webhook cannot be reached (Connection refused), so nobody was told" in done.stdout
    assert "hush" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "notify: there is no address; does the secret that the config names exist?\n"),
        ("hooks.slack.com/hush", "notify: the address of the webhook is none; it begins with https://"),
        ("http://hooks.slack.com/hush", "would be sent unencrypted"),
    ],
)
def test_an_address_that_is_missing_or_wrong_is_no_failure(
    api: Api, address: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WEBHOOK", address)
    api.frames = [DONE]
    tell(api.url)
    out, err = capsys.readouterr()
    assert sentence in out
    assert "hush" not in out + err
