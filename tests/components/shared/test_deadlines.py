"""Work that is given up when its time is over."""

import threading
import time

import pytest

from components.shared.deadlines import TooLate, run_within


def test_work_that_ends_in_time_returns_and_raises_as_without_a_limit():
    assert run_within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        run_within(60, lambda: 1 // 0)


def test_work_that_takes_longer_is_left_alone():
    go_on = threading.Event()
    began = time.monotonic()
    with pytest.raises(TooLate):
        run_within(0.05, go_on.wait)
    assert time.monotonic() - began < 30
    go_on.set()


def test_without_time_nothing_is_waited_for():
    with pytest.raises(TooLate):
        run_within(-1, threading.Event().wait)
