"""Starts commands of the project by forking: `python fork_server.py SOCKET`, as commands.py has it.

Of a command that takes a second, most is the import of packages. This process imports them once, nothing of the project
and nothing of the tests, and forks a child for each command: a process of its own, with its own arguments, environment,
folder, output and exit code, which ends as any Python does.

A request comes through the socket whose number SOCKET is: the arguments, the environment and the folder as JSON, and
with them what is to be the child's stdin, stdout and stderr, and a socket, which gets the number of the process, and
when that has ended its exit code. The server ends when the other side closes the socket for requests.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import socket
import sys
import time
import types
import warnings
from typing import Any, NoReturn

LONGEST = 1 << 20  # bytes of a request, which are more than Linux takes in one message
PACKAGES = (
    *("docker", "dvc.repo", "google.cloud.storage", "kfp.client", "kfp.compiler", "kfp.kubernetes", "kfp.local"),
    *("kubernetes.utils", "psutil", "pydantic", "pygit2", "rich.live", "rich.progress", "rich.table", "yaml"),
)


def main() -> None:
    """Serves requests until the socket is closed."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the commands do
        for package in PACKAGES:
            importlib.import_module(package)
    gc.freeze()  # what is there by now no child has to look through
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data:
                    selector.unregister(key.fileobj)
                    _tell_end(*key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 4)
                if not message:
                    return
                *streams, number = descriptors
                answer = socket.socket(fileno=number)
                child = os.fork()
                if not child:
                    selector.close()
                    requests.close()
                    answer.close()
                    _become_command(streams, **json.loads(message))
                for stream in streams:
                    os.close(stream)
                _send(answer, child)
                has_ended = os.pidfd_open(child)
                selector.register(has_ended, selectors.EVENT_READ, (child, has_ended, answer))


def _tell_end(child: int, has_ended: int, answer: socket.socket) -> None:
    """Sends the exit code, as subprocess has it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(has_ended)
    with answer:
        _send(answer, code)


def _send(answer: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        answer.sendall(str(number).encode())


def _become_command(streams: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Does what `python SCRIPT ARGUMENT...` does, and ends the process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _read_environment()
    script = os.path.abspath(arguments[0])
    sys.argv = arguments
    sys.orig_argv = [sys.executable, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    module = types.ModuleType("__main__")
    module.__file__ = script
    sys.modules["__main__"] = module
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec")
    exec(code, vars(module))  # noqa: S102
    sys.exit()


def _read_environment() -> None:
    """Reads what Python and the packages have read of the environment when they were imported."""
    time.tzset()
    modules: Any = sys.modules
    for name in ("kubernetes.config", "kubernetes.config.kube_config"):
        modules[name].KUBE_CONFIG_DEFAULT_LOCATION = os.environ.get("KUBECONFIG", "~/.kube/config")
    modules["kfp.client"].Client._LOCAL_KFP_CONTEXT = os.path.expanduser("~/.config/kfp/context.json")
    modules["kfp.client.auth"].LOCAL_KFP_CREDENTIAL = os.path.expanduser("~/.config/kfp/credentials.json")
    modules["google.cloud._helpers"]._USER_ROOT = os.path.expanduser("~")
    importlib.reload(modules["google.auth.compute_engine._metadata"])
    importlib.reload(modules["fsspec.config"])


if __name__ == "__main__":
    main()
