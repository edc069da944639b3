"""The SavedModel on the raw examples: predictions, metrics, and the report of what it gets wrong."""

from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from components.evaluate.metrics import measure_split
from components.evaluate.report import write_evaluation_report
from components.shared.beam import (
    call_for_each,
    choose_address,
    make_work_folder,
    open_local_copy,
    open_local_target,
)
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import model as model_format
from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import MEASURED_SPLITS, Evaluation, write_evaluation
from components.shared.formats.examples import ExampleSet, ImageExample, Shard, open_examples
from components.shared.formats.model import list_seed_models
from components.shared.formats.predictions import (
    describe_image,
    name_probability,
    name_seed_prediction,
    write_predictions,
)
from components.shared.formats.training import Training, read_training

ADVICE = "give a model that train made"


class Workers(NamedTuple):
    """What predicts the images."""

    beam_options: list[str]  # each as --name=value
    model: str  # the address at which they find the model
    examples: str  # likewise


class LoadedModel(NamedTuple):
    """A model that predicts."""

    shown: str  # its folder, as messages name it
    seed: int  # of a further model; 0 for the first
    signature: Any


def evaluate_model(
    model: str,
    examples: str,
    *,
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    beam_options: list[str],
    evaluation_output: str,
    predictions_output: str,
    report_output: str,
    model_uri: str = "",
    examples_uri: str = "",
) -> Evaluation:
    """Writes `evaluation.json`, the predictions (a row per image, worst first) and the report.

    The train split is predicted as well, for its rows and its gallery: a training image with a high loss after training
    is likely mislabelled. Of its metrics there is only the number of its images. The arguments are those of the
    component (component.py); `model_uri` and `examples_uri` are where workers on other machines find the inputs.

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
    workers = Workers(
        beam_options,
        choose_address(model, model_uri, beam_options),
        choose_address(examples, examples_uri, beam_options),
    )
    with new_directory(evaluation_output) as folder:
        with make_work_folder(beam_options, folder) as work:
            predictions = predict_images(model, opened, batch_size=batch_size, workers=workers, work=work)
        evaluation = _measure(predictions, training=training, examples=opened, slice_bins=slice_bins)
        write_evaluation(folder, evaluation)
        with new_file(predictions_output) as path:
            write_predictions(predictions, path)
        write_evaluation_report(
            report_output, examples=opened, predictions=predictions, evaluation=evaluation, gallery_size=gallery_size
        )
    return evaluation


def predict_images(model: str, examples: ExampleSet, *, batch_size: int, workers: Workers, work: str) -> pd.DataFrame:
    """Predicts every image, shard by shard.

    Args:
        model: The folder of the SavedModel.
        examples: The images.
        batch_size: The number of images that are predicted at once.
        workers: Where this is done.
        work: The address of a folder that all workers can write to.

    Returns:
        The table that formats/predictions.py describes: by split, and then by falling loss. The loss is the
        cross-entropy in nats, with the probability of the label clipped from below at the float32 epsilon.
    """
    shards = examples.manifest.list_shards()
    predict = partial(_predict_shard, model=model, examples=examples, batch_size=batch_size, workers=workers, work=work)
    call_for_each(shards, predict, options=workers.beam_options, work=work)
    parts = []
    for _, shard in shards:
        with open_local_copy(f"{work}/{shard.name}") as path:
            parts.append(pd.read_parquet(path))
    table = pd.concat(parts, ignore_index=True)
    order = table[columns.SPLIT].map(list(examples.manifest.splits).index)
    return table.iloc[np.lexsort([table[columns.FILENAME], -table[columns.LOSS], order])].reset_index(drop=True)


def _predict_shard(
    element: tuple[str, Shard], *, model: str, examples: ExampleSet, batch_size: int, workers: Workers, work: str
) -> None:
    """Writes the rows of a shard to the work folder, as Parquet."""
    split, shard = element
    models = _load_models(model, workers.model, work)
    classes = np.array(examples.manifest.classes)
    parts = []
    with open_local_copy(f"{workers.examples}/{shard.name}") as path:
        images = examples.read_shard(split, shard, path)
        while batch := list(islice(images, batch_size)):
            first, *others = (_predict_batch(each, batch, examples) for each in models)
            rows = pd.DataFrame([describe_image(split, image) for image in batch])
            rows[columns.PREDICTION] = classes[first.argmax(axis=1)]
            rows[columns.CONFIDENCE] = first.max(axis=1)
            of_label = first[np.arange(len(batch)), [image.label for image in batch]].astype(np.float64)
            rows[columns.LOSS] = -np.log(np.clip(of_label, np.finfo(np.float32).eps, 1))
            rows[[name_probability(name) for name in classes]] = first
            for each, probabilities in zip(models[1:], others, strict=True):
                rows[name_seed_prediction(each.seed)] = classes[probabilities.argmax(axis=1)]
            parts.append(rows)
    with open_local_target(f"{work}/{shard.name}") as path:
        pd.concat(parts, ignore_index=True).to_parquet(path)
    of_seeds = f" by {len(models)} models" if len(models) > 1 else ""
    print(f"evaluate: {shard.name}, {shard.images:,} images predicted{of_seeds}", flush=True)


@lru_cache(1)
def _load_models(model: str, address: str, work: str) -> list[LoadedModel]:
    """Loads the model at the address and those of further seeds, once in each process and work folder.

    Raises:
        UserError: One cannot be read, or has no such signature; messages name it by the folder `model`.
    """
    with open_local_copy(address) as path:
        folders = {0: path} | list_seed_models(path)
        return [_load_model(folder, seed, f"{model}/{folder.relative_to(path)}") for seed, folder in folders.items()]


def _load_model(folder: Path, seed: int, shown: str) -> LoadedModel:
    shown = shown.removesuffix("/.")
    loaded = model_format.load_saved_model(str(folder), ADVICE, shown)
    signature = loaded.signatures.get(model_format.SIGNATURE)
    if signature is None:
        raise UserError(f"{shown}: has no signature {model_format.SIGNATURE}; {ADVICE}.")
    return LoadedModel(shown, seed, signature)


def _predict_batch(model: LoadedModel, images: list[ImageExample], examples: ExampleSet) -> NDArray[np.float32]:
    """The probabilities of images, float32 [images, classes].

    Raises:
        UserError: The model predicts something else, or it cannot decode an image.
    """
    try:
        outputs = model.signature(**{model_format.IMAGE_BYTES: tf.constant([image.encoded for image in images])})
    except tf.errors.InvalidArgumentError:
        names = f"{images[0].filename} to {images[-1].filename}"
        raise UserError(
            f"{examples.folder}: the model cannot decode an image of {names}; rerun ingest on the data."
        ) from None
    probabilities: NDArray[np.float32] = outputs[model_format.PROBABILITIES].numpy()
    if probabilities.shape != (len(images), len(examples.manifest.classes)):
        raise UserError(f"{model.shown}: does not predict a probability for each of the classes; {ADVICE}.")
    _check_probabilities(model.shown, images, probabilities)
    return probabilities


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
