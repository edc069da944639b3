"""Starts the stages of a run by forking: `python -m pipelines.local.fork_server SOCKET PACKAGE...`, in their Python.

It imports the packages and does nothing else with them, so that each stage begins with all of them in its memory, and
is a process of its own nevertheless, with its own output and exit code. It imports them one after another, also while a
stage runs: what only later stages need, the first does not wait for.

A fork has only the thread that forks. So none of the packages may start a thread of Python, or one that others wait
for, when it is imported; a test looks at that.

A request comes through the socket whose number SOCKET is: the module that is the stage and its arguments, as JSON, and
with it the file descriptor for its output. The stage itself answers STARTED, or the server REFUSED if it cannot fork;
when the stage has ended, the server sends its exit code as subprocess has it. The server ends when the other side
closes the socket, or by a signal; a stage that still runs is ended with it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from components.shared.process import end_with_parent, handle_signals

LONGEST = 1 << 20  # bytes of a request, which are more than Linux takes in one message
STARTED, REFUSED = b"started", b"refused"


def main() -> None:
    """Serves requests until the socket is closed."""
    handle_signals(signal.SIG_DFL)  # which ends it at once: a handler of Python's would wait for the end of an import
    end_with_parent()
    connection = socket.socket(fileno=int(sys.argv[1]))
    packages = iter(sys.argv[2:])
    while True:
        _import_until_asked(connection, packages)
        message, descriptors, _, _ = socket.recv_fds(connection, LONGEST, 1)
        if not message:
            return
        waiter = _start(connection, message, descriptors[0])
        os.close(descriptors[0])
        if waiter:
            _import_until_asked(connection, packages)
            waiter.join()  # a fork must not find another thread


def _import_until_asked(connection: socket.socket, packages: Iterator[str]) -> None:
    """Imports packages until a request has come, which is looked for between them, or none is left."""
    while not select.select([connection], [], [], 0)[0] and (package := next(packages, None)):
        import_package(package)


def import_package(name: str) -> None:
    """Imports a package; what is wrong with it says the stage that needs it."""
    with contextlib.suppress(Exception):
        importlib.import_module(name)


def _start(connection: socket.socket, message: bytes, output: int) -> threading.Thread | None:
    """Forks the stage, and returns the thread that waits for it; None if it cannot be forked."""
    gc.freeze()  # what is there by now no stage has to collect, which took seconds and copied its memory
    server = os.getpid()
    try:
        stage = os.fork()
    except OSError:  # such as too little memory, of which kfp needs less
        connection.send(REFUSED)
        return None
    if not stage:
        _become_stage(connection, server, **json.loads(message), output=output)
    waiter = threading.Thread(target=_tell_end, args=(connection, stage))
    waiter.start()
    return waiter


def _tell_end(connection: socket.socket, stage: int) -> None:
    """Waits for the end of a stage, in a thread, since an import would let its reader wait."""
    code = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    with contextlib.suppress(OSError):  # nobody wants to know any more
        connection.send(str(code).encode())


def _become_stage(
    connection: socket.socket, server: int, *, module: str, arguments: list[str], output: int
) -> NoReturn:
    """Does what `python -m MODULE ARGUMENT...` does, with the output to a file descriptor."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    end_with_parent()
    if os.getppid() != server:  # it has died too early for that
        os._exit(1)
    connection.send(STARTED)
    connection.close()
    _forget_server()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _forget_server() -> None:
    """Undoes what importing packages has done to the process and a new Python would not have."""
    logging.root.handlers.clear()  # kfp's executor adds its own
    atexit.unregister(shutil.rmtree)  # of the folder that matplotlib makes where it cannot write to the home
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # else the stages would draw the same numbers


if __name__ == "__main__":
    main()
