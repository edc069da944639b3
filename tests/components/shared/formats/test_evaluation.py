import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError
from components.shared.formats.evaluation import (
    FILE,
    Evaluation,
    SplitFigures,
    list_measured_splits,
    read_evaluation,
    write_evaluation,
)

FIGURES: SplitFigures = {
    "images": 4,
    "accuracy": 0.75,
    "accuracy_interval": [0.3, 0.95],
    "macro_f1": 0.7,
    "log_loss": 1.25,
    "calibration_error": 0.1,
    "classes": {
        "i": {"precision": 1.0, "recall": 0.75, "f1": 0.86, "images": 4},
        "v": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0},
    },
    "slices": [
        {
            "scalar": "pixels",
            "from": 100.0,
            "to": 400.0,
            "images": 4,
            "accuracy": 0.75,
            "accuracy_interval": [0.3, 0.95],
        }
    ],
    "confusion_matrix": [[3, 1], [0, 0]],
}
EVALUATION: Evaluation = {
    "data_version": "a.dir",
    "trained_on": "b.dir",
    "settings": {"epochs": 2, "learning_rate": 0.001},
    "classes": ["i", "v"],
    "train": {"images": 9},
    "val": FIGURES,
    "test": {**FIGURES, "images": 5, "confusion_matrix": [[3, 1], [1, 0]]},
}


@pytest.mark.parametrize("left_out", [(), ("test",), ("train", "val"), ("train", "val", "test")])
def test_what_is_written_is_read(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    document: Any = {name: value for name, value in EVALUATION.items() if name not in left_out}
    write_evaluation(tmp_path, document)
    assert read_evaluation(tmp_path) == document
    assert list(list_measured_splits(document)) == [split for split in ("val", "test") if split not in left_out]


def test_measured_splits_are_those_with_figures_val_first() -> None:
    assert list_measured_splits({**EVALUATION}) == {"val": FIGURES, "test": EVALUATION["test"]}


def refuse(folder: Path, document: Any) -> str:
    (folder / FILE).write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        read_evaluation(folder)
    assert str(caught.value).startswith(f"{folder / FILE}")
    assert str(caught.value).endswith("; give the output `evaluation` of evaluate.")
    return str(caught.value)


@pytest.mark.parametrize("name", ["data_version", "trained_on", "settings", "classes"])
def test_document_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    assert f"{FILE}: {name}: is missing;" in refuse(tmp_path, {k: v for k, v in EVALUATION.items() if k != name})
    assert f"{FILE}: {name}: is 3, but should be" in refuse(tmp_path, {**EVALUATION, name: 3})


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("name", FIGURES)
def test_split_without_a_figure_is_refused(tmp_path: Path, split: str, name: str) -> None:
    figures = {k: v for k, v in FIGURES.items() if k != name}
    assert f"{FILE}: {split}.{name}: is missing;" in refuse(tmp_path, {**EVALUATION, split: figures})
    wrong = {**FIGURES, name: None}
    assert f"{FILE}: {split}.{name}: is None, but should be" in refuse(tmp_path, {**EVALUATION, split: wrong})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_that_is_no_object_is_refused(tmp_path: Path, split: str) -> None:
    for value in (None, 1, [], "x"):
        assert f"{FILE}: {split}: is {value!r}, but should be an object;" in refuse(
            tmp_path, {**EVALUATION, split: value}
        )


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"classes": {"i": FIGURES["classes"]["i"]}}, "val.classes: are not the classes of the document;"),
        ({"confusion_matrix": [[4]]}, "val.confusion_matrix: has not a row and a column for each class;"),
        ({"confusion_matrix": [[10**9, 1], [0, 0]]}, "val.confusion_matrix: does not count as many images as val"),
        ({"accuracy": 1.5}, "val.accuracy: is 1.5, but should be less than or equal to 1;"),
        ({"log_loss": float("nan")}, "val.log_loss: is nan, which is no finite number;"),
        ({"accuracy_interval": [0.5]}, "val.accuracy_interval: is [0.5], but should have at least 2 items"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(tmp_path: Path, figures: Any, sentence: str) -> None:
    assert f"{FILE}: {sentence}" in refuse(tmp_path, {**EVALUATION, "val": {**FIGURES, **figures}})


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", ".x", "x/y", "x\0", "x" * 256])
def test_class_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    sentence = refuse(tmp_path, {**EVALUATION, "classes": [name, "v"]})
    shown = repr(name) if len(name) < 80 else f"'{'x' * 37}...{'x' * 38}'"
    assert f"{FILE}: classes.0: is {shown}, which is no name of a class (a folder that is not" in sentence


def test_class_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert f"{FILE}: classes: has 'v' twice;" in refuse(tmp_path, {**EVALUATION, "classes": ["v", "i", "v"]})
