"""The SavedModel on the raw examples: predictions, metrics, and the report of what it gets wrong."""

from typing import TYPE_CHECKING, cast

from components.evaluate.metrics import split_metrics
from components.evaluate.report import write_evaluation_report
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import Evaluation, write_evaluation
from components.shared.formats.examples import ExampleSet, open_examples, parse_example
from components.shared.formats.predictions import describe_image, probability_column, write_predictions
from components.shared.formats.training import read_training

if TYPE_CHECKING:
    import pandas as pd


def evaluate_model(
    model: str,
    examples: str,
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    evaluation_output: str,
    predictions_output: str,
    report_output: str,
) -> Evaluation:
    """Writes `evaluation.json`, the predictions as CSV (a row per image, worst first) and the report.

    The train split is predicted as well, for its rows and its gallery: a training image with a high loss after training
    is likely mislabelled. Of its metrics there is only the number of its images.

    Returns:
        The content of `evaluation.json`.

    Raises:
        UserError: an option is out of range, or the model was trained on other classes.
    """
    for name, value in (("batch_size", batch_size), ("slice_bins", slice_bins), ("gallery_size", gallery_size)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more.")
    opened = open_examples(examples)
    training = read_training(model)
    classes = opened.manifest.classes
    if training["classes"] != classes:
        raise UserError(
            f"the model knows the classes {training['classes']}, the examples have {classes}; train on these examples."
        )
    predictions = predict(model, opened, batch_size)
    described = {
        "data_version": opened.manifest.data_version,
        "trained_on": training["data_version"],
        "settings": training["settings"],
        "classes": classes,
    }
    figures = {}
    for split in opened.manifest.splits:
        rows = predictions[predictions[columns.SPLIT] == split]
        figures[split] = {"images": len(rows)} if split == "train" else split_metrics(rows, classes, slice_bins)
    result = cast(Evaluation, {**described, **figures})
    with new_directory(evaluation_output) as folder:
        write_evaluation(folder, result)
        with new_file(predictions_output) as path:
            write_predictions(predictions, path)
        write_evaluation_report(report_output, opened, predictions, result, gallery_size)
    return result


def predict(model: str, examples: ExampleSet, batch_size: int) -> "pd.DataFrame":
    """A row per image, by split and then by falling loss: names, scalars, label, prediction, probabilities, loss."""
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    signature = tf.saved_model.load(model).signatures["serving_default"]
    classes = examples.manifest.classes
    rows, probabilities = [], []
    for split in examples.manifest.splits:
        print(f"evaluate: predicting {split}", flush=True)
        records = tf.data.TFRecordDataset(examples.shard_paths(split))
        for batch in records.batch(batch_size).as_numpy_iterator():
            parsed = [parse_example(record) for record in batch]
            encoded = [example.encoded for example in parsed]
            probabilities.append(signature(image_bytes=tf.constant(encoded))["probabilities"].numpy())
            rows += [describe_image(split, example) for example in parsed]
    table = pd.DataFrame(rows)
    matrix = np.concatenate(probabilities).astype(np.float64)
    labels = table[columns.LABEL].map(classes.index).to_numpy()
    table[columns.PREDICTION] = np.array(classes)[matrix.argmax(axis=1)]
    table[columns.CONFIDENCE] = matrix.max(axis=1)
    table[columns.LOSS] = -np.log(np.clip(matrix[np.arange(len(labels)), labels], np.finfo(np.float32).eps, 1))
    for i, name in enumerate(classes):
        table[probability_column(name)] = matrix[:, i]
    order = table[columns.SPLIT].map(list(examples.manifest.splits).index)
    return table.iloc[np.lexsort([table[columns.FILENAME], -table[columns.LOSS], order])].reset_index(drop=True)
