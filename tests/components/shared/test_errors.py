import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.errors import STOPS, UserError, command_line, exit_on_user_error
from tests.conftest import ROOT, run_python

RAISING = """
from components.shared.errors import UserError, command_line, exit_on_user_error
def step() -> None:
    raise UserError("a.png: fix it.")
"""


def test_user_error_prints_its_sentence_alone() -> None:
    result = run_python("-c", RAISING + "with command_line(): step()")
    assert (result.returncode, result.stderr) == (1, "a.png: fix it.\n")


def test_user_error_of_a_step_prints_its_sentence_below_a_line_by_which_it_is_found() -> None:
    result = run_python("-c", RAISING + "exit_on_user_error(step)()")
    assert (result.returncode, result.stderr) == (1, f"{STOPS}\na.png: fix it.\n")


def test_user_error_can_be_caught_by_the_code_that_calls() -> None:
    result = run_python("-c", RAISING + "try: step()\nexcept Exception as error: print('caught', error)")
    assert (result.returncode, result.stdout) == (0, "caught a.png: fix it.\n")


def test_decorated_step_shows_kfp_the_arguments_of_the_function() -> None:
    def step(epochs: int, name: str) -> None:
        raise UserError(f"{name} has {epochs}")

    decorated = exit_on_user_error(step)
    assert inspect.getfullargspec(decorated) == inspect.getfullargspec(step)
    with pytest.raises(SystemExit, match="x has 3"):
        decorated(epochs=3, name="x")


@pytest.mark.parametrize(
    ("problem", "code"), [(KeyboardInterrupt(), 130), (UserError("a.png: fix it."), "a.png: fix it.")]
)
def test_command_line_exits_with_a_code(problem: BaseException, code: object) -> None:
    with pytest.raises(SystemExit) as caught, command_line():
        raise problem
    assert caught.value.code == code


def test_command_line_says_how_to_install_what_is_missing() -> None:
    with (
        pytest.raises(SystemExit, match="no_such_package is not installed for .*; run: make setup-tools"),
        command_line(),
    ):
        import no_such_package  # noqa: F401


FULL = "/dev/full: cannot be written (No space left on device); make room there, and run again.\n"


WRITING = """
from components.shared.errors import command_line, exit_on_user_error
from components.shared.files import new_file
def write_full():
    with open("/dev/full", "w") as file:
        file.write("x")
def step():
    {body}
{call}
"""
READING = "open('/no/such')", "/no/such: cannot be read or written (No such file or directory).\n"
FULL = "cannot be written (No space left on device); make room there, and run again.\n"
ALL_CALLS = {f"{STOPS}\n": "exit_on_user_error(step)()", "": "with command_line(): step()"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        READING,
        ("write_full()", f"a file: {FULL}"),
        ("with new_file('FOLDER/new') as path: write_full()", f"FOLDER/new: {FULL}"),
        ("raise OSError('RuntimeError: /dev/full; No space left on device [at x]')", f"/dev/full: {FULL}"),
    ],
)
@pytest.mark.parametrize("start", ALL_CALLS)
def test_a_place_that_cannot_be_written_is_named(start: str, body: str, sentence: str, tmp_path: Path) -> None:
    code = WRITING.format(body=body, call=ALL_CALLS[start]).replace("FOLDER", str(tmp_path))
    result = run_python("-c", code)
    assert (result.returncode, result.stderr) == (1, start + sentence.replace("FOLDER", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_by_the_words_of_tensorflow() -> None:
    words = (
        "{{function_node __wrapped__SaveV2}} /job:localhost/device:CPU:0}} /dev/full; No space left on device [Op:x]"
    )
    body = f"raise RuntimeError({words!r})"
    result = run_python("-c", WRITING.format(body=body, call=ALL_CALLS[f"{STOPS}\n"]))
    assert (result.returncode, result.stderr) == (1, f"{STOPS}\n/dev/full: {FULL}")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        ("MemoryError()", ""),
        ("RuntimeError(\"MemoryError [while running 'write']\")", ""),
        (
            "ValueError('{{function_node __wrapped__Fill}} OOM when allocating tensor with shape[9,9]')",
            " (OOM when allocating tensor with shape[9,9])",
        ),
        (
            "ValueError('Graph execution error:\\n\\nDetected at node\\n\\nOOM when allocating tensor\\nand more')",
            " (OOM when allocating tensor)",
        ),
    ],
)
def test_memory_that_has_run_out_is_a_sentence(error: str, what: str) -> None:
    said = f"there is not enough memory{what}; close other programs, lower batch_size, or run where there is more.\n"
    result = run_python("-c", WRITING.format(body=f"raise {error}", call=ALL_CALLS[f"{STOPS}\n"]))
    assert (result.returncode, result.stderr) == (1, f"{STOPS}\n{said}")


def test_memory_that_has_run_out_is_a_sentence_of_a_command() -> None:
    code = "from components.shared.errors import *\nwith command_line(): raise MemoryError"
    result = run_python("-c", code)
    assert result.returncode == 1
    said = "there is not enough memory; close other programs, lower batch_size, or run where there is more.\n"
    assert result.stderr == said


def test_other_errors_keep_their_trace() -> None:
    result = run_python("-c", "from components.shared.errors import *\n@exit_on_user_error\ndef step(): 1 / 0\nstep()")
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize(
    "after", ["for n in range(10**6): print(n)", "input(); print(1)", "input(); sys.exit(print(1))"]
)
def test_a_command_whose_reader_has_enough_ends_quietly(after: str) -> None:
    code = f"from components.shared.errors import *\nwith command_line():\n    print(0, flush=True)\n    {after}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("end", ["print(1)", "sys.exit(0)"])
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-"])
def test_a_command_without_open_streams_ends_well(closed: str, end: str) -> None:
    code = f"import os; from components.shared.errors import *\nwith command_line(): {end}"
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_file_does_not_take_the_place_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = (
        "import os, subprocess; from components.shared.errors import *\n"
        f"with command_line(), open({str(tmp_path / 'file')!r}, 'w'):\n"
        "    subprocess.run(['echo', 'of a child'], check=True)"
    )
    command = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == ""


def test_output_that_goes_to_a_full_disk_is_named() -> None:
    code = "from components.shared.errors import *\nwith command_line(): print(1)"
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (result.returncode, result.stderr) == (1, f"the output: {FULL}")
