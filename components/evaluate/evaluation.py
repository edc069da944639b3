"""The SavedModel on the raw examples: predictions, metrics, and the report of what it gets wrong."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from components.evaluate.metrics import measure_split
from components.evaluate.report import write_evaluation_report
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import model as model_format
from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import MEASURED_SPLITS, Evaluation, write_evaluation
from components.shared.formats.examples import ExampleSet, ImageExample, open_examples
from components.shared.formats.model import list_seed_models
from components.shared.formats.predictions import (
    describe_image,
    name_probability,
    name_seed_prediction,
    write_predictions,
)
from components.shared.formats.training import Training, read_training


def evaluate_model(
    model: str,
    examples: str,
    *,
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    evaluation_output: str,
    predictions_output: str,
    report_output: str,
) -> Evaluation:
    """Writes `evaluation.json`, the predictions as CSV (a row per image, worst first) and the report.

    The train split is predicted as well, for its rows and its gallery: a training image with a high loss after training
    is likely mislabelled. Of its metrics there is only the number of its images. The arguments are those of the
    component (component.py).

    Returns:
        The content of `evaluation.json`.

    Raises:
        UserError: An option is out of range, or the model was trained on other classes or finds no probabilities.
    """
    for name, value in (("batch_size", batch_size), ("slice_bins", slice_bins), ("gallery_size", gallery_size)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more.")
    opened = open_examples(examples)
    training = read_training(model)
    _check_classes(training["classes"], opened.manifest.classes)
    _check_seed_models(model, training)
    predictions = predict_images(model, opened, batch_size)
    evaluation = _measure(predictions, training=training, examples=opened, slice_bins=slice_bins)
    with new_directory(evaluation_output) as folder:
        write_evaluation(folder, evaluation)
        with new_file(predictions_output) as path:
            write_predictions(predictions, path)
        write_evaluation_report(
            report_output, examples=opened, predictions=predictions, evaluation=evaluation, gallery_size=gallery_size
        )
    return evaluation


def predict_images(model: str, examples: ExampleSet, batch_size: int) -> pd.DataFrame:
    """Predicts every image.

    Args:
        model: The folder of the SavedModel.
        examples: The images.
        batch_size: The number of images that are predicted at once.

    Returns:
        The table that formats/predictions.py describes: by split, and then by falling loss. The loss is the
        cross-entropy in nats, with the probability of the label clipped from below at the float32 epsilon.
    """
    classes = examples.manifest.classes
    rows, batches = [], []
    for split, images, probabilities in _predict_batches(model, examples, batch_size):
        rows += [describe_image(split, image) for image in images]
        batches.append(probabilities)
    table = pd.DataFrame(rows)
    matrix = np.concatenate(batches).astype(np.float64)
    labels = table[columns.LABEL].map(classes.index).to_numpy()
    table[columns.PREDICTION] = np.array(classes)[matrix.argmax(axis=1)]
    table[columns.CONFIDENCE] = matrix.max(axis=1)
    table[columns.LOSS] = -np.log(np.clip(matrix[np.arange(len(labels)), labels], np.finfo(np.float32).eps, 1))
    for i, name in enumerate(classes):
        table[name_probability(name)] = matrix[:, i]
    for seed, folder in list_seed_models(model).items():
        of_seed = [probabilities for _, _, probabilities in _predict_batches(str(folder), examples, batch_size)]
        table[name_seed_prediction(seed)] = np.array(classes)[np.concatenate(of_seed).argmax(axis=1)]
    order = table[columns.SPLIT].map(list(examples.manifest.splits).index)
    return table.iloc[np.lexsort([table[columns.FILENAME], -table[columns.LOSS], order])].reset_index(drop=True)


def _predict_batches(
    model: str, examples: ExampleSet, batch_size: int
) -> Iterator[tuple[str, list[ImageExample], NDArray[np.float32]]]:
    """Yields batches of images with their split and their probabilities [batch, classes].

    Raises:
        UserError: The model cannot be read or predicts something else, or it cannot decode an image.
    """
    advice = "give a model that train made"
    name = f", seed {Path(model).name}" if Path(model).parent.name == model_format.SEEDS else ""
    signature: Any = model_format.load_saved_model(model, advice).signatures.get(model_format.SIGNATURE)
    if signature is None:
        raise UserError(f"{model}: has no signature {model_format.SIGNATURE}; {advice}.")
    classes = len(examples.manifest.classes)
    for split in examples.manifest.splits:
        print(f"evaluate: predicting {split}{name}", flush=True)
        left = examples.read(split)
        while images := list(islice(left, batch_size)):
            try:
                outputs = signature(**{model_format.IMAGE_BYTES: tf.constant([image.encoded for image in images])})
            except tf.errors.InvalidArgumentError:
                names = f"{images[0].filename} to {images[-1].filename}"
                raise UserError(
                    f"{examples.folder}: the model cannot decode an image of {names}; rerun ingest on the data."
                ) from None
            probabilities = outputs[model_format.PROBABILITIES].numpy()
            if probabilities.shape != (len(images), classes):
                raise UserError(f"{model}: does not predict a probability for each of the classes; {advice}.")
            _check_probabilities(model, images, probabilities)
            yield split, images, probabilities


def _check_probabilities(model: str, images: list[ImageExample], probabilities: NDArray[np.float32]) -> None:
    """Refuses a model whose weights are so large, or so wrong, that its outputs are not numbers."""
    is_finite = np.isfinite(probabilities).all(axis=1)
    if not is_finite.all():
        filename = images[int(is_finite.argmin())].filename
        raise UserError(
            f"{model}: its probabilities for {filename} are not numbers; train again with a lower learning_rate."
        )


def _check_seed_models(model: str, training: Training) -> None:
    """Checks that the models of further seeds are those that train made beside the first one."""
    folders = list_seed_models(model)
    settings = training["settings"]
    first, seeds = int(settings["seed"]), int(settings.get("seeds", 1))
    if list(folders) != list(range(first + 1, first + seeds)):
        found = ", ".join(map(str, folders)) or "none"
        raise UserError(
            f"{model}: has further models of the seeds {found}, but training.json says that there are"
            f" {seeds - 1:,}; give a model as train made it."
        )
    for seed, folder in folders.items():
        own = read_training(folder)
        told = {"seed": seed} | {name: value for name, value in settings.items() if name not in ("seed", "seeds")}
        is_same = own["classes"] == training["classes"] and own["data_version"] == training["data_version"]
        if not is_same or own["settings"] != told:
            raise UserError(
                f"{folder}: is of another training than the model beside it; give a model as train made it."
            )


def _check_classes(known: list[str], classes: list[str]) -> None:
    if known != classes:
        raise UserError(f"the model knows the classes {known}, the examples have {classes}; train on these examples.")


def _measure(predictions: pd.DataFrame, *, training: Training, examples: ExampleSet, slice_bins: int) -> Evaluation:
    rows = {split: predictions[predictions[columns.SPLIT] == split] for split in examples.manifest.splits}
    evaluation: Evaluation = {
        "data_version": examples.manifest.data_version,
        "trained_on": training["data_version"],
        "settings": training["settings"],
        "classes": examples.manifest.classes,
        "train": {"images": len(rows["train"])},
    }
    if "has_settled" in training:
        evaluation["has_settled"] = training["has_settled"]
    for split in MEASURED_SPLITS:
        if split in rows:
            evaluation[split] = measure_split(rows[split], examples.manifest.classes, slice_bins)
    return evaluation
