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
    "classes": {"i": {"precision": 1.0, "recall": 0.5, "f1": 0.67, "images": 4}},
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
    "test": {**FIGURES, "images": 5},
}


@pytest.mark.parametrize("left_out", [(), ("test",), ("train", "val"), ("train", "val", "test")])
def test_what_is_written_is_read(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    document: Any = {name: value for name, value in EVALUATION.items() if name not in left_out}
    write_evaluation(tmp_path, document)
    assert read_evaluation(tmp_path) == document
    assert list(list_measured_splits(document)) == [split for split in ("val", "test") if split not in left_out]


def test_measured_splits_are_those_with_figures_val_first() -> None:
    assert list_measured_splits({**EVALUATION}) == {"val": FIGURES, "test": {**FIGURES, "images": 5}}


def refuse(folder: Path, document: Any) -> str:
    (folder / FILE).write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        read_evaluation(folder)
    assert str(caught.value).startswith(f"{folder / FILE}")
    assert str(caught.value).endswith("; give the output `evaluation` of evaluate.")
    return str(caught.value)


@pytest.mark.parametrize("name", ["data_version", "trained_on", "settings", "classes"])
def test_document_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    assert f"{FILE}: has no '{name}';" in refuse(tmp_path, {k: v for k, v in EVALUATION.items() if k != name})
    assert f"{FILE}: cannot be read ({name} is 3);" in refuse(tmp_path, {**EVALUATION, name: 3})


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("name", FIGURES)
def test_split_without_a_figure_is_refused(tmp_path: Path, split: str, name: str) -> None:
    figures = {k: v for k, v in FIGURES.items() if k != name}
    assert f"{FILE}, {split}: has no '{name}';" in refuse(tmp_path, {**EVALUATION, split: figures})
    wrong = {**FIGURES, name: None}
    assert f"{FILE}, {split}: cannot be read ({name} is None);" in refuse(tmp_path, {**EVALUATION, split: wrong})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_that_is_no_object_is_refused(tmp_path: Path, split: str) -> None:
    for value in (None, 1, [], "x"):
        assert f"{FILE}, {split}: cannot be read" in refuse(tmp_path, {**EVALUATION, split: value})
