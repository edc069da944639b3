"""A pipeline on this machine, and what counts as its success."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.compiler.config import load_config
from pipelines.compiler.packages import build, write_package
from pipelines.compiler.spec import list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.local import runner
from pipelines.local.kfp_log import Watcher
from pipelines.local.processes import Interruption
from pipelines.local.record import RunRecord
from pipelines.local.runner import PACKAGE, run_package
from pipelines.submission.request import LocalOptions


def run_stage(folder: Path, examples: Path) -> RunRecord:
    """A run of validate alone."""
    folder.mkdir(parents=True)
    write_package(build("validate", Stages(load_config("local"), tag="1")), folder / PACKAGE)
    watcher = Watcher(list_tasks(read_spec(folder / PACKAGE)))
    arguments = {"examples_uri": str(examples)}
    return run_package(
        folder,
        runs=folder.parents[1],
        experiment="default",
        arguments=arguments,
        artifacts={},
        origin={"command": "python submit.py --local --component validate", "config": "local"},
        watcher=watcher,
        options=LocalOptions(cold=True),
        interruption=Interruption(),
    )


def test_a_stage_that_ends_well_without_outputs_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Such as what a program does that is no Python, but takes any arguments."""
    monkeypatch.setattr(runner, "find_python", lambda: "/bin/true")
    record = run_stage(tmp_path / "runs/default/run", tmp_path)
    assert record == json.loads((tmp_path / "runs/default/run/run.json").read_text())
    assert (record["state"], record["stages"]["validate"]["state"]) == ("failed", "failed")
    message = record["stages"]["validate"]["message"]
    assert message == "it wrote no outputs; see run.log for what was run in its place."


def test_processes_that_are_not_of_the_run_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Such as what else a notebook has started."""
    monkeypatch.setattr(runner, "find_python", lambda: "/bin/true")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        run_stage(tmp_path / "runs/default/run", tmp_path)
        assert other.poll() is None
        assert other.stdin
        other.stdin.write(b"\n")
        other.stdin.close()
        assert other.wait(60) == 0


def test_temporary_files_of_a_stage_that_is_killed_go_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    killed = tmp_path / "killed"
    killed.write_text(f'#!/bin/sh\nfile=$(mktemp)\necho "$file" > {tmp_path}/made\nkill -9 $$\n')
    killed.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that Python looks at TMPDIR again
    monkeypatch.setattr(runner, "find_python", lambda: str(killed))
    assert run_stage(tmp_path / "runs/default/run", tmp_path)["state"] == "failed"
    assert Path((tmp_path / "made").read_text()).is_relative_to(temporary)
    assert [path.name for path in temporary.iterdir()] == []
