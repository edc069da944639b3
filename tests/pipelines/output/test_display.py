import errno
import os
import sys

import pytest

from pipelines.compiler.spec import Task
from pipelines.local.kfp_log import Watcher
from pipelines.output.display import OutputConsole, show_progress


def close_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives stdout to a pipe of which nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", encoding="utf-8", buffering=1))


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w", encoding="utf-8", buffering=1))  # noqa: SIM115


@pytest.mark.parametrize("spoil", [close_reader, fill_disk])
def test_a_run_goes_on_where_its_progress_cannot_be_shown(spoil, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch)
    watcher = Watcher([Task("ingest", "ingest", "image", ())])
    with show_progress(watcher):
        watcher.take_line("Executing task 'ingest'")
        watcher.take_line("Task 'ingest' finished with status SUCCESS")
    assert watcher.states == {"ingest": "succeeded"}


@pytest.mark.parametrize(("spoil", "code"), [(close_reader, errno.EPIPE), (fill_disk, errno.ENOSPC)])
def test_what_cannot_be_printed_is_the_error_that_print_raises(spoil, code, monkeypatch: pytest.MonkeyPatch):
    spoil(monkeypatch)
    with pytest.raises(OSError, match=f"Errno {code}]"):
        OutputConsole().print("x")
