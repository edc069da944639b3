import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import components, local

from components.shared.errors import UserError
from pipelines.local import stages_environment
from pipelines.local.stages_environment import VARIABLE, find_python, start_stages_with
from tests.conftest import ROOT

# The shape of every component.yaml here; the component says which Python runs it.
COMPONENT = """
name: tell
outputs:
- {name: python, type: String}
implementation:
  container:
    image: tell
    command: [python3, -u, -m, kfp.dsl.executor_main]
    args: [--component_module_path, MODULE, --function_to_execute, tell, --executor_input, {executorInput: null}]
"""
FUNCTION = """
from typing import NamedTuple

def tell() -> NamedTuple("Outputs", [("python", str)]):
    import sys
    return (sys.executable,)
"""


def test_kfp_starts_a_stage_with_the_stages_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It fails when kfp no longer takes sys.executable for the Python of its SubprocessRunner."""
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    (tmp_path / "tell.py").write_text(FUNCTION)
    tell = components.load_component_from_text(COMPONENT.replace("MODULE", str(tmp_path / "tell.py")))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "artifacts"))
    own = sys.executable
    with pytest.warns(RuntimeWarning, match="non-Python base image"), start_stages_with(find_python()):
        task = tell()
    assert Path(task.outputs["python"]).parent.samefile(Path(find_python()).parent)
    assert not Path(find_python()).parent.samefile(Path(own).parent)
    assert sys.executable == own


def test_python_that_ran_before_is_back_after_an_error():
    own = sys.executable
    with pytest.raises(KeyError), start_stages_with("/somewhere/python"):
        raise KeyError
    assert sys.executable == own


def test_python_of_the_stages_has_what_they_import():
    code = "import importlib.util as u; print([name for name in ('tensorflow', 'kfp') if not u.find_spec(name)])"
    assert subprocess.check_output([find_python(), "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_that_ends_the_search_for_packages_is_no_lack_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))
    with pytest.raises(KeyboardInterrupt):
        find_python()


def test_python_of_the_stages_is_that_beside_the_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE)
    assert find_python() == str(ROOT / ".venv-stages/bin/python")


def test_another_python_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE)
    environment = tmp_path / "an environment"
    environment.symlink_to(Path(find_python()).parents[1])
    python = environment / "bin/python"
    monkeypatch.setenv(VARIABLE, str(python))
    assert find_python() == str(python)


def test_missing_environment_is_told_with_what_makes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(stages_environment, "ROOT", tmp_path)
    with pytest.raises(UserError) as raised:
        find_python()
    assert str(raised.value) == f"The stages' environment, {tmp_path}/.venv-stages, is missing; run `make setup`."


@pytest.mark.parametrize("named", ["nowhere/python", os.devnull, "/bin/true", sys.executable])
def test_what_is_no_python_with_the_packages_of_the_stages_is_refused(named: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(UserError) as raised:
        find_python()
    assert str(raised.value) == (
        f"{VARIABLE} is {named}, which is no Python with the stages' packages; name one that has them, or unset it "
        "and run `make setup`."
    )


def test_environment_that_is_half_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(stages_environment, "ROOT", tmp_path)
    (tmp_path / ".venv-stages/bin").mkdir(parents=True)
    (tmp_path / ".venv-stages/bin/python").symlink_to(sys.executable)
    with pytest.raises(UserError) as raised:
        find_python()
    assert str(raised.value) == f"The stages' environment, {tmp_path}/.venv-stages, is not complete; run `make setup`."
