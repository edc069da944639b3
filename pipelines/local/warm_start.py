"""Warm starts: the stages of a run are forked by a process that has imported their packages; see fork_server.py.

kfp.local stays the runner; only how it starts the process of a stage differs. Whatever the server cannot start, kfp
starts as always.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

from kfp.local import subprocess_task_handler
from kfp.local.status import Status
from kfp.local.subprocess_task_handler import SubprocessTaskHandler

from pipelines.local.fork_server import STARTED

COMMAND = ["python3", "-u", "-m"]  # begins the command of a stage that can be forked; the module follows
GONE = "The process that it was forked from has died; run it again, or start the stages without it, by --cold."
# What the stages import that takes long, in the order in which the stages of a training pipeline need it.
PACKAGES = (
    *("kfp.dsl.executor_main", "numpy", "PIL.Image", "pydantic", "apache_beam", "tensorflow"),
    *("tensorflow_data_validation", "jinja2", "tensorflow_transform", "sklearn.metrics", "matplotlib.figure", "cv2"),
)


@contextlib.contextmanager
def start_stages_warm(python: str) -> Iterator[None]:
    """Lets kfp's SubprocessRunner have the stages forked.

    Args:
        python: the stages' Python.
    """
    own = subprocess_task_handler.SubprocessTaskHandler
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [python, "-u", "-m", "pipelines.local.fork_server", str(theirs.fileno()), *PACKAGES]
    with ours, theirs:
        server = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        theirs.close()
        subprocess_task_handler.SubprocessTaskHandler = partial(_ForkedStage, ours)
        try:
            yield
        finally:
            subprocess_task_handler.SubprocessTaskHandler = own
            server.kill()  # it has nothing to clean up, and a stage that still runs is told by the kernel
            server.wait()


class _ForkedStage(SubprocessTaskHandler):  # type: ignore[misc]  # kfp has no types
    """A task handler as kfp.local calls it: with keyword arguments, and then `run`."""

    def __init__(self, server: socket.socket, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._server = server

    def run(self) -> Status:
        """Runs the stage, and prints what it says while it says it."""
        reading, writing = os.pipe()
        with open(reading, encoding="utf-8", errors="replace") as output:
            try:
                is_started = self._can_be_forked() and self._ask(writing)
            finally:
                os.close(writing)
            if not is_started:
                return super().run()
            for line in output:
                print(line, end="")
        print("\n")  # as kfp does
        code = self._receive()
        if not code:
            print(GONE)
        return Status.SUCCESS if code == b"0" else Status.FAILURE

    def _can_be_forked(self) -> bool:
        """Whether it is a Python module without an environment of its own, which its packages might have to see."""
        return self.full_command[: len(COMMAND)] == COMMAND and not self.env_vars

    def _ask(self, output: int) -> bool:
        """Asks for the stage; returns whether it has started, which it has not if the server cannot fork, or is gone.

        Args:
            output: the file descriptor that it writes to.
        """
        module, *arguments = self.full_command[len(COMMAND) :]
        request = json.dumps({"module": module, "arguments": arguments}).encode()
        try:
            socket.send_fds(self._server, [request], [output])
        except OSError:  # the server is gone, or the command is too long for a message
            return False
        return self._receive() == STARTED

    def _receive(self) -> bytes:
        """An answer of the server; empty if it is gone."""
        try:
            return self._server.recv(16)
        except ConnectionError:
            return b""
