"""What changed between two evaluations, of a data version and of the version before: `comparison.json`.

The yardstick is the val and test images of the version before, with the labels they had: both models have predicted
them, so every difference is one of pairs.
"""

from pathlib import Path
from typing import Literal, TypedDict, cast

from components.shared.formats.documents import read_document, write_document
from components.shared.formats.training import Settings

FILE = "comparison.json"


class Change(TypedDict):
    """A figure of both models; low and high bound the change, at the document's confidence level."""

    before: float
    after: float
    change: float
    low: float
    high: float


class ClassChange(TypedDict):
    """The changes of one class; None for a class without images."""

    images: int
    recall: Change | None
    f1: Change | None


# Not written as a class, since `from` is a keyword of Python.
SliceChange = TypedDict("SliceChange", {"scalar": str, "from": float, "to": float, "images": int, "accuracy": Change})


class AccuracyChange(TypedDict):
    """How the accuracy changed, and on how many images."""

    accuracy: Change
    newly_right: int  # images on which only the new model is right
    newly_wrong: int
    mcnemar_p: float  # exact, two-sided


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
    before: str  # what each model says
    after: str


class SplitComparison(AccuracyChange):
    """Both models on a split of the version before."""

    images: int
    verdict: str  # the outcome as a sentence
    macro_f1: Change
    classes: dict[str, ClassChange]
    slices: list[SliceChange]
    seen_in_training: SeenInTraining
    unseen: UnseenChange | None  # None where that is all images, or none
    new_data: NewData | None  # None if the new version has no such split
    newly_right_images: list[ChangedImage]  # all, those first that the wrong model was surest of
    newly_wrong_images: list[ChangedImage]


Relabel = TypedDict("Relabel", {"from": str, "to": str, "images": int})


class ClassCounts(TypedDict):
    """Images of a class in a split; before and after are without the augmented ones."""

    before: int
    after: int
    augmented_before: int
    augmented_after: int


class DataDifference(TypedDict):
    """How the images of the two versions differ. Images are the same if their bytes are."""

    relabelled: int
    moved: int  # to another split; an image may be relabelled and moved
    dropped: int
    added: int
    altered: int  # of other bytes, under the same name
    augmented: int  # images that curate made, in the new version
    relabels: list[Relabel]  # the most frequent first
    images: dict[str, dict[str, ClassCounts]]  # by split and class


class Version(TypedDict):
    """One of the two evaluations."""

    data_version: str
    trained_on: str
    settings: Settings


class Comparison(TypedDict):
    """The document."""

    before: Version
    after: Version
    classes: list[str]
    resamples: int  # of the bootstrap, as the next two
    confidence_level: float
    seed: int
    splits: dict[str, SplitComparison]  # val before test; one without images is left out
    data: DataDifference


# The counts of DataDifference, in the order in which people are told of them.
DIFFERENCES: tuple[Literal["relabelled", "moved", "dropped", "added", "altered", "augmented"], ...] = (
    "relabelled",
    "moved",
    "dropped",
    "added",
    "altered",
    "augmented",
)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes `comparison.json` into the folder."""
    write_document(folder / FILE, comparison)


def read_comparison(folder: str | Path) -> Comparison:
    """The document in the folder, an artifact that compare made.

    Raises:
        UserError: it is missing, or is not as compare writes it.
    """
    fields = {"before": dict, "after": dict, "classes": list, "confidence_level": float, "splits": dict, "data": dict}
    comparison = read_document(Path(folder) / FILE, fields, "give the output `comparison` of compare")
    return cast(Comparison, comparison)
