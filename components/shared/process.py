"""The process of a stage: however it ends, its children end with it and its temporary files are gone."""

import contextlib
import ctypes
import os
import select
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by which people and machines end a process
_PATIENCE = 8  # seconds to clean up in after a signal; Kubernetes gives 30, and submit.py 10
_PAUSE = 0.01  # seconds until a signal that got lost is sent again
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


_thrown: list["weakref.ref[BaseException]"] = []  # the exception that is on its way, if there is one


class _SignalReceived(BaseException):
    """Unwinds the stage, so that what it has begun to write is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number  # as shells have it


class _Exit(SystemExit):
    """Unwinds a command likewise."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@contextlib.contextmanager
def leave_nothing_behind() -> Iterator[None]:
    """Runs a stage in a process group and with a temporary folder of its own.

    SIGINT, SIGTERM, SIGHUP and the death of whoever started it end the block and then the process, with its children.
    In a thread, which gets no signals, it only gives the folder.
    """
    if threading.current_thread() is not threading.main_thread():
        with _use_own_temporary_folder():
            yield
        return
    end_with_parent()
    received: _SignalReceived | None = None
    with _lead_process_group(), restore_handlers():
        with _use_own_temporary_folder():
            try:
                handle_signals(_end_block)
                yield
            except _SignalReceived as error:
                received = error
            finally:
                stop_throwing()
                handle_signals(signal.SIG_IGN)  # what is left is to clean up
        if received:
            _exit_with_children(received.code)


def end_with_parent() -> None:
    """Lets the kernel send SIGTERM to this process when its parent dies; ends it at once if nobody hears it any more.

    Only Linux can do that.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        output = select.poll()
        output.register(1, 0)
        if any(event & select.POLLERR for _, event in output.poll(0)):  # a pipe whose reader has died
            os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def _lead_process_group() -> Iterator[None]:
    """Makes the process the first of a new group, which has its children in it."""
    before = os.getpgrp()
    if before == os.getpid():
        yield
        return
    os.setpgid(0, 0)
    try:
        yield
    finally:
        os.setpgid(0, before)


@contextlib.contextmanager
def restore_handlers() -> Iterator[None]:
    """Handles the signals after the block as before it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the block, and then the process, as an exception; in a thread it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with restore_handlers():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP
                signal.signal(number, _exit)
        try:
            yield
        finally:
            stop_throwing()


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    throw(_Exit, number)


def throw(kind: Callable[[int], BaseException], number: int) -> NoReturn:
    """Raises an exception for a signal, in its handler, and once more if it gets lost before stop_throwing is called.

    C code that expects an error may take any exception for it and go on: so does `choice` of numpy's random generators
    at times, and so does Python while it deletes an object.
    """
    raise _watch(kind(number), kind, number)  # whose traceback has no frame that would keep it alive


def _watch(error: BaseException, kind: Callable[[int], BaseException], number: int) -> BaseException:
    def throw_again(lost: "weakref.ref[BaseException]") -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda number, frame: throw(kind, number))
            # Later, since what is raised here would get lost as well.
            _start_timer(_PAUSE, os.kill, os.getpid(), number)

    _thrown[:] = [weakref.ref(error, throw_again)]
    return error


def stop_throwing() -> None:
    """Lets the exception that a signal became be dropped: what it was to end has ended."""
    _thrown.clear()


def handle_signals(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Sets the handler of all SIGNALS, but not that of a SIGHUP which is ignored, as `nohup` asks for."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _end_block(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the block by an exception; where a library keeps that for itself, the process ends all the same."""
    handle_signals(signal.SIG_IGN)  # a second one would end the cleaning up
    _start_timer(_PATIENCE, _exit_with_children, 128 + number)
    throw(_SignalReceived, number)


def _start_timer(seconds: float, function: Callable[..., object], *arguments: int) -> None:
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()


def _exit_with_children(code: int) -> NoReturn:
    """Ends the process without waiting for its threads, which may be in the middle of something long."""
    os.killpg(0, signal.SIGTERM)  # which this process ignores by now
    os._exit(code)


@contextlib.contextmanager
def _use_own_temporary_folder() -> Iterator[None]:
    """Lets Python's tempfile and C++ libraries write their temporary files to a folder that is removed at the end."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="stage-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
