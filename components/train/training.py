"""Transformed examples -> their model, trained, as a SavedModel that takes encoded images."""

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf

from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.fixed_models import GUIDE, FixedModel, call_model, load_model
from components.shared.formats.examples import open_examples
from components.shared.formats.model import SEEDS
from components.shared.formats.training import (
    Epoch,
    HeldAs,
    Progress,
    Settings,
    Training,
    write_history,
    write_training,
)
from components.shared.formats.transformed import read_model_name
from components.shared.seeds import format_seeds
from components.train.convergence import describe_rise, has_settled
from components.train.devices import choose_strategy
from components.train.images import SHARDS, Feed, load_splits, make_batches
from components.train.progress import Backup, Course, ProgressStore, name_progress, restore_course
from components.train.report import write_training_report
from components.train.serving import export_model
from components.train.settings import TrainingSettings, check_loss, check_settings, make_loss, make_optimizer
from components.train.tracking import EventFiles, report_to_mlflow

MOST_SEEDS = 100  # whose models are in memory until all are trained


class TrainedModel(NamedTuple):
    """A model with the best of its weights, and how it came to them."""

    seed: int
    model: keras.Model
    history: list[Epoch]


def train_model(
    transformed_examples: str,
    transform_graph: str,
    *,
    settings: TrainingSettings,
    seeds: int = 1,
    memory_share: float = 0.5,
    model_output: str,
    history_output: str,
    event_files_output: str,
    report_output: str,
    progress_folder: Path | None = None,
    progress_uri: str = "",
) -> Training:
    """Trains the model and keeps the weights of the best epoch (see rank_epoch); the same for each further seed.

    A training that was interrupted goes on after the last epoch whose progress was kept, if it is started with the same
    arguments (see progress.py); `progress_folder` is where that is, by default beside the outputs, and `progress_uri`
    the folder in Cloud Storage for copies of it, empty for none.

    Writes the SavedModel with `training.json`, the history as CSV (one row per epoch) and as event files, and the
    curves as HTML. A model of a further seed is the one that a training with that seed alone makes. The arguments are
    those of the component (component.py).

    Returns:
        The content of `training.json`.

    Raises:
        UserError: A setting is out of range, the examples are not as transform wrote them, or the loss is no longer a
            number.
    """
    check_settings(settings)
    check_seeds(seeds)
    if not 0 <= memory_share <= 1:
        raise UserError(f"memory_share is {memory_share}; it must be from 0 to 1.")
    name = read_common_model(transformed_examples, transform_graph)
    fixed = load_model(name)
    examples = open_examples(transformed_examples)
    classes = examples.manifest.classes
    check_loss(settings, len(classes))
    tf.config.experimental.enable_op_determinism()
    shape = (*fixed.SIZE, fixed.CHANNELS)
    strategy = choose_strategy(settings.gpus)
    train, val = load_splits(examples, shape, memory_share)
    if train.size < settings.gpus:
        raise UserError(f"gpus is {settings.gpus}, but train has {train.size} images; lower it.")
    held_as: dict[str, HeldAs] = {"train": train.held_as, "val": val.held_as}
    one_hot = 0 if settings.takes_labels else len(classes)
    described: Settings = {"model": name, **settings.describe()}
    version = examples.manifest.data_version
    task_folder = Path(event_files_output).parent
    run_name = "/".join(task_folder.parts[-2:])  # here the pipeline with its time, and the task

    progress_names = {
        seed: name_progress(
            {
                "settings": described | {"seed": seed},
                "examples": asdict(replace(examples.manifest, data_uri="", test_data_uri="")),
                "is_streamed": train.held_as == SHARDS,
            }
        )
        for seed in range(settings.seed, settings.seed + seeds)
    }
    store = ProgressStore(progress_folder or Path(model_output).parent, progress_uri, progress_names.values())

    def train_with(seed: int, event_files: Path, report_epoch: Callable[[Epoch], None]) -> TrainedModel:
        own = settings._replace(seed=seed)
        kept = None
        if (own.dtype_policy, own.gpus) != ("float32", 1):  # what is measured and kept runs on one device, in float32
            _begin_with_seed(seed)
            kept = build_checked(fixed, name, len(classes))
            _compile(kept, own, one_hot)
        _begin_with_seed(seed)
        with strategy.scope(), _use_dtype_policy(own.dtype_policy):
            model = build_checked(fixed, name, len(classes))
            _compile(model, own, one_hot)
        label = f"seed {seed}, " if seeds > 1 else ""
        with tempfile.TemporaryDirectory() as folder:
            course = restore_course(store, progress_names[seed], Path(folder))
            backup = Backup(store, progress_names[seed], Path(folder), course, epochs=own.epochs, images=train.size)
            _fit(
                model,
                kept or model,
                feed=Feed(train, batch_size=own.batch_size, seed=seed, one_hot=one_hot, gpus=own.gpus),
                val=make_batches(val, one_hot=one_hot),
                settings=own,
                label=label,
                course=course,
                backup=backup,
                event_files=event_files,
                report_epoch=report_epoch,
            )
        return TrainedModel(seed, kept or model, course.rows)

    with store.delete_on_mistakes(), new_directory(event_files_output) as event_files:
        with report_to_mlflow(run_name, version, described, str(task_folder)) as report_epoch:
            first = train_with(settings.seed, event_files, report_epoch)
        others = [
            train_with(seed, event_files / f"seed-{seed}", lambda row: None)
            for seed in range(settings.seed + 1, settings.seed + seeds)
        ]
    trained = [first, *others]
    trainings = _describe_trainings(trained, data_version=version, classes=classes, settings=described, held_as=held_as)
    rise = _describe_rises(trained)
    if rise:
        print(f"train: {rise}", flush=True)
    with new_directory(model_output) as model_folder:
        for each, training in zip(trained, trainings, strict=True):
            place = model_folder if each is first else model_folder / SEEDS / str(each.seed)
            export_model(each.model, transform_graph=transform_graph, classes=classes, folder=place)
            write_training(place, training)
        with new_file(history_output) as path:
            write_history(path, first.history)
        write_training_report(report_output, [each.history for each in trained], trainings[0], rise)
    store.delete()
    return trainings[0]


