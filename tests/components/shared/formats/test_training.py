import csv
import json
from pathlib import Path

import pytest

from components.shared.errors import UserError
from components.shared.formats.training import (
    FILE,
    Epoch,
    Training,
    read_history,
    read_training,
    write_history,
    write_training,
)

TRAINING: Training = {
    "data_version": "a.dir",
    "classes": ["i", "v"],
    "settings": {"epochs": 2, "learning_rate": 0.001},
    "parameters": 1000,
    "best_epoch": 1,
    "val_accuracy": 0.5,
    "val_loss": 0.7,
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_training(tmp_path, TRAINING)
    assert read_training(tmp_path) == TRAINING


@pytest.mark.parametrize("name", ["data_version", "classes", "settings"])
def test_document_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    for document, reason in (
        ({k: v for k, v in TRAINING.items() if k != name}, f"{name}: is missing"),
        ({**TRAINING, name: 3}, f"{name}: is 3, but should be [^;]*"),
    ):
        (tmp_path / FILE).write_text(json.dumps(document))
        with pytest.raises(UserError, match=f"{FILE}: {reason}; give a model that train made.$"):
            read_training(tmp_path)


def test_history_has_a_row_per_epoch(tmp_path: Path) -> None:
    history: list[Epoch] = [
        {"epoch": 1, "accuracy": 0.5, "loss": 1.5, "val_accuracy": 0.25, "val_loss": 2.0},
        {"epoch": 2, "accuracy": 0.75, "loss": 1 / 3, "val_accuracy": 0.5, "val_loss": 1e-9},
    ]
    write_history(tmp_path / "history", history)
    with (tmp_path / "history").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history
    assert read_history(tmp_path / "history") == history


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", ": no column epoch, accuracy, loss, val_accuracy, val_loss"),
        ("epoch,accuracy,loss,val_accuracy,val_loss\n", ": has no epochs"),
        ("epoch,accuracy,loss,val_accuracy,val_loss\n1,0.5,nan,0.5,1\n", ", line 2: loss: is 'nan', which is no"),
        (
            "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,1,0.5,1\n",
            ", line 2: epoch: is '0', but should be",
        ),
        ("epoch,accuracy,loss,val_accuracy,val_loss\n1,high,1,0.5,1\n", ", line 2: accuracy: is 'high', but should be"),
    ],
)
def test_another_history_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "history"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_history(path)
    assert str(caught.value).startswith(f"{path}{sentence}")
    assert str(caught.value).endswith("; give the output `history` of train.")
