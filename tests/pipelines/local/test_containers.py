"""`--runner docker` with a Podman of the tests' own: all but the stage is real, which is a shell script.

A run of ingest alone does what stage.sh in its data says, and writes outputs that nobody reads.
"""

import contextlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kfp.local.docker_task_handler import DockerTaskHandler

from components.shared.errors import STOPS, UserError
from pipelines.local import containers
from pipelines.local.containers import _Container, check_images, connect
from pipelines.local.processes import STOPPING
from tests.conftest import PATIENCE, copy_project, run_python
from tests.fakes.podman import ARCHITECTURE, STAGE, Answer, MissingError, Podman, Proxy, running_podman

IMAGE = "localhost/ingest:small"
FOREIGN = "arm64" if ARCHITECTURE == "amd64" else "amd64"


def test_host_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match=rf"^No Docker or Podman answers at unix://{tmp_path}/none.sock; start one"):
        check_images(["train:x"])


def test_without_docker_every_place_of_a_socket_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    if any(Path(path).exists() for path in ("/var/run/docker.sock", "/run/podman/podman.sock")):
        pytest.skip("there is a socket")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(UserError) as raised:
        check_images(["train:x"])
    for place in ("/var/run/docker.sock", f"{tmp_path}/podman/podman.sock", "/run/podman/podman.sock"):
        assert f"unix://{place}" in str(raised.value)


ANSWERS: dict[str, Any] = {  # of a Docker, by the end of the request's path
    "/version": {
        "Version": "29.1.0",
        "ApiVersion": "1.52",
        "Os": "linux",
        "Arch": ARCHITECTURE,
        "Components": [{"Name": "Engine"}],
    },
    "/info": {"SecurityOptions": []},
    "/_ping": "OK",
    "/images/train:x/json": {"Id": "sha256:0", "Os": "linux", "Architecture": ARCHITECTURE},
}


@contextlib.contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], *, delay: float = 0) -> Iterator[str]:
    """A server that submit.py takes for Docker, with answers as JSON, or as they are if they are text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(delay if self.path.endswith("/version") else 0)
            found = [answer for path, answer in answers.items() if self.path.endswith(path)]
            body = (found[0] if isinstance(found[0], str) else json.dumps(found[0])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody waits any more
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"tcp://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("DOCKER_HOST", address)
    try:
        yield address
    finally:
        server.shutdown()


def test_a_daemon_that_does_not_answer_is_not_waited_for_as_long_as_for_a_container(monkeypatch: pytest.MonkeyPatch):
    assert (containers._ANSWER, containers._PATIENCE) == (20, 300)
    monkeypatch.setattr(containers, "_ANSWER", 1)
    with answering(monkeypatch, ANSWERS) as address:
        daemon = connect()
        assert (str(daemon), daemon.client.api.timeout) == (f"Docker at {address}", 300)
    with answering(monkeypatch, ANSWERS, delay=30) as address, pytest.raises(UserError) as raised:
        check_images(["train:x"])
    assert str(raised.value) == (
        f"No Docker or Podman answers at {address} (no answer within 1 seconds); start one (for Podman: systemctl "
        "--user start podman.socket), name another by DOCKER_HOST, or leave out --runner docker."
    )


OTHER = "it answers something else than Docker does"
VERSION: dict[str, Any] = ANSWERS["/version"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"/version": "<html>"}, OTHER),
        ({"/version": {}}, OTHER),
        ({"/version": []}, OTHER),
        ({"/version": {**VERSION, "Os": None}}, f"{OTHER}: Os: is None, but should be a valid string"),
        ({"/version": {**VERSION, "Components": [{}]}}, f"{OTHER}: Components.0.Name: is missing"),
        (
            {"/version": {**VERSION, "ApiVersion": "1.1"}},
            "API versions below 1.24 are no longer supported by this library",
        ),
        ({"/info": []}, f"{OTHER}: is no JSON object"),
        ({"/info": "<html>"}, OTHER),
    ],
)
def test_a_server_that_is_no_docker_is_told_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
):
    with answering(monkeypatch, {**ANSWERS, **changes}) as address, pytest.raises(UserError) as raised:
        check_images(["train:x"])
    assert str(raised.value).startswith(f"No Docker or Podman answers at {address} ({reason}); start one (for Podman: ")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, f"{OTHER}: Id: is missing"),
        ([], f"{OTHER}: is no JSON object"),
        ({"Id": "sha256:0", "Os": "linux"}, f"{OTHER}: Architecture: is missing"),
        ("<html>", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_daemon_that_does_not_say_what_an_image_is_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: object, reason: str
):
    with answering(monkeypatch, ANSWERS):
        check_images(["train:x"])
    other = {**ANSWERS, "/images/train:x/json": answer}
    with answering(monkeypatch, other) as address, pytest.raises(UserError) as raised:
        check_images(["train:x"])
    assert str(raised.value) == (
        f"train:x: Docker at {address} does not say whether it has this image ({reason}); see that "
        "`docker image inspect train:x` works."
    )


def test_ours_takes_what_kfp_gives_its_handler():
    given = inspect.signature(DockerTaskHandler).parameters
    assert set(given) == {"image", "full_command", "pipeline_root", "runner", "env_vars"}
    inspect.signature(_Container).bind(None, Path(), {}, print, **dict.fromkeys(given))  # raises what does not fit


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that other users may enter too, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="containers-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared_podman(home: Path) -> Iterator[Podman]:
    try:
        with running_podman(home) as podman:
            podman.load(IMAGE)
            yield podman
    except MissingError as error:
        pytest.skip(f"no containers here: {error}")


@pytest.fixture
def podman(shared_podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman, its service running, and an environment in which the command podman means this one."""
    shared_podman.start()
    for name, value in shared_podman.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{shared_podman.socket}")
    yield shared_podman
    shared_podman.remove_containers()  # that a test which failed has left


