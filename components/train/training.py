"""Transformed examples -> the fixed model, trained, as a SavedModel that takes encoded images."""

import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.formats.training import Epoch, Training, write_history, write_training
from components.train.report import write_training_report
from components.train.serving import export
from models.preprocessing import IMAGE, LABEL
from models.resnet import build_model

if TYPE_CHECKING:
    import keras
    import numpy as np


class TrainingSettings(NamedTuple):
    epochs: int
    batch_size: int  # images
    learning_rate: float
    seed: int


def train_model(
    transformed_examples: str,
    transform_graph: str,
    settings: TrainingSettings,
    model_output: str,
    history_output: str,
    report_output: str,
) -> Training:
    """Adam, cross-entropy from logits, the weights of the epoch with the best `val_accuracy`.

    Writes the SavedModel with `training.json`, the history as CSV (one row per epoch) and the curves as HTML.

    Returns:
        The content of `training.json`.

    Raises:
        UserError: a setting is out of range.
    """
    import keras
    import tensorflow as tf

    _check(settings)
    examples = open_examples(transformed_examples)
    classes = examples.manifest.classes
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    splits = {split: load_split(examples, split) for split in ("train", "val")}
    model = build_model(len(classes))
    history = _fit(model, splits, settings)
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
        export(model, transform_graph, classes, folder)
        write_training(folder, training)
        with new_file(history_output) as path:
            write_history(path, history)
        write_training_report(report_output, history, training)
    return training


def load_split(examples: ExampleSet, split: str) -> tuple["np.ndarray", "np.ndarray"]:
    """All images of a split, float32 [images, 32, 32, 3] (12 KiB each), and their labels, int64 [images]."""
    import numpy as np
    import tensorflow as tf

    from models.preprocessing import SIZE

    spec = {IMAGE: tf.io.FixedLenFeature((*SIZE, 3), tf.float32), LABEL: tf.io.FixedLenFeature((), tf.int64)}
    batches = tf.data.TFRecordDataset(examples.shard_paths(split)).batch(256)
    parsed = list(batches.map(lambda records: tf.io.parse_example(records, spec)).as_numpy_iterator())
    return tuple(np.concatenate([batch[name] for batch in parsed]) for name in (IMAGE, LABEL))


def _check(settings: TrainingSettings) -> None:
    for name in ("epochs", "batch_size", "learning_rate"):
        if not getattr(settings, name) > 0:
            raise UserError(f"{name} is {getattr(settings, name)}; it must be greater than 0.")
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"seed is {settings.seed}; it must be from 0 to 4294967295.")


def _fit(model: "keras.Model", splits: dict[str, Any], settings: TrainingSettings) -> list[Epoch]:
    """Trains the model, leaves the best weights in it, and returns a row of metrics per epoch."""
    import keras
    import tensorflow as tf

    images, labels = splits["train"]
    shuffled = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels), seed=settings.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=32,  # one call into TensorFlow for so many steps
        jit_compile=False,  # XLA is slower for this model on CPUs
    )
    # What makes variables is made before the first step, which would be traced twice otherwise.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(images[:1], labels[:1], model(images[:1]))
    model.reset_metrics()
    rows: list[Epoch] = []

    def log_epoch(epoch: int, logs: dict[str, float]) -> None:
        rows.append(cast(Epoch, {"epoch": epoch + 1, **logs}))
        best = max(row["val_accuracy"] for row in rows)
        print(
            f"train: epoch {epoch + 1}/{settings.epochs}, val_accuracy {logs['val_accuracy']:.3f}, best {best:.3f}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as temporary:
        weights = f"{temporary}/best.weights.h5"
        model.fit(
            shuffled.batch(settings.batch_size).prefetch(tf.data.AUTOTUNE),
            epochs=settings.epochs,
            validation_data=tf.data.Dataset.from_tensor_slices(splits["val"]).batch(256),
            callbacks=[
                keras.callbacks.ModelCheckpoint(
                    weights, monitor="val_accuracy", mode="max", save_best_only=True, save_weights_only=True
                ),
                keras.callbacks.LambdaCallback(on_epoch_end=log_epoch),
            ],
            verbose=0,
        )
        model.load_weights(weights)
    return rows
