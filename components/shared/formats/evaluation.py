"""The figures of a model on a data version: `evaluation.json` in the artifact `evaluation`."""

from pathlib import Path
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.formats.documents import Count, Finite, NotNegative, Share, read_document, write_document
from components.shared.formats.examples import ClassName, ClassNames
from components.shared.formats.training import Settings

FILE = "evaluation.json"
SCALAR_METRICS: tuple[Literal["accuracy", "macro_f1", "log_loss", "calibration_error"], ...] = (
    "accuracy",
    "macro_f1",
    "log_loss",
    "calibration_error",
)
MEASURED_SPLITS: tuple[Literal["val", "test"], ...] = ("val", "test")  # of train, only the images are counted
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]  # 95 % Wilson score interval: its bounds


class ClassFigures(TypedDict):
    """The figures of one class of a split."""

    precision: Share
    recall: Share
    f1: Share
    images: Count


# Not written as a class, since `from` is a keyword of Python.
Slice = TypedDict(
    "Slice",
    {
        "scalar": str,
        "from": Finite,  # lower bound, not in the slice unless it is the least value of all
        "to": Finite,  # upper bound, in the slice
        "images": Count,
        "accuracy": Share,
        "accuracy_interval": Interval,
    },
)


class RocCurve(TypedDict):
    """The points of a receiver operating characteristic, by falling threshold."""

    false_positive_rate: list[Share]
    true_positive_rate: list[Share]
    threshold: list[Share]  # an image is positive if its probability of the second class is not lower


class SplitFigures(TypedDict):
    """The figures of val or test."""

    images: Annotated[Count, Field(gt=0)]
    accuracy: Share
    accuracy_interval: Interval
    accuracies: NotRequired[list[Share]]  # with several seeds: of each model, the first of which has all other figures
    macro_f1: Share
    log_loss: NotNegative  # mean cross-entropy, in nats
    calibration_error: NotNegative  # expected calibration error
    classes: dict[ClassName, ClassFigures]
    slices: list[Slice]  # worst first
    confusion_matrix: list[list[Count]]  # [i][j]: images of class i that were predicted as class j
    roc_curve: NotRequired[RocCurve]  # of two classes, if the split has images of both


class TrainFigures(TypedDict):
    """The figures of train: only its size, since no model is measured on it."""

    images: Count


class Evaluation(TypedDict):
    """The figures of a model on the splits of a data version: the document."""

    data_version: str  # of the images that were predicted
    trained_on: str  # the data version that the model has learned from
    settings: Settings  # of the training
    has_settled: NotRequired[bool]  # as in Training
    classes: ClassNames
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
    advice = "give the output `evaluation` of evaluate"
    return read_document(Path(folder) / FILE, Evaluation, advice, check=_check_agreement)


def _check_agreement(evaluation: Evaluation) -> None:
    classes = evaluation["classes"]
    for split, figures in list_measured_splits(evaluation).items():
        matrix = figures["confusion_matrix"]
        if list(figures["classes"]) != classes:
            raise ValueError(f"{split}.classes: are not the classes of the document")
        if [len(row) for row in matrix] != [len(classes)] * len(classes):
            raise ValueError(f"{split}.confusion_matrix: has not a row and a column for each class")
        if sum(map(sum, matrix)) != figures["images"]:
            raise ValueError(f"{split}.confusion_matrix: does not count as many images as {split}.images")


def list_measured_splits(evaluation: Evaluation) -> dict[str, SplitFigures]:
    """The figures of each split that the document has figures of, val before test."""
    return {split: evaluation[split] for split in MEASURED_SPLITS if split in evaluation}
