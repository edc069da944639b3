"""What `make` does about the Python that it is given, before it installs anything."""

import os
import pty
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Answers as a Python of another version on a system with another glibc, makes environments with a Python like it,
# and installs nothing.
STAND_IN = """\
#!/bin/sh
case "$1 $2" in
  "-V ") echo "Python {version}" ;;
  "-m venv") for last; do :; done; rm -rf $last; mkdir -p $last/bin; cp "$0" $last/bin/python; echo "made $last" ;;
  "-m pip") ;;
  *) exec {python} -c 'import platform, sys
sys.version_info = tuple(map(int, "{version}".split(".")))
platform.libc_ver = lambda: ("glibc", "{glibc}")
exec(sys.argv[2])' "$@" ;;
esac
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the rules of the environments look at."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "locks", tmp_path / "locks")
    return tmp_path


def write_python(path: Path, version: str, glibc: str = "2.36") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STAND_IN.format(version=version, glibc=glibc, python=sys.executable), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make(copy: Path, target: str, python: Path | str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--silent", target, f"PYTHON={python}"]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["setup", "run", "test", "lint"])
@pytest.mark.parametrize(("version", "glibc"), [("3.10.2", "2.39"), ("3.12.1", "2.36"), ("3.14.0", "2.41")])
def test_a_python_that_the_stages_cannot_have_is_refused_before_anything_is_made(
    copy: Path, target: str, version: str, glibc: str
):
    python = write_python(copy / "python", version, glibc)
    done = make(copy, target, python)
    assert done.returncode == 2
    assert done.stdout == (
        f"PYTHON is {python}, Python {version}; the stages need 3.11, or with glibc 2.39 or newer 3.12 or 3.13."
        f" Install one, and name it: make {target} PYTHON=python3.11\n"
    )
    assert not (copy / ".venv").exists()


def test_a_python_that_is_not_there_is_refused(copy: Path):
    done = make(copy, "setup-tools", "no-python")
    assert done.returncode == 2
    assert done.stdout.endswith(
        "; .venv needs 3.11 or newer. Install one, and name it: make setup-tools PYTHON=python3.11\n"
    )


def test_the_tools_take_any_newer_python(copy: Path):
    assert make(copy, "setup-tools", write_python(copy / "python", "3.15.0")).stdout == "made .venv\n"
    assert make(copy, "setup-tools", write_python(copy / "python", "3.10.0")).returncode == 0  # it is there


def test_an_environment_of_a_python_that_does_not_fit_is_replaced(copy: Path):
    write_python(copy / ".venv/bin/python", "3.10.2")
    write_python(copy / ".venv-stages/bin/python", "3.13.0")
    done = make(copy, ".venv/tools", write_python(copy / "python", "3.11.7"))
    assert (done.returncode, done.stdout) == (0, "made .venv\n")
    assert re.match(r"\.venv: installing 1\d\d packages for the commands, 0\.8 GB\n", done.stderr)
    done = make(copy, ".venv-stages/ready", copy / "python")
    assert (done.returncode, done.stdout) == (0, "made .venv-stages\n")
    said = r"\.venv-stages: installing 3\d\d packages for the stages with TensorFlow, 3\.3 GB; some minutes\n"
    assert re.match(said, done.stderr)


def test_an_environment_that_fits_is_kept_whatever_python_is_given(copy: Path):
    write_python(copy / ".venv/bin/python", "3.14.0")
    write_python(copy / ".venv-stages/bin/python", "3.13.0", "2.41")
    unfit = write_python(copy / "python", "3.10.2")
    assert make(copy, ".venv/tools", unfit).stdout == ""
    assert make(copy, ".venv-stages/ready", unfit).stdout == ""


@pytest.mark.parametrize("target", [".venv/tools", ".venv/dev", ".venv-stages/ready"])
def test_installing_shows_its_progress_on_a_terminal_and_is_quiet_elsewhere(copy: Path, target: str):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    terminal, ours = pty.openpty()
    quiet = []
    for stderr in (ours, subprocess.DEVNULL):
        command = ["make", "--dry-run", target]
        done = subprocess.run(
            command, cwd=copy, env=environment, check=True, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60
        )
        installs = re.findall(
            r"^\s*\.venv/bin/(?:uv|python -m) pip\b.* (?:install|sync) .*$", done.stdout, re.MULTILINE
        )
        assert len(installs) >= 2  # by uv, and else by pip
        quiet.append(["--quiet" in line for line in installs])
    os.close(ours)
    os.close(terminal)
    assert not any(quiet[0])
    assert all(quiet[1])


def test_every_target_has_a_rule_and_each_search_a_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (declared,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(declared.split()) == set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for script in (ROOT / "tests/endurance").glob("*.py"):
        assert f"$(BIN)/python tests/endurance/{script.name} $(ARGS)" in makefile
