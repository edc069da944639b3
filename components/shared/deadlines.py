"""Work that must come to its end in time, such as a request to a server that may never answer."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


class TooLate(Exception):
    """Work has not come to its end in time."""


def run_within(seconds: float, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, if it does so within these seconds.

    Only a thread that is left alone bounds all of a request: the timeouts of libraries bound each piece that arrives,
    and a name may be looked up, and headers may trickle in, for ever.

    Raises:
        TooLate: it takes longer.
    """
    result: Future[Result] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    wait([result], max(seconds, 0))
    if not result.done():
        raise TooLate
    return result.result()
