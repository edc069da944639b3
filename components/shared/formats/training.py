"""What a model was trained on and how: `training.json` in the model's folder, and the history of its epochs."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.errors import UserError
from components.shared.formats.documents import (
    Count,
    Finite,
    Number,
    Share,
    read_document,
    write_document,
)
from components.shared.formats.examples import ClassNames, SplitName
from components.shared.formats.tables import parse_row, read_rows, write_rows

FILE = "training.json"
# The model and the parameters of train, by name. An object of Keras stands there as its class and its config as JSON.
Settings = dict[str, Number | str]

# A training that reads train from the shards in each epoch has another order, and so another model for the same seed.
HeldAs = Literal["uint8", "float16", "float32", "shards"]


class Training(TypedDict):
    """What a model was trained on, how, and which epoch was kept: the document."""

    data_version: str
    classes: ClassNames
    settings: Settings
    parameters: Count  # weights of the model
    best_epoch: Annotated[int, Field(ge=1)]  # whose weights were kept, 1-based
    val_accuracy: Share  # of that epoch
    val_loss: Finite  # likewise, as the loss of the settings has it
    has_settled: NotRequired[bool]  # whether the accuracy on val was at rest at the end, in the trainings of all seeds
    held_as: NotRequired[dict[SplitName, HeldAs]]  # of train and val: the images' type in memory, or that it had none
    val_accuracies: NotRequired[list[Share]]  # with several seeds: of the epoch that was kept of each, in their order


class Epoch(TypedDict):
    """A row of the history."""

    epoch: Annotated[int, Field(ge=1)]
    accuracy: Share  # on train, averaged over the epoch while the weights change
    loss: Finite
    val_accuracy: Share
    val_loss: Finite


class Progress(NamedTuple):
    """How far a training has got."""

    epoch: int  # 1-based
    epochs: int  # of the training
    val_accuracy: float  # of that epoch

    def __str__(self) -> str:
        """As train prints it, and as `parse_progress` reads it."""
        return f"epoch {self.epoch}/{self.epochs}, val_accuracy {self.val_accuracy:.3f}"


def parse_progress(text: str) -> Progress | None:
    """The progress that a line of train's log tells; None if it tells none."""
    match = re.search(r"epoch (\d+)/(\d+), val_accuracy (\d\.\d+)", text)
    return Progress(int(match[1]), int(match[2]), float(match[3])) if match else None


def find_changed_settings(before: Settings, after: Settings) -> dict[str, tuple[object, object]]:
    """Finds what differs between two trainings; how many seeds were trained changes none of their first models.

    Args:
        before: The settings of the one.
        after: Those of the other.

    Returns:
        Both values of each setting that differs, "not set" where it is missing.
    """
    return {
        name: (before.get(name, "not set"), after.get(name, "not set"))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name != "seeds"
    }


def write_training(folder: Path, training: Training) -> None:
    """Writes `training.json` into the model's folder."""
    write_document(folder / FILE, training)


def read_training(folder: str | Path) -> Training:
    """The document in a model's folder.

    Raises:
        UserError: it is missing, or is not as train writes it.
    """
    return read_document(Path(folder) / FILE, Training, "give a model that train made")


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Writes a CSV file with a row per epoch."""
    write_rows(path, list(Epoch.__annotations__), (list(epoch.values()) for epoch in history))


def read_history(path: Path) -> list[Epoch]:
    """Reads the history.

    Args:
        path: The CSV file.

    Returns:
        Its rows, at least one.

    Raises:
        UserError: It is not as train writes it.
    """
    advice = "give the output `history` of train"
    rows = read_rows(path, list(Epoch.__annotations__), advice)
    history = [parse_row(Epoch, row, place=f"{path}, line {line}", advice=advice) for line, row in rows]
    if not history:
        raise UserError(f"{path}: has no epochs; {advice}.")
    return history
