"""The processes of a run on this machine: what they see of the environment, and how they end."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

from components.shared.process import Throw, handle_signals, restore_handlers

_FOR_STAGES = {
    "_KFP_RUNTIME": "true",  # kfp imports only what running a step takes, as in its own components: a second less
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# What would change their results, or break their libraries, if the user, or the kernel of a notebook, had set it for
# other work.
_FIXED = {
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "agg",
    "PYTHONOPTIMIZE": "",
    "PYTHONSAFEPATH": "",
    "PYTHONWARNINGS": "ignore",
}
STOPPING = b"Stopping: ending the stage that runs, which takes up to ten seconds.\n"
_PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
# The stages read the names of files as the tools do, and kfp.local reads what they print as UTF-8, whatever the locale.
_UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}


@contextlib.contextmanager
def set_environment(temporary: Path) -> Iterator[None]:
    """Adds what the stages need to the environment, which kfp.local hands to them; what else the user has set stays.

    Keras reads none of the user's settings, such as another precision of numbers, from ~/.keras/keras.json.

    Args:
        temporary: a folder for the temporary files of the stages.
    """
    before = dict(os.environ)
    # One of the variables of Keras ends a training after some epochs.
    theirs = {name: value for name, value in before.items() if not name.startswith("KERAS_")}
    own = {"TMPDIR": str(temporary), "KERAS_HOME": str(temporary / "keras")}
    os.environ.clear()
    os.environ.update(_FOR_STAGES | theirs | _UTF8 | _FIXED | own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Interrupt(KeyboardInterrupt):
    """What a signal becomes: Throw watches it by a weak reference, which a built-in exception does not take."""


class Interruption:
    """What SIGINT, SIGTERM and SIGHUP do to a run: they interrupt its work, and never the end in which it cleans up."""

    def __init__(self) -> None:
        """Nothing has been interrupted yet."""
        self._is_working = self._has_come = False
        self._throw = Throw(_Interrupt)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Handles the signals until the block ends; in a thread, which gets none, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with restore_handlers(), self._throw.hide_losses():
            handle_signals(self._take)
            yield

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Runs the work, which the first of the signals ends by a KeyboardInterrupt."""
        self._is_working = True
        try:
            if self._has_come:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_working, self._throw.is_over = False, True

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._has_come = True
        if self._is_working:
            with contextlib.suppress(OSError):  # not by print, which the signal may have interrupted
                os.write(2, STOPPING)
            self._is_working = False  # the second signal, of a person in a hurry, would end the cleaning up
            self._throw.start(number, frame)


@contextlib.contextmanager
def end_new_children(patience: float = 10) -> Iterator[None]:
    """Lets no process outlive the block that was begun in it; those that were there before are not touched.

    What is left is interrupted, so that it cleans up, and killed if it does not end. On Linux that includes what a
    child that was killed has left.

    Args:
        patience: seconds to wait for them.
    """
    before = set(psutil.Process().children(recursive=True))
    _adopt_orphans(True)
    try:
        yield
    finally:
        children = [child for child in psutil.Process().children(recursive=True) if child not in before]
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)
        left = psutil.wait_procs(children, patience)[1]
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, patience)  # a child that is still dying could write to the folder while it is cleaned
        _adopt_orphans(False)


def _adopt_orphans(adopt: bool) -> None:
    """Makes this process the parent of the descendants whose own parent dies, or leaves them to the system again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
