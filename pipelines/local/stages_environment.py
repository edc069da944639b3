"""The Python that runs the stages on this machine: that of their own environment, not the one that runs submit.py."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import UserError
from pipelines.output.project import ROOT

PACKAGES = ("kfp", "tensorflow")
# What begins the variables by which people change what these packages do.
SETTINGS = (
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "KMP_",
    "MKL_",
    "NVIDIA_",
    "OMP_",
    "ONEDNN_",
    "PYTHONPATH",
    "TF_",
    "XLA_",
)
VARIABLE = "STAGES_PYTHON"  # names another Python than that of .venv-stages


def find_python() -> str:
    """The path of the stages' Python: that of STAGES_PYTHON, else of .venv-stages.

    Raises:
        UserError: it is not there, or has not the stages' packages.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if not found or not _has_packages(found):
            raise UserError(
                f"{VARIABLE} is {named}, which is no Python with the stages' packages; name one that has them, "
                "or unset it and run `make setup`."
            )
        return str(Path(found).absolute())
    python = ROOT / ".venv-stages/bin/python"
    if not python.is_file():
        raise UserError(f"The stages' environment, {python.parents[1]}, is missing; run `make setup`.")
    if not _has_packages(str(python)):
        raise UserError(f"The stages' environment, {python.parents[1]}, is not complete; run `make setup`.")
    return str(python)


def identify_environment(python: str) -> str:
    """A text that changes with the version of a Python, the packages that it has, and the settings of these.

    Empty if the Python does not say.
    """
    listing = "sorted(name for path in sys.path if os.path.isdir(path) for name in os.listdir(path) if '-info' in name)"
    script = f"import os, sys; print(sys.version, {listing})"
    packages = subprocess.run([python, "-c", script], capture_output=True, encoding="utf-8").stdout
    if not packages:
        return ""
    settings = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    return f"{packages} {sorted(settings.items())}"


def _has_packages(python: str) -> bool:
    """Whether it can be run and finds the packages that every stage needs. Importing them would take seconds.

    Raises:
        KeyboardInterrupt: a signal to the whole process group, such as Ctrl-C, has ended it before it could say.
    """
    script = f"import importlib.util as u; print(all(u.find_spec(name) for name in {PACKAGES}))"
    try:
        result = subprocess.run([python, "-c", script], capture_output=True, encoding="utf-8")
    except OSError:
        return False
    if -result.returncode in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        raise KeyboardInterrupt
    return result.stdout == "True\n"


@contextlib.contextmanager
def start_stages_with(python: str) -> Iterator[None]:
    """Lets kfp start the stages with this Python: its SubprocessRunner always takes sys.executable."""
    own = sys.executable
    sys.executable = python
    try:
        yield
    finally:
        sys.executable = own
