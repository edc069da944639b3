"""What each file of a curated data version was made from: manifest.csv in its folder, by file name."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, Json

from components.shared.errors import UserError, quote
from components.shared.formats.documents import Sha256
from components.shared.formats.examples import SPLITS
from components.shared.formats.names import is_visible_name
from components.shared.formats.tables import OptionalInt, parse_row, read_rows, write_rows

FILE = "manifest.csv"


def is_image_path(name: str) -> bool:
    """Whether a path in a data set is that of an image: split/class/file, where the last two are visible names."""
    parts = name.split("/")
    return len(parts) == 3 and parts[0] in SPLITS and all(map(is_visible_name, parts[1:]))


def _check_image_path(name: str) -> str:
    if not is_image_path(name):
        raise ValueError(f"is {quote(name)}, which is not a path like split/class/file")
    return name


def _check_operation(operation: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(operation.get("operation"), str):
        raise ValueError("has no name as `operation`")
    return operation


ImagePath = Annotated[str, AfterValidator(_check_image_path)]
Operation = Annotated[dict[str, Any], AfterValidator(_check_operation)]


class CuratedImage(NamedTuple):
    """A row of the manifest: a file, and the image of the previous version that it was made from."""

    filename: ImagePath  # split/class/file
    sha256: Sha256  # of its bytes
    source_filename: ImagePath
    source_sha256: Sha256
    source_path: Annotated[str, Field(min_length=1)]  # in the previous version's folder, if that has other names
    label: str
    operations: Json[list[Operation]]  # done with the source, each with its name as `operation` and its parameters
    seed: OptionalInt  # of the augmentation; None for an image that is not augmented


def write_manifest(folder: Path, images: Iterable[CuratedImage]) -> None:
    """Writes manifest.csv.

    Args:
        folder: The folder of the data version.
        images: The rows, in their order.
    """
    rows = (image._replace(operations=json.dumps(image.operations)) for image in images)  # type: ignore[arg-type]
    write_rows(folder / FILE, CuratedImage._fields, rows)


def read_manifest(folder: Path, shown: str = "") -> list[CuratedImage]:
    """Reads the manifest; nothing in it is believed before it is checked.

    Args:
        folder: Where the manifest is.
        shown: How messages name the folder; empty for its path.

    Returns:
        Its rows, at least one.

    Raises:
        UserError: There is none, or it is not as curate writes it.
    """
    place = f"{shown or folder}/{FILE}"
    images: dict[str, CuratedImage] = {}
    for line, row in read_rows(folder / FILE, CuratedImage._fields, "name a folder that curate made", shown=place):
        image = parse_row(CuratedImage, row, place=f"{place}, line {line}", advice="run curate again")
        if image.filename in images:
            raise UserError(f"{place}, line {line}: {quote(image.filename)} appears twice; run curate again.")
        images[image.filename] = image
    if not images:
        raise UserError(f"{place}: lists no images; name a folder that curate made.")
    return list(images.values())
