"""Runs the project's commands as a user does, but without importing their packages each time; see fork_server.py.

Commands that a test interrupts, or whose imports or start it looks at, get a Python of their own, by subprocess.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")
# What begins like this is read when Python starts, and what is else read then, fork_server.py reads again.
OF_PYTHON = ("PYTHON", "LC_", "LANG", "LD_")
ENVIRONMENT = dict(os.environ)  # of the server; tests/conftest.py imports this before a test may change it

_starting = threading.Lock()  # two tests' threads must not start two servers


def run_command(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Runs `python SCRIPT ARGUMENT...` to its end, with nothing on stdin, and captures what it prints."""
    command = [sys.executable, *arguments]
    if _list_of_python(environment) != _list_of_python(ENVIRONMENT):
        pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        return subprocess.run(command, cwd=folder, env=environment, timeout=timeout, **pipes)
    request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (output, to_output), (errors, to_errors) = os.pipe(), os.pipe()
    with ours, open(output, encoding="utf-8") as stdout, open(errors, encoding="utf-8") as stderr:
        with theirs, open(os.devnull, "rb") as nothing, open(to_output, "wb"), open(to_errors, "wb"):
            descriptors = [nothing.fileno(), to_output, to_errors, theirs.fileno()]
            with _starting:
                server = _start_server()
            socket.send_fds(server, [json.dumps(request).encode()], descriptors)
        process = int(ours.recv(16))
        ours.settimeout(timeout)
        with ThreadPoolExecutor(2) as pool:
            printed = [pool.submit(stream.read) for stream in (stdout, stderr)]
            try:
                code = int(ours.recv(16))
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                ours.settimeout(None)
                ours.recv(16)
                raise
            return subprocess.CompletedProcess(command, code, *(text.result() for text in printed))


def _list_of_python(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(item for item in environment.items() if item[0].startswith(OF_PYTHON))


@cache
def _start_server() -> socket.socket:
    """The socket that takes requests; the server ends with this process."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, str(SERVER), str(theirs.fileno())]
    with theirs:
        server = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(server.wait)
    atexit.register(requests.close)  # which is called first
    return requests