def check_seeds(seeds: int) -> None:
    """Checks how often the model is to be trained.

    Raises:
        UserError: Not at all, or too often.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError(f"seeds is {seeds}; it must be from 1 to {MOST_SEEDS}.")


def _begin_with_seed(seed: int) -> None:
    """Lets a model be built as in a new process, whatever was trained in this one before."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


@contextlib.contextmanager
def _use_dtype_policy(name: str) -> Iterator[None]:
    """Lets the layers that are made in the block have this policy."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)


def _describe_trainings(
    trained: list[TrainedModel],
    *,
    data_version: str,
    classes: list[str],
    settings: Settings,
    held_as: dict[str, HeldAs],
) -> list[Training]:
    """The content of training.json of each model; that of the first says what came of the others."""
    trainings: list[Training] = []
    for each in trained:
        best = max(each.history, key=rank_epoch)
        trainings.append(
            {
                "data_version": data_version,
                "classes": classes,
                "settings": settings | {"seed": each.seed},
                "parameters": each.model.count_params(),
                "best_epoch": best["epoch"],
                "val_accuracy": best["val_accuracy"],
                "val_loss": best["val_loss"],
                "has_settled": has_settled(each.history),
                "held_as": held_as,
            }
        )
    if len(trained) > 1:
        first = trainings[0]
        first["has_settled"] = all(training["has_settled"] for training in trainings)
        first["settings"] = first["settings"] | {"seeds": len(trained)}
        first["val_accuracies"] = [training["val_accuracy"] for training in trainings]
        print(f"train: val_accuracy of {len(trained)} seeds {format_seeds(first['val_accuracies'])}", flush=True)
    return trainings


def _describe_rises(trained: list[TrainedModel]) -> str:
    """Says of the first training in which the accuracy on val still rises that it does; else nothing."""
    for each in trained:
        if rise := describe_rise(each.history):
            return f"{rise} That is the training with the seed {each.seed}." if len(trained) > 1 else rise
    return ""


def read_common_model(transformed_examples: str, transform_graph: str) -> str:
    """The name of the model for which the examples and the graph were made.

    Raises:
        UserError: They were made for two, or do not say so.
    """
    names = [read_model_name(folder) for folder in (transformed_examples, transform_graph)]
    if names[0] != names[1]:
        raise UserError(
            f"{transformed_examples}: is for the model {names[0]}, but {transform_graph} for {names[1]}; give both "
            "outputs of one run of transform."
        )
    return names[0]


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


def _check_loss(epoch: int, logs: dict[str, float], settings: TrainingSettings) -> None:
    """Ends a training that has diverged: its weights are lost, and no later epoch would find them again."""
    rate = f"learning_rate (it is {settings.learning_rate:g})"
    advice = rate if settings.has_learning_rate else "the rates in learning_rate_schedule"
    for name in ("loss", "val_loss"):
        if not math.isfinite(logs[name]):
            raise UserError(f"the {name} is not a number from epoch {epoch} on; lower {advice}.")


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


def _describe_rest(ends: list[float], left: int) -> str:
    """How long the epochs that are left take at the pace of those after the first, in which TensorFlow prepares itself.

    Args:
        ends: When those of this process ended, in seconds.
        left: How many are left.
    """
    if len(ends) < 2 or not left:
        return ""
    return f", {(ends[-1] - ends[0]) / (len(ends) - 1) * left / 60:.1f} min left"
