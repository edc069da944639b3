"""The whole pipeline and each stage alone, as a user runs them: processes, files, and what a terminal shows."""

import contextlib
import csv
import fcntl
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import yaml

from pipelines.submission.turns import describe_lack
from tests.conftest import IMAGES, PATIENCE, ROOT, Folders, copy_project, run_in_stages, run_python
from tests.fakes.podman import MissingError, Podman, borrow_python, running_podman

REAL = ROOT / "../shared/data/roman-numerals"
STAGES = ["ingest", "validate", "transform", "train", "evaluate"]
CLASSES = ["x", "v", "i"]  # not in the order of the alphabet: the order of the labels is the configuration's
CONFIG = {
    "ingest": {"parameters": {"classes": CLASSES, "shards": 2}},
    "validate": {"parameters": {"scalar_threshold": 0.9, "severity": {"schema": "warning"}}},
    "train": {"parameters": {"epochs": 50, "batch_size": 8}},
    "audit": {"parameters": {"folds": 2, "repeats": 1, "epochs": 1}},
    "curate": {"parameters": {"policy_splits": [], "hard_weight": 0.0}},
    "compare": {"parameters": {"resamples": 100}},
}
REPORTING = ["validate", "train", "evaluate"]
TURN = [
    *(f"before-{stage}" for stage in STAGES),
    *("audit", "curate"),
    *(f"after-{stage}" for stage in STAGES),
    *("yardstick", "compare"),
]


class Run(NamedTuple):
    folder: Path
    summary: dict[str, Any]
    output: str
    digests: dict[str, str]  # of its files, when it had ended

    def artifact(self, stage: str, name: str) -> Path:
        return Path(self.summary["stages"][stage]["artifacts"][name]["uri"])

    def metadata(self, stage: str, name: str) -> dict[str, Any]:
        return self.summary["stages"][stage]["artifacts"][name]["metadata"]

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "evaluation.json").read_text())

    def predictions(self, task: str = "evaluate") -> list[dict[str, str]]:
        return read_csv(self.artifact(task, "predictions"))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in: with the project, and in it a configuration `tiny`."""
    folder = tmp_path_factory.mktemp("workplace")
    project = copy_project(folder / "project")
    (project / "pipelines/config/tiny.yaml").write_text(yaml.safe_dump({"stages": CONFIG}))
    return folder


@pytest.fixture(scope="session")
def training(workplace: Path, tiny: Folders) -> Run:
    """The one run of the whole pipeline."""
    return submit(workplace, "--config", "tiny", *data_options(tiny), "--param", "epochs=2", "--param", "seed=7")


@pytest.fixture(scope="session")
def retrained(workplace: Path, training: Run) -> Run:
    """The training stage again, with the parameters and on the artifacts of that run."""
    options = ["--component", "train", "--from-run", training.folder, "--experiment", "again", "--no-cache"]
    return submit(workplace, *options)


@pytest.fixture(scope="session")
def improvement(workplace: Path, tiny: Folders, training: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One turn of the loop on the same data and with the same settings, where a person took two decisions."""
    folder = tmp_path_factory.mktemp("turn")
    (folder / "project").symlink_to(workplace / "project")
    rows = [decision(tiny, "train/x/00.png", "drop"), decision(tiny, "train/v/01.png", "relabel", "i")]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / "decisions.csv").write_text("\n".join(lines) + "\n")
    options = ["--config", "tiny", *data_options(tiny), "--decisions", "decisions.csv"]
    parameters = ["--param", "epochs=2", "--param", "seed=7", "--param", "augment_to=45"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))  # the audit keeps its finished folds below it
        return submit(folder, "--pipeline", "improvement", *options, *parameters)


def decision(folders: Folders, filename: str, decided: str, label: str = "") -> dict[str, str]:
    content = (folders.data / filename).read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "filename": filename,
        "label": filename.split("/")[1],
        "decision": decided,
        "new_label": label,
        "decided_at": "2026-11-22T12:00:00Z",
    }


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def data_options(folders: Folders) -> list[Any]:
    return ["--data", folders.data, "--test-data", folders.test]


def submit(workplace: Path, *options: Any, code: int = 0) -> Run:
    before = set(workplace.glob("runs/[!.]*/*"))
    result = run_python(workplace / "project/submit.py", "--local", *options, cwd=workplace)
    assert (result.returncode, result.stderr) == (code, ""), result.stdout + result.stderr
    return only_run(set(workplace.glob("runs/[!.]*/*")) - before, result.stdout)


def only_run(folders: Iterable[Path], output: str) -> Run:
    (folder,) = folders
    return Run(folder, json.loads((folder / "run.json").read_text()), output, digests(folder))


