"""An image classification data set of FiftyOne: the folder `data` with the images, and `labels.json`.

FiftyOne calls the format FiftyOneImageClassificationDataset, and describes it at
https://docs.voxel51.com/user_guide/import_datasets.html. `labels.json` is

    {"classes": ["i", "ii", ...],
     "labels": {"NAME": TARGET, ...}}

where NAME is the path of an image in `data` without its suffix. TARGET is the position of its class, its name if
`classes` is null, null without a label, or an object with one of them as `label`, and perhaps `confidence` and
`attributes`. FiftyOne exports the attributes if it is asked to, and keeps the names of the files.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.errors import UserError, quote, show_key
from components.shared.formats.documents import read_document, write_document
from components.shared.formats.examples import ImageExample
from components.shared.formats.given_labels import ExportedIssue, GivenLabel, describe_issue, name_drop, name_image
from components.shared.formats.issues import Issue, find_spare_copies

DATA = "data"
LABELS = "labels.json"
ADVICE = "export it from FiftyOne as a FiftyOneImageClassificationDataset"
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


class Attributes(ExportedIssue):
    """What is known of an image that goes out."""

    rank: int  # 1 is to be looked at first
    label_score: float  # 0 .. 1; low: the label is probably wrong
    outlier_score: float  # 0 .. 1; high: unlike the other images of its label


class Target(TypedDict):
    """The label of an image that goes out."""

    label: int  # a position in the classes
    attributes: Attributes


class LabelsDocument(TypedDict):
    """labels.json."""

    classes: NotRequired[list[str] | None]
    labels: dict[str, Any]


def write_dataset(folder: Path, issues: Sequence[Issue], *, images: Iterable[ImageExample], classes: list[str]) -> None:
    """Writes the data set, with one of the copies of a picture that the audit would keep one of.

    Whatever has a label when it comes back has been decided about, so copies would all be kept.

    Args:
        folder: Where to.
        issues: What the audit says of the images, best first.
        images: Among them are the images of the issues.
        classes: The names of the classes.

    Raises:
        KeyError: The class of an image is none of them.
    """
    (folder / DATA).mkdir()
    spare = find_spare_copies(issues)
    by_filename = {issue.filename: issue for issue in issues if issue.filename not in spare}
    for image in images:
        if image.filename in by_filename:
            name = name_image(image.sha256, image.filename) + SUFFIXES[image.format]
            (folder / DATA / name).write_bytes(image.encoded)
    positions = {name: position for position, name in enumerate(classes)}
    labels: dict[str, Target] = {
        name_image(issue.sha256, issue.filename): {
            "label": positions[issue.label],
            "attributes": {
                **describe_issue(issue),
                "rank": issue.rank,
                "label_score": issue.label_score,
                "outlier_score": issue.outlier_score,
            },
        }
        for issue in by_filename.values()
    }
    write_document(folder / LABELS, {"classes": [*classes, name_drop(classes)], "labels": labels})


def read_dataset(path: str | Path, *, shown: str = "") -> Iterator[GivenLabel]:
    """Reads labels.json as FiftyOne exports it.

    Args:
        path: The file.
        shown: What messages call it, if not by its path.

    Yields:
        The label of each image; it is empty where the image has none.

    Raises:
        UserError: The file is no such document, or an image has several labels, or one that is none.
    """
    place = shown or str(path)
    document = read_document(Path(path), LabelsDocument, ADVICE, shown=place)
    for name, target in document["labels"].items():
        where = f"the label of {show_key(name)}"
        try:
            label = _read_label(target, document.get("classes"))
            yield GivenLabel(where, *_find_image(name, target), label)
        except ValueError as error:
            raise UserError(f"{place}, {where}: {error}; give the image one label, and export again.") from None


def _read_label(target: Any, classes: list[str] | None) -> str:
    match target:
        case None | []:
            return ""
        case [only]:
            return _read_label(only, classes)
        case [_, *_]:
            raise ValueError(f"has {len(target)} labels")
        case {"label": str() | int() | None as label}:
            return _read_label(label, classes)
        case str():
            return target
        case int() if not isinstance(target, bool):
            if classes is None or not 0 <= target < len(classes):
                raise ValueError(f"is {quote(target)}, which is no position in `classes`")
            return classes[target]
    raise ValueError(f"is {quote(target)}, which is no label")


def _find_image(name: str, target: Any) -> tuple[str, str]:
    """The sha256 and the file name, if both were exported, else the name that the image has in FiftyOne."""
    match target:
        case {"attributes": {"sha256": str() as sha256, "filename": str() as filename}}:
            return sha256, filename
    return "", name
