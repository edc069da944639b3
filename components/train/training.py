"""Transformed examples -> the fixed model, trained, as a SavedModel that takes encoded images."""

import math
from typing import NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.formats.training import Epoch, Training, write_history, write_training
from components.train.report import write_training_report
from components.train.serving import export_model
from models.preprocessing import IMAGE, LABEL, SIZE
from models.resnet import build_model


class TrainingSettings(NamedTuple):
    """How the model learns; the component (component.py) describes each."""

    epochs: int
    batch_size: int  # images
    learning_rate: float
    seed: int


class LoadedSplit(NamedTuple):
    """All images of a split, in memory."""

    images: NDArray[np.float32]  # [images, 32, 32, 3], 0 .. 255; 12 KiB each
    labels: NDArray[np.int64]  # [images]


def train_model(
    transformed_examples: str,
    transform_graph: str,
    *,
    settings: TrainingSettings,
    model_output: str,
    history_output: str,
    report_output: str,
) -> Training:
    """Trains with Adam and cross-entropy from logits, and keeps the weights of the epoch with the best `val_accuracy`.

    Writes the SavedModel with `training.json`, the history as CSV (one row per epoch) and the curves as HTML. The
    arguments are those of the component (component.py).

    Returns:
        The content of `training.json`.

    Raises:
        UserError: A setting is out of range, the examples are not as transform wrote them, or the loss is no longer a
            number.
    """
    _check_settings(settings)
    examples = open_examples(transformed_examples)
    classes = examples.manifest.classes
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    train, val = load_split(examples, "train"), load_split(examples, "val")
    model = build_model(len(classes))
    _compile(model, settings.learning_rate, train)
    history = _fit(model, train=train, val=val, settings=settings)
    best = max(history, key=lambda row: row["val_accuracy"])
    training: Training = {
        "data_version": examples.manifest.data_version,
        "classes": classes,
        "settings": settings._asdict(),
        "parameters": model.count_params(),
        "best_epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
    }
    with new_directory(model_output) as folder:
        export_model(model, transform_graph=transform_graph, classes=classes, folder=folder)
        write_training(folder, training)
        with new_file(history_output) as path:
            write_history(path, history)
        write_training_report(report_output, history, training)
    return training


def load_split(examples: ExampleSet, split: str) -> LoadedSplit:
    """Reads all images of a split into memory.

    Raises:
        UserError: A shard is damaged, or is not as transform writes it.
    """
    spec = {IMAGE: tf.io.FixedLenFeature((*SIZE, 3), tf.float32), LABEL: tf.io.FixedLenFeature((), tf.int64)}
    batches = tf.data.TFRecordDataset(examples.list_shard_paths(split)).batch(256)
    place, advice = f"{examples.folder}, {split}", "rerun transform"
    try:
        parsed = list(batches.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator())
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        raise UserError(f"{place}: a shard is not as transform writes it; {advice}.") from None
    if (count := sum(len(batch[LABEL]) for batch in parsed)) != (images := examples.manifest.splits[split].images):
        raise UserError(f"{place}: has {count:,} images, but {images:,} by its manifest; {advice}.")
    loaded = LoadedSplit(*(np.concatenate([batch[name] for batch in parsed]) for name in (IMAGE, LABEL)))
    if not np.isfinite(loaded.images).all():
        raise UserError(f"{place}: an image has a value that is no number; {advice}.")
    if not ((loaded.labels >= 0) & (loaded.labels < len(examples.manifest.classes))).all():
        raise UserError(f"{place}: an image has a label that is none of the classes; {advice}.")
    return loaded


def _check_settings(settings: TrainingSettings) -> None:
    for name in ("epochs", "batch_size", "learning_rate"):
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise UserError(f"{name} is {value}; it must be greater than 0{' and finite' if value > 0 else ''}.")
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"seed is {settings.seed}; it must be from 0 to 4294967295.")


def _check_loss(epoch: int, logs: dict[str, float], learning_rate: float) -> None:
    """Ends a training that has diverged: its weights are lost, and no later epoch would find them again."""
    for name in ("loss", "val_loss"):
        if not math.isfinite(logs[name]):
            raise UserError(
                f"the {name} is not a number from epoch {epoch} on; lower learning_rate (it is {learning_rate:g})."
            )


def _compile(model: keras.Model, learning_rate: float, train: LoadedSplit) -> None:
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=32,  # one call into TensorFlow for so many steps
        jit_compile=False,  # XLA is slower for this model on CPUs
    )
    # Make all variables before the first step: otherwise TensorFlow would trace it twice.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(train.images[:1], train.labels[:1], model(train.images[:1]))
    model.reset_metrics()


def _fit(model: keras.Model, *, train: LoadedSplit, val: LoadedSplit, settings: TrainingSettings) -> list[Epoch]:
    """Trains the model, leaves the best weights in it, and returns a row of metrics per epoch."""
    shuffled = tf.data.Dataset.from_tensor_slices(train).shuffle(len(train.labels), seed=settings.seed)
    rows: list[Epoch] = []

    def log_epoch(epoch: int, logs: dict[str, float]) -> None:
        _check_loss(epoch + 1, logs, settings.learning_rate)
        rows.append(cast(Epoch, {"epoch": epoch + 1, **logs}))
        best = max(row["val_accuracy"] for row in rows)
        figures = f"val_accuracy {logs['val_accuracy']:.3f}, best {best:.3f}"
        print(f"train: epoch {epoch + 1}/{settings.epochs}, {figures}", flush=True)

    # Never stops early; it keeps the best weights in memory and puts them back at the end.
    best_weights = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=settings.epochs, restore_best_weights=True
    )
    model.fit(
        shuffled.batch(settings.batch_size).prefetch(tf.data.AUTOTUNE),
        epochs=settings.epochs,
        validation_data=tf.data.Dataset.from_tensor_slices(val).batch(256),
        callbacks=[best_weights, keras.callbacks.LambdaCallback(on_epoch_end=log_epoch)],
        verbose=0,
    )
    return rows