def digests(artifact: Path) -> dict[str, str]:
    """The files below a folder, or the file."""
    files = [path for path in [artifact, *sorted(artifact.rglob("*"))] if path.is_file()]
    assert files
    return {path.relative_to(artifact).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def image_files(folders: Folders) -> dict[str, Path]:
    """Every image by the name the stages give it: split/class/file."""
    named = {path.relative_to(folders.data).as_posix(): path for path in folders.data.glob("*/*/*")}
    return named | {f"test/{path.relative_to(folders.test).as_posix()}": path for path in folders.test.glob("*/*")}


def test_pipeline_prints_each_stage_the_accuracy_and_the_reports(training: Run, workplace: Path):
    said = re.findall(r"^. (\w+) +(running|succeeded) +[\d.]+ s$", training.output, re.MULTILINE)
    assert said == [(stage, state) for stage in STAGES for state in ("running", "succeeded")]
    for split in ("val", "test"):
        figures = training.metrics()[split]
        assert re.search(
            rf"^│ {split} +│ +{figures['images']} │ +{figures['accuracy']:.3f} │", training.output, re.MULTILINE
        )
    for stage in REPORTING:
        (path,) = re.findall(rf"^{stage} report +(\S+)$", training.output, re.MULTILINE)
        report = workplace / path
        assert report.read_bytes() == training.artifact(stage, "report").read_bytes()
        assert report.read_text().lstrip().lower().startswith("<!doctype html>")
    assert "\x1b" not in training.output  # no colours where no terminal is


def test_summary_holds_states_parameters_and_every_artifact(training: Run, tiny: Folders):
    summary = training.summary
    assert (summary["state"], summary["pipeline"], summary["run"]) == ("succeeded", "training", training.folder.name)
    assert summary["arguments"]["data_uri"] == str(tiny.data)
    assert sorted(summary["stages"]) == sorted(STAGES)
    seconds = [stage["seconds"] for stage in summary["stages"].values()]
    assert min(seconds) > 0
    assert sum(seconds) <= summary["seconds"]
    for name, stage in summary["stages"].items():
        assert stage["state"] == "succeeded"
        contract = yaml.safe_load((ROOT / "components" / name / "component.yaml").read_text())
        assert sorted(stage["artifacts"]) == sorted(port["name"] for port in contract["outputs"])
        for port in contract["outputs"]:
            artifact = training.artifact(name, port["name"])
            assert artifact.is_relative_to(training.folder)
            assert artifact.exists() or "Metrics" in port["type"]  # those live in their metadata alone
    train = summary["stages"]["train"]["parameters"]
    of_keras = {
        "learning_rate_schedule": {},
        "optimizer": {"class_name": "Adam"},
        "loss": {"class_name": "SparseCategoricalCrossentropy"},
    }
    # from the command, a config and defaults
    own = {"epochs": 2, "batch_size": 8, "learning_rate": 0.0001, "seed": 7, "seeds": 1, "memory_share": 0.5}
    devices = {"dtype_policy": "float32", "gpus": 1}
    assert train == {**own, **of_keras, **devices}
    assert summary["stages"]["validate"]["parameters"]["severity"] == {"schema": "warning"}
    assert summary["stages"]["ingest"]["parameters"]["classes"] == CLASSES


def test_counts_add_up_to_the_files(training: Run, tiny: Folders):
    manifest = json.loads((training.artifact("ingest", "examples") / "examples.json").read_text())
    metadata = training.metadata("ingest", "examples")
    files = Counter(tuple(name.split("/")[:2]) for name in image_files(tiny))
    assert manifest["classes"] == CLASSES
    assert list(manifest["splits"]) == list(IMAGES)
    for split, content in manifest["splits"].items():
        assert content["classes"] == {name: files[split, name] for name in CLASSES}
        assert content["images"] == sum(content["classes"].values()) == len(CLASSES) * IMAGES[split]
        assert content["images"] == sum(shard["images"] for shard in content["shards"])
        assert len(content["shards"]) == 2
        assert (metadata[f"{split}_images"], metadata[f"{split}_classes"]) == (content["images"], content["classes"])
        assert training.metadata("transform", "transformed_examples")[f"{split}_images"] == content["images"]
    assert metadata["data_version"] == manifest["data_version"] == training.metrics()["data_version"]


def test_every_image_has_one_prediction_and_every_prediction_an_image(training: Run, tiny: Folders):
    files, rows = image_files(tiny), training.predictions()
    assert sorted(row["filename"] for row in rows) == sorted(files)
    for row in rows:
        assert row["sha256"] == hashlib.sha256(files[row["filename"]].read_bytes()).hexdigest()
        assert f"{row['split']}/{row['label']}/" in row["filename"]
        probabilities = {name: float(row[f"probability_{name}"]) for name in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert probabilities[row["prediction"]] == max(probabilities.values())
        assert float(row["confidence"]) == pytest.approx(max(probabilities.values()))
        assert float(row["loss"]) == pytest.approx(
            -np.log(max(probabilities[row["label"]], np.finfo(np.float32).eps)), abs=1e-3
        )


def test_saved_model_reproduces_the_predictions_from_the_files(training: Run, tiny: Folders):
    files, rows = image_files(tiny), training.predictions()
    images = [str(files[row["filename"]]) for row in rows]
    served = run_in_stages(SERVE, [str(training.artifact("train", "model")), images])
    expected = np.array([[float(row[f"probability_{name}"]) for name in CLASSES] for row in rows])
    np.testing.assert_allclose(served["probabilities"], expected, rtol=1e-3, atol=1e-6)
    assert served["classes"] == [row["prediction"] for row in rows]


SERVE = """
import json, sys
from pathlib import Path
import tensorflow as tf
model, images = json.load(sys.stdin)
signature = tf.saved_model.load(model).signatures["serving_default"]
result = signature(image_bytes=tf.constant([Path(image).read_bytes() for image in images]))
classes = [name.decode() for name in result["class"].numpy()]
print(json.dumps({"probabilities": result["probabilities"].numpy().tolist(), "classes": classes}))
"""


def test_metrics_follow_from_the_predictions(training: Run, workplace: Path):
    metrics = training.metrics()
    assert json.loads((training.artifact("evaluate", "evaluation") / "evaluation.json").read_text()) == metrics
    kept = json.loads((workplace / "results/metrics.json").read_text())
    assert kept["data_version"] == metrics["data_version"]
    assert kept["val"].items() <= metrics["val"].items()
    rows = (workplace / "results/plots/training.csv").read_text()
    assert rows == training.artifact("train", "history").read_text()
    given = training.summary["stages"]["train"]["parameters"]
    named = {"model": "resnet", "optimizer": "Adam", "loss": "SparseCategoricalCrossentropy"}
    settings = {**metrics["settings"]}
    name, _, config = settings.pop("learning_rate_schedule", "").partition(" ")
    schedule = given["learning_rate_schedule"]
    assert (name, json.loads(config or "{}")) == (schedule.get("class_name", ""), schedule.get("config", {}))
    assert settings == {**{name: given[name] for name in settings if name not in named}, **named}
    unused = {"seeds", "dtype_policy", "gpus", "memory_share"}  # of which the usual values say nothing
    assert given.keys() - settings.keys() == {"learning_rate_schedule", *unused}
    for split in ("val", "test"):
        rows = [row for row in training.predictions() if row["split"] == split]
        pairs = Counter((row["label"], row["prediction"]) for row in rows)
        confusion = [[pairs[given, predicted] for predicted in CLASSES] for given in CLASSES]
        assert metrics[split]["confusion_matrix"] == confusion
        assert metrics[split]["images"] == len(rows)
        assert metrics[split]["accuracy"] == pytest.approx(np.trace(confusion) / len(rows))
        assert metrics[split]["log_loss"] == pytest.approx(np.mean([float(row["loss"]) for row in rows]), rel=1e-4)
        recalls = {name: confusion[i][i] / sum(confusion[i]) for i, name in enumerate(CLASSES)}
        assert {name: figures["recall"] for name, figures in metrics[split]["classes"].items()} == recalls
        drawn = training.metadata("evaluate", f"{split}_confusion_matrix")["confusionMatrix"]
        assert [row["row"] for row in drawn["rows"]] == confusion
        assert [each["displayName"] for each in drawn["annotationSpecs"]] == CLASSES
        assert training.metadata("evaluate", "metrics")[f"{split}_accuracy"] == metrics[split]["accuracy"]


@pytest.mark.parametrize(
    ("stage", "artifact"), [("ingest", "examples"), ("transform", "transformed_examples")], ids=["ingest", "transform"]
)
def test_stage_alone_repeats_its_part_of_the_run_byte_for_byte(
    training: Run, workplace: Path, stage: str, artifact: str
):
    again = submit(workplace, "--component", stage, "--from-run", training.folder, "--no-cache")
    assert list(again.summary["stages"]) == [stage]
    assert again.summary["stages"][stage]["parameters"] == training.summary["stages"][stage]["parameters"]
    assert digests(again.artifact(stage, artifact)) == digests(training.artifact(stage, artifact))
    assert again.metadata(stage, artifact) == training.metadata(stage, artifact)


def test_training_again_with_the_same_seed_gives_the_same(training: Run, retrained: Run):
    history = training.artifact("train", "history").read_bytes()
    assert len(history.splitlines()) == 1 + 2  # epochs
    assert retrained.artifact("train", "history").read_bytes() == history
    assert retrained.metadata("train", "metrics") == training.metadata("train", "metrics")
    best = training.metadata("train", "metrics")["val_accuracy"]
    assert training.metrics()["val"]["accuracy"] == pytest.approx(best)  # evaluate sees what train saw


def test_evaluating_the_latest_run_gives_the_same_metrics_and_a_smaller_gallery(
    training: Run, retrained: Run, workplace: Path
):
    options = ["--component", "evaluate", "--experiment", "again", "--param", "gallery_size=5"]
    again = submit(workplace, *options)
    assert again.summary["arguments"]["model_uri"] == str(retrained.artifact("train", "model"))
    assert again.summary["arguments"]["examples_uri"] == str(training.artifact("ingest", "examples"))
    assert again.metrics() == training.metrics()
    assert again.predictions() == training.predictions()
    # the mistakes; those on train only if the model has learned enough to be right about half of it
    listed = Counter(row["split"] for row in training.predictions() if row["label"] != row["prediction"])
    if listed["train"] > training.metrics()["train"]["images"] / 2:
        del listed["train"]
    assert max(listed["val"], listed["test"]) > 5
    for run, size in ((training, 60), (again, 5)):
        report = run.artifact("evaluate", "report").read_text()
        assert report.count("<figure><img ") == sum(min(count, size) for count in listed.values())


def test_later_runs_leave_an_earlier_one_as_it_was(training: Run, retrained: Run):
    assert retrained.folder != training.folder
    assert digests(training.folder) == training.digests


def read_makers(run: Run) -> dict[str, str]:
    """The run whose outputs each task took; empty for what was run."""
    return {name: task.get("made_by", "") for name, task in run.summary["stages"].items()}


def test_a_run_with_nothing_new_takes_all_from_the_one_before(training: Run, workplace: Path, tiny: Folders):
    options = ["--config", "tiny", *data_options(tiny), "--param", "epochs=2", "--param", "seed=7"]
    again = submit(workplace, *options, "--experiment", "same")
    assert read_makers(again) == dict.fromkeys(STAGES, f"default/{training.folder.name}")
    for stage in STAGES:
        taken, made = again.summary["stages"][stage], training.summary["stages"][stage]
        assert (taken["state"], taken["parameters"]) == ("succeeded", made["parameters"])
        assert taken["artifacts"].keys() == made["artifacts"].keys()
        for name in made["artifacts"]:
            assert again.artifact(stage, name).is_relative_to(again.folder)
            assert again.artifact(stage, name).exists() == training.artifact(stage, name).exists()
            if again.artifact(stage, name).exists():  # metrics are metadata alone
                assert digests(again.artifact(stage, name)) == digests(training.artifact(stage, name))
            assert again.metadata(stage, name) == training.metadata(stage, name)
        assert all(Path(uri).is_relative_to(again.folder) for uri in taken["inputs"].values())
        assert re.search(rf"^✓ {stage} +succeeded +[\d.]+ s  from default/{training.folder.name}$", again.output, re.M)
    assert {path.name for path in again.folder.iterdir()} == {path.name for path in training.folder.iterdir()}
    assert again.metrics() == training.metrics()
    alone = submit(workplace, "--component", "evaluate", "--from-run", again.folder, "--experiment", "same")
    assert alone.summary["stages"]["evaluate"]["parameters"] == made["parameters"]
    assert alone.metrics() == training.metrics()


def test_a_new_setting_runs_what_it_changes(training: Run, workplace: Path, tiny: Folders):
    options = ["--config", "tiny", *data_options(tiny), "--param", "epochs=1", "--param", "seed=7"]
    changed = submit(workplace, *options)
    taken = dict.fromkeys(("ingest", "validate", "transform"), training.folder.name)
    assert read_makers(changed) == {**taken, "train": "", "evaluate": ""}
    assert changed.artifact("train", "history").read_text().count("\n") == 1 + 1


def test_a_folder_that_was_edited_in_place_is_read_again(workplace: Path, own: Folders):
    options = ["--config", "tiny", "--component", "ingest", *data_options(own), "--experiment", "edited"]
    first, second = submit(workplace, *options), submit(workplace, *options)
    assert read_makers(second) == {"ingest": first.folder.name}
    (own.data / "train/x/00.png").unlink()
    third, fourth = submit(workplace, *options), submit(workplace, *options, "--no-cache")
    assert read_makers(third) == read_makers(fourth) == {"ingest": ""}
    images = [run.metadata("ingest", "examples")["train_images"] for run in (first, second, third, fourth)]
    assert images == [images[0], images[0], images[0] - 1, images[0] - 1]


def test_terminal_shows_stage_progress_and_time(training: Run, workplace: Path):
    script = workplace / "project/submit.py"
    options = ["--component", "validate", "--from-run", training.folder, "--experiment", "terminal", "--no-cache"]
    code, shown = on_terminal([sys.executable, script, "--local", *options], workplace)
    assert code == 0, shown
    assert "\x1b[" in shown
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown))
    states = [match.groups() for line in lines if (match := re.match(r"\S validate +(\w+) +([\d.]+) s", line))]
    assert len({seconds for state, seconds in states if state == "running"}) > 4  # it counts
    assert states[-1][0] == "succeeded"
    assert [line for line in lines if re.match(r"▶ validate +running +[\d.]+ s +statistics of \w+$", line)]
    again = only_run((workplace / "runs/terminal").iterdir(), shown)
    for artifact in ("findings", "schema"):
        assert digests(again.artifact("validate", artifact)) == digests(training.artifact("validate", artifact))
    assert again.metadata("validate", "metrics") == training.metadata("validate", "metrics")


