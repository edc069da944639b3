"""Processes that work side by side, each with a TensorFlow of its own.

They need no shared memory, which containers may lack and with it the pools of multiprocessing and joblib. The kernel
ends them with the process that started them.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from components.shared.errors import UserError
from components.shared.process import end_with_parent

# As many as there are cores are started; threads of theirs would only be in each other's way.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def start_workers(function: Callable[..., Any], count: int) -> Iterator["Workers"]:
    """Starts processes that call a function; they are gone when the block ends.

    Args:
        function: What they call. It must be picklable, as must be what it takes and returns.
        count: The number of processes.

    Yields:
        The workers.
    """
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    before = dict(os.environ)
    os.environ.update(_ONE_THREAD)
    try:
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, function), daemon=True)
            process.start()
            there.close()
            processes[here] = process
        yield Workers(processes)
    finally:
        os.environ.clear()
        os.environ.update(before)
        for process in processes.values():
            process.kill()
        for process in processes.values():
            process.join()


class Workers:
    """Processes that call a function."""

    def __init__(self, processes: dict[Connection, SpawnProcess]) -> None:
        """Takes the processes, each with the connection through which it gets its work."""
        self._processes = processes

    def map(self, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What the function returns for each of the tasks, in their order; a task is the tuple of its arguments.

        Raises:
            UserError: a process was killed.
            RuntimeError: the function raised an error, whose trace the process has printed.
        """
        waiting = list(enumerate(tasks))
        results: dict[int, Any] = {}
        idle, busy = list(self._processes), dict[Connection, int]()
        while len(results) < len(tasks):
            while idle and waiting:
                connection = idle.pop()
                busy[connection], task = waiting.pop(0)
                with self._explain_end(connection):
                    connection.send(task)
            for connection in [each for each in wait(busy) if isinstance(each, Connection)]:
                with self._explain_end(connection):
                    results[busy.pop(connection)] = connection.recv()
                idle.append(connection)
        return [results[number] for number in range(len(tasks))]

    @contextmanager
    def _explain_end(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            process = self._processes[connection]
            process.join()
            if process.exitcode == -signal.SIGKILL:
                raise UserError("a process of the audit was killed, as when memory runs out; give it more.") from None
            raise RuntimeError(f"a process of the audit ended with exit code {process.exitcode}") from None


def _work(connection: Connection, function: Callable[..., Any]) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a trace
    while True:
        connection.send(function(*connection.recv()))
