"""The trainings of the fixed model on the same images, each with a seed of its own."""

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from components.shared.errors import UserError
from components.shared.fixed_models import GUIDE, FixedModel, call_model
from components.shared.formats.training import Epoch, Progress
from components.train.images import Feed, Split, make_batches
from components.train.progress import Backup, Course, ProgressStore, restore_course
from components.train.settings import TrainingSettings, make_loss, make_optimizer
from components.train.tracking import EventFiles

PLAIN = "float32", 1  # the dtype policy and the number of GPUs of the models that are measured and kept


class TrainedModel(NamedTuple):
    """A model with the best of its weights, and how it came to them."""

    seed: int
    model: keras.Model
    history: list[Epoch]


@dataclass(frozen=True)
class Trainer:
    """What the trainings have in common, whatever their seeds."""

    fixed: FixedModel
    name: str  # of the model
    classes: int
    settings: TrainingSettings
    strategy: tf.distribute.Strategy
    train: Split
    val: Split
    store: ProgressStore
    progress: dict[int, str]  # the name of the file of each training, by its seed

    def train_with(self, seed: int, event_files: Path, report_epoch: Callable[[Epoch], None]) -> TrainedModel:
        """Trains a new model, or goes on with it.

        Args:
            seed: Of everything that is random.
            event_files: The folder for TensorBoard.
            report_epoch: Is called with the metrics of each epoch, also of those before an interruption.

        Returns:
            The model with the weights of the best epoch: it computes with float32, on one device.

        Raises:
            UserError: The model is not as its module says, or the loss is no longer a number.
        """
        settings = self.settings._replace(seed=seed)
        kept = None
        if (settings.dtype_policy, settings.gpus) != PLAIN:
            kept = self._build(settings, tf.distribute.get_strategy(), "float32")
        model = self._build(settings, self.strategy, settings.dtype_policy)
        feed = Feed(self.train, batch_size=settings.batch_size, seed=seed, one_hot=self._one_hot, gpus=settings.gpus)
        progress = self.progress[seed]
        with tempfile.TemporaryDirectory() as folder:
            course = restore_course(self.store, progress, Path(folder))
            backup = Backup(self.store, progress, Path(folder), course, epochs=settings.epochs, images=self.train.size)
            _fit(
                model,
                kept or model,
                feed=feed,
                val=make_batches(self.val, one_hot=self._one_hot),
                settings=settings,
                label=f"seed {seed}, " if len(self.progress) > 1 else "",
                course=course,
                backup=backup,
                event_files=event_files,
                report_epoch=report_epoch,
            )
        return TrainedModel(seed, kept or model, course.rows)

    @property
    def _one_hot(self) -> int:
        """The length of a label in the batches; 0 if it is the number of the class."""
        return 0 if self.settings.takes_labels else self.classes

    def _build(self, settings: TrainingSettings, strategy: tf.distribute.Strategy, policy: str) -> keras.Model:
        """A model that is ready for its first step, the same whatever was trained in this process before."""
        keras.utils.clear_session()
        keras.utils.set_random_seed(settings.seed)
        with strategy.scope(), _use_dtype_policy(policy):
            model = build_checked(self.fixed, self.name, self.classes)
            _compile(model, settings, self._one_hot)
        return model


