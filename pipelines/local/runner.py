"""A compiled pipeline on this machine, through kfp.local."""

import contextlib
import datetime
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from kfp import components, local
from kfp.dsl.base_component import BaseComponent

from components.shared.artifacts import PLACEHOLDER
from components.shared.errors import UserError
from components.shared.files import remove_temporary
from pipelines.compiler.image_tags import find_tag
from pipelines.compiler.spec import Task, find_constants, list_images, list_tasks, read_spec
from pipelines.compiler.values import list_texts
from pipelines.local.cache import FOLDER as CACHE
from pipelines.local.cache import OUTPUTS, StageCache, use_cache
from pipelines.local.containers import check_images, check_mounts, identify_image, start_stages_in_containers
from pipelines.local.kfp_log import WatchedLog, Watcher
from pipelines.local.processes import Interruption, end_new_children, set_environment
from pipelines.local.record import ArtifactRecord, RunRecord, TaskRecord, write_record
from pipelines.local.stages_environment import find_python, identify_environment, start_stages_with
from pipelines.local.warm_start import start_stages_warm
from pipelines.output.project import ROOT
from pipelines.submission.request import LocalOptions

PACKAGE = "pipeline.yaml"  # in the folder of a run


def check_texts(runs: Path, pipeline: BaseComponent, arguments: dict[str, Any], runner: str) -> None:
    """Refuses what kfp.local would garble.

    It replaces placeholders wherever they stand, and without containers `python3` by the path of the interpreter.

    Args:
        runs: the folder of the run's folder.
        pipeline: what is to be run; it holds the values that the configuration gives.
        arguments: of the pipeline.
        runner: `subprocess` or `docker`.

    Raises:
        UserError: a path or another text contains such a thing.
    """
    spec = MessageToDict(pipeline.pipeline_spec)
    constants = [find_constants(spec, task.name, task.parts) for task in list_tasks(spec)]
    defaults = {name: each.default for name, each in (pipeline.component_spec.inputs or {}).items()}
    garbled = (PLACEHOLDER, "python3") if runner == "subprocess" else (PLACEHOLDER,)
    for text in list_texts([str(runs.resolve()), {**defaults, **arguments}, constants]):
        if found := next((each for each in garbled if each in text), None):
            raise UserError(
                f"{text}: kfp.local cannot handle paths and names that contain '{found}'; move or rename it."
            )


def check_paths(runs: Path, artifacts: Iterable[str]) -> None:
    """Refuses folders in which the stages would not find their own files: Beam and TensorFlow take paths for patterns.

    Args:
        runs: the folder of the run's folder.
        artifacts: the paths of the artifacts that the run is given.

    Raises:
        UserError: a path contains a character of patterns.
    """
    for path in (str(runs.resolve()), *artifacts):
        if found := re.search(r"[][*?\\]", path):
            raise UserError(
                f"{path}: Beam and TensorFlow take a path with {found[0]} for a pattern; use a folder without it, "
                "which --runs and --experiment name."
            )


def check_runner(runner: str, pipeline: BaseComponent, runs: Path, arguments: dict[str, Any]) -> None:
    """Checks that the stages' Python, or their images, are there, and that containers can have their folders.

    Args:
        runner: `subprocess` or `docker`.
        pipeline: what is to be run.
        runs: the folder of the run's folder.
        arguments: of the pipeline.

    Raises:
        UserError: they are missing, or cannot be mounted.
    """
    if runner == "subprocess":
        find_python()
    else:
        check_mounts(runs, arguments)
        check_images(list_images(MessageToDict(pipeline.pipeline_spec)))


def run_package(
    folder: Path,
    *,
    runs: Path,
    experiment: str,
    arguments: dict[str, Any],
    artifacts: dict[str, str],
    origin: dict[str, str],
    watcher: Watcher,
    options: LocalOptions,
    interruption: Interruption,
) -> RunRecord:
    """Runs the compiled pipeline that is in the folder of a run.

    Its artifacts, run.log and run.json are written there. Whatever happens, the children are gone and run.json is
    written when this ends.

    Args:
        folder: of the run.
        runs: the folder of all runs, in which the cache is.
        experiment: that the run belongs to.
        arguments: of the pipeline.
        artifacts: the URIs that an earlier run left, by name; the record lists them with this run's own, so that any
            stage can continue from here.
        origin: what the record says of where the run came from, its `command` and `config`.
        watcher: is told what happens.
        options: how it takes place.
        interruption: holds the signals; what it lets through ends the run as cancelled.

    Returns:
        The content of run.json.
    """
    record = _begin_record(folder, arguments, artifacts, origin)
    place = runs.resolve() / CACHE  # now, since stages run in another folder
    started = time.monotonic()
    try:
        with (
            _make_temporary_folder(folder) as temporary,
            end_new_children(),
            (folder / "run.log").open("wb", buffering=0) as log,
            _use_kfp_local(folder, arguments, options, Path(temporary), warn=watcher.warnings.append),
            use_cache(StageCache(place, experiment, folder, _identify_code(options.runner), watcher.take_taken)),
            interruption.let_through(),
        ):
            _execute(folder / PACKAGE, arguments, WatchedLog(log, watcher))
        _check_outputs(folder, watcher)
        if all(state == "succeeded" for state in watcher.states.values()):
            record["state"] = "succeeded"
    except KeyboardInterrupt:
        record["state"] = "cancelled"
    finally:
        with contextlib.suppress(OSError):  # the record comes first
            remove_temporary(folder)
        # Not rounded, nor are the seconds of the tasks: rounded ones might add up to more than the whole run took.
        record["seconds"] = time.monotonic() - started
        _add_tasks(record, folder, watcher)
        write_record(folder, record)
    return record


