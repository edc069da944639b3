"""What TensorBoard and MLflow show of a training; the servers of both run here, as people start them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from components.shared.formats.training import Epoch, read_history
from components.train import fitting
from components.train.tracking import report_to_mlflow
from tests.components.train.test_training import SETTINGS, train
from tests.conftest import PATIENCE, contents, run_python
from tests.fakes.gcs import unanswered_port

EPOCHS: list[Epoch] = [
    {"epoch": number, "accuracy": number / 4, "loss": 1 / number, "val_accuracy": number / 8, "val_loss": 2 / number}
    for number in (1, 2)
]
GOES_ON = "; the training goes on without it.\n"


class Mlflow(NamedTuple):
    url: str

    def post(self, method: str, **body: Any) -> Any:
        response = requests.post(f"{self.url}/api/2.0/mlflow/{method}", json=body, timeout=PATIENCE)
        assert response.ok, response.text
        return response.json()

    def get(self, method: str, **query: Any) -> Any:
        response = requests.get(f"{self.url}/api/2.0/mlflow/{method}", params=query, timeout=PATIENCE)
        assert response.ok, response.text
        return response.json()

    def read_run(self, run: str) -> tuple[dict[str, Any], dict[str, str]]:
        """What the server says of a run, and its parameters."""
        shown = self.get("runs/get", run_id=run)["run"]
        return shown["info"], {each["key"]: each["value"] for each in shown["data"].get("params", [])}

    def read_tag(self, run: str, tag: str) -> str:
        tags = self.get("runs/get", run_id=run)["run"]["data"]["tags"]
        return next(str(each["value"]) for each in tags if each["key"] == tag)

    def read_curve(self, run: str, metric: str) -> list[tuple[int, float]]:
        """The steps of a metric with their values."""
        points = self.get("metrics/get-history", run_id=run, metric_key=metric)["metrics"]
        return [(int(each["step"]), each["value"]) for each in points]


@contextlib.contextmanager
def running(*command: object, page: str, log: Path) -> Iterator[None]:
    """Runs a server until the block ends, which begins when the page answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(lambda: requests.get(page, timeout=PATIENCE).ok, process)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_ready: Any, process: "subprocess.Popen[bytes] | None" = None) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not (process and process.poll() is not None):
        with contextlib.suppress(requests.ConnectionError):
            if is_ready():
                return
        time.sleep(0.2)
    pytest.fail("the server does not answer, or has ended")


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    folder = tmp_path_factory.mktemp("mlflow")
    with unanswered_port() as port:
        url = f"http://127.0.0.1:{port}"
    with running(
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"),
        page=f"{url}/health",
        log=folder / "log",
    ):
        yield Mlflow(url)


