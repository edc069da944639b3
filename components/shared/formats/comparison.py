"""What changed from the evaluation of a data version to that of the next: `comparison.json`.

The yardstick is the val and test images of the previous version with the labels they had. Both models have predicted
them, so every figure is a difference of pairs. Where the new version has moved some of them to train, it is those that
neither model learned from.
"""

from pathlib import Path
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.formats.documents import Count, Finite, NotNegative, Share, read_document, write_document
from components.shared.formats.evaluation import Interval
from components.shared.formats.examples import ClassName, ClassNames, SplitName
from components.shared.formats.training import Settings

FILE = "comparison.json"


class FigureChange(TypedDict):
    """A figure of both models."""

    before: Finite
    after: Finite
    change: Finite
    low: Finite  # low and high bound the change, at the confidence level of the document
    high: Finite


class ClassChange(TypedDict):
    """The changes of one class; None for a class without images."""

    images: Count
    recall: FigureChange | None
    f1: FigureChange | None


# Not written as a class, since `from` is a keyword of Python.
SliceChange = TypedDict(
    "SliceChange", {"scalar": str, "from": Finite, "to": Finite, "images": Count, "accuracy": FigureChange}
)


class SeedChange(TypedDict):
    """How the accuracy changed on average over several trainings of each version, which differ in their seed alone."""

    before: list[Share]  # of each seed; the first is the `before` of the accuracy of the two models
    after: list[Share]
    change: Finite  # of the mean
    margin: NotNegative  # the change and this to both sides bound what other seeds would show (Welch's interval)
    p: Share  # of Welch's test
    low: Finite  # low and high bound what other images would show the change to be, with these models (bootstrap)
    high: Finite


class AccuracyChange(TypedDict):
    """How the accuracy changed, and on how many images."""

    accuracy: FigureChange
    seeds: NotRequired[SeedChange | None]  # None unless both versions were trained with several seeds
    newly_right: Count  # images on which only the new model is right
    newly_wrong: Count  # images on which only the previous model is right
    mcnemar_p: Share  # of the exact, two-sided test


class UnseenChange(AccuracyChange):
    """The same for the images that are in the train split of neither version."""

    images: Count


class CorrectedChange(AccuracyChange):
    """The same for the images that the split still has in the new version, with the labels that they have there."""

    images: Count
    relabelled: Count
    verdict: str  # the outcome as a sentence


class SeenInTraining(TypedDict):
    """How many of the images are, byte for byte, in the train split of each version."""

    before: Count
    after: Count


class LeftOut(TypedDict):
    """The images of a split that do not count, where the new version has some of them in train that were not there."""

    images: Count  # those that are, byte for byte, in the train split of either version; 0 if that would leave none
    why: str  # as a sentence


class NewData(TypedDict):
    """The new model on this split of the new version, which may hold other images or labels."""

    images: Count
    accuracy: Share
    accuracy_interval: Interval
    macro_f1: Share
    same_images: bool  # whether the split has the images and labels it had before


class ChangedImage(TypedDict):
    """An image on which one of the two models is right."""

    filename: str
    label: str
    before: str  # before and after are what the models predict
    after: str


class SplitComparison(AccuracyChange):
    """Both models on a split of the previous version."""

    images: Count  # without those left out, which are in no figure
    left_out: NotRequired[LeftOut | None]  # None if all images count; earlier versions did not write it
    verdict: str  # the outcome as a sentence
    macro_f1: FigureChange
    classes: dict[ClassName, ClassChange]
    slices: list[SliceChange]
    seen_in_training: SeenInTraining
    unseen: UnseenChange | None  # None if that would be all images or none
    corrected: CorrectedChange | None  # None if all images stayed as they were, or none did
    new_data: NewData | None  # None if the new version has no such split
    newly_right_images: list[ChangedImage]  # all; first those on which the previous model has the highest loss
    newly_wrong_images: list[ChangedImage]  # all; first those on which the new model has the highest loss


Relabel = TypedDict("Relabel", {"from": str, "to": str, "images": Count})


class ClassCounts(TypedDict):
    """The number of images of a class in a split."""

    before: Count  # before and after do not count augmented images
    after: Count
    augmented_before: Count
    augmented_after: Count


class DataDifference(TypedDict):
    """How the images of the two versions differ.

    Images with the same bytes are the same, and so is the PNG that was made of an image of another kind.
    """

    relabelled: Count
    moved: Count  # to another split; an image may be both relabelled and moved
    dropped: Count
    added: Count
    altered: Count  # with other bytes under the same name, perhaps with another ending
    augmented: Count  # images of the new version that curate made from others
    relabels: list[Relabel]  # the most frequent first
    images: dict[SplitName, dict[ClassName, ClassCounts]]  # by split and class


class ComparedVersion(TypedDict):
    """What the figures of one of the two models come from; the fields are those of Evaluation."""

    data_version: str
    trained_on: str
    settings: Settings


class Comparison(TypedDict):
    """The document."""

    before: ComparedVersion
    after: ComparedVersion
    classes: ClassNames
    resamples: Count  # this and the next two are those of the bootstrap
    confidence_level: Share
    seed: int
    splits: dict[SplitName, SplitComparison]  # val before test; a split without images is left out
    data: DataDifference
    # Earlier versions did not write these. The sentences are empty if they do not apply.
    training_length: NotRequired[str]  # one model was trained clearly longer than the other
    length_may_explain: NotRequired[bool]  # whether that may be why the accuracy changed
    equal_epochs: NotRequired[int]  # as long on the previous version as the new training was, where that may explain it
    seed_noise: NotRequired[str]  # a version was trained once, so that nobody knows what the seed does


# The counts of DataDifference, in the order in which people read them.
DIFFERENCES: tuple[Literal["relabelled", "moved", "dropped", "added", "altered", "augmented"], ...] = (
    "relabelled",
    "moved",
    "dropped",
    "added",
    "altered",
    "augmented",
)


def list_verdicts(comparison: Comparison) -> list[str]:
    """Lists what the new version changed, and what to know about that, as sentences."""
    verdicts = []
    for split in comparison["splits"].values():
        figures = (split["corrected"], split) if is_relabelled(split) else (split, split["corrected"])
        verdicts += [each["verdict"] for each in figures if each]
        if left_out := split.get("left_out"):
            verdicts.append(left_out["why"])
    return verdicts + list_notes(comparison)


def is_relabelled(split: SplitComparison) -> bool:
    """Whether images of the split have other labels in the new version: then the figures on these come first."""
    return bool(split["corrected"] and split["corrected"]["relabelled"])


def list_notes(comparison: Comparison) -> list[str]:
    """Lists what to know about all changes of accuracy, as sentences."""
    notes = (comparison.get("training_length", ""), comparison.get("seed_noise", ""))
    return [note for note in notes if note]


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
    return read_document(Path(folder) / FILE, Comparison, "give the output `comparison` of compare")
