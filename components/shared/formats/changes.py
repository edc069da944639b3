"""What curate did with each image of a data version: a CSV file with a row per image, by file name."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from components.shared.formats.tables import parse_row, read_rows, write_rows


class Change(NamedTuple):
    """A row of the file."""

    filename: str  # split/class/file in the previous version
    sha256: str  # of the file in the previous version
    label: str  # in the previous version
    new_filename: str  # in the new version; "" if the image was dropped
    new_label: str  # likewise
    action: str  # kept, relabelled, moved or dropped
    decided_by: str  # person, policy, duplicate or split; "" if nothing was decided
    why: str


def write_changes(path: Path, changes: Iterable[Change]) -> None:
    """Writes the changes.

    Args:
        path: The CSV file.
        changes: Its rows, in their order.
    """
    write_rows(path, Change._fields, changes)


def read_changes(path: str | Path) -> list[Change]:
    """Reads the changes.

    Args:
        path: The CSV file.

    Returns:
        Its rows.

    Raises:
        UserError: The file is not as curate writes it.
    """
    advice = "give the output `changes` of curate"
    rows = read_rows(path, Change._fields, advice)
    return [parse_row(Change, row, place=f"{path}, line {line}", advice=advice) for line, row in rows]
