import json
from pathlib import Path
from typing import get_type_hints

import pytest

from components.shared.errors import UserError
from components.shared.formats.comparison import (
    DIFFERENCES,
    FILE,
    Comparison,
    DataDifference,
    FigureChange,
    read_comparison,
    write_comparison,
)

CHANGE: FigureChange = {"before": 0.5, "after": 0.75, "change": 0.25, "low": -0.1, "high": 0.4}
COMPARISON: Comparison = {
    "before": {"data_version": "a.dir", "trained_on": "a.dir", "settings": {"epochs": 2}},
    "after": {"data_version": "b.dir", "trained_on": "b.dir", "settings": {"epochs": 2}},
    "classes": ["i"],
    "resamples": 200,
    "confidence_level": 0.95,
    "seed": 1,
    "splits": {
        "val": {
            "images": 4,
            "verdict": "The accuracy went from 0.500 to 0.750.",
            "accuracy": CHANGE,
            "newly_right": 1,
            "newly_wrong": 0,
            "mcnemar_p": 1.0,
            "macro_f1": CHANGE,
            "classes": {"i": {"images": 4, "recall": CHANGE, "f1": None}},
            "slices": [{"scalar": "pixels", "from": 1.0, "to": 2.0, "images": 4, "accuracy": CHANGE}],
            "seen_in_training": {"before": 0, "after": 0},
            "unseen": None,
            "corrected": None,
            "new_data": None,
            "newly_right_images": [{"filename": "val/i/0.png", "label": "i", "before": "v", "after": "i"}],
            "newly_wrong_images": [],
        }
    },
    "data": {
        "relabelled": 1,
        "moved": 0,
        "dropped": 0,
        "added": 0,
        "altered": 0,
        "augmented": 0,
        "relabels": [{"from": "i", "to": "v", "images": 1}],
        "images": {"val": {"i": {"before": 1, "after": 0, "augmented_before": 0, "augmented_after": 0}}},
    },
    "training_length": "",
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_comparison(tmp_path, COMPARISON)
    assert read_comparison(tmp_path) == COMPARISON


@pytest.mark.parametrize("name", ["before", "after", "classes", "confidence_level", "splits", "data"])
def test_document_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    for document, reason in (
        ({k: v for k, v in COMPARISON.items() if k != name}, f"{name}: is missing"),
        ({**COMPARISON, name: "x"}, f"{name}: is 'x', but should be [^;]*"),
    ):
        (tmp_path / FILE).write_text(json.dumps(document))
        with pytest.raises(UserError, match=f"{FILE}: {reason}; give the output `comparison` of compare.$"):
            read_comparison(tmp_path)


def test_differences_are_the_counts_of_the_data_difference() -> None:
    assert list(DIFFERENCES) == [name for name, kind in get_type_hints(DataDifference).items() if kind is int]
