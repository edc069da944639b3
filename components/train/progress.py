"""The progress of a training, kept so that one that was interrupted goes on after the last epoch that was kept.

It is one file per seed in the user's cache, whose name says what the training depends on: the same training goes on
there, whichever run it belongs to. Where the outputs go to Cloud Storage, an object beside them has the same name: a
pod that is tried again has an empty disk. A training that ends well deletes both.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.shared import cloud_storage
from components.shared.code import hash_code
from components.shared.errors import UserError, shorten
from components.shared.formats.training import Epoch

CODE = ("components/train", "components/shared", "models")  # folders whose modules decide what comes of a training
LIBRARIES = ("tensorflow", "keras", "numpy")

# Images that a training sees between two times that its progress is kept: some twenty seconds' work of a CPU, of which
# keeping takes a hundredth. Not a time: what is read of a model on the way changes names in its SavedModel, and these
# must not depend on a clock.
IMAGES_BETWEEN = 20_000
COPY_PAUSE = 60.0  # seconds between two copies to Cloud Storage
PATIENCE = 20.0  # seconds until Cloud Storage must have taken or deleted something

_KERAS, _COURSE, _BEST, _GENERATORS = "keras", "course.json", "best.npz", "generators.npz"  # in the file


@dataclass
class Course:
    """How a training has gone so far."""

    rows: list[Epoch] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)  # at the end of each epoch
    best_weights: list[NDArray[Any]] = field(default_factory=list)


def name_progress(dependencies: dict[str, object]) -> str:
    """The name of the file of a training.

    Args:
        dependencies: All that decides what comes of it, but for code, libraries and devices, as JSON takes it.

    Returns:
        A name that stands for them.
    """
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    text = json.dumps([dependencies, hash_code(CODE, LIBRARIES), devices], sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.progress"


class ProgressStore:
    """The files of progress of the trainings of a step, here and in Cloud Storage."""

    def __init__(self, folder: Path, uri: str, names: Collection[str]) -> None:
        """Takes the places of the files, which may be there or not.

        Args:
            folder: Where the files are; trainings that run at the same time may share it.
            uri: The address of the folder for the copies, gs://...; empty for none.
            names: Those of the trainings of this step (see name_progress).
        """
        self._folder = folder
        self._uri = uri
        self._names = names
        self._copied: set[str] = set()
        self._copied_at = time.monotonic()
        self._has_warned = False

    def restore(self, name: str, target: Path) -> bool:
        """Unpacks the file of a training into a folder, and says whether there was one."""
        path = self._folder / name
        if self._uri and not path.exists():
            self._fetch(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            self.warn(f"({shorten(error)}).")
            return False
        archive = content[hashlib.sha256().digest_size :]
        if not content.startswith(hashlib.sha256(archive).digest()):
            print(f"train: {path}: is damaged, so the training starts from the beginning.", flush=True)
            return False
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(target, filter="data")
        except OSError as error:
            self.warn(f"({shorten(error)}).")
            shutil.rmtree(target)
            target.mkdir()
            return False
        return True

    def keep(self, name: str, folder: Path, *, is_last: bool) -> None:
        """Makes the content of a folder the file of a training; copies it, at the end or if the last copy is old.

        Raises:
            OSError: It cannot be written.
        """
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as files:
            files.add(folder, arcname=".")
        with tempfile.TemporaryDirectory(dir=self._folder) as own:  # the same training may run twice
            written = Path(own, name)
            written.write_bytes(hashlib.sha256(archive.getvalue()).digest() + archive.getvalue())
            os.replace(written, self._folder / name)
        if self._uri and (is_last or time.monotonic() - self._copied_at >= COPY_PAUSE):
            self._copy(name)
            self._copied_at = time.monotonic()

    def warn(self, reason: str) -> None:
        """Says once that progress cannot be kept: the training itself needs none."""
        if not self._has_warned:
            print(f"train: no progress is kept {reason} The training goes on without it.", flush=True)
        self._has_warned = True

    def delete(self) -> None:
        """Deletes all files and their copies: their trainings have ended, and what came of them is written."""
        for name in self._names:
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:  # what the training has written is whole all the same
                print(f"train: {self._folder / name}: stays there ({shorten(error)}).", flush=True)
        for name in sorted(self._copied):
            try:
                cloud_storage.delete(f"{self._uri}/{name}", timeout=PATIENCE)
            except cloud_storage.MissingError:
                pass
            except UserError as error:
                print(f"train: a copy of the progress stays in Cloud Storage: {error}", flush=True)
                return  # the others would take as long to fail

    @contextlib.contextmanager
    def delete_on_mistakes(self) -> Iterator[None]:
        """Deletes the files if the block ends with a mistake of the user's, which trying again would only repeat."""
        try:
            yield
        except UserError:
            self.delete()
            raise

    def _fetch(self, name: str) -> None:
        try:
            cloud_storage.fetch_object(f"{self._uri}/{name}", self._folder / name)
            self._copied.add(name)
        except cloud_storage.MissingError:
            pass
        except (UserError, OSError) as error:
            self.warn(f"in Cloud Storage: {shorten(error)}.")

    def _copy(self, name: str) -> None:
        try:
            cloud_storage.upload(self._folder / name, f"{self._uri}/{name}", timeout=PATIENCE)
            self._copied.add(name)
        except UserError as error:
            self.warn(f"in Cloud Storage: {shorten(error)}.")


