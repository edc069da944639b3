"""How the process of a stage ends: with its children, and without temporary files."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.shared.process import Throw, leave_nothing_behind
from tests.conftest import ROOT, ends_soon

# A stage that has begun an output, has a child and a temporary file, and waits.
STAGE = """
import subprocess, sys, tempfile, time
from components.shared import process
from components.shared.errors import UserError, exit_on_user_error
from components.shared.files import new_directory

@exit_on_user_error
def stage():
    with new_directory(sys.argv[1]) as folder, tempfile.NamedTemporaryFile(delete=False) as file:
        (folder / "half").touch()
        child = subprocess.Popen(["sleep", "600"])
        print("ready", child.pid, flush=True)
        {body}
process._PATIENCE = {patience}
{before}
stage()
"""


@contextmanager
def start(
    folder: Path, body: str, wrapper: str = "", *, patience: float = 0.5, before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Yields the stage, when it is ready, as the leader of a session; kills it at the end.

    Args:
        folder: for its files.
        body: what it does.
        wrapper: code that starts it in its turn.
        patience: seconds after a signal, before it is ended without cleaning up.
        before: code outside the stage.
    """
    (folder / "tmp").mkdir()
    command = [sys.executable, "-c", STAGE.format(body=body, patience=patience, before=before), str(folder / "output")]
    if wrapper:
        command = [sys.executable, "-c", wrapper, *command]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


def list_session(leader: int) -> list[str]:
    """What runs in the session of a process, zombies left aside."""
    import psutil

    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or []))
        except ProcessLookupError:
            continue
    return found


def wait_for_end(leader: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while left := list_session(leader):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


WAITS = "time.sleep(600)"
SWALLOWS = """
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_stage_with_its_children_and_files(number: signal.Signals, tmp_path: Path) -> None:
    with start(tmp_path, WAITS) as process:
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        wait_for_end(process.pid)
        assert process.stderr
        assert process.stderr.read() == ""
    assert left_in(tmp_path) == ["tmp"]


NOHUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_stage_goes_on_after_a_hangup_that_nohup_ignores(tmp_path: Path) -> None:
    body = """
        while True:
            sys.stdin.readline()
            print("alive", flush=True)
"""
    with start(tmp_path, body, NOHUP) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "alive\n"
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM


def test_a_stage_ends_although_a_library_swallows_the_signal(tmp_path: Path) -> None:
    with start(tmp_path, SWALLOWS) as process:
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        wait_for_end(process.pid)


LOSES = """
        Slow()  # Python drops what is raised while it deletes an object, as C code does in other places
        time.sleep(600)
"""
SLOW = """
class Slow:
    def __del__(self):
        print("deleting", flush=True)
        time.sleep(60)
"""


def test_a_signal_whose_exception_gets_lost_is_raised_again(tmp_path: Path) -> None:
    with start(tmp_path, LOSES, patience=600, before=SLOW) as process:
        assert process.stdout
        assert process.stdout.readline() == "deleting\n"
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        wait_for_end(process.pid)
    assert left_in(tmp_path) == ["tmp"]


def test_a_command_ends_although_the_exception_gets_lost() -> None:
    program = f"import time\nfrom components.shared.process import exit_on_signals\n{SLOW}\nwith exit_on_signals():"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program + LOSES], cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        assert process.stdout.readline() == b"deleting\n"
        process.terminate()
        try:
            said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (128 + signal.SIGTERM, (b"", b""))  # no "Exception ignored in"


def test_a_second_signal_after_a_lost_exception_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    body = """
        try:
            Slow()
            time.sleep(600)
        finally:
            print("cleaning", flush=True)
            time.sleep(0.3)
            print("clean", flush=True)
"""
    with start(tmp_path, body, patience=600, before=SLOW) as process:
        assert process.stdout
        assert process.stdout.readline() == "deleting\n"
        process.terminate()
        assert process.stdout.readline() == "cleaning\n"
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stdout.readline() == "clean\n"


class Interrupted(Exception):
    """Built-in exceptions take no weak references."""


def test_an_exception_that_nobody_waits_for_any_more_is_not_raised_again() -> None:
    """It got lost, but the block has ended before it is sent again."""
    throw, number = Throw(Interrupted), signal.SIGUSR1
    before = signal.signal(number, throw.start)
    try:
        with contextlib.suppress(Interrupted):
            signal.raise_signal(number)
        throw.is_over = True
        for _ in range(10):
            time.sleep(0.01)
    finally:
        signal.signal(number, before)


def test_more_signals_do_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    body = """
        try:
            print("working", flush=True)
            time.sleep(600)
        finally:
            print("cleaning", flush=True)
            time.sleep(0.3)
            print("clean", flush=True)
"""
    with start(tmp_path, body) as process:
        assert process.stdout
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        assert process.wait(60) == 128 + signal.SIGINT
        assert process.stdout.readline() == "clean\n"
    assert left_in(tmp_path) == ["tmp"]


PARENT = """
import subprocess, sys
subprocess.run(sys.argv[1:])
"""


def test_a_stage_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with start(tmp_path, WAITS, PARENT) as process:
        process.kill()
        wait_for_end(process.pid)
    assert left_in(tmp_path) == ["tmp"]


def test_a_stage_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    """Its parent may be killed while it starts; its output then goes to a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", STAGE.format(body=WAITS, patience=0.5, before=""), str(tmp_path / "output")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=writer, start_new_session=True)
    os.close(writer)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert ends_soon(process.pid)
    assert left_in(tmp_path) == []


def test_what_a_block_has_changed_is_as_before() -> None:
    def look() -> list[object]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        return [handlers, os.getpgrp(), tempfile.gettempdir(), os.environ.get("TMPDIR")]

    before = look()
    with leave_nothing_behind():
        folder = Path(tempfile.gettempdir())
        assert os.environ["TMPDIR"] == str(folder)
        (folder / "file").touch()
        assert look() != before
    assert look() == before
    assert not folder.exists()
