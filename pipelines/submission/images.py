"""The images of a data set on this machine or in a version of DVC, known by their names alone."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from components.shared.cloud_storage import open_local_copy
from components.shared.errors import UserError
from components.shared.formats.examples import is_augmented
from components.shared.formats.image_table import ADVICE, COLUMNS, SPLIT
from components.shared.formats.names import SPLIT_NAMES, has_image_suffix, has_passed_over, is_passed_over, sort_classes
from components.shared.formats.tables import read_rows


class ListedImage(NamedTuple):
    """An image, before it is read."""

    split: str  # train, val or test; empty if the data set has no splits
    label: str  # the name of its class
    is_augmented: bool  # whether an earlier curate made it of another one


def list_images(data: str, data_uri: str, *, rev: str | None) -> list[ListedImage] | None:
    """Lists the images, without opening one.

    Args:
        data: the folder or the table.
        data_uri: where ingest finds it, of a version its manifest.
        rev: the revision whose version it is, if it is one.

    Returns:
        The images, or None if they are neither in a folder or a CSV table of this machine nor in a version of DVC.

    Raises:
        UserError: the table is none.
    """
    place = Path(data)
    if rev or place.is_dir():
        paths = list(_list_version(data_uri) if rev else _walk(place))
        found = [(path.parts[0], path.parts, is_augmented(path.as_posix())) for path in paths]
        is_divided = {top.lower() for top, _, _ in found} <= SPLIT_NAMES.keys()
        return [
            ListedImage(SPLIT_NAMES[top.lower()], parts[1], made) if is_divided else ListedImage("", top, made)
            for top, parts, made in found
        ]
    if place.is_file() and place.name.lower().endswith(".csv"):
        rows = (row for _, row in read_rows(place, COLUMNS, ADVICE, optional=(SPLIT,)))
        return [
            ListedImage(SPLIT_NAMES.get(row.get(SPLIT, "").strip().lower(), ""), row["label"].strip(), False)
            for row in rows
        ]
    return None


def list_classes(data: str, data_uri: str, *, rev: str | None) -> list[str]:
    """Lists the classes of the images, as list_images finds them.

    Returns:
        The classes in their order; none where they are not known before the images are read.

    Raises:
        UserError: the data are a table, and it is none.
    """
    names = {image.label for image in list_images(data, data_uri, rev=rev) or ()}
    return [] if any(name.lower() in SPLIT_NAMES for name in names) else sort_classes(names)


def _walk(folder: Path) -> Iterator[PurePosixPath]:
    """Yields the path below the folder of each image in it."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_passed_over(name, is_folder=True)]
        for name in files:
            if parent != str(folder) and has_image_suffix(name) and not is_passed_over(name, is_folder=False):
                yield PurePosixPath(Path(parent, name).relative_to(folder))


def _list_version(uri: str) -> Iterable[PurePosixPath]:
    """The same of a version in a DVC remote, by its manifest, which is all that is read; none if it is a table."""
    try:
        with open_local_copy(uri) as path:
            names = [str(entry["relpath"]) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (UserError, OSError, ValueError, KeyError, TypeError):  # ingest says what is wrong with it
        return []
    images = (name for name in names if has_image_suffix(name) and not has_passed_over(name))
    return [PurePosixPath(name) for name in images if "/" in name]
