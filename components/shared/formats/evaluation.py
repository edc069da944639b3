"""The figures of a model on a data version: `evaluation.json` in the artifact `evaluation`."""

from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from components.shared.formats.documents import Kind, check_object, read_document, write_document
from components.shared.formats.training import Settings

FILE = "evaluation.json"
SCALAR_METRICS: tuple[Literal["accuracy", "macro_f1", "log_loss", "calibration_error"], ...] = (
    "accuracy",
    "macro_f1",
    "log_loss",
    "calibration_error",
)
MEASURED_SPLITS: tuple[Literal["val", "test"], ...] = ("val", "test")  # of train, only the images are counted


class ClassFigures(TypedDict):
    """The figures of one class of a split."""

    precision: float
    recall: float
    f1: float
    images: int


# Not written as a class, since `from` is a keyword of Python.
Slice = TypedDict(
    "Slice",
    {
        "scalar": str,
        "from": float,  # lower bound, not in the slice unless it is the least value of all
        "to": float,  # upper bound, in the slice
        "images": int,
        "accuracy": float,
        "accuracy_interval": list[float],
    },
)


class SplitFigures(TypedDict):
    """The figures of val or test."""

    images: int
    accuracy: float
    accuracy_interval: list[float]  # 95 % Wilson score interval: lower and upper bound
    macro_f1: float
    log_loss: float  # mean cross-entropy, in nats
    calibration_error: float  # expected calibration error, 0 .. 1
    classes: dict[str, ClassFigures]
    slices: list[Slice]  # worst first
    confusion_matrix: list[list[int]]  # [i][j]: images of class i that were predicted as class j


_FIGURES: dict[str, Kind] = {
    **dict.fromkeys(SplitFigures.__annotations__, (int, float)),
    "accuracy_interval": list,
    "classes": dict,
    "slices": list,
    "confusion_matrix": list,
}


class TrainFigures(TypedDict):
    """The figures of train: only its size, since the model is not measured on it."""

    images: int


class Evaluation(TypedDict):
    """The document."""

    data_version: str  # of the images that were predicted
    trained_on: str  # the data version that the model has learned from
    settings: Settings  # of the training
    classes: list[str]
    train: NotRequired[TrainFigures]
    val: NotRequired[SplitFigures]
    test: NotRequired[SplitFigures]


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Writes `evaluation.json` into the folder."""
    write_document(folder / FILE, evaluation)


def read_evaluation(folder: str | Path) -> Evaluation:
    """Reads the document.

    Args:
        folder: The output `evaluation` of evaluate.

    Returns:
        The document.

    Raises:
        UserError: It is missing, or is not as evaluate writes it.
    """
    path = Path(folder) / FILE
    advice = "give the output `evaluation` of evaluate"
    fields = {"data_version": str, "trained_on": str, "settings": dict, "classes": list}
    evaluation = read_document(path, fields, advice)
    for split in ("train", *MEASURED_SPLITS):
        if split in evaluation:
            kinds = {"images": int} if split == "train" else _FIGURES
            check_object(f"{path}, {split}", evaluation[split], fields=kinds, advice=advice)
    return cast(Evaluation, evaluation)


def list_measured_splits(evaluation: Evaluation) -> dict[str, SplitFigures]:
    """The figures of each split that the document has figures of, val before test."""
    return {split: evaluation[split] for split in MEASURED_SPLITS if split in evaluation}
