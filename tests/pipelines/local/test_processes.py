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


def test_stages_take_no_settings_of_keras_and_python_that_change_or_break_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "home/.keras").mkdir(parents=True)
    (tmp_path / "home/.keras/keras.json").write_text('{"floatx": "float64", "image_data_format": "channels_first"}')
    of_notebooks = "module://matplotlib_inline.backend_inline"
    theirs = {"KERAS_BACKEND": "jax", "MPLBACKEND": of_notebooks, "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}
    for name, value in {"HOME": str(tmp_path / "home"), **theirs}.items():
        monkeypatch.setenv(name, value)
    code = (
        "import keras, matplotlib, sys; print(keras.backend.backend(), keras.config.floatx(), "
        "keras.config.image_data_format(), matplotlib.get_backend(), sys.flags.optimize)"
    )
    with set_environment(tmp_path):
        done = subprocess.run([os.environ["STAGES_PYTHON"], "-c", code], capture_output=True, text=True)
    assert done.stdout == "tensorflow float32 channels_last agg 0\n", done.stderr


def test_stages_see_what_the_user_has_set_for_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, name.lower())
    code = "import os; print(sorted(value for name, value in os.environ.items() if name.startswith('MLFLOW_')))"
    with set_environment(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['mlflow_experiment_name', 'mlflow_tracking_token', 'mlflow_tracking_uri']\n", done.stderr
