"""Starts the stages of a run by forking: `python -m pipelines.local.fork_server SOCKET PACKAGE...`, in their Python.

It imports the packages and does nothing else with them, so that each stage begins with all of them in its memory, and
is a process of its own nevertheless, with its own output and exit code. It imports one package after another, and while
a stage runs: what only later stages need, the first does not wait for.

A request comes through the socket whose number SOCKET is: the module that is the stage and its arguments, as JSON, and
with it the file descriptor for its output. The answer, when the stage has ended, is its exit code as subprocess has it.
The server ends when the other side closes the socket, or by a signal; a stage that still runs is ended with it.
"""

import contextlib
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from components.shared.process import SIGNALS, end_with_parent, handle_signals

LONGEST = 1 << 20  # bytes of a request, which are more than Linux takes in one message


def main() -> None:
    """Serves requests until the socket is closed."""
    end_with_parent()
    handle_signals(_end)
    connection = socket.socket(fileno=int(sys.argv[1]))
    packages = iter(sys.argv[2:])
    while True:
        _import_until(lambda: select.select([connection], [], [], 0)[0], packages)
        message, descriptors, _, _ = socket.recv_fds(connection, LONGEST, 1)
        if not message:
            return
        stage = os.fork()
        if not stage:
            connection.close()
            _become_stage(**json.loads(message), output=descriptors[0])
        os.close(descriptors[0])
        connection.send(str(_wait(stage, packages)).encode())


def _wait(stage: int, packages: Iterator[str]) -> int:
    """The exit code of a stage; while it runs, packages are imported."""
    _import_until(lambda: os.waitid(os.P_PID, stage, os.WEXITED | os.WNOHANG | os.WNOWAIT), packages)
    return os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])


def _import_until(is_due: Callable[[], object], packages: Iterator[str]) -> None:
    """Imports packages until something is due, which is asked between them, or none is left."""
    while not is_due() and (package := next(packages, None)):
        with contextlib.suppress(Exception):  # the stage that needs it will say what is wrong
            importlib.import_module(package)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _become_stage(module: str, arguments: list[str], output: int) -> NoReturn:
    """Does what `python -m MODULE ARGUMENT...` does, with the output to a file descriptor."""
    for number in SIGNALS:
        if signal.getsignal(number) == _end:
            signal.signal(number, signal.SIG_DFL)
    logging.root.handlers.clear()  # which packages have added; kfp's executor adds its own
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    end_with_parent()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