@pytest.fixture(scope="module")
def task(mlflow: Mlflow, transformed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run that the server has begun for a training, and the folder of what the training wrote."""
    folder = tmp_path_factory.mktemp("tracked")
    run = mlflow.post("runs/create", experiment_id="0", run_name="train")["run"]["info"]["run_id"]
    with pytest.MonkeyPatch.context() as patch:
        # As Kubeflow Pipelines sets them for a task.
        for name, value in {"TRACKING_URI": mlflow.url, "RUN_ID": run, "EXPERIMENT_ID": "0"}.items():
            patch.setenv(f"MLFLOW_{name}", value)
        train(transformed, folder, SETTINGS)
    return run, folder


def test_run_of_the_environment_gets_the_settings_and_each_epoch(mlflow: Mlflow, task: tuple[str, Path]):
    run, folder = task
    info, parameters = mlflow.read_run(run)
    training = json.loads((folder / "model/training.json").read_text(encoding="utf-8"))
    assert info["status"] == "FINISHED"
    assert parameters == {
        "data_version": training["data_version"],
        **{f"settings/{name}": str(value) for name, value in training["settings"].items()},
    }
    assert mlflow.read_tag(run, "artifacts") == str(folder)
    history = read_history(folder / "history")
    assert len(history) == SETTINGS.epochs
    for metric, column in {
        "train/accuracy": "accuracy",
        "train/loss": "loss",
        "val/accuracy": "val_accuracy",
        "val/loss": "val_loss",
    }.items():
        assert mlflow.read_curve(run, metric) == [(row["epoch"], pytest.approx(dict(row)[column])) for row in history]


def test_kubeflow_pipelines_adds_its_parameters_and_metrics(mlflow: Mlflow, task: tuple[str, Path]):
    """It logs them as one batch, of which MLflow takes nothing if it has another value for one of the parameters."""
    run, _ = task
    curve = mlflow.read_curve(run, "val/accuracy")
    inputs = {"epochs": "2", "learning_rate": "0.001", "optimizer": '{"class_name":"Adam"}', "seed": "1"}
    metrics = {"best_epoch": 2, "val_accuracy": 0.5, "val_loss": 1.5}
    mlflow.post(
        "runs/log-batch",
        run_id=run,
        params=[{"key": name, "value": value} for name, value in inputs.items()],
        metrics=[{"key": name, "value": value, "timestamp": 0, "step": 0} for name, value in metrics.items()],
    )
    assert mlflow.read_run(run)[1].items() >= inputs.items()
    assert {name: mlflow.read_curve(run, name) for name in metrics} == {
        name: [(0, value)] for name, value in metrics.items()
    }
    assert mlflow.read_curve(run, "val/accuracy") == curve


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (ValueError(), "FAILED")], ids=["ends", "fails"])
def test_training_without_a_run_begins_one_in_the_experiment(
    error: Exception | None, status: str, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", status)
    with contextlib.suppress(ValueError), report_to_mlflow("turn/train", "v1", {"epochs": 2}, "turn") as report_epoch:
        for row in EPOCHS:
            report_epoch(row)
        if error:
            raise error
    experiment = mlflow.get("experiments/get-by-name", experiment_name=status)["experiment"]["experiment_id"]
    (run,) = mlflow.post("runs/search", experiment_ids=[experiment])["runs"]
    info, parameters = mlflow.read_run(run["info"]["run_id"])
    assert (info["status"], info["run_name"]) == (status, "turn/train")
    assert parameters == {"data_version": "v1", "settings/epochs": "2"}
    assert mlflow.read_curve(info["run_id"], "train/loss") == [(1, 1.0), (2, 0.5)]


def test_dead_server_fails_no_training(
    task: tuple[str, Path],
    transformed: Path,
    tmp_path: Path,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train(transformed, tmp_path, SETTINGS)
    said = capfd.readouterr()
    (sentence,) = [line for line in said.out.splitlines(keepends=True) if "MLflow" in line]
    assert sentence.startswith("train: the MLflow server of MLFLOW_TRACKING_URI takes no more figures (API request to ")
    assert sentence.endswith(GOES_ON)
    assert "secret" not in said.out + said.err
    assert sorted(os.listdir(tmp_path)) == ["event_files", "history", "model", "report"]
    assert contents(tmp_path)["history"] == contents(task[1])["history"]


def test_a_server_that_is_tried_again_changes_no_model(
    trained: Path, transformed: Path, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
):
    """The pauses between two requests are random, and Python's generator is the one that Keras draws seeds from."""
    build = fitting.build_checked

    def build_slowly(*arguments: Any) -> Any:
        time.sleep(3)
        return build(*arguments)

    monkeypatch.setattr(fitting, "build_checked", build_slowly)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    train(transformed, tmp_path, SETTINGS)
    assert contents(tmp_path)["history"] == contents(trained)["history"]


def test_a_run_of_which_the_server_refuses_the_settings_ends_with_its_training(
    mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """As with two trainings of one turn, and the same MLFLOW_RUN_ID."""
    run = mlflow.post("runs/create", experiment_id="0", run_name="turn")["run"]["info"]["run_id"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    for version in ("v1", "v2"):
        monkeypatch.setenv("MLFLOW_RUN_ID", run)  # MLflow removes it, so that it is not used twice in a process
        with report_to_mlflow("turn/train", version, {}, "turn") as report_epoch:
            report_epoch(EPOCHS[0])
        info, parameters = mlflow.read_run(run)
        assert (info["status"], parameters) == ("FINISHED", {"data_version": "v1"})
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if "takes no more figures" in line] == said[-1:]


@pytest.mark.parametrize("address", ["localhost:5000", "localhost", "https//mlflow.example"])
def test_an_address_without_a_scheme_is_named(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with report_to_mlflow("turn/train", "v1", {}, "turn") as report_epoch:
        report_epoch(EPOCHS[0])
    assert capfd.readouterr().out == (
        f"train: MLFLOW_TRACKING_URI is no address; begin it with http:// or https://{GOES_ON}"
    )


def test_a_folder_which_mlflow_no_longer_takes_is_refused_in_a_whole_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    with report_to_mlflow("turn/train", "v1", {}, "turn") as report_epoch:
        report_epoch(EPOCHS[0])
    said = capfd.readouterr().out
    assert said.startswith("train: the MLflow server of MLFLOW_TRACKING_URI takes no more figures (The filesystem ")
    assert said.endswith(f"will not receive further updates){GOES_ON}")
    assert "..." not in said


def test_server_that_says_nothing_is_waited_for_at_the_end_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
        started = time.monotonic()
        with report_to_mlflow("turn/train", "v1", {}, "turn") as report_epoch:
            for row in EPOCHS:
                report_epoch(row)
        assert time.monotonic() - started < PATIENCE / 2
        assert capfd.readouterr().out == (
            f"train: the MLflow server of MLFLOW_TRACKING_URI does not answer in time{GOES_ON}"
        )


def test_missing_package_is_named(closed_port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with report_to_mlflow("turn/train", "v1", {}, "turn") as report_epoch:
        report_epoch(EPOCHS[0])
    assert capfd.readouterr().out == f"train: MLFLOW_TRACKING_URI is set, but mlflow-skinny is not installed{GOES_ON}"


def test_without_a_server_mlflow_is_not_imported():
    code = (
        "import sys; from components.train.tracking import report_to_mlflow\n"
        f"with report_to_mlflow('turn/train', 'v1', {{}}, 'turn') as report_epoch: report_epoch({EPOCHS[0]!r})\n"
        "print('mlflow' in sys.modules)"
    )
    result = run_python("-c", code)
    assert result.stdout == "False\n", result.stderr


def test_tensorboard_shows_the_history(trained: Path, tmp_path: Path):
    with unanswered_port() as port:
        url = f"http://127.0.0.1:{port}/data/plugin/scalars"
    tensorboard = Path(sys.executable).with_name("tensorboard")
    history = read_history(trained / "history")
    with running(
        tensorboard,
        "--logdir",
        trained,
        "--host",
        "127.0.0.1",
        "--port",
        port,
        page=f"{url}/tags",
        log=tmp_path / "log",
    ):
        splits = {"event_files/train": "", "event_files/validation": "val_"}
        wait_until(lambda: requests.get(f"{url}/tags", timeout=PATIENCE).json().keys() >= splits.keys())

        def read_curve(run: str, tag: str) -> list[tuple[int, float]]:
            points = requests.get(f"{url}/scalars", params={"run": run, "tag": tag}, timeout=PATIENCE).json()
            return [(step, value) for _, step, value in points]

        for run, prefix in splits.items():
            for metric in ("accuracy", "loss"):
                expected = [(row["epoch"], pytest.approx(dict(row)[prefix + metric])) for row in history]
                assert read_curve(run, f"epoch_{metric}") == expected
        rates = [(row["epoch"], pytest.approx(SETTINGS.learning_rate)) for row in history]
        assert read_curve("event_files/train", "epoch_learning_rate") == rates
