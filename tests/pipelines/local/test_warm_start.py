"""Warm starts: what is forked does what a new Python would do, and what cannot be forked is started by kfp."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kfp import local
from kfp.local import subprocess_task_handler
from kfp.local.status import Status

from pipelines.local import warm_start
from pipelines.local.stages_environment import find_python, start_stages_with
from pipelines.local.warm_start import start_stages_warm
from tests.conftest import ROOT

# A stage: it does what its argument says.
STAGE = """
import os, sys, time
print("argv", sys.argv[1:], flush=True)
exec(sys.argv[1])
"""


class Stages:
    """Runs stages, warm or cold."""

    def __init__(self, said: pytest.CaptureFixture[str]) -> None:
        self._said = said

    def run(self, code: str, *, environment: dict[str, str] | None = None, python: str = "python3") -> tuple[bool, str]:
        """Whether the stage succeeded, and what it said after its arguments."""
        handler = subprocess_task_handler.SubprocessTaskHandler(
            image="python",
            full_command=[python, "-u", "-m", "stage", code, "kfp.dsl.executor_main"],
            pipeline_root="",
            runner=local.SubprocessRunner(use_venv=False),
            env_vars=environment or {},
        )
        succeeded = handler.run() == Status.SUCCESS
        first, *lines = self._said.readouterr().out.rstrip("\n").split("\n")
        assert first == f"argv {[code, 'kfp.dsl.executor_main']}"
        return succeeded, "\n".join(lines)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Stages]:
    """Ways to run a stage, which leave no process of theirs behind."""
    (tmp_path / "stage.py").write_text(STAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(warm_start, "PACKAGES", ("no_such_package", "decimal"))
    children = set(psutil.Process().children(recursive=True))
    with start_stages_with(sys.executable):
        yield Stages(capsys)
    assert set(psutil.Process().children(recursive=True)) <= children


FORKED = "print('decimal' in sys.modules)"  # which only the server has imported


def find_server() -> psutil.Process:
    """The server, among what other tests have started in this process."""
    (server,) = (child for child in psutil.Process().children() if "pipelines.local.fork_server" in child.cmdline())
    return server


def wait_for_imports() -> None:
    """Waits until the server has imported what it is to import: then nothing of it changes any more."""
    server = find_server()
    end, before = time.monotonic() + 60, -1.0
    while (spent := sum(server.cpu_times()[:2])) != before:
        assert time.monotonic() < end
        before = spent
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("code", "succeeds", "said"),
    [
        ("print('done')", True, "done"),
        ("print('zahl: ü€😀', file=sys.stderr)", True, "zahl: ü€😀"),
        ("sys.exit(0)", True, ""),
        ("sys.exit(3)", False, ""),
        ("sys.exit('a sentence')", False, "a sentence"),
        ("os.kill(os.getpid(), 9)", False, ""),
        ("os._exit(1)", False, ""),
        ("import atexit; atexit.register(print, 'at the end')", True, "at the end"),
        ("os.system('echo a child')", True, "a child"),
        ("print(os.environ['ALL'], __name__, sys.argv[0] == __file__)", True, "all __main__ True"),
        ("print(repr(sys.stdin.read()))", True, "''"),
        ("print(sys.flags.utf8_mode, os.getcwd() == os.environ['HERE'])", True, "0 True"),
    ],
)
def test_a_stage_is_as_one_that_python_starts(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, code: str, succeeds: bool, said: str
):
    monkeypatch.setenv("ALL", "all")
    monkeypatch.setenv("HERE", os.getcwd())
    assert stages.run(code) == (succeeds, said)
    with start_stages_warm(sys.executable):
        assert stages.run(code) == (succeeds, said)
        assert stages.run("print(os.getppid())") == (True, str(find_server().pid))


def test_a_stage_with_an_environment_of_its_own_is_started_by_kfp(stages: Stages):
    """Its packages may look at it when they are imported."""
    with start_stages_warm(sys.executable):
        wait_for_imports()
        code = f"{FORKED}; print(os.environ['OWN'])"
        assert stages.run(code, environment={"OWN": "own"}) == (True, "False\nown")


def test_a_stage_sets_up_its_logging_itself(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the packages do when they are imported: kfp's executor logs its input, which the run's record needs."""
    (tmp_path / "logger.py").write_text("import logging; logging.root.addHandler(logging.NullHandler())")
    monkeypatch.setattr(warm_start, "PACKAGES", ("logger", "decimal"))
    with start_stages_warm(sys.executable):
        wait_for_imports()
        code = "import logging; logging.basicConfig(level='INFO', format='%(message)s'); logging.info('said')"
        assert stages.run(code) == (True, "said")


def test_what_is_no_text_is_replaced(stages: Stages):
    with start_stages_warm(sys.executable):
        assert stages.run("os.write(1, b'\\xff\\n')") == (True, "\ufffd")


def test_a_trace_names_the_error_last(stages: Stages):
    with start_stages_warm(sys.executable):
        succeeded, said = stages.run("1 / 0")
    assert not succeeded
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("\nZeroDivisionError: division by zero")


def test_stages_have_the_packages_and_nothing_of_each_other(stages: Stages):
    with start_stages_warm(sys.executable):
        wait_for_imports()
        assert stages.run(FORKED) == (True, "True")
        assert stages.run("import decimal; decimal.mine = 1; os.environ['A'] = 'a'")[0]
        assert stages.run("import decimal; print(hasattr(decimal, 'mine'))") == (True, "False")
        assert stages.run("print('A' in os.environ)") == (True, "False")
        pids = [stages.run("print(os.getpid(), os.getppid())")[1].split() for _ in range(2)]
    assert len({pid for pid, _ in pids}) == 2
    assert len({server for _, server in pids}) == 1
    assert stages.run(FORKED) == (True, "False")  # afterwards kfp starts them again


