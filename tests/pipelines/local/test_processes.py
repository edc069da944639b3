"""What the stages see of the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.processes import set_environment


def test_stages_print_and_name_files_in_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1:replace"}.items():
        monkeypatch.setenv(name, value)
    code = "import os, sys; print('größer \\udcff', os.fsencode('ö'), sys.getfilesystemencoding())"
    with set_environment(Path("tmp")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout.decode("utf-8") == "größer \\udcff b'\\xc3\\xb6' utf-8\n"
    assert os.environ["PYTHONIOENCODING"] == "latin-1:replace"
