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

from components.files import UserError, new_file
from pipelines import docker
from pipelines.packages import read_spec, stage_images

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

ROOT = Path(__file__).parents[1]
SUMMARY = "run.json"
_EXECUTING = re.compile(r"Executing task '(.+)'$")
_FINISHED = re.compile(r"Task '(.+)' finished with status (\w+)$")
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
        summaries = sorted((runs / experiment).glob(f"*/{SUMMARY}"))
        succeeded = [path for path in summaries if json.loads(path.read_text())["state"] == "succeeded"]
        if not succeeded:
            raise UserError(f"{runs / experiment}: no run succeeded yet; run the pipeline first.")
        path = succeeded[-1]
    else:
        candidates = [Path(name) / SUMMARY, runs / experiment / name / SUMMARY]
        path = next((candidate for candidate in candidates if candidate.is_file()), candidates[-1])
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{path.parent}: not a run; --from-run takes the name or the folder of an earlier run."
        ) from None


def check_runner(runner: str, pipeline: "BaseComponent") -> None:
    """Refuses, with a UserError, to run the pipeline where the runner `docker` finds no Docker or not the images."""
    from google.protobuf.json_format import MessageToDict

    if runner == "docker":
        docker.check_images(stage_images(MessageToDict(pipeline.pipeline_spec)).values())


def run_locally(
    package: Path,
    arguments: dict[str, Any],
    artifacts: dict[str, str],
    run: Path,
    watch: "Watcher",
    runner: str = "subprocess",
) -> dict[str, Any]:
    """Runs the compiled pipeline `package` with kfp.local, its artifacts and run.json below the folder `run`.

    The runner is `subprocess`, this Python with the code of this folder, or `docker`, the stages' images.
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    started = time.monotonic()
    try:
        with (run / "run.log").open("w") as log, _interrupt_on_sigterm(), contextlib.chdir(ROOT):
            chosen = docker.new_runner(run, arguments) if runner == "docker" else local.SubprocessRunner(use_venv=False)
            local.init(chosen, pipeline_root=str(run / "artifacts"), raise_on_error=False)
            with contextlib.redirect_stdout(_Log(log, watch)), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the image names hold no 'python'
                pipeline(**arguments)
        if all(state == "succeeded" for state in watch.states.values()):
            summary["state"] = "succeeded"
    except KeyboardInterrupt:
        summary["state"] = "cancelled"
    finally:
        _end_children()
        _remove_partial(run)
        summary["seconds"] = round(time.monotonic() - started, 1)
        summary["stages"] = _stages(spec, arguments, run, watch)
        own = {name: each["uri"] for stage in summary["stages"].values() for name, each in stage["artifacts"].items()}
        summary["artifacts"] = {**artifacts, **own}
        with new_file(run / SUMMARY) as path:
            path.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


class Watcher:
    """What kfp.local's output says of each stage: state, seconds, the last line of progress, the last lines at all."""

    def __init__(self, stages: list[str]) -> None:
        self.states: dict[str, str] = dict.fromkeys(stages, "waiting")
        self.seconds: dict[str, float] = {}
        self.progress: dict[str, str] = {}
        self.output: dict[str, list[str]] = {stage: [] for stage in stages}
        self.changed: Callable[[str], None] = lambda stage: None
        self._running: str | None = None
        self._started = 0.0

    def line(self, line: str) -> None:
        if match := _EXECUTING.search(line):
            if match[1] in self.states:
                self._running, self._started = match[1], time.monotonic()
                self._set(match[1], "running")
        elif match := _FINISHED.search(line):
            if match[1] in self.states:
                self.seconds[match[1]] = round(self.elapsed(match[1]), 1)
                self._running = None
                self._set(match[1], "succeeded" if match[2] == "SUCCESS" else "failed")
        elif self._running and line:
            self.output[self._running].append(line)
            if line.startswith(f"{self._running}: "):
                self.progress[self._running] = line.removeprefix(f"{self._running}: ")

    def elapsed(self, stage: str) -> float:
        return time.monotonic() - self._started if self._running == stage else self.seconds.get(stage, 0.0)

    def _set(self, stage: str, state: str) -> None:
        self.states[stage] = state
        self.changed(stage)


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


def _stages(spec: dict[str, Any], arguments: dict[str, Any], run: Path, watch: Watcher) -> dict[str, Any]:
    """Each stage's state, seconds, parameters and artifacts (URI and metadata)."""
    stages: dict[str, Any] = {}
    for stage, state in watch.states.items():
        stages[stage] = {
            "state": "cancelled" if state == "running" else state,
            "seconds": watch.seconds.get(stage),
            "parameters": _parameters(spec, stage, arguments),
            "artifacts": {},
        }
        if state == "failed":
            words = [
                line for line in watch.output[stage] if not _NOISE.match(line) and not line.startswith(f"{stage}: ")
            ]
            stages[stage]["message"] = "\n".join(words[-30:])
        for output in (run / "artifacts").glob(f"*/{stage}/executor_output.json"):
            for name, artifact in json.loads(output.read_text()).get("artifacts", {}).items():
                kept = {key: artifact["artifacts"][0][key] for key in ("uri", "metadata")}
                stages[stage]["artifacts"][name] = kept
    return stages


def _parameters(spec: dict[str, Any], stage: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The values the compiled pipeline gives the stage: constants, or the pipeline's own parameters."""
    pipeline_inputs = spec["root"]["inputDefinitions"]["parameters"]
    given = {**{name: parameter.get("defaultValue") for name, parameter in pipeline_inputs.items()}, **arguments}
    stage_inputs = spec["components"][f"comp-{stage}"]["inputDefinitions"].get("parameters", {})
    values = {}
    for name, source in spec["root"]["dag"]["tasks"][stage]["inputs"].get("parameters", {}).items():
        constant = source.get("runtimeValue")
        value = constant["constant"] if constant else given[source["componentInputParameter"]]
        # the compiled YAML writes every number as a float
        values[name] = int(value) if stage_inputs[name]["parameterType"] == "NUMBER_INTEGER" else value
    return values


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
    for child in psutil.wait_procs(children, patience)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _remove_partial(run: Path) -> None:
    for path in run.rglob(".partial.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