def on_terminal(command: list[Any], folder: Path, timeout: float = PATIENCE) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns receives."""
    terminal, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(
        list(map(str, command)), cwd=folder, stdin=inner, stdout=inner, stderr=inner, env=environment
    )
    os.close(inner)
    shown = b""
    end = time.monotonic() + timeout
    try:
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while (data := os.read(terminal, 65536)) and time.monotonic() < end:
                shown += data
        return process.wait(60), shown.decode()
    finally:
        process.terminate()
        os.close(terminal)


def test_bad_image_fails_the_run_in_one_sentence(workplace: Path, own: Folders):
    broken = own.data / "val/v/02.png"
    broken.write_bytes(broken.read_bytes()[:100])
    run = submit(workplace, "--config", "tiny", *data_options(own), "--experiment", "bad", code=1)
    assert str(broken) in run.output
    assert "on_bad_image" in run.output
    assert "Traceback" not in run.output
    stages = run.summary["stages"]
    assert run.summary["state"] == "failed"
    assert {name: stage["state"] for name, stage in stages.items()} == {
        **dict.fromkeys(STAGES, "waiting"),
        "ingest": "failed",
    }
    message = stages["ingest"]["message"]
    assert message.startswith("1 bad image; fix or remove them, or set on_bad_image to quarantine to leave them out:\n")
    assert [line.split(": ")[0] for line in message.splitlines()[1:]] == [str(broken)]
    assert f"ingest failed: {message}\n" in run.output
    assert leftovers(run.folder) == []
    assert not (run.folder / "evaluation.json").exists()


def leftovers(run: Path) -> list[Path]:
    """What stages that did not end well must not leave: artifacts, whole or half."""
    return [path for path in run.glob("artifacts/*/*/*") if path.name != "executor_output.json"]


def writing_shards(run: Path) -> bool:
    return any(run.rglob(".partial.*.examples"))


def training_goes_on(run: Path) -> bool:
    return "train: epoch 2/" in (run / "run.log").read_text()


@pytest.mark.parametrize(
    ("stage", "is_reached", "sent", "to_group"),
    [
        pytest.param("ingest", writing_shards, signal.SIGINT, True, id="Ctrl-C while ingest writes"),
        pytest.param("train", training_goes_on, signal.SIGTERM, False, id="SIGTERM to submit while train fits"),
    ],
)
def test_interrupted_run_ends_its_processes_and_leaves_nothing_half_written(
    workplace: Path,
    training: Run,
    tiny: Folders,
    stage: str,
    is_reached: Callable[[Path], bool],
    sent: signal.Signals,
    to_group: bool,
):
    whole = ["--config", "tiny", *data_options(tiny)]
    alone = ["--component", stage, "--from-run", training.folder, "--param", "epochs=100000"]
    options = ["--experiment", f"cancelled-{stage}", "--no-cache", *(whole if stage == "ingest" else alone)]
    command = [sys.executable, workplace / "project/submit.py", "--local", *options]
    runs = workplace / f"runs/cancelled-{stage}"
    with in_own_session(command, workplace) as process:
        wait_until(lambda: any(is_reached(log.parent) for log in runs.glob("*/run.log")) or process.poll() is not None)
        assert len(session(process.pid)) > 1
        if to_group:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 130, output
        wait_until(lambda: not session(process.pid), seconds=30)
    run = only_run(runs.iterdir(), output)
    assert run.summary["state"] == "cancelled"
    assert run.summary["stages"][stage]["state"] == "cancelled"
    assert {content["state"] for name, content in run.summary["stages"].items() if name != stage} <= {"waiting"}
    assert "Traceback" not in output
    assert output.count("Stopping: ending the stage that runs, which takes up to ten seconds.\n") == 1
    assert leftovers(run.folder) == []
    assert not any(run.folder.rglob(".partial.*"))


def test_the_page_of_a_stage_is_there_before_the_run_ends(workplace: Path, training: Run, tiny: Folders):
    options = ["--experiment", "early", "--config", "tiny", *data_options(tiny), "--param", "epochs=100000"]
    runs = workplace / "runs/early"
    with in_own_session([sys.executable, "-u", workplace / "project/submit.py", "--local", *options], workplace) as run:
        wait_until(
            lambda: any(training_goes_on(log.parent) for log in runs.glob("*/run.log")) or run.poll() is not None
        )
        (folder,) = runs.iterdir()
        assert (folder / "validate.html").read_bytes() == (training.folder / "validate.html").read_bytes()
        run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=300)
    assert f"Its pages and its log appear in runs/early/{folder.name} while it runs.\n" in output


@contextlib.contextmanager
def in_own_session(command: list[Any], folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for left in session(process.pid):
            left.kill()


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def session(leader: int) -> list[psutil.Process]:
    """The living processes of the session, whoever is their parent by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_improvement_prints_each_task_and_what_changed(improvement: Run):
    said = re.findall(r"^. ([\w-]+) +(running|succeeded) +[\d.]+ s$", improvement.output, re.MULTILINE)
    assert said == [(task, state) for task in TURN for state in ("running", "succeeded")]
    comparison = json.loads((improvement.folder / "comparison.json").read_text())
    assert list(comparison["splits"]) == ["val", "test"]
    for split, figures in comparison["splits"].items():
        accuracy = figures["accuracy"]
        cells = [
            *(split, figures["images"], f"{accuracy['before']:.3f}", f"{accuracy['after']:.3f}"),
            *(f"{accuracy['change']:+.3f}", f"{accuracy['low']:+.3f}…{accuracy['high']:+.3f}"),
            *(f"{figures['mcnemar_p']:.2g}", f"{figures['new_data']['accuracy']:.3f}"),
        ]
        row = "│" + "│".join(f" +{re.escape(str(cell))} +" for cell in cells).replace(" +", " *") + "│"
        assert re.search(f"^{row}$", improvement.output, re.MULTILINE), row
    differences = "1 relabelled, 0 moved, 1 dropped, 0 added, 0 altered, 10 augmented"
    assert f"\nimages: {differences}\n" in improvement.output
    workplace = improvement.folder.parents[2]
    program = os.path.relpath((workplace / "project").resolve() / "adopt.py", workplace)
    adopt = f"python {program} --data data --new --from-run {improvement.folder.name}"
    lack = describe_lack(comparison)
    reason = f"the comparison shows {lack}; to keep the new images all the same" if lack else "keep the new images"
    assert improvement.output.endswith(f"  {reason}:\n    {adopt}\n")


