"""Shows how a training goes, epoch by epoch: event files for TensorBoard, and the run that MLflow keeps of it."""

import contextlib
import importlib.util
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal

import keras

from components.shared.formats.training import Epoch, Settings
from components.train.mlflow_reporter import GAVE_UP, GOES_ON, SERVER, report

_IMPORT = 60  # seconds at most that a process takes to import MLflow on a busy machine
_PATIENCE = 5  # seconds at the end of a training for what the server has not taken yet
METRICS: tuple[Literal["accuracy", "loss", "val_accuracy", "val_loss"], ...] = (
    "accuracy",
    "loss",
    "val_accuracy",
    "val_loss",
)


class EventFiles(keras.callbacks.TensorBoard):  # type: ignore[misc]
    """Writes loss, accuracy and learning rate of each epoch to event files in `train/` and `validation/`."""

    def __init__(self, folder: Path, rows: Sequence[Epoch] = (), learning_rates: Sequence[float] = ()) -> None:
        """Prepares to write.

        Args:
            folder: In which they shall be.
            rows: The metrics of earlier epochs, before the training was interrupted.
            learning_rates: Those at the ends of these epochs.
        """
        super().__init__(folder, write_graph=False)
        self._earlier = list(zip(rows, learning_rates, strict=True))
        self._learning_rate: float | None = None  # while an earlier epoch is written

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Writes what is known of earlier epochs."""
        super().on_train_begin(logs)
        for row, learning_rate in self._earlier:
            self._learning_rate = learning_rate
            self.on_epoch_end(row["epoch"] - 1, {name: row[name] for name in METRICS})
        self._learning_rate = None

    def _collect_learning_rate(self, logs: dict[str, float]) -> dict[str, float]:
        if self._learning_rate is not None:
            return logs | {"learning_rate": self._learning_rate}
        collected: dict[str, float] = super()._collect_learning_rate(logs)
        return collected

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Counts the epochs from 1, as the history and the report do; Keras counts from 0."""
        super().on_epoch_end(epoch + 1, logs)


@contextlib.contextmanager
def report_to_mlflow(
    name: str, data_version: str, settings: Settings, artifacts: str
) -> Iterator[Callable[[Epoch], None]]:
    """Reports a training to the MLflow server that the environment names, if it does.

    The run is that of MLFLOW_RUN_ID, or a new one. Another process talks to the server, so that the training waits for
    it at its end alone, and not for long. A server that does not take the figures is no reason to fail: a sentence says
    so.

    Args:
        name: What a new run is called.
        data_version: Of the examples.
        settings: As training.json has them.
        artifacts: The folder of what the training writes, which leads back from MLflow to the run.

    Yields:
        A function that takes the metrics of an epoch.
    """
    if not _is_named(os.environ.get(SERVER, "")) or not _is_installed():
        yield lambda row: None
        return
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = there, name, data_version, settings, artifacts
    process = context.Process(target=report, args=arguments, daemon=True)
    process.start()
    there.close()
    status = "FAILED"
    try:
        yield lambda row: _send(here, row)
        status = "FINISHED"
    finally:
        _send(here, status)
        _end(process, here)


def _is_named(server: str) -> bool:
    """Whether a server is named; MLflow would take an address without a scheme for a folder."""
    if server and not re.match(r"[a-z+]+:/|databricks", server):
        print(f"train: {SERVER} is no address; begin it with http:// or https://; {GOES_ON}.", flush=True)
        return False
    return bool(server)


def _is_installed() -> bool:
    """Whether MLflow is there; it is not imported here, which takes seconds."""
    if importlib.util.find_spec("mlflow"):
        return True
    print(f"train: {SERVER} is set, but mlflow-skinny is not installed; {GOES_ON}.", flush=True)
    return False


def _send(connection: Connection, message: Epoch | str) -> None:
    with contextlib.suppress(OSError):  # the process has given up, and has said so
        connection.send(message)


def _end(process: SpawnProcess, connection: Connection) -> None:
    """Waits until the server has taken everything, but not for long."""
    _receive(connection, _IMPORT)
    process.join(_PATIENCE)
    has_ended = process.exitcode is not None
    process.kill()
    process.join()
    if (not has_ended or process.exitcode) and _receive(connection, 0) != GAVE_UP:
        said = "does not answer in time" if not has_ended else "cannot be reported to, since MLflow has failed here"
        print(f"train: the MLflow server of {SERVER} {said}; {GOES_ON}.", flush=True)


def _receive(connection: Connection, patience: float) -> str:
    """The next thing that the process says within so many seconds; empty if it says nothing."""
    with contextlib.suppress(EOFError, OSError):
        if connection.poll(patience):
            return str(connection.recv())
    return ""
