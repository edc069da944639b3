"""The Python that runs the stages on this machine: that of their own environment, not the one that runs submit.py."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import UserError

ROOT = Path(__file__).parents[2]
VARIABLE = "STAGES_PYTHON"  # names another Python than that of .venv-stages


def find_python() -> str:
    """The path of the stages' Python: that of STAGES_PYTHON, else of .venv-stages.

    Raises:
        UserError: it is not there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if found := shutil.which(named):
            return str(Path(found).absolute())
        raise UserError(f"{VARIABLE} is {named}, which cannot be run; it must name a Python with the stages' packages.")
    python = ROOT / ".venv-stages/bin/python"
    if not python.is_file():
        raise UserError(f"The stages' environment, {python.parents[1]}, is missing; run `make setup`.")
    return str(python)


@contextlib.contextmanager
def start_stages_with(python: str) -> Iterator[None]:
    """Lets kfp start the stages with this Python, because SubprocessRunner always starts sys.executable."""
    own = sys.executable
    sys.executable = python
    try:
        yield
    finally:
        sys.executable = own
