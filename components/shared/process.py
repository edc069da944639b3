"""The process of a stage: however it ends, its children end with it and its temporary files are gone."""

import contextlib
import os
import select
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by which people and machines end a process
_PATIENCE = 8  # seconds to clean up in after a signal; Kubernetes gives 30, and submit.py 10
_PAUSE = 0.01  # seconds until a signal that got lost is sent again
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class _SignalReceived(BaseException):
    """Unwinds the stage, so that what it has begun to write is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number  # as shells have it


class _Exit(SystemExit):
    """Unwinds a command likewise."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Throw:
    """Raises an exception in the main thread for a signal, and again as often as it gets lost on its way.

    C code that expects an error may take any exception for it and go on: so does `choice` of numpy's random generators
    at times, and so does Python while it deletes an object.

    Attributes:
        is_over: To be set when the exception has ended what it was to end, or is no longer wanted.
    """

    def __init__(self, kind: Callable[[int], BaseException]) -> None:
        """Nothing is raised yet; `kind` makes the exception of the number of the signal."""
        self.is_over = False
        self._kind = kind
        self._is_lost = False
        self._watched: weakref.ref[BaseException] | None = None

    @contextlib.contextmanager
    def hide_losses(self) -> Iterator[None]:
        """Lets Python say nothing where it ignores the exception, as in the callback of a weak reference."""
        before = sys.unraisablehook

        def tell(ignored: "sys.UnraisableHookArgs") -> None:
            if self._watched is None or ignored.exc_value is not self._watched():
                before(ignored)

        sys.unraisablehook = tell
        try:
            yield
        finally:
            sys.unraisablehook = before

    def start(self, number: int, frame: FrameType | None) -> NoReturn:
        """Handles the first signal; a second one must not interrupt the cleaning up."""
        signal.signal(number, self._go_on)
        raise self._make(number)  # no frame of the traceback may hold it, or its loss would go unnoticed

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        if self._is_lost and not self.is_over:
            self._is_lost = False
            raise self._make(number)

    def _make(self, number: int) -> BaseException:
        def send_again(lost: "weakref.ref[BaseException]") -> None:
            if not self.is_over:
                self._is_lost = True
                _start_timer(_PAUSE, self._send, number)  # what is raised at once would get lost as well

        error = self._kind(number)
        self._watched = weakref.ref(error, send_again)
        return error

    def _send(self, number: int) -> None:
        if not self.is_over:
            os.kill(os.getpid(), number)


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
    throw = Throw(_SignalReceived)
    received: _SignalReceived | None = None
    with _lead_process_group(), restore_handlers(), throw.hide_losses():
        with _use_own_temporary_folder():
            try:
                handle_signals(partial(_end_block, throw))
                yield
            except _SignalReceived as error:
                received = error
            finally:
                throw.is_over = True  # first, since a call could still be interrupted
                handle_signals(signal.SIG_IGN)  # what is left is to clean up
        if received:
            _exit_with_children(received.code)


def end_with_parent() -> None:
    """Lets the kernel send SIGTERM to this process when its parent dies; ends it at once if nobody hears it any more.

    Only Linux can do that.
    """
    if sys.platform == "linux":
        import ctypes  # here, since a component is to import as little as possible

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
    throw = Throw(_Exit)
    with restore_handlers(), throw.hide_losses():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP
                signal.signal(number, throw.start)
        try:
            yield
        finally:
            throw.is_over = True


def handle_signals(handler: signal.Handlers | Callable[[int, FrameType | None], object]) -> None:
    """Sets the handler of all SIGNALS, but not that of a SIGHUP which is ignored, as `nohup` asks for."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _end_block(throw: Throw, number: int, frame: FrameType | None) -> None:
    """Ends the block by an exception; where a library keeps that for itself, the process ends all the same."""
    if throw.is_over:
        return
    handle_signals(signal.SIG_IGN)  # another one would end the cleaning up
    _start_timer(_PATIENCE, _exit_with_children, 128 + number)
    throw.start(number, frame)


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