def test_improvement_leaves_every_report_under_a_name_that_says_what_it_is(improvement: Run):
    parts = ("before", "after")
    named = {f"{part}-{stage}.html": (f"{part}-{stage}", "report") for part in parts for stage in REPORTING}
    named |= {f"{task}.html": (task, "report") for task in ("audit", "curate", "yardstick", "compare")}
    named["review.html"] = ("audit", "review")
    assert {path.name for path in improvement.folder.glob("*.html")} == named.keys() | {"index.html"}
    issues = improvement.folder / "issues.csv"
    assert issues.read_bytes() == improvement.artifact("audit", "issues").read_bytes()
    assert re.search(r"^issues +\S+/issues.csv$", improvement.output, re.MULTILINE)
    for name, output in named.items():
        assert (improvement.folder / name).read_bytes() == improvement.artifact(*output).read_bytes()
        label = name.removesuffix(".html") + (" report" if name != "review.html" else "")
        assert re.search(rf"^{label} +\S+/{name}$", improvement.output, re.MULTILINE)


def test_improvement_begins_with_what_the_training_pipeline_gives(training: Run, improvement: Run):
    for stage in STAGES:
        given, alone = improvement.summary["stages"][f"before-{stage}"], training.summary["stages"][stage]
        assert given["parameters"] == alone["parameters"]
    for stage, name in (("ingest", "examples"), ("train", "history"), ("evaluate", "evaluation")):
        assert digests(improvement.artifact(f"before-{stage}", name)) == digests(training.artifact(stage, name))


