"""The processes of a run on this machine: what they see of the environment, and how they end."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import psutil

_FOR_STAGES = {
    "_KFP_RUNTIME": "true",  # kfp imports only what running a step takes, as in its own components: a second less
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONWARNINGS": "ignore",
}
# The stages read the names of files as the tools do, and kfp.local reads what they print as UTF-8, whatever the locale.
_UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}


@contextlib.contextmanager
def set_environment() -> Iterator[None]:
    """Adds what the stages need to the environment, which kfp.local hands to them; what else the user has set stays."""
    before = dict(os.environ)
    os.environ.update(_FOR_STAGES | before | _UTF8)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does; in a thread, which gets no signals, it stays as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def end_new_children(patience: float = 10) -> Iterator[None]:
    """Lets no process outlive the block that was begun in it; those that were there before are not touched.

    What is left is interrupted, so that it cleans up, and killed if it does not end.

    Args:
        patience: seconds to wait for them.
    """
    before = set(psutil.Process().children(recursive=True))
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
