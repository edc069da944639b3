"""The command that asked for a run: as it is typed, and as it is kept."""

from pathlib import Path

import pytest

from pipelines.submission.commands import Command, find_command, keep_command, read_command, write_action
from pipelines.submission.request import ClusterOptions, LocalOptions, RunRequest
from tests.conftest import ROOT

HERE, DOCKER, THERE = LocalOptions(), LocalOptions("docker"), ClusterOptions({})
COMMANDS = [
    (Command(RunRequest("default", "local", data="d"), HERE), "--local --data d"),
    (
        Command(RunRequest("e", "sample", pipeline="improvement", data="d", rev="v1", runs=Path("/r")), DOCKER),
        "--local --runner docker --config sample --experiment e --runs /r --pipeline improvement --data d --rev v1",
    ),
    (
        Command(
            RunRequest("default", "local", component="train", params=("epochs=2", "seed=3"), from_run="run-1"), HERE
        ),
        "--local --component train --param epochs=2 --param seed=3 --from-run run-1",
    ),
    (
        Command(RunRequest("default", "gke", pipeline="comparison", before="b", no_cache=True), THERE),
        "--pipeline comparison --before b --no-cache",
    ),
    (
        Command(RunRequest("-e", "local", data="-d", params=("-p=1",)), HERE),
        "--local --experiment=-e --data=-d --param=-p=1",
    ),
    (Command(RunRequest("default", "sample", data="my data"), HERE), "--local --config sample --data 'my data'"),
    (
        Command(
            RunRequest("default", "lab", data="d", schema="s"),
            ClusterOptions({"host": "http://h", "ca_file": "c"}, force=True, wait=True, timeout=90),
        ),
        "--config lab --data d --schema s --force --host http://h --ca-file c --wait --timeout 90",
    ),
]


@pytest.mark.parametrize(("command", "written"), COMMANDS)
def test_a_command_has_the_options_that_are_not_usual_and_is_kept_whole(command: Command, written: str, tmp_path: Path):
    assert str(command) == f"python submit.py {written}"
    keep_command(tmp_path / "run", command)
    assert read_command(tmp_path / "run") == command


def test_a_command_can_be_pasted_in_the_folder_that_one_works_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    program = str(COMMANDS[0][0]).split()[1]
    assert (tmp_path / program).resolve() == ROOT / "submit.py"


def test_an_action_is_for_the_same_cluster_and_experiment():
    request = RunRequest("e", "lab", pipeline="improvement", data="d", runs=Path("r"))
    action = write_action(request, ClusterOptions({"host": "http://h"}, wait=True, timeout=1), "--attach", "run 1")
    assert action == "python submit.py --config lab --experiment e --runs r --host http://h --attach 'run 1'"


def test_what_is_not_there_or_damaged_is_not_known(tmp_path: Path):
    assert read_command(tmp_path) is None
    (tmp_path / "command.json").write_text('{"request": {"experiment": "e"}}')
    assert read_command(tmp_path) is None


def test_a_run_is_found_by_the_address_of_what_it_made(tmp_path: Path):
    for (command, _), run in zip(COMMANDS, ("run-1", "run-2"), strict=False):
        keep_command(tmp_path / "e" / run, command)
    assert find_command(tmp_path, "e", "gs://bucket/runs/improvement/run-2/curate/1/data") == COMMANDS[1][0]
    assert find_command(tmp_path, "e", str(tmp_path / "e/run-1/artifacts/data")) == COMMANDS[0][0]
    assert find_command(tmp_path, "e", "gs://bucket/runs/improvement/run-22/curate/1/data") is None
    assert find_command(tmp_path, "others", "gs://bucket/runs/improvement/run-2/curate/1/data") is None
