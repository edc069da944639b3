"""The inputs of curation: the images of a data version, what the audit found, and what people decided."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from components.shared.cloud_storage import open_local_copy
from components.shared.errors import UserError, quote
from components.shared.formats.decisions import Decision, read_decisions
from components.shared.formats.examples import (
    CURATED_SPLITS,
    CopyOrder,
    ExampleSet,
    ImageExample,
    is_augmented,
    read_paths,
)
from components.shared.formats.issues import Issue
from components.shared.formats.issues import read_issues as read_rows


class SourceImage(NamedTuple):
    """An image of the data version that is curated."""

    filename: str  # split/class/file
    sha256: str  # of the file as the user has it
    split: str
    label: str  # the name of its class
    suffix: str  # of the file that is written: .png if ingest converted the picture
    copy_order: CopyOrder  # this and the next three are defined as in ImageExample
    aspect_ratio: float
    ink_fraction: float
    contrast: float
    path: str = ""  # in the data set, which may have no splits, or folders below its classes
    shard: str = ""  # the name of the shard that holds it


def read_images(examples: ExampleSet) -> list[SourceImage]:
    """Reads the images of a data version.

    Args:
        examples: The data version.

    Returns:
        Its images, without those that an earlier curation made from others.
    """
    paths = read_paths(examples.folder)
    return [
        _describe(example, split, paths.get(example.filename, example.filename), shard.name)
        for split, shard in examples.manifest.list_shards()
        for example in examples.read_shard(split, shard)
        if not is_augmented(example.filename)
    ]


def _describe(example: ImageExample, split: str, path: str, shard: str) -> SourceImage:
    is_kept = hashlib.sha256(example.encoded).hexdigest() == example.sha256
    return SourceImage(
        filename=example.filename,
        sha256=example.sha256,
        split=split,
        label=example.class_name,
        suffix=Path(example.filename).suffix if is_kept else ".png",
        aspect_ratio=example.aspect_ratio,
        ink_fraction=example.ink_fraction,
        contrast=example.contrast,
        copy_order=example.copy_order,
        path=path,
        shard=shard,
    )


def read_issues(path: str, images: Iterable[SourceImage], classes: Collection[str]) -> dict[str, Issue]:
    """Reads what the audit says about the images of train and val.

    Args:
        path: issues.csv.
        images: The images of the data version.
        classes: The names of the classes.

    Returns:
        The row of each image of train and val, by file name.

    Raises:
        UserError: The file is not issues.csv, or was not made from these images.
    """
    known = {image.filename: image for image in images if image.split in CURATED_SPLITS}
    issues: dict[str, Issue] = {}
    for line, issue in read_rows(path, classes):
        image = known.get(issue.filename)
        if image is None or (image.sha256, image.label) != (issue.sha256, issue.label):
            raise UserError(
                f"{path}, line {line}: {quote(issue.filename)} is not one of these examples; audit them again."
            )
        if image.filename in issues:
            raise UserError(f"{path}, line {line}: {quote(issue.filename)} appears twice; audit these examples again.")
        issues[image.filename] = issue
    missing = sorted(known.keys() - issues.keys())
    if missing:
        raise UserError(
            f"{path}: no row for {len(missing):,} of {len(known):,} images, for example {missing[0]}; "
            "audit these examples again."
        )
    return issues


def read_reviews(
    uris: Mapping[str, str], images: Iterable[SourceImage], classes: Collection[str]
) -> dict[str, dict[str, Decision]]:
    """Reads what each reviewer decided about images of train and val.

    Args:
        uris: A path or gs://BUCKET/OBJECT by the name of the reviewer; a file that names several people has more.
        images: The images of the data version.
        classes: The names of the classes.

    Returns:
        The decisions by reviewer, in the order of their names, then by file name.

    Raises:
        UserError: A file cannot be read, is broken, decides about other images, or contradicts itself, or two of them
            have a person of the same name.
    """
    known = {(image.sha256, image.filename): image.label for image in images if image.split in CURATED_SPLITS}
    reviews: dict[str, dict[str, Decision]] = {}
    for name, uri in sorted(uris.items()):
        with open_local_copy(uri) as path:
            found = read_decisions(path, known, classes, reviewer=name, shown=uri)
        for reviewer, decisions in found.items():
            if reviewer in reviews:
                raise UserError(
                    f"{uri}: has decisions of {reviewer}, whom another file is named after; rename that one."
                )
            reviews[reviewer] = {decision.filename: decision for decision in decisions}
            words = Counter(decision.decision for decision in decisions)
            said = ", ".join(f"{word} {count:,}" for word, count in sorted(words.items())) or "nothing is decided"
            print(f"curate: {uri}, {reviewer}: {said}.", flush=True)
    return dict(sorted(reviews.items()))
