"""The process that tells an MLflow server how a training goes.

It is none of the training's threads: between two requests MLflow pauses for as long as Python's random generator says,
from which Keras draws the seeds of a model that is built at that time. Here nothing of TensorFlow is imported.
"""

import contextlib
import logging
import os
import queue
import re
import signal
import textwrap
import threading
from multiprocessing.connection import Connection

from components.shared.errors import shorten, shorten_to_sentence
from components.shared.formats.training import Epoch, Settings
from components.shared.process import end_with_parent

SERVER, _RUN = "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"  # MLflow's own names, which Kubeflow Pipelines sets for a task
GOES_ON = "the training goes on without it"
READY, GAVE_UP = "ready", "gave up"  # what the process says: that MLflow is imported, and that a sentence was printed
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # which writes to the home folder
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password, if it has one
}
_LENGTH = 200  # characters of a reason: what MLflow says of a folder, which it no longer takes, has more than 100


def report(connection: Connection, name: str, data_version: str, settings: Settings, artifacts: str) -> None:
    """Sends a training to the server as it goes; a server that does not take it is told of in a sentence.

    Args:
        connection: To the training, which sends the metrics of each epoch, and then the status with which the run ends.
        name: What a new run is called; the run is that of MLFLOW_RUN_ID, if there is one.
        data_version: As report_to_mlflow takes it, and the others too.
        settings: Of the training.
        artifacts: The folder of what it writes.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a training that is interrupted, the server is told that it failed
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # which warns of each request that is tried again
    messages: queue.SimpleQueue[Epoch | str] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    run = None
    try:
        import mlflow

        connection.send(READY)
        run_id = os.environ.get(_RUN)
        run = mlflow.start_run(run_id=run_id, run_name=None if run_id else name)
        print(f"train: reports to MLflow as {shorten(run.info.run_name)}", flush=True)
        mlflow.log_params(_name_parameters(data_version, settings))
        mlflow.set_tag("artifacts", artifacts)
        while not isinstance(message := messages.get(), str):
            mlflow.log_metrics(_name_metrics(message), step=message["epoch"])
        mlflow.end_run(message)
    except Exception as error:  # whatever it is, it is not the training's
        print(f"train: the MLflow server of {SERVER} takes no more figures ({_explain(error)}); {GOES_ON}.", flush=True)
        connection.send(GAVE_UP)
        if run:
            _end_run(messages)


def _receive(connection: Connection, messages: "queue.SimpleQueue[Epoch | str]") -> None:
    """Takes what the training sends at once, so that it never waits for the server."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(connection.recv())


def _explain(error: Exception) -> str:
    """Why the server takes no more, without its address, which may have a password."""
    text = str(getattr(error, "message", error)).replace(os.environ[SERVER], "the server")
    return textwrap.shorten(re.sub(r"//\S+@", "//", shorten_to_sentence(text)), _LENGTH, placeholder="...")


def _end_run(messages: "queue.SimpleQueue[Epoch | str]") -> None:
    """Waits for the status with which the run ends, and tells the server, which may take that."""
    import mlflow

    while not isinstance(status := messages.get(), str):
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
