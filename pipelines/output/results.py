"""What a run leaves in results/: `dvc metrics` and `dvc plots` compare data versions by it, as dvc.yaml declares."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.shared.errors import UserError
from components.shared.files import new_file

SPLITS = ("train", "val", "test")
# Few enough for a table; DVC leaves out what is a list. The rest is in the run's own metrics.json.
FIGURES = ("images", "accuracy", "accuracy_interval", "macro_f1", "log_loss", "calibration_error")
TABLES = ("confusion", "classes")
REPORTS = ("report", "review", "issues")  # the outputs that a person opens, in a browser or a spreadsheet


def report_name(task: str, output: str) -> str:
    """Of the file: before/train's report is before-train.html, audit's review is review.html."""
    names = {"report": f"{task.replace('/', '-')}.html", "review": "review.html", "issues": "issues.csv"}
    return names[output]


def keep(evaluation: Path, history: Path | None, results: Path) -> None:
    """Writes the figures of local copies of the artifacts `evaluation` and `history`, all or none, over the last run's.

    metrics.json has each split's figures, classes.json each class's F1. plots/confusion/ has a row per image: the given
    label and the prediction; plots/classes/ a row per class; plots/training.csv a row per epoch.

    Raises:
        UserError: the evaluation cannot be read, or `results` cannot be written.
    """
    try:
        files = _files(json.loads((evaluation / "metrics.json").read_text()))
        if history:
            files["plots/training.csv"] = history.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"{evaluation}: its figures cannot be taken ({error}); run the pipeline again.") from None
    possible = {"plots/training.csv", *(f"plots/{table}/{split}.csv" for table in TABLES for split in SPLITS)}
    try:
        with contextlib.ExitStack() as stack:
            for name, text in files.items():
                stack.enter_context(new_file(results / name)).write_text(text)
        for name in possible - files.keys():  # of an earlier run
            (results / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{results}: cannot be written ({error.strerror}); free that place for the figures.") from None


def _files(result: dict[str, Any]) -> dict[str, str]:
    """The content of each file, by its path in results/."""
    origin = {name: result[name] for name in ("data_version", "settings")}
    if result["trained_on"] != result["data_version"]:
        origin["trained_on"] = result["trained_on"]
    figures = {
        split: {name: result[split][name] for name in FIGURES if name in result[split]}
        for split in SPLITS
        if split in result
    }
    scored = {split: result[split] for split in SPLITS if "classes" in result.get(split, {})}
    f1 = {split: {name: each["f1"] for name, each in scored[split]["classes"].items()} for split in scored}
    files = {"metrics.json": _json({**origin, **figures}), "classes.json": _json(f1)}
    for split, content in scored.items():
        files[f"plots/confusion/{split}.csv"] = _csv(_pairs(result["classes"], content["confusion_matrix"]))
        rows = [{"class": name, **each} for name, each in content["classes"].items()]
        files[f"plots/classes/{split}.csv"] = _csv(rows)
    return files


def _pairs(classes: list[str], matrix: list[list[int]]) -> Iterable[dict[str, Any]]:
    """A row per image, as DVC's confusion template counts them itself."""
    for label, counts in zip(classes, matrix, strict=True):
        for prediction, count in zip(classes, counts, strict=True):
            for _ in range(count):
                yield {"label": label, "prediction": prediction}


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
