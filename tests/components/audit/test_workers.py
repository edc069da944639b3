"""The processes of the audit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.audit.workers import start_workers
from components.shared.errors import UserError
from tests.conftest import ROOT

IN_ORDER = """
from components.audit.workers import start_workers
if __name__ == "__main__":
    with start_workers(pow, 2) as workers:
        print(workers.map([(2, n) for n in range(5)]))
"""


@pytest.mark.parametrize("count", [1, 2, 9])
def test_results_stand_in_the_order_of_their_tasks(count: int) -> None:
    with start_workers(pow, count) as workers:
        assert workers.map([(2, power) for power in range(5)]) == [1, 2, 4, 8, 16]
        assert workers.map([]) == []
        assert workers.map([(3, 2)]) == [9]


def test_a_worker_that_was_killed_is_said_to_be() -> None:
    with (
        start_workers(signal.raise_signal, 1) as workers,
        pytest.raises(UserError, match=r"^a process of the audit was killed, as when memory runs out; give it more\.$"),
    ):
        workers.map([(signal.SIGKILL,)])


def test_an_error_in_a_worker_ends_the_work(capfd: pytest.CaptureFixture[str]) -> None:
    with start_workers(divmod, 2) as workers, pytest.raises(RuntimeError, match="ended with exit code 1"):
        workers.map([(1, 0)])
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_no_shared_memory_is_needed(tmp_path: Path) -> None:
    """The pools of multiprocessing and joblib need semaphores, which live in /dev/shm."""
    script = tmp_path / "script.py"
    script.write_text(IN_ORDER, encoding="utf-8")
    hide = 'mount --make-rprivate / && mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", hide, "sh"]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces for this user")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*inside, sys.executable, str(script)]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert (result.stdout, result.stderr) == ("[1, 2, 4, 8, 16]\n", "")