def test_every_task_sums_up_what_it_did(improvement: Run):
    def read(task: str) -> list[str]:
        stage = improvement.summary["stages"][task]["stage"]
        assert improvement.metadata(task, "summary") == {"display_name": f"{stage}: summary"}
        return improvement.artifact(task, "summary").read_text(encoding="utf-8").splitlines()

    ingested = improvement.metadata("before-ingest", "examples")
    images = {split: round(ingested[f"{split}_images"]) for split in ("train", "val", "test")}
    assert read("before-ingest") == [
        f"**{sum(images.values())} images of 3 classes.**",
        "",
        *(f"- images of {split}: {count}" for split, count in images.items()),
        f"- data version: {ingested['data_version']}",
        "",
        "Next: look at the report of validate, which shows what is unusual or wrong about these images.",
    ]
    assert read("before-transform")[0] == "**The images are ready for the model resnet, 32 x 32 pixels in colour.**"
    training = improvement.metadata("before-train", "metrics")
    assert read("before-train")[0] == (
        f"**Epoch {training['best_epoch']:.0f} of 2 was kept, with an accuracy of {training['val_accuracy']:.3f}"
        " on val.**"
    )
    measured = improvement.metadata("before-evaluate", "metrics")
    (first, *_), (last, *_) = (read("before-evaluate"), read("compare"))
    assert f"{measured['test_accuracy']:.3f} on the {images['test']} images of test" in first
    assert f"{measured['val_accuracy']:.3f} on the {images['val']} images of val" in first
    comparison = json.loads((improvement.artifact("compare", "comparison") / "comparison.json").read_text())
    for split in ("val", "test"):
        assert comparison["splits"][split]["verdict"] in last.replace("\\", "")
    audited = improvement.metadata("audit", "metrics")
    doubted = sum(bool(row["kinds"]) for row in read_csv(improvement.artifact("audit", "issues")))
    noun = "image" if doubted == 1 else "images"
    assert read("audit")[0] == f"**{doubted} {noun} of {audited['images']:.0f} should be looked at.**"
    curated = improvement.metadata("curate", "metrics")
    kept = f"{curated['train_images']:.0f} images in train and {curated['val_images']:.0f} in val"
    assert read("curate")[:3] == [f"**The next version has {kept}.**", "", "- relabelled: 1"]
    assert all(read(task)[-1].startswith("Next: ") for task in TURN)