@pytest.fixture
def proxy(podman: Podman, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that submit.py takes for Podman."""
    proxy = Proxy(home / "proxy.sock", podman.socket)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
    yield proxy
    proxy.close()


class Outcome(NamedTuple):
    code: int
    output: str
    errors: str
    record: dict[str, Any]  # run.json; empty without a run


class Place:
    """A copy of the project and a data folder."""

    def __init__(self, folder: Path) -> None:
        self.project, self.data, self.runs = copy_project(folder / "project"), folder / "data", folder / "runs"
        config = {"registry": "localhost", "tag": "small"}
        (self.project / "pipelines/config/small.yaml").write_text(yaml.safe_dump(config))
        self.data.mkdir()

    def say(self, script: str) -> None:
        """What the stage does before it writes its outputs."""
        (self.data / "stage.sh").write_text(script)

    def start(self, *options: Any, prefix: Iterable[str] = ()) -> "subprocess.Popen[str]":
        command = list(map(str, [*prefix, sys.executable, *self._complete(options)]))
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.runs.parent, **pipes)

    def finish(self, process: "subprocess.Popen[str]") -> Outcome:
        output, errors = process.communicate(timeout=PATIENCE)
        return self._describe(process.returncode, output, errors)

    def run(self, *options: Any, prefix: Iterable[str] = ()) -> Outcome:
        if prefix:
            return self.finish(self.start(*options, prefix=prefix))
        done = run_python(*self._complete(options), cwd=self.runs.parent)
        return self._describe(done.returncode, done.stdout, done.stderr)

    def _complete(self, options: Sequence[Any]) -> list[Any]:
        which = ["--local", "--runner", "docker", "--config", "small", "--component", "ingest", "--runs", self.runs]
        return [self.project / "submit.py", *which, *(options or ("--data", self.data))]

    def _describe(self, code: int, output: str, errors: str) -> Outcome:
        records = sorted(self.runs.glob("*/*/run.json"))
        return Outcome(code, output, errors, json.loads(records[-1].read_text()) if records else {})

    def read_log(self) -> str:
        return sorted(self.runs.glob("*/*/run.log"))[-1].read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def find_message(outcome: Outcome) -> str:
    assert (outcome.code, outcome.errors, outcome.record["state"]) == (1, "", "failed"), outcome
    message: str = outcome.record["stages"]["ingest"]["message"]
    assert f"ingest failed: {message}" in outcome.output
    return message


def succeeded(outcome: Outcome) -> bool:
    assert (outcome.code, outcome.errors) == (0, ""), outcome
    return bool(outcome.record["state"] == "succeeded")


def test_a_stage_is_the_caller_whoever_is_the_user_of_its_image(podman: Podman, place: Place):
    place.say('echo "ingest: as $(id -u)"; touch "$data/more" || echo "ingest: cannot write the data"')
    place.runs.mkdir(mode=0o700)
    assert succeeded(place.run())
    assert f"ingest: as {os.getuid()}\n" in place.read_log()
    assert "ingest: cannot write the data\n" in place.read_log()
    made = [path for path in place.runs.rglob("*") if path.name in ("examples", "executor_output.json")]
    assert len(made) == 2
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(os.getuid(), os.getgid())}
    assert podman.list_containers() == []


@pytest.fixture
def place_of_another(home: Path) -> Place:
    """What somebody else than root may use, whom SOMEBODY_ELSE makes of root."""
    if os.getuid() != 0:
        pytest.skip("only root can run a command as somebody else")
    folder = Path(tempfile.mkdtemp(dir=home))  # not below pytest's, which is root's alone
    place = Place(folder)
    place.say('echo "ingest: as $(id -u):$(id -g)"')
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 4711, 4712)
    return place


# Who has this one right more may run a Python in root's home, but write only where anybody else may.
RIGHT = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search")
SOMEBODY_ELSE = ("setpriv", "--reuid=4711", "--regid=4712", "--clear-groups", *RIGHT)


def test_of_a_podman_of_root_somebody_else_is_the_caller_too(
    proxy: Proxy, place_of_another: Place, monkeypatch: pytest.MonkeyPatch
):
    """As in a group that may use root's socket."""
    monkeypatch.setenv("HOME", str(place_of_another.runs.parent))
    assert succeeded(place_of_another.run(prefix=SOMEBODY_ELSE))
    assert "ingest: as 4711:4712\n" in place_of_another.read_log()
    assert {path.stat().st_uid for path in place_of_another.runs.rglob("*")} == {4711}


def test_a_socket_that_the_caller_may_not_use_is_said_to_be_so(podman: Podman, place_of_another: Place):
    podman.socket.chmod(0o600)
    outcome = place_of_another.run(prefix=SOMEBODY_ELSE)
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors == (
        f"No Docker or Podman answers at unix://{podman.socket} (Permission denied); start one (for Podman: systemctl "
        "--user start podman.socket), name another by DOCKER_HOST, or leave out --runner docker.\n"
    )


AWKWARD = ["colon: it's a=b 100% $HOME #1 c;d&e", 'comma, "quoted" it\'s a=b 100% $HOME #1 c;d&e']


@pytest.mark.parametrize("name", AWKWARD)
def test_paths_are_mounted_whatever_is_in_them(podman: Podman, place: Place, tmp_path: Path, name: str):
    place.say('cat "$data/image.txt"')
    (place.data / "image.txt").write_text("ingest: found it\n")
    data = place.data.rename(tmp_path / f"data {name}")
    place.runs = tmp_path / f"runs {name}"
    assert succeeded(place.run("--data", data))
    assert "ingest: found it\n" in place.read_log()
    assert "made\n" in [path.read_text() for path in place.runs.rglob("examples")]


@pytest.mark.parametrize(("where", "name"), [("data", "a:b,c"), ("runs", "a:b,c"), ("data", 'a:"b"')])
def test_a_path_that_no_form_of_a_mount_takes_is_refused_before_anything_runs(
    podman: Podman, place: Place, tmp_path: Path, where: str, name: str
):
    awkward = tmp_path / name
    if where == "data":
        place.data = place.data.rename(awkward)
    else:
        place.runs = awkward
    outcome = place.run()
    shown = awkward if where == "data" else awkward / "default"
    assert (outcome.code, outcome.output, outcome.record) == (1, "", {})
    assert outcome.errors == (
        f"{shown}: Podman cannot mount a path that has a colon and a comma or quotation mark; move or rename it, or "
        "leave out --runner docker.\n"
    )
    assert not place.runs.exists()


def test_a_table_comes_with_the_images_that_it_names(podman: Podman, place: Place):
    (place.data / "images.csv").write_text("path,label\nsmall/1.png,a\n")
    (place.data / "small").mkdir()
    (place.data / "small/1.png").write_text("ingest: a picture\n")
    podman.load("localhost/ingest:table", script=STAGE.replace("test -f", 'cat "${data%/*}/small/1.png"; test -f', 1))
    place.runs = place.data / "runs"  # which is writable all the same
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: table\n")
    assert succeeded(place.run("--data", place.data / "images.csv"))
    assert "ingest: a picture\n" in place.read_log()


def test_the_command_takes_the_place_of_an_entry_point(podman: Podman, place: Place):
    """As it does on a cluster."""
    podman.load("localhost/ingest:entry", entrypoint=("/bin/no-such-program",))
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: entry\n")
    assert succeeded(place.run())


def test_what_a_stage_has_done_is_taken_from_the_cache_while_its_image_is_the_same(podman: Podman, place: Place):
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: cached\n")
    podman.load("localhost/ingest:cached")
    assert succeeded(place.run())
    second = place.run()
    assert succeeded(second)
    assert second.record["stages"]["ingest"]["made_by"]
    podman.load("localhost/ingest:cached", script=STAGE + "echo done\n")
    third = place.run()
    assert succeeded(third)
    assert "made_by" not in third.record["stages"]["ingest"]


def test_the_sentence_of_a_stage_is_all_that_is_told(podman: Podman, place: Place):
    place.say(f'echo "ingest: reads"; echo "{STOPS}" >&2; echo "train/1.png is not readable." >&2; exit 1')
    assert find_message(place.run()) == "train/1.png is not readable."
    assert podman.list_containers() == []


def test_a_stage_that_ends_well_without_outputs_has_failed(podman: Podman, place: Place):
    place.say("exit 0")
    assert find_message(place.run()) == "it ended without a word, as if killed; see run.log."


def test_a_container_that_cannot_run_is_told_in_a_sentence(podman: Podman, place: Place):
    podman.load("localhost/ingest:broken", script="")
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: broken\n")
    message = find_message(place.run())
    assert message.startswith("localhost/ingest:broken: its container cannot run (")
    assert message.endswith(").")
    assert "\n" not in message
    assert podman.list_containers() == []


def test_an_image_that_podman_has_built_is_found_without_a_registry(podman: Podman, place: Place):
    """As `make images` leaves it: its name is localhost/ingest for Podman alone."""
    (place.project / "pipelines/config/small.yaml").write_text("tag: small\n")
    assert succeeded(place.run())


def test_missing_image_is_named(podman: Podman, place: Place):
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: of-no-commit\n")
    outcome = place.run()
    assert (outcome.code, outcome.record) == (1, {})
    assert outcome.errors == (
        "localhost/ingest:of-no-commit: no such image on this machine; build it with `make images`, or pull it.\n"
    )


def test_an_image_for_another_platform_is_refused_before_anything_runs(podman: Podman, place: Place):
    podman.load("localhost/ingest:foreign", architecture=FOREIGN, script=b"\x7fELF of another machine")
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: foreign\n")
    outcome = place.run()
    assert (outcome.code, outcome.output, outcome.record) == (1, "", {})
    assert outcome.errors == (
        f"localhost/ingest:foreign: this image is for linux/{FOREIGN}, and Podman at unix://{podman.socket} cannot run "
        f"it on linux/{ARCHITECTURE}; build it on this machine with `make images`, or pull the one for this machine.\n"
    )
    assert podman.list_containers() == []


def test_an_image_for_another_platform_that_can_be_run_is_run(podman: Podman, place: Place):
    """As by an emulator."""
    podman.load("localhost/ingest:emulated", architecture=FOREIGN)
    (place.project / "pipelines/config/small.yaml").write_text("registry: localhost\ntag: emulated\n")
    assert succeeded(place.run())
    assert podman.list_containers() == []


def test_a_daemon_that_cannot_look_for_an_image_is_told(proxy: Proxy, place: Place):
    proxy.before("GET /v[0-9.]+/images/", lambda: Answer("500 Internal Server Error", "database is locked"))
    outcome = place.run()
    assert (outcome.code, outcome.record) == (1, {})
    assert outcome.errors == (
        f"{IMAGE}: Podman at unix://{proxy.path} does not say whether it has this image (database is locked); see that "
        f"`podman image inspect {IMAGE}` works.\n"
    )


def wait_for_line(place: Place, line: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(line in path.read_text() for path in place.runs.glob("*/*/run.log")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def run_printed(command: str) -> None:
    subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=120)


def test_a_daemon_that_is_lost_is_told_with_the_container_that_it_leaves(podman: Podman, place: Place):
    place.say("echo ingest: sleeps; sleep 1000")
    process = place.start()
    wait_for_line(place, "ingest: sleeps")
    podman.kill()
    message = find_message(place.finish(process))
    (name,) = podman.list_containers()
    assert message == (
        f"Podman at unix://{podman.socket} stopped answering while the stage ran; once it answers, remove the "
        f"container: `podman rm --force {name}`."
    )
    assert re.fullmatch(r"\d{8}-\d{6}-ingest-ingest-[0-9a-f]{6}", name)
    assert "Traceback" not in place.read_log()
    run_printed(f"podman rm --force {name}")
    assert podman.list_containers() == []


def test_a_daemon_that_starts_again_at_once_keeps_no_container(podman: Podman, proxy: Proxy, place: Place):
    proxy.before("DELETE ", podman.start)
    place.say("echo ingest: sleeps; sleep 1000")
    process = place.start()
    wait_for_line(place, "ingest: sleeps")
    podman.kill()
    assert (
        find_message(place.finish(process)) == f"Podman at unix://{proxy.path} stopped answering while the stage ran."
    )
    assert podman.list_containers() == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("before create", signal.SIGINT),
        ("after create", signal.SIGTERM),
        ("before start", signal.SIGINT),
        ("after start", signal.SIGINT),
        ("before logs", signal.SIGTERM),
        ("before wait", signal.SIGINT),
    ],
)
def test_a_signal_leaves_no_container_whenever_it_comes(
    podman: Podman, proxy: Proxy, place: Place, moment: str, number: signal.Signals
):
    processes: list[subprocess.Popen[str]] = []

    def interrupt() -> None:
        processes[0].send_signal(number)
        time.sleep(0.5)  # in which it is taken, while the request or its answer is on its way

    when, request = moment.split()
    if request != "wait":
        place.say("sleep 1000")
    hook = proxy.before if when == "before" else proxy.after
    hook(rf"(GET|POST) /v[0-9.]+/containers/\S*{request}", interrupt)
    processes.append(place.start())
    outcome = place.finish(processes[0])
    assert (outcome.code, outcome.errors) == (130, STOPPING.decode())
    assert (outcome.record["state"], outcome.record["stages"]["ingest"]["state"]) == ("cancelled", "cancelled")
    assert podman.list_containers() == []


def test_a_container_that_stays_after_a_success_is_told_and_fails_nothing(podman: Podman, proxy: Proxy, place: Place):
    proxy.before("DELETE ", lambda: Answer("500 Internal Server Error", "device or resource busy"))
    outcome = place.run()
    assert succeeded(outcome)
    (name,) = podman.list_containers()
    warning = f"The container {name} is not removed (device or resource busy); remove it: `podman rm --force {name}`.\n"
    assert warning in outcome.output
    run_printed(f"podman rm --force {name}")
    assert podman.list_containers() == []