def test_what_a_stage_says_comes_while_it_runs(stages: Stages, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """It waits for a file that is made when its line has come."""
    seen = tmp_path / "seen"
    code = f"print('waiting', flush=True)\nwhile not os.path.exists({str(seen)!r}): time.sleep(0.01)"
    said: list[str] = []

    def watch() -> None:
        end = time.monotonic() + 60
        while "waiting" not in "".join(said) and time.monotonic() < end:
            said.append(capsys.readouterr().out)
            time.sleep(0.01)
        seen.touch()

    watcher = threading.Thread(target=watch)
    with start_stages_warm(sys.executable):
        watcher.start()
        handler = subprocess_task_handler.SubprocessTaskHandler(
            image="python",
            full_command=["python3", "-u", "-m", "stage", code, "kfp.dsl.executor_main"],
            pipeline_root="",
            runner=local.SubprocessRunner(use_venv=False),
            env_vars={},
        )
        assert handler.run() == Status.SUCCESS
    watcher.join()
    assert "waiting" in "".join(said)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_without_the_server_kfp_starts_the_stages(stages: Stages, number: signal.Signals):
    with start_stages_warm(sys.executable):
        server = find_server()
        server.send_signal(number)
        server.wait(60) if number == signal.SIGTERM else time.sleep(1)
        assert stages.run(FORKED) == (True, "False")
        assert stages.run("sys.exit(1)") == (False, "")


def test_a_stage_ends_with_the_server_and_the_next_one_runs(stages: Stages):
    """It is told by SIGTERM, and fails."""
    with start_stages_warm(sys.executable):
        code = "os.kill(os.getppid(), 9); time.sleep(60)"
        started = time.monotonic()
        assert stages.run(code) == (False, f"\n\n{warm_start.GONE}")
        assert time.monotonic() - started < 30
        assert stages.run(FORKED) == (True, "False")


def test_a_package_that_ends_the_server_does_no_harm(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "deadly.py").write_text("import os, time; time.sleep(3); os._exit(1)")
    monkeypatch.setattr(warm_start, "PACKAGES", ("deadly",))
    with start_stages_warm(sys.executable):
        assert stages.run("print('first')") == (True, "first")
        assert stages.run(FORKED) == (True, "False")


def test_a_server_that_cannot_fork_does_no_harm(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "full.py").write_text("import os\ndef fork(): raise OSError\nos.fork = fork")
    monkeypatch.setattr(warm_start, "PACKAGES", ("decimal", "full"))
    with start_stages_warm(sys.executable):
        wait_for_imports()
        assert stages.run(FORKED) == (True, "False")
        assert stages.run("sys.exit(1)") == (False, "")


def test_the_end_of_a_stage_waits_for_no_import(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "long.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(warm_start, "PACKAGES", ("long",))
    started = time.monotonic()
    with start_stages_warm(sys.executable):
        assert stages.run("print(os.getppid())") == (True, str(find_server().pid))
    assert time.monotonic() - started < 30


def test_a_stage_does_not_clean_up_for_the_server(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As matplotlib would have it, which makes a folder where it cannot write to the home."""
    folder = tmp_path / "settings"
    folder.mkdir()
    (tmp_path / "tidy.py").write_text(f"import atexit, shutil; atexit.register(shutil.rmtree, {str(folder)!r})")
    monkeypatch.setattr(warm_start, "PACKAGES", ("tidy", "decimal"))
    with start_stages_warm(sys.executable):
        wait_for_imports()
        assert stages.run(FORKED) == (True, "True")
        assert folder.exists()


def test_stages_do_not_draw_the_same_numbers(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warm_start, "PACKAGES", ("numpy",))
    with start_stages_warm(sys.executable):
        wait_for_imports()
        code = "print('numpy' in sys.modules); import numpy; print(numpy.random.random())"
        drawn = {stages.run(code) for _ in range(2)}
    assert len(drawn) == 2
    assert {said.split("\n")[0] for _, said in drawn} == {"True"}


def test_the_packages_of_the_stages_can_be_forked():
    """They are there, and start no thread of Python and no context of TensorFlow, whose locks a fork would inherit."""
    script = (
        "import importlib, os, sys, threading\n"
        f"for name in {warm_start.PACKAGES}: importlib.import_module(name)\n"
        "from tensorflow.python.eager import context\n"
        "print(threading.enumerate() == [threading.main_thread()], context.context_safe() is None)\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read() == '')"
    )
    result = subprocess.run([find_python(), "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.stdout == "True True\nTrue\n", result.stderr


def test_a_command_that_is_no_module_of_python_is_started_by_kfp(stages: Stages, capsys: pytest.CaptureFixture[str]):
    with start_stages_warm(sys.executable):
        handler = subprocess_task_handler.SubprocessTaskHandler(
            image="python",
            full_command=["sh", "-c", "echo from a shell", "kfp.dsl.executor_main"],
            pipeline_root="",
            runner=local.SubprocessRunner(use_venv=False),
            env_vars={},
        )
        assert handler.run() == Status.SUCCESS
    assert capsys.readouterr().out.strip() == "from a shell"