def test_improvement_makes_the_version_that_was_decided_on_and_trains_on_it(improvement: Run, tiny: Folders):
    data = improvement.artifact("curate", "data")
    files = {path.relative_to(data).as_posix(): path for path in data.glob("*/*/*")}
    augmented = {name for name in files if ".augmented-" in name}
    assert len(augmented) == 45 - (24 - 1) - 12
    assert all(name.startswith("train/") for name in augmented)
    expected = dict(image_files(tiny))
    del expected["train/x/00.png"]
    relabelled = expected.pop("train/v/01.png")
    kept = {name: path.read_bytes() for name, path in files.items() if name not in augmented}
    (moved,) = kept.keys() - expected.keys()
    assert moved.startswith("train/i/")
    assert kept == {**{name: path.read_bytes() for name, path in expected.items()}, moved: relabelled.read_bytes()}
    assert len(read_csv(data / "manifest.csv")) == len(files)

    after = json.loads((improvement.artifact("after-ingest", "examples") / "examples.json").read_text())
    counts = Counter(tuple(name.split("/")[:2]) for name in files)
    for split, content in after["splits"].items():
        assert content["classes"] == {name: counts[split, name] for name in CLASSES}
    ingested = improvement.summary["stages"]["after-ingest"]["parameters"]
    assert (ingested["data_uri"], ingested["test_data_uri"]) == (str(data), "")
    assert improvement.summary["stages"]["after-train"]["parameters"]["epochs"] == 2
    trained = json.loads((improvement.artifact("after-train", "model") / "training.json").read_text())
    assert trained["data_version"] == after["data_version"] == improvement.metrics()["data_version"]


def test_improvement_compares_both_models_on_the_images_of_before(improvement: Run, tiny: Folders):
    comparison = json.loads((improvement.folder / "comparison.json").read_text())
    before = improvement.metadata("before-ingest", "examples")["data_version"]
    assert comparison["before"]["data_version"] == before
    assert comparison["after"]["data_version"] == improvement.metrics()["data_version"] != before
    rows = improvement.predictions("yardstick")
    assert sorted(row["filename"] for row in rows) == sorted(image_files(tiny))
    for split, figures in comparison["splits"].items():
        for turn, task in (("before", "before-evaluate"), ("after", "yardstick")):
            right = [
                row["label"] == row["prediction"] for row in improvement.predictions(task) if row["split"] == split
            ]
            assert figures["images"] == len(right)
            assert figures["accuracy"][turn] == pytest.approx(np.mean(right))
        assert figures["new_data"]["accuracy"] == improvement.metrics()[split]["accuracy"]


def test_improvement_keeps_the_figures_of_the_new_version(improvement: Run):
    evaluation = improvement.artifact("after-evaluate", "evaluation")
    assert json.loads((evaluation / "evaluation.json").read_text()) == improvement.metrics()
    results = improvement.folder.parents[2] / "results"
    assert json.loads((results / "metrics.json").read_text())["data_version"] == improvement.metrics()["data_version"]
    history = improvement.artifact("after-train", "history").read_text()
    assert (results / "plots/training.csv").read_text() == history
    artifacts = improvement.summary["artifacts"]
    assert artifacts["evaluation"] == str(evaluation)
    assert artifacts["model"] == str(improvement.artifact("after-train", "model"))


@pytest.mark.parametrize(
    ("stage", "artifacts"), [("curate", ["data", "changes"]), ("compare", ["comparison"])], ids=["curate", "compare"]
)
def test_stage_of_an_improvement_alone_takes_what_it_took_then(improvement: Run, stage: str, artifacts: list[str]):
    again = submit(improvement.folder.parents[2], "--component", stage, "--from-run", improvement.folder)
    given, taken = (run.summary["stages"][stage] for run in (again, improvement))
    assert (given["inputs"], given["parameters"]) == (taken["inputs"], taken["parameters"])
    for name in artifacts:
        assert digests(again.artifact(stage, name)) == digests(improvement.artifact(stage, name))
    assert ("both models on the images of before" in again.output) == (stage == "compare")


def test_people_who_disagree_are_asked_again(improvement: Run, tiny: Folders):
    """Curate alone, with the decisions of two people in place of those of the run; then also with what settles them."""
    workplace = improvement.folder.parents[2]
    decided = {
        "decisions-anna.csv": [("keep", ""), ("relabel", "x")],
        "ben.csv": [("drop", ""), ("relabel", "x")],
        "decisions-settled.csv": [("drop", "")],
    }
    for name, decisions in decided.items():
        rows = [decision(tiny, f"train/v/0{number}.png", *each) for number, each in enumerate(decisions)]
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (workplace / name).write_text("\n".join(lines) + "\n")
    given = ["--component", "curate", "--from-run", improvement.folder]
    options = [word for name in decided for word in ("--decisions", name)]

    asked = submit(workplace, *given, *options[:4])
    files = {"anna": "decisions-anna.csv", "ben": "ben.csv"}
    uris = {name: str(workplace / file) for name, file in files.items()}
    assert asked.summary["stages"]["curate"]["parameters"]["decisions_uris"] == uris
    changes = {row["filename"]: row for row in read_csv(asked.artifact("curate", "changes"))}
    assert (changes["train/v/00.png"]["action"], changes["train/v/01.png"]["action"]) == ("kept", "relabelled")
    assert changes["train/v/00.png"]["why"] == "Undecided: anna keep, ben drop."
    page = asked.folder / "disputed.html"
    assert page.read_bytes() == asked.artifact("curate", "disputed").read_bytes()
    assert re.search(r"^disputed +\S+/disputed.html$", asked.output, re.MULTILINE)
    assert '<a href="disputed.html">' in (asked.folder / "index.html").read_text()
    assert f"    {asked.folder.relative_to(workplace)}/disputed.html\n" in asked.output
    again = re.search(r"^    python (.*decisions-settled.csv.*)$", asked.output, re.MULTILINE)
    assert again
    decisions = "--decisions decisions-anna.csv --decisions ben.csv --decisions decisions-settled.csv"
    command = f"/project/submit.py --local --component curate {decisions} --from-run {improvement.folder}"
    assert again[1].endswith(command)

    settled = submit(workplace, *given, *options)
    changes = {row["filename"]: row for row in read_csv(settled.artifact("curate", "changes"))}
    assert (changes["train/v/00.png"]["action"], changes["train/v/01.png"]["action"]) == ("dropped", "relabelled")
    assert changes["train/v/00.png"]["why"] == "By the word of settled: anna keep, ben drop, settled drop."
    actions = Counter(row["action"] for row in changes.values())
    assert f"\ncurate: relabelled {actions['relabelled']}, dropped {actions['dropped']}, moved 0, " in settled.output
    assert not (settled.folder / "disputed.html").exists()
    assert "disputed" not in settled.output


