"""Commands that are forked find what they would as a Python of their own."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_command
from tests.conftest import PATIENCE
from tests.fork_server import PACKAGES

# Prints what it finds: of the packages, every constant that is text, a number or a tuple.
LOOK = """
import importlib, json, os, signal, sys, threading, time, warnings

def list_constants(owner):
    plain = (str, int, float, bool, type(None), tuple)
    named = {name: value for name, value in vars(owner).items() if not name.startswith("__")}
    return {name: repr(value) for name, value in named.items() if isinstance(value, plain)}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for package in json.loads(sys.argv[1]):
        importlib.import_module(package)
del package
found = {
    "argv": sys.argv, "orig_argv": sys.orig_argv, "flags": sys.flags, "path": sys.path, "cwd": os.getcwd(),
    "main": [__name__, __file__, __spec__, vars(sys.modules["__main__"]) is globals()],
    "environment": dict(os.environ), "zone": time.tzname, "umask": os.umask(0), "files": os.listdir("/proc/self/fd"),
    "streams": [str(one) for one in (sys.stdin, sys.stdout, sys.stderr)],
    "buffers": [[one.errors, one.isatty(), one.line_buffering] for one in (sys.stdin, sys.stdout, sys.stderr)],
    "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "threads": [threading.current_thread().name, len(threading.enumerate()), len(os.listdir("/proc/self/task"))],
    "warnings": list(map(str, warnings.filters)),
}
for name, module in [item for item in sys.modules.items() if not item[0].startswith("__")]:
    found |= {f"{name}.{constant}": value for constant, value in list_constants(module).items()}
    for kind, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            found |= {f"{name}.{kind}.{constant}": value for constant, value in list_constants(value).items()}
print(json.dumps(found, default=str))
sys.stderr.write("said\\n")
sys.exit(7)
"""
# The folder where a package was imported, and Python's folder in the home, which nobody asks for.
OTHERWISE = {"multiprocessing.process.ORIGINAL_DIR", "rich._IMPORT_CWD", "site.USER_BASE", "site.USER_SITE"}


def test_a_forked_command_finds_what_a_python_of_its_own_does(tmp_path: Path):
    (tmp_path / "look.py").write_text(LOOK, encoding="utf-8")
    arguments = ["look.py", json.dumps(PACKAGES)]
    own = {"HOME": str(tmp_path), "KUBECONFIG": "own", "TZ": "Asia/Tokyo", "NO_GCE_CHECK": "true", "COLUMNS": "7"}
    environment = {**os.environ, **own}
    given: Any = {"cwd": tmp_path, "env": environment, "stdin": subprocess.DEVNULL}
    started = [
        subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=PATIENCE, **given)
        for _ in range(2)
    ]
    forked = run_command(arguments, folder=tmp_path, environment=environment, timeout=PATIENCE)
    assert [(one.returncode, one.stderr) for one in (*started, forked)] == [(7, "said\n")] * 3
    first, second, found = (json.loads(one.stdout) for one in (*started, forked))
    expected = {name: value for name, value in first.items() if value == second.get(name)}  # no addresses, no sets
    differing = {name: (value, found.get(name)) for name, value in expected.items() if value != found.get(name)}
    assert differing.keys() <= OTHERWISE, differing
    assert len(expected) > 5000


def test_commands_at_the_same_time_have_each_its_own_output(tmp_path: Path):
    (tmp_path / "wait.py").write_text(
        "import pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists():\n"
        "    time.sleep(0.01)\n"
        "print(sys.argv[1] * 100_000)\n"
    )
    given: Any = {"folder": tmp_path, "environment": os.environ, "timeout": PATIENCE}
    with ThreadPoolExecutor() as pool:
        outcomes = [pool.submit(run_command, ["wait.py", *pair], **given) for pair in ("ab", "ba")]
        assert [outcome.result().stdout for outcome in outcomes] == ["a" * 100_000 + "\n", "b" * 100_000 + "\n"]


def test_a_command_that_does_not_end_is_killed(tmp_path: Path):
    (tmp_path / "forever.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(1000)\n"
    )
    with pytest.raises(TimeoutError):
        run_command(["forever.py"], folder=tmp_path, environment=os.environ, timeout=1)
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def test_a_crash_has_the_code_of_its_signal_and_takes_no_other_command_along(tmp_path: Path):
    (tmp_path / "crash.py").write_text("import os, sys\nos.kill(os.getpid(), int(sys.argv[1]))\n")
    given: Any = {"folder": tmp_path, "environment": os.environ, "timeout": PATIENCE}
    codes = [run_command(["crash.py", number], **given).returncode for number in ("9", "11", "0")]
    assert codes == [-9, -11, 0]


def test_variables_that_python_reads_when_it_starts_are_read(tmp_path: Path):
    (tmp_path / "mode.py").write_text("import sys\nprint(sys.flags.utf8_mode)\n")
    environment = {**os.environ, "PYTHONUTF8": "1"}
    assert run_command(["mode.py"], folder=tmp_path, environment=environment, timeout=PATIENCE).stdout == "1\n"
