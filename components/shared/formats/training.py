"""What a model was trained on and how: `training.json` in the model's folder, and the history of its epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

from components.shared.formats.documents import read_document, write_document
from components.shared.formats.tables import write_rows

FILE = "training.json"
Settings = dict[str, int | float]  # the parameters of train, by name


class Training(TypedDict):
    """The document."""

    data_version: str
    classes: list[str]
    settings: Settings  # the parameters of train
    parameters: int  # weights of the model
    best_epoch: int  # whose weights were kept, 1-based
    val_accuracy: float  # of that epoch
    val_loss: float  # likewise, in nats


class Epoch(TypedDict):
    """A row of the history."""

    epoch: int  # 1-based
    accuracy: float  # on train, averaged over the epoch while the weights change
    loss: float
    val_accuracy: float
    val_loss: float


def write_training(folder: Path, training: Training) -> None:
    """Writes `training.json` into the model's folder."""
    write_document(folder / FILE, training)


def read_training(folder: str | Path) -> Training:
    """The document in a model's folder.

    Raises:
        UserError: it is missing, or is not as train writes it.
    """
    fields = {"data_version": str, "classes": list, "settings": dict}
    training = read_document(Path(folder) / FILE, fields, "give a model that train made")
    return cast(Training, training)


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Writes a CSV file with a row per epoch."""
    write_rows(path, list(Epoch.__annotations__), (list(epoch.values()) for epoch in history))
