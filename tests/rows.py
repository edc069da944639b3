"""Rows of tables with every cell filled in, for tests that care about a few of them."""

import hashlib
from typing import Any

from components.shared.formats import predictions as columns
from components.shared.formats.issues import Issue
from components.shared.formats.manifest import CuratedImage


def make_augmented(filename: str, data: bytes) -> CuratedImage:
    """The row of manifest.csv of an image that curate made from another one, with its content."""
    sha256, label = hashlib.sha256(data).hexdigest(), filename.split("/")[1]
    return CuratedImage(filename, sha256, "train/i/0.png", "1" * 64, "train/i/0.png", label, [], 7)


def make_issue(**cells: Any) -> Issue:
    """A row of issues.csv in which the audit finds nothing, but for these cells."""
    row: dict[str, Any] = {
        "rank": 1,
        "sha256": "0" * 64,
        "filename": "train/i/0.png",
        "split": "train",
        "label": "i",
        "kinds": (),
        "action": "",
        "new_label": "",
        "confidence": 0.9,
        "prediction": cells.get("label", "i"),
        "probability": 0.9,
        "label_probability": 0.9,
        "label_score": 0.9,
        "outlier_score": 0.1,
        "duplicate_score": 0.0,
        "group": None,
        "why": "",
    }
    return Issue(**{**row, **cells})


def make_prediction(**cells: Any) -> dict[str, Any]:
    """A row of the predictions in which the model is right, but for these cells."""
    row: dict[str, Any] = {
        columns.SPLIT: "val",
        columns.FILENAME: "val/i/0.png",
        columns.SHA256: "0" * 64,
        columns.LABEL: "i",
        columns.PREDICTION: cells.get(columns.LABEL, "i"),
        columns.CONFIDENCE: 0.9,
        columns.LOSS: 0.1,
        columns.MEAN_INTENSITY: 0.9,
        columns.CONTRAST: 0.3,
        columns.INK_FRACTION: 0.1,
        columns.ASPECT_RATIO: 1.0,
        columns.BYTES: 900,
        columns.HEIGHT: 100,
        columns.WIDTH: 120,
    }
    return {**row, **cells}
