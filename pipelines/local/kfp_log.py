"""Parses what kfp.local prints, since kfp reports what it runs on this machine in no other way."""

import io
import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pipelines.compiler.spec import Task
from pipelines.local.cache import TakenTask
from pipelines.output.last_words import ESCAPES, find_last_lines, find_sentence

_EXECUTING = re.compile(r"Executing task '(.+)'$")
_FINISHED = re.compile(r"Task '(.+)' finished with status (\w+)$")
_EXECUTOR_INPUT = "Got executor_input:"  # followed by JSON


class ExecutorInput(NamedTuple):
    """What kfp's executor was given."""

    parameters: dict[str, Any]
    inputs: dict[str, str]  # the URIs of artifacts


class Watcher:
    """What is known of each task: its state, its seconds, the last line of its progress, all of its lines."""

    def __init__(self, tasks: list[Task]) -> None:
        """Watches these tasks, which are all waiting."""
        self.tasks = tasks
        self.states = {task.name: "waiting" for task in tasks}
        self.seconds: dict[str, float] = {}
        self.progress: dict[str, str] = {}
        self.made_by: dict[str, str] = {}  # the run that ran each task whose outputs were taken from the cache
        self.lines: dict[str, list[str]] = {task.name: [] for task in tasks}
        self.warnings: list[str] = []  # what the user is to know, though no task fails by it
        self.on_change: Callable[[str], None] = lambda name: None  # is called with the name of a task
        self.on_success: Callable[[Task], None] = lambda task: None  # likewise, and before
        self._by_name = {task.name: task for task in tasks}
        self._taken: dict[str, ExecutorInput] = {}
        self._running: Task | None = None
        self._started = 0.0

    def take_line(self, line: str) -> None:
        """Takes the next line that was printed."""
        if match := _EXECUTING.search(line):
            if task := self._by_name.get(match[1]):
                self._running, self._started = task, time.monotonic()
                self._change(task.name, "running")
        elif match := _FINISHED.search(line):
            if task := self._by_name.get(match[1]):
                self.seconds[task.name] = self.measure_seconds(task.name)
                self.progress.pop(task.name, None)
                self._running = None
                self._change(task.name, "succeeded" if match[2] == "SUCCESS" else "failed")
        elif self._running and line:
            self.lines[self._running.name].append(line)
            if line.startswith(f"{self._running.stage}: "):
                self.progress[self._running.name] = line.removeprefix(f"{self._running.stage}: ")

    def take_taken(self, task: TakenTask) -> None:
        """Takes a task whose outputs were taken from the cache."""
        self._taken[task.name] = ExecutorInput(task.parameters, task.inputs)
        self.made_by[task.name], self.seconds[task.name] = task.made_by, task.seconds
        self.progress[task.name] = f"from {task.made_by}"
        print(f"Task {task.name} was not run: its outputs are taken from {task.made_by}.")
        self._change(task.name, "succeeded")

    def measure_seconds(self, name: str) -> float:
        """How long a task took, or has been running; 0 if it has not begun."""
        is_running = self._running and self._running.name == name
        return time.monotonic() - self._started if is_running else self.seconds.get(name, 0.0)

    def read_executor_input(self, name: str) -> ExecutorInput:
        """What the executor of a task was given, as it prints at its start; empty if it did not get that far."""
        if name in self._taken:
            return self._taken[name]
        lines = self.lines[name]
        begin = next((number for number, line in enumerate(lines, 1) if line.endswith(_EXECUTOR_INPUT)), len(lines))
        try:
            inputs = json.JSONDecoder().raw_decode("\n".join(lines[begin:]))[0].get("inputs", {})
        except ValueError:
            return ExecutorInput({}, {})
        uris = {port: artifacts["artifacts"][0]["uri"] for port, artifacts in inputs.get("artifacts", {}).items()}
        return ExecutorInput(inputs.get("parameterValues", {}), uris)

    def find_last_words(self, name: str) -> str:
        """The sentence with which a task failed; without one, the error of its trace, or its last lines."""
        stage, lines = self._by_name[name].stage, self.lines[name]
        words = find_sentence(lines) or find_last_lines(lines, stage=stage, log="run.log")
        return words or "it ended without a word, as if killed; see run.log."

    def _change(self, name: str, state: str) -> None:
        self.states[name] = state
        if state == "succeeded":
            self.on_success(self._by_name[name])
        self.on_change(name)


class WatchedLog(io.TextIOBase):
    """Takes the place of stdout: each line goes to the log file and to the watcher."""

    def __init__(self, file: io.RawIOBase | io.BytesIO, watcher: Watcher) -> None:
        """Writes to `file`, as UTF-8 and without colours, and tells `watcher`."""
        self._file, self._watcher, self._rest = file, watcher, ""
        self.problem: OSError | None = None  # by which the log file ends early, such as a full disk

    def write(self, text: str) -> int:
        """Takes what is printed; a line counts when it is complete."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            line = ESCAPES.sub("", line).rstrip()
            self._keep(line)
            self._watcher.take_line(line.strip())
        return len(text)

    def _keep(self, line: str) -> None:
        """Writes the line to the file; if that fails, the run goes on, as the stages will meet the same full disk."""
        try:
            if not self.problem:
                self._file.write(f"{line}\n".encode(errors="backslashreplace"))
        except OSError as error:
            self.problem = error
