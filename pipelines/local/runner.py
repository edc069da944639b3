"""A pipeline on this machine, through kfp.local: one folder per run, live progress, a summary for programs."""

import contextlib
import datetime
import io
import json
import os
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from components.shared.errors import UserError
from components.shared.files import new_file
from pipelines.compiler.packages import Task, images, read_spec
from pipelines.local import containers as docker
from pipelines.local.stages_environment import find_python, start_stages_with

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

ROOT = Path(__file__).parents[2]
SUMMARY = "run.json"
_EXECUTING = re.compile(r"Executing task '(.+)'$")
_FINISHED = re.compile(r"Task '(.+)' finished with status (\w+)$")
_EXECUTOR_INPUT = "Got executor_input:"  # followed by JSON
_STAGES_ENVIRONMENT = {
    "_KFP_RUNTIME": "true",  # kfp imports only what running a step takes, as in its own components: a second less
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONWARNINGS": "ignore",
}
_ANSI = re.compile(r"\x1b\[\d+m")
# Lines of the log that are not the stage's own last words: kfp's, TensorFlow's, and the dump of the executor input.
_NOISE = re.compile(r"^$|^[\[{}\"\]]|^\d{4}-\d\d-\d\d |^(WARNING|[IWE]0000|To enable the following)")


def check_paths(runs: Path, arguments: dict[str, Any]) -> None:
    """Refuses what kfp.local would garble: it replaces `python3` in every argument by the path of the interpreter."""
    for value in (str(runs.resolve()), *arguments.values()):
        if isinstance(value, str) and "python3" in value:
            raise UserError(f"{value}: kfp.local cannot handle paths that contain 'python3'; move or rename it.")


def new_run(runs: Path, experiment: str, pipeline: str) -> Path:
    """Makes the folder runs/<experiment>/<time>-<pipeline>; never an existing one."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{i}" for i in range(2, 100))):
        run = (runs / experiment / f"{stamp}-{pipeline}{suffix}").resolve()
        with contextlib.suppress(FileExistsError):
            run.mkdir(parents=True)
            return run
    raise UserError(f"{runs / experiment}: too many runs within one second; try again.")


def find_run(runs: Path, experiment: str, name: str) -> dict[str, Any]:
    """The summary of the run of that name or path, or of the experiment's latest success for `latest`."""
    if name == "latest":
        summaries = [json.loads(path.read_text()) for path in (runs / experiment).glob(f"*/{SUMMARY}")]
        succeeded = [run for run in summaries if run["state"] == "succeeded"]
        if not succeeded:
            raise UserError(f"{runs / experiment}: no run succeeded yet; run the pipeline first.")
        return max(succeeded, key=started)
    candidates = [Path(name) / SUMMARY, runs / experiment / name / SUMMARY]
    path = next((candidate for candidate in candidates if candidate.is_file()), candidates[-1])
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{path.parent}: not a run; --from-run takes the name or the folder of an earlier run."
        ) from None


def started(run: dict[str, Any]) -> tuple[str, str]:
    """Sorts summaries by the time in UTC at which the runs were started.

    The names hold the local time, which repeats an hour when summer time ends; they only decide within one second.
    """
    return run.get("started", ""), run["run"]


