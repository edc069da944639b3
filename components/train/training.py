"""Transformed examples -> their model, trained, as a SavedModel that takes encoded images."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import tensorflow as tf

from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.fixed_models import load_model
from components.shared.formats.examples import ExamplesManifest, open_examples
from components.shared.formats.model import SEEDS
from components.shared.formats.training import HeldAs, Settings, Training, write_history, write_training
from components.shared.formats.transformed import read_model_name
from components.shared.seeds import format_seeds
from components.train.convergence import describe_rise, has_settled
from components.train.devices import choose_strategy
from components.train.fitting import TrainedModel, Trainer, rank_epoch
from components.train.images import SHARDS, Split, load_splits
from components.train.progress import ProgressStore, name_progress
from components.train.report import write_training_report
from components.train.serving import export_model
from components.train.settings import TrainingSettings, check_loss, check_settings
from components.train.tracking import report_to_mlflow

MOST_SEEDS = 100  # whose models are in memory until all are trained


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
    strategy = choose_strategy(settings.gpus)
    train, val = load_splits(examples, (*fixed.SIZE, fixed.CHANNELS), memory_share)
    if train.size < settings.gpus:
        raise UserError(f"gpus is {settings.gpus}, but train has {train.size} images; lower it.")
    described: Settings = {"model": name, **settings.describe()}
    progress = _name_progress(seeds, described, examples.manifest, train)
    store = ProgressStore(progress_folder or Path(model_output).parent, progress_uri, progress.values())
    trainer = Trainer(fixed, name, len(classes), settings, strategy, train, val, store, progress)
    version = examples.manifest.data_version
    task_folder = Path(event_files_output).parent
    run_name = "/".join(task_folder.parts[-2:])  # here the pipeline with its time, and the task
    with store.delete_on_mistakes(), new_directory(event_files_output) as event_files:
        with report_to_mlflow(run_name, version, described, str(task_folder)) as report_epoch:
            first = trainer.train_with(settings.seed, event_files, report_epoch)
        further = range(settings.seed + 1, settings.seed + seeds)
        others = [trainer.train_with(seed, event_files / f"seed-{seed}", lambda row: None) for seed in further]
    trained = [first, *others]
    held_as: dict[str, HeldAs] = {"train": train.held_as, "val": val.held_as}
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


def _name_progress(seeds: int, settings: Settings, manifest: ExamplesManifest, train: Split) -> dict[int, str]:
    """The name of the file of progress of each training, by its seed."""
    content = asdict(replace(manifest, data_uri="", test_data_uri=""))
    first = cast(int, settings["seed"])
    return {
        seed: name_progress(
            {"settings": settings | {"seed": seed}, "examples": content, "is_streamed": train.held_as == SHARDS}
        )
        for seed in range(first, first + seeds)
    }


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
