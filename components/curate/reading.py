"""What curation goes by: the images of a data version, what the audit found, and what people decided."""

import contextlib
import csv
import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.curate.decisions import Decision, read_decisions

from components.shared.cloud_storage import fetch_object, is_address
from components.shared.errors import UserError
from components.shared.formats import examples as ex

CURATED = ("train", "val")
ACTIONS = ("relabel", "drop", "keep_one", "look", "")
COLUMNS = ("rank", "sha256", "filename", "label", "action", "new_label", "confidence", "group", "why")
PROBABILITIES = ("prediction", "probability", "label_probability")
SCALARS = ("aspect_ratio", "ink_fraction", "contrast")  # whose slices tell which images are hard


class Image(NamedTuple):
    filename: str  # split/class/file
    sha256: str  # of the user's file
    split: str
    label: str
    suffix: str  # of a file with `image/encoded`: .png if ingest had to convert
    scalars: tuple[float, ...]  # SCALARS


class Issue(NamedTuple):
    """A row of issues.csv."""

    rank: int
    action: str
    new_label: str
    confidence: float  # that the action is right, 0 to 1
    group: str  # that duplicates share, or ""
    why: str
    probabilities: dict[str, float]  # of the given and the predicted label


def read_images(folder: str, manifest: dict[str, Any]) -> list[Image]:
    """Every image, without what an earlier curation augmented."""
    images = []
    for split in manifest["splits"]:
        for example in ex.read_examples(ex.shard_paths(folder, manifest, split)):
            if not ex.is_augmented(ex.text(example, ex.FILENAME)):
                images.append(_image(example, split))
    return images


def _image(example: Any, split: str) -> Image:
    feature = example.features.feature
    filename, sha256 = ex.text(example, ex.FILENAME), ex.text(example, ex.SHA256)
    kept = hashlib.sha256(feature[ex.ENCODED].bytes_list.value[0]).hexdigest() == sha256
    suffix = Path(filename).suffix if kept else ".png"
    scalars = tuple(feature[f"image/{name}"].float_list.value[0] for name in SCALARS)
    return Image(filename, sha256, split, ex.text(example, ex.CLASS), suffix, scalars)


def read_issues(path: str, images: Iterable[Image], classes: list[str]) -> dict[str, Issue]:
    """The audit's row of each image of train and val, by file name.

    Raises:
        UserError: the file is not issues.csv, or not of these images.
    """
    known = {image.filename: image for image in images if image.split in CURATED}
    issues: dict[str, Issue] = {}
    for line, row in enumerate(_rows(path), start=2):
        image = known.get(row["filename"])
        if image is None or (image.sha256, image.label) != (row["sha256"], row["label"]):
            raise UserError(f"{path}: row {line}, {row['filename']!r}, is no image of these examples; audit them anew.")
        if image.filename in issues:
            raise UserError(f"{path}: row {line}, {row['filename']!r}, is there twice; audit these examples anew.")
        issues[image.filename] = _issue(path, line, row, classes)
    missing = sorted(known.keys() - issues.keys())
    if missing:
        raise UserError(f"{path}: no row for {missing[0]} and {len(missing) - 1:,} others; audit these examples anew.")
    return issues


def _rows(path: str) -> Iterator[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            absent = [name for name in (*COLUMNS, *PROBABILITIES) if name not in (reader.fieldnames or ())]
            if absent:
                raise UserError(f"{path}: no column {', '.join(absent)}; give issues.csv as audit writes it.")
            yield from reader
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); give issues.csv as audit writes it.") from None


def _issue(path: str, line: int, row: dict[str, str], classes: list[str]) -> Issue:
    if row["action"] not in ACTIONS:
        raise UserError(f"{path}: row {line} has the unknown action {row['action']!r}; audit these examples anew.")
    if row["action"] == "relabel" and row["new_label"] not in classes:
        raise UserError(f"{path}: row {line} has the unknown class {row['new_label']!r}; audit these examples anew.")
    try:
        rank, confidence = int(row["rank"]), float(row["confidence"])
        probabilities = {
            row["prediction"]: float(row["probability"]),
            row["label"]: float(row["label_probability"]),
        }
    except ValueError as error:
        raise UserError(f"{path}: row {line} has no number ({error}); audit these examples anew.") from None
    if not all(math.isfinite(number) for number in (confidence, *probabilities.values())):
        raise UserError(f"{path}: row {line} has a number that is none; audit these examples anew.")
    return Issue(rank, row["action"], row["new_label"], confidence, row["group"], row["why"], probabilities)


def read_people(uri: str, images: Iterable[Image], classes: list[str]) -> dict[str, Decision]:
    """What people decided about images of train and val, by file name; nothing if `uri` is empty.

    Raises:
        UserError: the file cannot be read, is broken, or decides about other images or against itself.
    """
    if not uri:
        return {}
    known = {(image.sha256, image.filename): image.label for image in images if image.split in CURATED}
    with _open_local_copy(uri) as path:
        try:
            return {decision.filename: decision for decision in read_decisions(path, known, classes)}
        except UserError as error:
            raise UserError(str(error).replace(str(path), uri)) from None


@contextlib.contextmanager
def _open_local_copy(uri: str) -> Iterator[Path]:
    """Yields the path of the file, or of a copy of the object."""
    if not is_address(uri):
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.csv"
        fetch_object(uri, path)
        yield path
