"""What each file of a curated data version was made from: manifest.csv in its folder, by file name."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS
from components.shared.formats.tables import read_rows, write_rows

FILE = "manifest.csv"


class CuratedImage(NamedTuple):
    """A row of the manifest: a file, and the image of the version before that it was made from."""

    filename: str  # split/class/file
    sha256: str  # of its bytes
    source_filename: str
    source_sha256: str
    label: str
    operations: list[dict[str, Any]]  # done with the source, each with its name as `operation` and its parameters
    seed: int | None  # of the augmentation; None for an image that is not augmented


def write_manifest(folder: Path, images: Iterable[CuratedImage]) -> None:
    """Writes manifest.csv into the folder."""
    rows = (image._replace(operations=json.dumps(image.operations)) for image in images)  # type: ignore[arg-type]
    write_rows(folder / FILE, CuratedImage._fields, rows)


def read_manifest(folder: Path, shown: str = "") -> list[CuratedImage]:
    """The rows of the manifest in the folder; nothing in it is believed before it is checked.

    Args:
        folder: where the manifest is.
        shown: how messages name the folder; empty for its path.

    Raises:
        UserError: there is none, or it is not as curate writes it.
    """
    place = f"{shown or folder}/{FILE}"
    try:
        rows = list(read_rows(folder / FILE, CuratedImage._fields, "name a folder that curate made"))
    except UserError as error:
        raise UserError(str(error).replace(str(folder / FILE), place)) from None
    if not rows:
        raise UserError(f"{place}: lists no images; name a folder that curate made.")
    images = [_parse(f"{place}, line {line}", row) for line, row in rows]
    seen: set[str] = set()
    for image in images:
        if image.filename in seen:
            raise UserError(f"{place}: {image.filename!r} is there twice; run curate again.")
        seen.add(image.filename)
    return images


def is_image_path(name: str) -> bool:
    """Whether a path in a data set is that of an image: split/class/file, nothing hidden, and nowhere else."""
    parts = name.split("/")
    is_plain = not any(character < " " or character == "\\" for character in name)
    is_visible = all(part and not part.startswith(".") for part in parts)
    return is_plain and is_visible and len(parts) == 3 and parts[0] in SPLITS


def _parse(place: str, row: dict[str, str]) -> CuratedImage:
    for name in (row["filename"], row["source_filename"]):
        if not is_image_path(name):
            raise UserError(f"{place}: {name!r} is not a path like split/class/file; run curate again.")
    try:
        operations = json.loads(row["operations"])
        seed = int(row["seed"]) if row["seed"] else None
    except ValueError as error:
        raise UserError(f"{place}: cannot be read ({error}); run curate again.") from None
    return CuratedImage(
        row["filename"], row["sha256"], row["source_filename"], row["source_sha256"], row["label"], operations, seed
    )
