"""What each file of a curated data version was made from: manifest.csv in its folder, by file name."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS
from components.shared.formats.names import is_plain_name
from components.shared.formats.tables import read_rows, write_rows

FILE = "manifest.csv"


class CuratedImage(NamedTuple):
    """A row of the manifest: a file, and the image of the previous version that it was made from."""

    filename: str  # split/class/file
    sha256: str  # of its bytes
    source_filename: str
    source_sha256: str
    label: str
    operations: list[dict[str, Any]]  # done with the source, each with its name as `operation` and its parameters
    seed: int | None  # of the augmentation; None for an image that is not augmented


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
        image = _parse(f"{place}, line {line}", row)
        if image.filename in images:
            raise UserError(f"{place}, line {line}: {image.filename!r} appears twice; run curate again.")
        images[image.filename] = image
    if not images:
        raise UserError(f"{place}: lists no images; name a folder that curate made.")
    return list(images.values())


def _parse(place: str, row: dict[str, str]) -> CuratedImage:
    for name in (row["filename"], row["source_filename"]):
        if not is_image_path(name):
            raise UserError(f"{place}: {name!r} is not a path like split/class/file; run curate again.")
    try:
        operations = json.loads(row["operations"])
        seed = int(row["seed"]) if row["seed"] else None
    except (ValueError, RecursionError) as error:  # the latter for very many brackets
        raise UserError(f"{place}: cannot be read ({error}); run curate again.") from None
    if not isinstance(operations, list) or not all(
        isinstance(step, dict) and "operation" in step for step in operations
    ):
        raise UserError(f"{place}: {row['operations']!r} is not a list of operations; run curate again.")
    texts = {name: row[name] for name, kind in CuratedImage.__annotations__.items() if kind is str}
    return CuratedImage(**texts, operations=operations, seed=seed)


def is_image_path(name: str) -> bool:
    """Tells whether a path in a data set is that of an image.

    Args:
        name: The path.

    Returns:
        Whether it is split/class/file, without hidden parts, control characters or anything that leads elsewhere.
    """
    parts = name.split("/")
    is_visible = all(part and not part.startswith(".") for part in parts)
    return is_plain_name(name) and is_visible and len(parts) == 3 and parts[0] in SPLITS
