import inspect

import pytest

from components.shared.errors import STOPS, UserError, command_line, exit_on_user_error
from tests.conftest import run_python

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