def _begin_record(
    folder: Path, arguments: dict[str, Any], artifacts: dict[str, str], origin: dict[str, str]
) -> RunRecord:
    """The record of a run that has done nothing yet, which counts as failed until it is known to be otherwise."""
    return {
        "run": folder.name,
        "pipeline": read_spec(folder / PACKAGE)["pipelineInfo"]["name"],
        "command": origin["command"],
        "config": origin["config"],
        "state": "failed",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "arguments": arguments,
        "seconds": 0.0,
        "stages": {},
        "artifacts": dict(artifacts),
    }


def _make_temporary_folder(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """The folder for the stages' temporary files, which goes even if a stage is killed: where TMPDIR says, or here."""
    place = Path(tempfile.gettempdir()) if "TMPDIR" in os.environ else folder
    return tempfile.TemporaryDirectory(prefix="tmp-", dir=place, ignore_cleanup_errors=True)


@contextlib.contextmanager
def _use_kfp_local(
    folder: Path,
    arguments: dict[str, Any],
    options: LocalOptions,
    temporary: Path,
    *,
    warn: Callable[[str], object],
) -> Iterator[None]:
    """Prepares kfp.local, and all that it takes from this process: its folder, its environment, its Python."""
    with set_environment(temporary), contextlib.chdir(ROOT), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about image names, and what kfp leaves aside here, such as CPU limits
        in_containers = options.runner == "docker"
        kfp_runner = local.DockerRunner() if in_containers else local.SubprocessRunner(use_venv=False)
        workspace = temporary / "workspace"  # which no stage uses, but kfp would make one that stays
        workspace.mkdir()
        local.init(
            kfp_runner,
            pipeline_root=str(folder / "artifacts"),
            workspace_root=str(workspace),
            raise_on_error=False,
        )
        with contextlib.ExitStack() as stack:
            if in_containers:
                stack.enter_context(start_stages_in_containers(folder, arguments, warn))
            else:
                python = find_python()
                stack.enter_context(start_stages_with(python))
                if not options.cold and len(list_tasks(read_spec(folder / PACKAGE))) > 1:
                    stack.enter_context(start_stages_warm(python))
            yield


def _identify_code(runner: str) -> Callable[[str, str], str]:
    """What tells the cache which code runs a stage; see StageCache."""
    if runner == "docker":
        return lambda stage, image: identify_image(image)
    environment = identify_environment(find_python())
    tracking = sorted((name, value) for name, value in os.environ.items() if name.startswith("MLFLOW_"))

    def identify(stage: str, image: str) -> str:
        try:
            code = find_tag(stage)  # which is a hash of the files that the stage's image has
        except UserError:
            return ""
        return f"{code} {environment} {tracking if stage == 'train' else ''}" if environment else ""

    return identify


def _execute(package: Path, arguments: dict[str, Any], log: WatchedLog) -> None:
    pipeline = components.load_component_from_file(str(package))
    with contextlib.redirect_stdout(log):
        pipeline(**arguments)


def _check_outputs(folder: Path, watcher: Watcher) -> None:
    """Marks a stage that succeeded without writing its outputs as failed."""
    for task in watcher.tasks:
        if watcher.states[task.name] == "succeeded" and not _find_outputs(folder, task):
            watcher.states[task.name] = "failed"
            watcher.lines[task.name].append("it wrote no outputs; see run.log for what was run in its place.")


def _find_outputs(folder: Path, task: Task) -> list[Path]:
    """The file in which kfp's executor describes the outputs of a task that ended well."""
    return list((folder / "artifacts").glob(f"*/{task.name}/{OUTPUTS}"))


def _add_tasks(record: RunRecord, folder: Path, watcher: Watcher) -> None:
    """Adds what became of each task to the record, and the run's own artifacts by their names, the last of each."""
    record["stages"] = {task.name: _describe_task(task, folder, watcher) for task in watcher.tasks}
    for task in watcher.tasks:
        if task.is_own:
            artifacts = record["stages"][task.name]["artifacts"]
            record["artifacts"] |= {name: artifact["uri"] for name, artifact in artifacts.items()}


def _describe_task(task: Task, folder: Path, watcher: Watcher) -> TaskRecord:
    state = watcher.states[task.name]
    executor_input = watcher.read_executor_input(task.name)
    record: TaskRecord = {
        "stage": task.stage,
        "state": "cancelled" if state == "running" else state,
        "seconds": watcher.seconds.get(task.name),
        "parameters": executor_input.parameters,
        "inputs": executor_input.inputs,
        "artifacts": read_artifacts(folder, task),
    }
    if task.name in watcher.made_by:
        record["made_by"] = watcher.made_by[task.name]
    if state == "failed":
        record["message"] = watcher.find_last_words(task.name)
    return record


def read_artifacts(folder: Path, task: Task) -> dict[str, ArtifactRecord]:
    """The outputs of a task of the run in this folder, by their names; none if it has not ended well."""
    artifacts: dict[str, ArtifactRecord] = {}
    for output in _find_outputs(folder, task):
        for name, content in json.loads(output.read_text(encoding="utf-8")).get("artifacts", {}).items():
            first = content["artifacts"][0]
            artifacts[name] = {"uri": first["uri"], "metadata": first["metadata"]}
    return artifacts