@contextlib.contextmanager
def _use_dtype_policy(name: str) -> Iterator[None]:
    """Lets the layers that are made in the block have this policy."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)


def build_checked(fixed: FixedModel, name: str, classes: int) -> keras.Model:
    """The untrained model, if it takes and gives what its module says.

    Raises:
        UserError: It does not.
    """
    place = f"models/{name}.py: build_model"
    model = call_model(place, lambda: fixed.build_model(classes))
    if not isinstance(model, keras.Model) or not model.built:
        raise UserError(f"{place} returns no Keras model with an input; {GUIDE}.")
    for what, actual, expected in (
        ("takes", model.input_shape, (None, *fixed.SIZE, fixed.CHANNELS)),
        ("gives", model.output_shape, (None, classes)),
    ):
        if tuple(actual) != expected:
            raise UserError(f"models/{name}.py: the model {what} {actual}; it must be {expected}; {GUIDE}.")
    return model


def _compile(model: keras.Model, settings: TrainingSettings, one_hot: int) -> None:
    model.compile(
        optimizer=make_optimizer(settings),
        loss=make_loss(settings),
        metrics=["accuracy"],
        # One call into TensorFlow for so many steps; Keras 3.15 cannot do that with several GPUs on TensorFlow 2.16.
        steps_per_execution=32 if settings.gpus == 1 else 1,
        jit_compile=False,  # XLA is slower for this model on CPUs
    )
    # Make all variables before the first step: otherwise TensorFlow would trace it twice.
    model.optimizer.build(model.trainable_variables)
    image = np.zeros((1, *model.input_shape[1:]), np.float32)
    label = np.eye(1, one_hot, dtype=np.float32) if one_hot else np.zeros(1, np.int64)
    model.compute_metrics(image, label, model(image))
    model.reset_metrics()


def _fit(
    model: keras.Model,
    kept: keras.Model,
    *,
    feed: Feed,
    val: tf.data.Dataset,
    settings: TrainingSettings,
    label: str,
    course: Course,
    backup: Backup,
    event_files: Path,
    report_epoch: Callable[[Epoch], None],
) -> None:
    """Trains the model, or goes on with that, and leaves the best weights in the one that is kept.

    That is the same model, or one of float32 on one device, which is then the one that is measured on val. The course
    has a row of metrics per epoch at the end. The label says in the log which training it is.
    """
    rows = course.rows
    ends: list[float] = []  # of the epochs, in seconds
    if rows:
        print(f"train: {label}goes on after epoch {len(rows)}/{settings.epochs}", flush=True)
    for row in rows:
        report_epoch(row)

    def begin_epoch(epoch: int, logs: dict[str, float]) -> None:
        feed.begin_epoch(epoch)

    def measure_kept() -> dict[str, float]:
        weights = model.get_weights()
        model.set_weights(weights)  # so that all devices have the same moving means, as if the training went on here
        kept.set_weights(weights)
        return {f"val_{name}": value for name, value in kept.evaluate(val, verbose=0, return_dict=True).items()}

    def log_epoch(epoch: int, logs: dict[str, float]) -> None:
        if kept is not model:
            logs = logs | measure_kept()
        _check_loss(epoch + 1, logs, settings)
        rows.append(cast(Epoch, {"epoch": epoch + 1, **logs}))
        course.learning_rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        report_epoch(rows[-1])
        best = max(rows, key=rank_epoch)
        if best is rows[-1]:
            course.best_weights = model.get_weights()
        ends.append(time.monotonic())
        progress = Progress(epoch + 1, settings.epochs, logs["val_accuracy"])
        rest = _describe_rest(ends, settings.epochs - len(rows))
        print(f"train: {label}{progress}, best {best['val_accuracy']:.3f}{rest}", flush=True)

    model.fit(
        feed.batches,
        epochs=settings.epochs,
        validation_data=val if kept is model else None,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=begin_epoch, on_epoch_end=log_epoch),
            EventFiles(event_files, rows, course.learning_rates),
            backup,
        ],
        verbose=0,
    )
    kept.set_weights(course.best_weights)


def rank_epoch(row: Epoch) -> tuple[float, float]:
    """The sort key of an epoch: higher accuracy on val first, then lower loss, since few images often tie."""
    return row["val_accuracy"], -row["val_loss"]


def _check_loss(epoch: int, logs: dict[str, float], settings: TrainingSettings) -> None:
    """Ends a training that has diverged: its weights are lost, and no later epoch would find them again."""
    rate = f"learning_rate (it is {settings.learning_rate:g})"
    advice = rate if settings.has_learning_rate else "the rates in learning_rate_schedule"
    for name in ("loss", "val_loss"):
        if not math.isfinite(logs[name]):
            raise UserError(f"the {name} is not a number from epoch {epoch} on; lower {advice}.")


def _describe_rest(ends: list[float], left: int) -> str:
    """How long the epochs that are left take at the pace of those after the first, in which TensorFlow prepares itself.

    Args:
        ends: When those of this process ended, in seconds.
        left: How many are left.
    """
    if len(ends) < 2 or not left:
        return ""
    return f", {(ends[-1] - ends[0]) / (len(ends) - 1) * left / 60:.1f} min left"
