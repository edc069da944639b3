import errno
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.util import event_pb2

from components.shared.errors import UserError
from components.train import fitting
from components.train.progress import ProgressStore, name_progress
from components.train.settings import TrainingSettings
from components.train.training import train_model
from tests.conftest import contents, outputs_in, run_killed
from tests.fakes.gcs import Gcs

SETTINGS = TrainingSettings(
    epochs=4,
    batch_size=8,
    learning_rate=1e-3,
    seed=1,
    learning_rate_schedule={"class_name": "ExponentialDecay", "config": {"decay_steps": 3, "decay_rate": 0.7}},
)
# The progress of every epoch is kept and copied, however short it is. The model has a layer Dropout.
TRAIN = """
from pathlib import Path
from components.train import progress
from components.train.training import train_model
from tests.components.train.test_progress import SETTINGS, use_dropout
progress.IMAGES_BETWEEN, progress.COPY_PAUSE = 1, 0
use_dropout()
_, transformed, folder, uri, seeds = sys.argv
train_model(
    f"{transformed}/examples",
    f"{transformed}/graph",
    settings=SETTINGS,
    seeds=int(seeds),
    **{f"{name}_output": f"{folder}/{name}" for name in ("model", "history", "event_files", "report")},
    progress_folder=Path(folder, "progress"),
    progress_uri=uri,
)
"""
PROGRESS = "[0-9a-f]{32}[.]progress"