def test_comparison_of_two_runs_is_that_of_the_improvement_that_does_the_same(training: Run, improvement: Run):
    """What the training pipeline gives is what the improvement begins with."""
    workplace = improvement.folder.parents[2]
    results = digests(workplace / "results")
    runs = ("--before", training.folder, "--from-run", improvement.folder)
    compared = submit(workplace, "--config", "tiny", "--pipeline", "comparison", *runs)
    assert list(compared.summary["stages"]) == ["yardstick", "compare"]
    alike = compared.artifact("compare", "comparison"), improvement.artifact("compare", "comparison")
    assert digests(alike[0]) == digests(alike[1])
    assert compared.output.count("both models on the images of before") == 1
    assert {path.name for path in compared.folder.glob("*.html")} == {"index.html", "yardstick.html", "compare.html"}
    assert digests(workplace / "results") == results  # those of the last training
    for name in ("model", "evaluation", "predictions", "examples"):  # from which the next run continues
        assert compared.summary["artifacts"][name] == improvement.summary["artifacts"][name]


def ask_python(folder: Path, code: str) -> Any:
    """What a script with the project's Python API, run in a folder that has the project, gives to `answer`."""
    lines = [
        "import json, sys; sys.path.insert(0, 'project')",
        "from pipelines.api.machine import Machine",
        "from pipelines.api.show import Gallery, make_frame",
        "def answer(content): print('ANSWER', json.dumps(content))",
        textwrap.dedent(code),
    ]
    result = run_python("-c", "\n".join(lines), cwd=folder)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    (said,) = [line for line in result.stdout.splitlines() if line.startswith("ANSWER ")]
    return json.loads(said.removeprefix("ANSWER "))


@pytest.fixture
def podman(workplace: Path) -> Iterator[Podman]:
    """Podman with an image of each stage, which has this machine's Python and packages for it."""
    script, volumes = borrow_python(os.environ["STAGES_PYTHON"], workplace / "project")
    with tempfile.TemporaryDirectory(prefix="podman-") as home:
        try:
            with running_podman(Path(home), volumes=volumes) as podman:
                for image in run_python(
                    "-m", "pipelines.compiler.image_tags", cwd=workplace / "project"
                ).stdout.split():
                    podman.load(f"localhost/{image}", script=script)
                yield podman
        except MissingError as error:
            pytest.skip(f"no containers here: {error}")


