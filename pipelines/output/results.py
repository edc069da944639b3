"""The files that a run writes to results/, by which `dvc metrics` and `dvc plots` compare data versions."""

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.shared.errors import UserError
from components.shared.files import lock_folder, new_directory, write_to_disk
from components.shared.formats import schema
from components.shared.formats.evaluation import Evaluation, SplitFigures, list_measured_splits, read_evaluation
from components.shared.formats.training import read_history
from components.shared.seeds import summarize_seeds

RESULTS = Path("results")  # where submit.py keeps the figures of the last run
METRICS = "metrics.json"
TABLES = ("confusion", "classes")
PLOTS = tuple(f"plots/{table}/{split}.csv" for table in TABLES for split in ("val", "test"))
FILES = (METRICS, "classes.json", "plots/training.csv", *PLOTS)
# The outputs that a person opens and may give back. An empty one is none: nobody is asked about disputed images.
REPORTS = ("report", "review", "issues", "disputed", "schema")


def name_report(task: str, output: str) -> str:
    """The name of a report's file: before-train.html for that of before-train, and review.html for the review."""
    if output == "schema":
        return f"{task.removesuffix('validate')}{schema.FILE}"  # before-schema.pbtxt for that of before-validate
    names = {"report": f"{task}.html", "review": "review.html", "issues": "issues.csv", "disputed": "disputed.html"}
    return names[output]


def locate_report(uri: str, output: str) -> str:
    """The address of the file that a person opens; a schema lies in a folder."""
    return f"{uri}/{schema.FILE}" if output == "schema" else uri


def keep_results(evaluation: Path, history: Path | None, results: Path) -> None:
    """Writes the figures of a run over those of the last one, all or none.

    metrics.json has the figures of each split, classes.json the F1 of each class. plots/confusion/ has a row per image,
    with the given label and the prediction; plots/classes/ a row per class; plots/training.csv a row per epoch.

    Args:
        evaluation: a copy of the artifact of that name on this machine.
        history: likewise; None if the run trained no model.
        results: the folder to write to.

    Raises:
        UserError: the evaluation cannot be read, or `results` cannot be written.
    """
    files = _list_files(read_evaluation(evaluation))
    try:
        if history:
            read_history(history)  # so that only a history gets there
            files["plots/training.csv"] = history.read_text(encoding="utf-8")
        folder = results.resolve()
        _check_no_links(folder, FILES)
        with lock_folder(folder.parent):
            with new_directory(folder) as new:
                if folder.exists():  # with what else somebody keeps there
                    shutil.copytree(folder, new, symlinks=True, dirs_exist_ok=True)
                for name in {*FILES} - files.keys():  # of an earlier run
                    (new / name).unlink(missing_ok=True)
                for name, text in files.items():
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    (new / name).write_text(text, encoding="utf-8")
                write_to_disk(*(path for path in new.rglob("*") if not path.is_symlink()), new)
            write_to_disk(folder.parent)
    except OSError as error:
        raise UserError(f"{results}: cannot be written ({error.strerror}); free that place for the figures.") from None


def _check_no_links(results: Path, names: Iterable[str]) -> None:
    """Refuses to write through a link: what lies behind it is somebody's, and no part of results/."""
    for name in names:
        path = results / name
        for place in (path, *path.parents[: len(Path(name).parts) - 1]):
            if place.is_symlink():
                raise UserError(f"{place}: a link; put a file or folder of its own there, or remove it.")


def read_data_version(results: Path) -> str:
    """The data version that the figures in results/ belong to; empty if there are none."""
    try:
        return str(json.loads((results / METRICS).read_text(encoding="utf-8"))["data_version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # the last for very many brackets
        return ""


def _list_files(evaluation: Evaluation) -> dict[str, str]:
    """The content of each file, by its path in results/."""
    figures = list_measured_splits(evaluation)
    f1 = {split: {name: scores["f1"] for name, scores in each["classes"].items()} for split, each in figures.items()}
    files = {METRICS: _to_json(_summarize(evaluation)), "classes.json": _to_json(f1)}
    for split, content in figures.items():
        matrix = _unfold(evaluation["classes"], content["confusion_matrix"])
        files[f"plots/confusion/{split}.csv"] = _to_csv(matrix)
        files[f"plots/classes/{split}.csv"] = _to_csv(
            {"class": name, **scores} for name, scores in content["classes"].items()
        )
    return files


def _summarize(evaluation: Evaluation) -> dict[str, object]:
    """The content of metrics.json: few enough figures for a table. The rest is in the run's own evaluation.json."""
    summary: dict[str, object] = {"data_version": evaluation["data_version"], "settings": evaluation["settings"]}
    if evaluation["trained_on"] != evaluation["data_version"]:
        summary["trained_on"] = evaluation["trained_on"]
    if "train" in evaluation:
        summary["train"] = {"images": evaluation["train"]["images"]}
    return summary | {split: _choose_figures(figures) for split, figures in list_measured_splits(evaluation).items()}


def _choose_figures(figures: SplitFigures) -> dict[str, object]:
    return {
        "images": figures["images"],
        "accuracy": figures["accuracy"],
        "accuracy_interval": figures["accuracy_interval"],
        **summarize_seeds("accuracy", figures.get("accuracies", [])),
        "macro_f1": figures["macro_f1"],
        "log_loss": figures["log_loss"],
        "calibration_error": figures["calibration_error"],
    }


def _unfold(classes: list[str], matrix: list[list[int]]) -> Iterable[dict[str, str]]:
    """Yields a row per image, since DVC's template of confusion matrices counts rows."""
    for label, counts in zip(classes, matrix, strict=True):
        for prediction, count in zip(classes, counts, strict=True):
            for _ in range(count):
                yield {"label": label, "prediction": prediction}


def _to_json(content: object) -> str:
    return json.dumps(content, indent=1) + "\n"


def _to_csv(rows: Iterable[Mapping[str, object]]) -> str:
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
