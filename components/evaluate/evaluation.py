"""The SavedModel on the raw examples: predictions, metrics, and the report of what it gets wrong."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluate.metrics import split_metrics
from components.evaluate.report import write_evaluation_report
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import examples as ex

if TYPE_CHECKING:
    import pandas as pd

SCALAR_METRICS = ("accuracy", "macro_f1", "log_loss", "calibration_error")


def evaluate_model(
    model: str,
    examples: str,
    batch_size: int,
    slice_bins: int,
    gallery_size: int,
    evaluation_output: str,
    predictions_output: str,
    report_output: str,
) -> dict[str, Any]:
    """Writes `metrics.json`, the predictions as CSV (a row per image, worst first) and the report.

    The train split is predicted as well, for its rows and its gallery: a training image with a high loss after training
    is likely mislabelled. Of its metrics there is only the number of its images.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: an option is out of range, or the model was trained on other classes.
    """
    for name, value in (("batch_size", batch_size), ("slice_bins", slice_bins), ("gallery_size", gallery_size)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more.")
    manifest = ex.read_manifest(examples)
    training = _read_training(model)
    classes = manifest["classes"]
    if training["classes"] != classes:
        raise UserError(
            f"the model knows the classes {training['classes']}, the examples have {classes}; train on these examples."
        )
    predictions = predict(model, examples, manifest, batch_size)
    result: dict[str, Any] = {
        "data_version": manifest["data_version"],
        "trained_on": training["data_version"],
        "settings": training["settings"],
        "classes": classes,
    }
    for split in manifest["splits"]:
        rows = predictions[predictions["split"] == split]
        result[split] = {"images": len(rows)} if split == "train" else split_metrics(rows, classes, slice_bins)
    with new_directory(evaluation_output) as folder:
        (folder / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
        with new_file(predictions_output) as path:
            predictions.to_csv(path, index=False, float_format="%.6g")
        write_evaluation_report(report_output, examples, manifest, predictions, result, gallery_size)
    return result


def predict(model: str, examples: str, manifest: dict[str, Any], batch_size: int) -> "pd.DataFrame":
    """A row per image, by split and then by falling loss: names, scalars, label, prediction, probabilities, loss."""
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    signature = tf.saved_model.load(model).signatures["serving_default"]
    classes = manifest["classes"]
    rows, probabilities = [], []
    for split in manifest["splits"]:
        print(f"evaluate: predicting {split}", flush=True)
        records = tf.data.TFRecordDataset(ex.shard_paths(examples, manifest, split))
        for batch in records.batch(batch_size).as_numpy_iterator():
            parsed = [tf.train.Example.FromString(record) for record in batch]
            encoded = [example.features.feature[ex.ENCODED].bytes_list.value[0] for example in parsed]
            probabilities.append(signature(image_bytes=tf.constant(encoded))["probabilities"].numpy())
            rows += [{"split": split, **_described(example)} for example in parsed]
    table = pd.DataFrame(rows)
    matrix = np.concatenate(probabilities).astype(np.float64)
    labels = table["label"].map(classes.index).to_numpy()
    table["prediction"] = np.array(classes)[matrix.argmax(axis=1)]
    table["confidence"] = matrix.max(axis=1)
    table["loss"] = -np.log(np.clip(matrix[np.arange(len(labels)), labels], np.finfo(np.float32).eps, 1))
    for i, name in enumerate(classes):
        table[f"probability_{name}"] = matrix[:, i]
    order = table["split"].map(list(manifest["splits"]).index)
    return table.iloc[np.lexsort([table["filename"], -table["loss"], order])].reset_index(drop=True)


def _described(example: Any) -> dict[str, Any]:
    feature = example.features.feature
    scalars = {
        name.removeprefix("image/"): (feature[name].float_list.value or feature[name].int64_list.value)[0]
        for name in ex.SCALARS
    }
    return {
        "filename": ex.text(example, ex.FILENAME),
        "sha256": ex.text(example, ex.SHA256),
        "label": ex.text(example, ex.CLASS),
        **scalars,
    }


def _read_training(model: str) -> dict[str, Any]:
    path = Path(model) / "training.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a model that the train stage made.") from None
