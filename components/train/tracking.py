"""Shows how a training goes, epoch by epoch: event files for TensorBoard, and the run that MLflow keeps of it."""

import contextlib
import os
import queue
import re
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import keras

from components.shared.errors import shorten, shorten_to_sentence
from components.shared.formats.training import Epoch, Settings

_SERVER, _RUN = "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"  # MLflow's own names, which Kubeflow Pipelines sets for a task
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # which writes to the home folder
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password, if it has one
}
_PATIENCE = 5  # seconds at the end of a training for what the server has not taken yet
_LENGTH = 200  # characters of a reason: what MLflow says of a folder, which it no longer takes, has more than 100
METRICS: tuple[Literal["accuracy", "loss", "val_accuracy", "val_loss"], ...] = (
    "accuracy",
    "loss",
    "val_accuracy",
    "val_loss",
)
_GOES_ON = "the training goes on without it"


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

    The run is that of MLFLOW_RUN_ID, or a new one. A thread talks to the server, so that the training waits for it at
    its end alone, and not for long. A server that does not take the figures is no reason to fail: a sentence says so.

    Args:
        name: What a new run is called.
        data_version: Of the examples.
        settings: As training.json has them.
        artifacts: The folder of what the training writes, which leads back from MLflow to the run.

    Yields:
        A function that takes the metrics of an epoch.
    """
    if not _is_named(os.environ.get(_SERVER, "")) or not _import_mlflow():
        yield lambda row: None
        return
    rows: queue.SimpleQueue[Epoch | str] = queue.SimpleQueue()
    given_up = threading.Event()
    arguments = name, _name_parameters(data_version, settings), artifacts, rows, given_up
    thread = threading.Thread(target=_report, args=arguments, daemon=True)
    thread.start()
    status = "FAILED"
    try:
        yield rows.put
        status = "FINISHED"
    finally:
        rows.put(status)
        thread.join(_PATIENCE)
        if thread.is_alive() and not given_up.is_set():
            given_up.set()
            print(f"train: the MLflow server of {_SERVER} does not answer in time; {_GOES_ON}.", flush=True)


def _is_named(server: str) -> bool:
    """Whether a server is named; MLflow would take an address without a scheme for a folder."""
    if server and not re.match(r"[a-z+]+:/|databricks", server):
        print(f"train: {_SERVER} is no address; begin it with http:// or https://; {_GOES_ON}.", flush=True)
        return False
    return bool(server)


def _import_mlflow() -> bool:
    """Imports MLflow, which takes seconds, and says whether it is there.

    Imports of two threads can wait for each other forever, so this comes before the thread begins.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # noqa: F401
    except ImportError:
        print(f"train: {_SERVER} is set, but mlflow-skinny is not installed; {_GOES_ON}.", flush=True)
        return False
    return True


def _report(
    name: str,
    parameters: Mapping[str, object],
    artifacts: str,
    rows: "queue.SimpleQueue[Epoch | str]",
    given_up: threading.Event,
) -> None:
    """Sends the rows as they come, until the status with which the run ends; says nothing once it is given up."""
    import mlflow

    run = None
    try:
        run_id = os.environ.get(_RUN)
        run = mlflow.start_run(run_id=run_id, run_name=None if run_id else name)
        print(f"train: reports to MLflow as {shorten(run.info.run_name)}", flush=True)
        mlflow.log_params(dict(parameters))
        mlflow.set_tag("artifacts", artifacts)
        while not isinstance(row := rows.get(), str):
            mlflow.log_metrics(_name_metrics(row), step=row["epoch"])
        mlflow.end_run(row)
    except Exception as error:  # whatever it is, it is not the training's
        # The address may have a password.
        text = str(getattr(error, "message", error)).replace(os.environ[_SERVER], "the server")
        reason = textwrap.shorten(re.sub(r"//\S+@", "//", shorten_to_sentence(text)), _LENGTH, placeholder="...")
        if not given_up.is_set():
            print(f"train: the MLflow server of {_SERVER} takes no more figures ({reason}); {_GOES_ON}.", flush=True)
        given_up.set()
        if run:
            _end_run(rows)


def _end_run(rows: "queue.SimpleQueue[Epoch | str]") -> None:
    """Waits for the status with which the run ends, and tells the server, which may take that."""
    import mlflow

    while not isinstance(status := rows.get(), str):
        pass
    with contextlib.suppress(Exception):
        mlflow.end_run(status)


# When a task has ended, Kubeflow Pipelines logs its parameters, such as `epochs`, and its output `metrics`, such as the
# `val_accuracy` of the epoch that was kept, to the same run. MLflow takes none of them if one of the parameters has got
# another value, as the optimizer would. So the names here are others.


def _name_parameters(data_version: str, settings: Settings) -> dict[str, object]:
    return {"data_version": data_version, **{f"settings/{name}": value for name, value in settings.items()}}


def _name_metrics(row: Epoch) -> dict[str, float]:
    return {
        "train/accuracy": row["accuracy"],
        "train/loss": row["loss"],
        "val/accuracy": row["val_accuracy"],
        "val/loss": row["val_loss"],
    }