def restore_course(store: ProgressStore, name: str, folder: Path) -> Course:
    """Unpacks the progress of a training, for Backup, and returns how it has gone; that of a new one if there is none.

    Args:
        store: Where it is.
        name: The name of its file (see name_progress).
        folder: An empty folder for it.
    """
    if not store.restore(name, folder):
        return Course()
    course = Course(**json.loads((folder / _COURSE).read_text(encoding="utf-8")))
    course.best_weights = _read_arrays(folder / _BEST)
    return course


class Backup(keras.callbacks.BackupAndRestore):  # type: ignore[misc]
    """Keeps and restores the weights and the optimizer as Keras does, and with them what Keras leaves out.

    That is the course of the training, and the states of random generators, such as that of a layer Dropout.
    """

    def __init__(
        self, store: ProgressStore, name: str, folder: Path, course: Course, *, epochs: int, images: int
    ) -> None:
        """Prepares to go on.

        Args:
            store: Where the progress is kept.
            name: The name of its file (see name_progress).
            folder: As restore_course has filled it.
            course: As restore_course has returned it; whoever trains adds to it before this callback is called.
            epochs: Of the training.
            images: How many it sees in each.
        """
        super().__init__(str(folder / _KERAS))
        self._store = store
        self._name = name
        self._folder = folder
        self._course = course
        self._epochs = epochs
        self._pause = -(-IMAGES_BETWEEN // images)  # epochs

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restores the state after the last epoch that was kept."""
        super().on_train_begin(logs)
        if self._course.rows:
            for variable, value in zip(self._list_generators(), _read_arrays(self._folder / _GENERATORS), strict=True):
                variable.assign(value)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keeps the state after the last epoch, and otherwise as often as does not slow down the training."""
        is_last = epoch + 1 == self._epochs
        if (epoch + 1) % self._pause and not is_last:
            return
        try:
            super().on_epoch_end(epoch, logs)
            content = asdict(self._course)
            _write_arrays(self._folder / _BEST, content.pop("best_weights"))
            _write_arrays(self._folder / _GENERATORS, list(map(keras.ops.convert_to_numpy, self._list_generators())))
            (self._folder / _COURSE).write_text(json.dumps(content), encoding="utf-8")
            self._store.keep(self._name, self._folder, is_last=is_last)
        except OSError as error:
            self._store.warn(f"({shorten(error)}).")

    def _list_generators(self) -> list[keras.Variable]:
        """The variables that are no weights, which Keras does not keep."""
        weights = {id(variable) for variable in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]


def _write_arrays(path: Path, arrays: Sequence[NDArray[Any]]) -> None:
    np.savez(path, *arrays)


def _read_arrays(path: Path) -> list[NDArray[Any]]:
    with np.load(path) as file:
        return [file[f"arr_{number}"] for number in range(len(file.files))]