def use_dropout(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Puts a layer whose random generator has a state before the last of the model."""
    build = fitting.build_checked

    def build_with_dropout(*arguments: Any) -> keras.Model:
        model = build(*arguments)
        dropped = keras.layers.Dropout(0.3)(model.layers[-2].output)
        return keras.Model(model.input, keras.layers.Dense(model.output_shape[1])(dropped))

    replace(fitting, "build_checked", build_with_dropout)


def make_progress_folder(folder: Path) -> Path:
    (folder / "progress").mkdir(parents=True, exist_ok=True)
    return folder / "progress"


def train(transformed: Path, folder: Path, *, uri: str = "", **changed: Any) -> Path:
    train_model(
        str(transformed / "examples"),
        str(transformed / "graph"),
        **{"settings": SETTINGS, "progress_folder": make_progress_folder(folder), "progress_uri": uri} | changed,
        **outputs_in(folder, "model", "history", "event_files", "report"),
    )
    return folder


@pytest.fixture(autouse=True)
def dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    use_dropout(monkeypatch.setattr)


@pytest.fixture(scope="module")
def uninterrupted(transformed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        use_dropout(patch.setattr)
        return train(transformed, tmp_path_factory.mktemp("uninterrupted"), seeds=2)


def read_weights(folder: Path) -> dict[str, bytes]:
    """The bytes of each variable of the model, also of those that it does not need to predict."""
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    types = reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name).tobytes() for name in types if types[name] != tf.string}


def read_events(folder: Path) -> dict[tuple[str, str, int], float]:
    """Each figure of an epoch by the folder of its file, its name and the epoch; each once.

    Keras also writes figures by iteration, which are not kept of the epochs before an interruption.
    """
    figures: dict[tuple[str, str, int], float] = {}
    for path in sorted(folder.rglob("events.out.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.tag.startswith("epoch_"):
                    key = (str(path.parent.relative_to(folder)), value.tag, event.step)
                    assert key not in figures
                    figures[key] = float(tf.make_ndarray(value.tensor))
    return figures


def check_same(actual: Path, expected: Path, *, models: tuple[str, ...]) -> None:
    for model in models:
        weights = read_weights(expected / model)
        assert len(weights) > 20
        assert read_weights(actual / model) == weights
        assert (actual / model / "training.json").read_bytes() == (expected / model / "training.json").read_bytes()
    assert (actual / "history").read_bytes() == (expected / "history").read_bytes()
    assert read_events(actual / "event_files") == read_events(expected / "event_files")
    assert sorted(os.listdir(actual)) == ["event_files", "history", "model", "progress", "report"]
    assert list_progress(actual) == []


def list_progress(folder: Path) -> list[str]:
    return [path.name for path in (folder / "progress").iterdir() if re.fullmatch(PROGRESS, path.name)]


@pytest.mark.parametrize(
    ("when", "after", "files"), [("seed 1, epoch 3/4", 2, 1), ("seed 2, epoch 2/4", 1, 2)], ids=["first", "second"]
)
def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(
    when: str,
    after: int,
    files: int,
    transformed: Path,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_progress_folder(tmp_path)
    run_killed(TRAIN, when, transformed, tmp_path, "", "2")
    assert len(list_progress(tmp_path)) == files
    train(transformed, tmp_path, seeds=2)
    said = capsys.readouterr().out
    seed = when[: len("seed 1")]
    assert f"train: {seed}, goes on after epoch {after}/4\n" in said
    assert f"train: {seed}, epoch {after}/4" not in said
    assert f"train: {when}" in said
    assert ("train: seed 1, goes on after epoch 4/4\n" in said) == (seed == "seed 2"), "a finished seed is not trained"
    check_same(tmp_path, uninterrupted, models=("model", "model/seeds/2"))


def test_a_pod_with_an_empty_disk_goes_on_from_the_bucket(
    transformed: Path, uninterrupted: Path, gcs: Gcs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "root/pipeline/run/train/attempt"
    make_progress_folder(tmp_path / "first")
    run_killed(TRAIN, "seed 2, epoch 2/4", transformed, tmp_path / "first", f"{gcs.uri}/{place}", "2")
    kept = [blob.name for blob in gcs.client.list_blobs(gcs.bucket.name)]
    assert sorted(kept) == sorted(f"{place}/{name}" for name in list_progress(tmp_path / "first"))
    assert len(kept) == 2
    train(transformed, tmp_path / "second", uri=f"{gcs.uri}/{place}", seeds=2)
    said = capsys.readouterr().out
    assert "train: seed 1, goes on after epoch 4/4\n" in said
    assert "train: seed 2, goes on after epoch 1/4\n" in said
    check_same(tmp_path / "second", uninterrupted, models=("model", "model/seeds/2"))
    assert list(gcs.client.list_blobs(gcs.bucket.name)) == []


def test_a_bucket_that_cannot_be_used_costs_the_copies_alone(
    transformed: Path, uninterrupted: Path, gcs: Gcs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(transformed, tmp_path, uri="gs://no-such-bucket/root", seeds=2)
    said = capsys.readouterr().out
    sentence = (
        "train: no progress is kept in Cloud Storage: gs://no-such-bucket/root/"
        rf"{PROGRESS}: not found in Cloud Storage; check the address\. "
        r"The training goes on without it\.\n"
    )
    assert len(re.findall(sentence, said)) == 1
    check_same(tmp_path, uninterrupted, models=("model", "model/seeds/2"))


@pytest.mark.parametrize("changed", [{"batch_size": 16}, {"seed": 5}])
def test_a_training_with_other_settings_begins_anew_and_leaves_the_progress_of_the_first(
    changed: dict[str, int], transformed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_progress_folder(tmp_path)
    run_killed(TRAIN, "epoch 2/4", transformed, tmp_path, "", "1")
    kept = contents(tmp_path / "progress")
    train(transformed, tmp_path, settings=SETTINGS._replace(**changed))
    said = capsys.readouterr().out
    assert "goes on after" not in said
    assert "epoch 1/4" in said
    assert contents(tmp_path / "progress") == kept


def test_another_run_goes_on_wherever_its_images_and_outputs_are(
    transformed: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_progress_folder(tmp_path / "first")
    run_killed(TRAIN, "seed 2, epoch 2/4", transformed, tmp_path / "first", "", "2")
    copy = shutil.copytree(transformed, tmp_path / "copy")
    manifest = copy / "examples/examples.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"data_uri": "elsewhere"}))
    train(copy, tmp_path / "second", seeds=2, progress_folder=tmp_path / "first/progress")
    assert "train: seed 2, goes on after epoch 1/4\n" in capsys.readouterr().out
    (tmp_path / "second/progress").rmdir()
    (tmp_path / "first/progress").rename(tmp_path / "second/progress")
    check_same(tmp_path / "second", uninterrupted, models=("model", "model/seeds/2"))


@pytest.mark.parametrize("place", ["keras", "progress", "course.json"])
def test_a_full_disk_costs_the_progress_alone(
    place: str,
    transformed: Path,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk may be full for Keras' checkpoint, for the files beside it, or for the file of progress."""

    def write(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if place == "keras":
        monkeypatch.setattr(keras.callbacks.BackupAndRestore, "_save_model", write)
    else:
        usual = Path.write_bytes if place == "progress" else Path.write_text
        monkeypatch.setattr(
            Path,
            usual.__name__,
            lambda path, *given, **named: (write if place in path.name else usual)(path, *given, **named),
        )
    train(transformed, tmp_path, seeds=2)
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert said.count("train: no progress is kept ([Errno 28] No space left on device: ") == 1
    assert said.count("). The training goes on without it.\n") == 1
    check_same(tmp_path, uninterrupted, models=("model", "model/seeds/2"))


def test_a_full_disk_lets_a_training_begin_again(
    transformed: Path,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_progress_folder(tmp_path)
    run_killed(TRAIN, "seed 1, epoch 3/4", transformed, tmp_path, "", "2")

    def extract(archive: tarfile.TarFile, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", extract)
    train(transformed, tmp_path, seeds=2)
    sentence = "train: no progress is kept ([Errno 28] No space left on device). The training goes on without it.\n"
    assert capsys.readouterr().out.count(sentence) == 1
    check_same(tmp_path, uninterrupted, models=("model", "model/seeds/2"))


def test_what_can_neither_be_read_nor_deleted_costs_no_training(
    transformed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here a folder is in the place of the file; a file system that has become read-only is another case."""
    folder = make_progress_folder(tmp_path)
    store_name: list[str] = []

    def take_place(dependencies: dict[str, object]) -> str:
        store_name.append(name := name_progress(dependencies))
        (folder / name / "in the way").mkdir(parents=True, exist_ok=True)
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.train.training.name_progress", take_place)
        train(transformed, tmp_path, seeds=1)
    said = capsys.readouterr().out
    assert said.count("train: no progress is kept ([Errno 21] Is a directory: ") == 1
    assert f"train: {folder / store_name[0]}: stays there ([Errno 21] Is a directory: " in said
    assert (folder / store_name[0] / "in the way").is_dir()


def test_a_damaged_file_of_progress_is_said_to_be_and_not_used(
    transformed: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_progress_folder(tmp_path)
    run_killed(TRAIN, "seed 1, epoch 3/4", transformed, tmp_path, "", "2")
    (name,) = list_progress(tmp_path)
    os.truncate(folder / name, 5000)
    train(transformed, tmp_path, seeds=2)
    assert (
        f"train: {folder / name}: is damaged, so the training starts from the beginning.\n" in capsys.readouterr().out
    )
    check_same(tmp_path, uninterrupted, models=("model", "model/seeds/2"))


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), is_cut=st.booleans())
def test_progress_that_was_altered_is_not_used(position: float, value: int, is_cut: bool) -> None:
    with TemporaryDirectory() as name:
        source, target = Path(name, "source"), Path(name, "target")
        (source / "keras").mkdir(parents=True)
        (source / "keras/weights").write_bytes(bytes(range(256)))
        (source / "course.json").write_text("{}")
        target.mkdir()
        store = ProgressStore(Path(name), "", ["a.progress"])
        store.keep("a.progress", source, is_last=True)
        content = bytearray(Path(name, "a.progress").read_bytes())
        whole = bytes(content)
        content[int(position * len(content))] = value
        altered = bytes(content[: int(position * len(content))] if is_cut else content)
        Path(name, "a.progress").write_bytes(altered)
        if store.restore("a.progress", target):
            assert contents(target) == contents(source)
        else:
            assert altered != whole
            assert contents(target) == {}


def test_a_training_that_diverges_leaves_no_progress(
    transformed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying again would only find the same."""
    check = fitting._check_loss

    def diverge(epoch: int, logs: dict[str, float], settings: TrainingSettings) -> None:
        check(epoch, logs | ({"loss": np.nan} if epoch == 3 else {}), settings)

    monkeypatch.setattr(fitting, "_check_loss", diverge)
    monkeypatch.setattr("components.train.progress.IMAGES_BETWEEN", 1)
    with pytest.raises(UserError, match=r"^the loss is not a number from epoch 3 on; "):
        train(transformed, tmp_path)
    assert contents(tmp_path) == {"progress": None}
