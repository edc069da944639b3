"""A pipeline on this machine, and what counts as its success."""

import json
from pathlib import Path

import pytest

from pipelines.compiler.config import load_config
from pipelines.compiler.packages import build, write_package
from pipelines.compiler.spec import list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.local import runner
from pipelines.local.kfp_log import Watcher
from pipelines.local.runner import PACKAGE, run_package


def test_a_stage_that_ends_well_without_outputs_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Such as what a program does that is no Python, but takes any arguments."""
    monkeypatch.setattr(runner, "find_python", lambda: "/bin/true")
    folder = tmp_path / "run"
    folder.mkdir()
    write_package(build("validate", Stages(load_config("local"), tag="1")), folder / PACKAGE)
    watcher = Watcher(list_tasks(read_spec(folder / PACKAGE)))
    arguments = {"examples_uri": str(tmp_path)}
    record = run_package(folder, arguments=arguments, artifacts={}, watcher=watcher, runner="subprocess")
    assert record == json.loads((folder / "run.json").read_text())
    assert (record["state"], record["stages"]["validate"]["state"]) == ("failed", "failed")
    message = record["stages"]["validate"]["message"]
    assert message == "it wrote no outputs; see run.log for what was run in its place."