def given_to(run: dict[str, Any], stage: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the run gave to its last task of the stage: the parameters, and the URIs of the artifacts."""
    tasks = [content for name, content in run["stages"].items() if name.rpartition("/")[2] == stage]
    last = tasks[-1] if tasks else {}
    return last.get("parameters", {}), last.get("inputs", {})


def check_runner(runner: str, pipeline: "BaseComponent") -> None:
    """Refuses, with a UserError, to run the pipeline where its stages' Python or their images are missing."""
    from google.protobuf.json_format import MessageToDict

    if runner == "subprocess":
        find_python()
    else:
        docker.check_images(images(MessageToDict(pipeline.pipeline_spec)))


def run_locally(
    package: Path,
    arguments: dict[str, Any],
    artifacts: dict[str, str],
    run: Path,
    watch: "Watcher",
    runner: str = "subprocess",
) -> dict[str, Any]:
    """Runs the compiled pipeline `package` with kfp.local, its artifacts and run.json below the folder `run`.

    The runner is `subprocess`, the stages' Python with the code of this folder, or `docker`, the stages' images.
    `artifacts` are the URIs of an earlier run, by name: the summary lists them with this run's own, so that any stage
    can go on from here. Whatever happens, the children are gone and run.json is written when this ends.

    Returns:
        The summary, as in run.json: `state` is succeeded, failed or cancelled.
    """
    from kfp import components, local

    spec = read_spec(package)
    pipeline = components.load_component_from_file(str(package))
    summary: dict[str, Any] = {
        "run": run.name,
        "pipeline": spec["pipelineInfo"]["name"],
        "state": "failed",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": arguments,
    }
    begin = time.monotonic()
    try:
        with (run / "run.log").open("w") as log, _interrupt_on_sigterm(), _stages_environment(), contextlib.chdir(ROOT):
            chosen = docker.new_runner(run, arguments) if runner == "docker" else local.SubprocessRunner(use_venv=False)
            local.init(chosen, pipeline_root=str(run / "artifacts"), raise_on_error=False)
            with contextlib.redirect_stdout(_Log(log, watch)), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # kfp's notes on image names, and on what it leaves aside here, such as CPU limits
                with start_stages_with(find_python()) if runner == "subprocess" else contextlib.nullcontext():
                    pipeline(**arguments)
        if all(state == "succeeded" for state in watch.states.values()):
            summary["state"] = "succeeded"
    except KeyboardInterrupt:
        summary["state"] = "cancelled"
    finally:
        _end_children()
        _remove_partial(run)
        # Not rounded, nor are the seconds of the stages: rounded ones might add up to more than the whole run took.
        summary["seconds"] = time.monotonic() - begin
        summary["stages"] = {task.name: _outcome(task, run, watch) for task in watch.tasks}
        summary["artifacts"] = {**artifacts, **_artifacts(watch.tasks, summary["stages"])}
        with new_file(run / SUMMARY) as path:
            path.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


class Watcher:
    """What kfp.local's output says of each task: state, seconds, the last line of progress, all lines."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.states: dict[str, str] = {task.name: "waiting" for task in tasks}
        self.seconds: dict[str, float] = {}
        self.progress: dict[str, str] = {}
        self.output: dict[str, list[str]] = {task.name: [] for task in tasks}
        self.changed: Callable[[str], None] = lambda name: None
        self._by_alias = {task.alias: task for task in tasks}
        self._running: Task | None = None
        self._started = 0.0

    def line(self, line: str) -> None:
        if match := _EXECUTING.search(line):
            if task := self._by_alias.get(match[1]):
                self._running, self._started = task, time.monotonic()
                self._set(task.name, "running")
        elif match := _FINISHED.search(line):
            if task := self._by_alias.get(match[1]):
                self.seconds[task.name] = self.elapsed(task.name)
                self._running = None
                self._set(task.name, "succeeded" if match[2] == "SUCCESS" else "failed")
        elif self._running and line:
            self.output[self._running.name].append(line)
            if line.startswith(f"{self._running.stage}: "):
                self.progress[self._running.name] = line.removeprefix(f"{self._running.stage}: ")

    def elapsed(self, name: str) -> float:
        is_running = self._running and self._running.name == name
        return time.monotonic() - self._started if is_running else self.seconds.get(name, 0.0)

    def _set(self, name: str, state: str) -> None:
        self.states[name] = state
        self.changed(name)


class _Log(io.TextIOBase):
    """Takes what kfp.local prints: each line goes to the log file and to the watcher."""

    def __init__(self, file: TextIO, watcher: Watcher) -> None:
        self._file, self._watcher, self._rest = file, watcher, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            line = _ANSI.sub("", line).rstrip()
            self._file.write(line + "\n")
            self._watcher.line(line.strip())
        self._file.flush()
        return len(text)


def _outcome(task: Task, run: Path, watch: Watcher) -> dict[str, Any]:
    """A task's state, seconds, parameters, inputs (URIs) and artifacts (URI and metadata)."""
    state, lines = watch.states[task.name], watch.output[task.name]
    given = _executor_input(lines).get("inputs", {})
    outcome: dict[str, Any] = {
        "state": "cancelled" if state == "running" else state,
        "seconds": watch.seconds.get(task.name),
        "parameters": given.get("parameterValues", {}),
        "inputs": {name: each["artifacts"][0]["uri"] for name, each in given.get("artifacts", {}).items()},
        "artifacts": {},
    }
    if state == "failed":
        words = [line for line in lines if not _NOISE.match(line) and not line.startswith(f"{task.stage}: ")]
        outcome["message"] = "\n".join(words[-30:])
    for output in (run / "artifacts").glob(f"*/{task.alias}/executor_output.json"):
        for name, artifact in json.loads(output.read_text()).get("artifacts", {}).items():
            outcome["artifacts"][name] = {key: artifact["artifacts"][0][key] for key in ("uri", "metadata")}
    return outcome


def _executor_input(lines: list[str]) -> dict[str, Any]:
    """What kfp's executor was given, as it prints before it begins; nothing if it did not come to that."""
    begin = next((number for number, line in enumerate(lines, 1) if line.endswith(_EXECUTOR_INPUT)), len(lines))
    try:
        return json.JSONDecoder().raw_decode("\n".join(lines[begin:]))[0]
    except ValueError:
        return {}


def _artifacts(tasks: list[Task], outcomes: dict[str, Any]) -> dict[str, str]:
    """The URIs by name, the last of each; from a task that has not its stage's name, a yardstick, nothing goes on."""
    own = [task for task in tasks if task.base_name == task.stage]
    return {name: each["uri"] for task in own for name, each in outcomes[task.name]["artifacts"].items()}


@contextlib.contextmanager
def _stages_environment() -> Iterator[None]:
    """This process's, which kfp.local hands to the stages, with what they need besides; what the user sets stays."""
    before = dict(os.environ)
    os.environ.update(_STAGES_ENVIRONMENT | before)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end_children(patience: float = 10) -> None:
    """Interrupts what is left of the children, so that they clean up, and kills those that do not end."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGINT)
    left = psutil.wait_procs(children, patience)[1]
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, patience)  # a child that is still dying could write to the folder while it is cleaned


def _remove_partial(run: Path) -> None:
    for path in run.rglob(".partial.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
