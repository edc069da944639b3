"""What changed from the evaluation of a data version to that of the next: `comparison.json`.

The yardstick is the val and test images of the previous version with the labels they had. Both models have predicted
them, so every figure is a difference of pairs.
"""

from pathlib import Path
from typing import Literal, TypedDict, cast

from components.shared.formats.documents import read_document, write_document
from components.shared.formats.training import Settings

FILE = "comparison.json"


class FigureChange(TypedDict):
    """A figure of both models."""

    before: float
    after: float
    change: float
    low: float  # low and high bound the change, at the confidence level of the document
    high: float


class ClassChange(TypedDict):
    """The changes of one class; None for a class without images."""

    images: int
    recall: FigureChange | None
    f1: FigureChange | None


# Not written as a class, since `from` is a keyword of Python.
SliceChange = TypedDict(
    "SliceChange", {"scalar": str, "from": float, "to": float, "images": int, "accuracy": FigureChange}
)


class AccuracyChange(TypedDict):
    """How the accuracy changed, and on how many images."""

    accuracy: FigureChange
    newly_right: int  # images on which only the new model is right
    newly_wrong: int  # images on which only the previous model is right
    mcnemar_p: float  # of the exact, two-sided test


class UnseenChange(AccuracyChange):
    """The same for the images that are in the train split of neither version."""

    images: int


class SeenInTraining(TypedDict):
    """How many of the images are, byte for byte, in the train split of each version."""

    before: int
    after: int


class NewData(TypedDict):
    """The new model on this split of the new version, which may hold other images or labels."""

    images: int
    accuracy: float
    accuracy_interval: list[float]  # 95 % Wilson score interval
    macro_f1: float
    same_images: bool  # whether the split has the images and labels it had before


class ChangedImage(TypedDict):
    """An image on which one of the two models is right."""

    filename: str
    label: str
    before: str  # before and after are what the models predict
    after: str


class SplitComparison(AccuracyChange):
    """Both models on a split of the previous version."""

    images: int
    verdict: str  # the outcome as a sentence
    macro_f1: FigureChange
    classes: dict[str, ClassChange]
    slices: list[SliceChange]
    seen_in_training: SeenInTraining
    unseen: UnseenChange | None  # None if that would be all images or none
    new_data: NewData | None  # None if the new version has no such split
    newly_right_images: list[ChangedImage]  # all; first those on which the previous model has the highest loss
    newly_wrong_images: list[ChangedImage]  # all; first those on which the new model has the highest loss


Relabel = TypedDict("Relabel", {"from": str, "to": str, "images": int})


class ClassCounts(TypedDict):
    """The number of images of a class in a split."""

    before: int  # before and after do not count augmented images
    after: int
    augmented_before: int
    augmented_after: int


class DataDifference(TypedDict):
    """How the images of the two versions differ. Images with the same bytes are the same."""

    relabelled: int
    moved: int  # to another split; an image may be both relabelled and moved
    dropped: int
    added: int
    altered: int  # with other bytes under the same name
    augmented: int  # images of the new version that curate made from others
    relabels: list[Relabel]  # the most frequent first
    images: dict[str, dict[str, ClassCounts]]  # by split and class


class ComparedVersion(TypedDict):
    """What the figures of one of the two models come from; the fields are those of Evaluation."""

    data_version: str
    trained_on: str
    settings: Settings


class Comparison(TypedDict):
    """The document."""

    before: ComparedVersion
    after: ComparedVersion
    classes: list[str]
    resamples: int  # this and the next two are those of the bootstrap
    confidence_level: float
    seed: int
    splits: dict[str, SplitComparison]  # val before test; a split without images is left out
    data: DataDifference


# The counts of DataDifference, in the order in which people read them.
DIFFERENCES: tuple[Literal["relabelled", "moved", "dropped", "added", "altered", "augmented"], ...] = (
    "relabelled",
    "moved",
    "dropped",
    "added",
    "altered",
    "augmented",
)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `comparison.json`.

    Args:
        folder: The folder to write into.
        comparison: The document.
    """
    write_document(folder / FILE, comparison)


def read_comparison(folder: str | Path) -> Comparison:
    """Reads the document.

    Args:
        folder: The output `comparison` of compare.

    Returns:
        The document.

    Raises:
        UserError: It is missing, or is not as compare writes it.
    """
    fields = {"before": dict, "after": dict, "classes": list, "confidence_level": float, "splits": dict, "data": dict}
    comparison = read_document(Path(folder) / FILE, fields, "give the output `comparison` of compare")
    return cast(Comparison, comparison)
