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

COMMAND = ["python3", "-u", "-m"]  # begins the command of a stage that can be forked; the module follows
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
            ours.close()
            server.terminate()
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
                self._ask(writing)
            except OSError:  # the server has died, or the command is too long for a message
                return super().run()
            finally:
                os.close(writing)
            for line in output:
                print(line, end="")
        print("\n")  # as kfp does
        code = b""
        with contextlib.suppress(OSError):  # the server was killed, and the stage with it
            code = self._server.recv(16)
        return Status.SUCCESS if code == b"0" else Status.FAILURE

    def _ask(self, output: int) -> None:
        """Asks for the stage.

        Raises:
            OSError: it cannot be asked for, is no Python module, or has an environment of its own, which its packages
                might have to see when they are imported.
        """
        if self.full_command[: len(COMMAND)] != COMMAND or self.env_vars:
            raise OSError
        module, *arguments = self.full_command[len(COMMAND) :]
        request = {"module": module, "arguments": arguments}
        socket.send_fds(self._server, [json.dumps(request, ensure_ascii=False).encode()], [output])