def test_containers_give_the_same_bytes(
    podman: Podman,
    training: Run,
    improvement: Run,
    workplace: Path,
    tiny: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """All but the images themselves is as `--runner docker` has it."""
    (tmp_path / "project").symlink_to(workplace / "project")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{podman.socket}")
    data = [*data_options(tiny), "--param", "epochs=2", "--param", "seed=7"]
    decisions = ["--decisions", improvement.folder.parents[2] / "decisions.csv", "--param", "augment_to=45"]
    compared = ["--pipeline", "comparison", "--before", training.folder, "--from-run", improvement.folder]
    turn = ["--pipeline", "improvement", *data, *decisions]
    comparison = submit(tmp_path, "--config", "tiny", *compared)
    for options, given in ((data, training), (turn, improvement), (compared, comparison)):
        run = submit(tmp_path, "--runner", "docker", "--no-cache", "--config", "tiny", *options)
        assert read_made(run) == read_made(given)
        assert {path.stat().st_uid for path in run.folder.rglob("*")} == {os.getuid()}
        assert podman.list_containers() == []


def read_made(run: Run) -> dict[str, str]:
    """The digest of each file by task, output and name, without the place of the run, which the examples name.

    The event files, in which times stand, and the fingerprints of SavedModels, which newer TensorFlows number at
    random, are left out.
    """
    place = re.compile(re.escape(f"{run.folder}/artifacts/").encode() + rb"[^/]+")
    made: dict[str, str] = {}
    for task, content in run.summary["stages"].items():
        for name in content["artifacts"].keys() - {"event_files"}:
            artifact = run.artifact(task, name)
            files = filter(Path.is_file, [artifact, *artifact.rglob("*")])
            for path in (path for path in files if path.name != "fingerprint.pb"):
                written = place.sub(b"", path.read_bytes())
                made[f"{task}/{name}/{path.relative_to(artifact)}"] = hashlib.sha256(written).hexdigest()
    return made


def test_python_opens_what_a_run_has_made(improvement: Run):
    code = f"""
        run = Machine().find_run({improvement.folder.name!r})
        predictions = run.predictions("before-evaluate")
        examples = run.examples("before-ingest")
        images = [image for split in examples.manifest.splits for image in examples.read(split)]
        statistics = make_frame(run.statistics("before-validate"))
        answer({{
            "tasks": [task.name for task in run.tasks],
            "history": run.history("before-train") == run.history() or len(run.history()),
            "predicted": sorted(predictions["filename"]),
            "images": sorted(image.filename for image in images),
            "pictures": Gallery(images, limit=3)._repr_html_().count("<figure"),
            "statistics": statistics[statistics["feature"] == "image/bytes"].to_dict("list"),
            "kinds": sorted({{finding["kind"] for finding in run.findings("before-validate")}}),
            "issues": [[issue.filename, issue.rank] for issue in run.issues()],
            "actions": make_frame(run.changes())["action"].value_counts().to_dict(),
            "accuracy": make_frame(run.comparison()).set_index("split")["after"].to_dict(),
            "own": make_frame(run.evaluation()).set_index("split")["accuracy"].to_dict(),
            "trained": run.training()["data_version"],
            "pages": run.pages,
        }})
    """
    found = ask_python(improvement.folder.parents[2], code)
    comparison = json.loads((improvement.folder / "comparison.json").read_text())
    assert found["tasks"] == TURN
    assert found["history"] == 2
    assert (
        found["predicted"] == found["images"] == sorted(row["filename"] for row in improvement.predictions("yardstick"))
    )
    assert found["pictures"] == 3
    sizes = [path.stat().st_size for path in improvement_images(improvement, "before-ingest", "train")]
    assert found["statistics"]["split"] == ["train", "val", "test"]
    assert found["statistics"]["images"][0] == len(sizes)
    assert found["statistics"]["mean"][0] == pytest.approx(np.mean(sizes))
    assert (found["statistics"]["minimum"][0], found["statistics"]["maximum"][0]) == (min(sizes), max(sizes))
    findings = json.loads(improvement.artifact("before-validate", "findings").read_text())
    assert found["kinds"] == sorted({finding["kind"] for finding in findings})
    rows = read_csv(improvement.artifact("audit", "issues"))
    assert found["issues"] == [[row["filename"], int(row["rank"])] for row in rows]
    assert found["actions"] == Counter(row["action"] for row in read_csv(improvement.artifact("curate", "changes")))
    assert found["accuracy"] == {name: split["accuracy"]["after"] for name, split in comparison["splits"].items()}
    assert found["own"] == {split: improvement.metrics()[split]["accuracy"] for split in ("val", "test")}
    assert found["trained"] == improvement.metrics()["data_version"]
    assert found["pages"] == sorted(path.stem for path in improvement.folder.glob("*.html"))


def improvement_images(run: Run, task: str, split: str) -> list[Path]:
    """The files that ingest read."""
    data = Path(run.summary["stages"][task]["parameters"]["data_uri"])
    return sorted((data / split).rglob("*.png"))


def test_python_runs_a_stage_and_tells_its_state(improvement: Run):
    code = f"""
        options = {{"from_run": {improvement.folder.name!r}, "params": {{"resamples": 120}}}}
        run = Machine("tiny").start(component="compare", **options)
        answer([run.state, [task.name for task in run.tasks], run.comparison()["resamples"], run.pages])
    """
    assert ask_python(improvement.folder.parents[2], code) == ["succeeded", ["compare"], 120, ["compare", "index"]]


def test_an_audit_alone_is_about_the_images_that_it_took_then(improvement: Run):
    code = f"""
        run = Machine("tiny").start(component="audit", from_run={improvement.folder.name!r})
        answer([run.audited_examples().manifest.data_version, run.examples().manifest.data_version])
    """
    before, after = (improvement.metadata(f"{part}-ingest", "examples")["data_version"] for part in ("before", "after"))
    assert before != after
    assert ask_python(improvement.folder.parents[2], code) == [before, after]


@pytest.mark.skipif(not REAL.is_dir(), reason="the competition's images are not beside the project")
def test_competition_images_have_their_known_counts_and_faults(workplace: Path):
    folders = Folders(REAL / "data", REAL / "label_book")
    options = ["--experiment", "real", "--component"]
    ingested = submit(workplace, *options, "ingest", *data_options(folders))
    metadata = ingested.metadata("ingest", "examples")
    assert [metadata[f"{split}_images"] for split in ("train", "val", "test")] == [2067, 813, 52]
    validated = submit(workplace, *options, "validate")
    findings = json.loads(validated.artifact("validate", "findings").read_text())
    kinds = Counter(finding["kind"] for finding in findings)
    assert kinds["duplicate_across_splits"] == 52
    (blank,) = [finding["images"] for finding in findings if finding["kind"] == "blank"]
    assert [name for name in blank if name.startswith("train/vi/aac26b40")] == blank
    assert len(blank) == 1
    report = (validated.folder / "validate.html").read_text()
    assert blank[0] in report
    counted = {**validated.metadata("validate", "metrics"), "display_name": 0}
    assert {kind: count for kind, count in counted.items() if count} == kinds


def test_new_decisions_run_only_what_depends_on_them(improvement: Run, tiny: Folders):
    workplace = improvement.folder.parents[2]
    rows = [decision(tiny, "train/x/00.png", "drop")]
    (workplace / "others.csv").write_text(f"{','.join(rows[0])}\n{','.join(rows[0].values())}\n")
    options = ["--config", "tiny", *data_options(tiny), "--decisions", "others.csv"]
    parameters = ["--param", "epochs=2", "--param", "seed=7", "--param", "augment_to=45"]
    again = submit(workplace, "--pipeline", "improvement", *options, *parameters)
    before = dict.fromkeys([*(f"before-{stage}" for stage in STAGES), "audit"], improvement.folder.name)
    assert read_makers(again) == {**dict.fromkeys(TURN, ""), **before}
    for task in ("before-validate", "before-train", "before-evaluate", "audit"):
        assert digests(again.folder / f"{task}.html") == digests(improvement.folder / f"{task}.html")
