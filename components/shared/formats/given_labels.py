"""Labels that people give to images in other tools, and a plain table of them: a CSV file with `filename` and `label`.

The table says which label each image has: its present one keeps it, another one relabels it, and an empty one decides
nothing. An image to drop has the label that `name_drop` returns. `path` may take the place of `filename`, and `sha256`
may be there as well.
"""

import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.formats.issues import Issue
from components.shared.formats.tables import read_rows

LABEL = "label"
NAMES = ("filename", "path")  # the columns of which one must be there
SHA256 = "sha256"
ADVICE = "give a table with the columns filename and label"
_OF_OTHERS = frozenset(("prediction", "rank", "annotator", "annotation_id", "source_filename"))
_STEM = re.compile("[0-9a-f]{64}-[0-9a-f]{16}")


class ExportedIssue(TypedDict):
    """What goes to another tool with an image that the audit doubts; by the first two it is found again."""

    sha256: str  # of the file as the user has it
    filename: str  # split/class/file
    suggestion: str
    why: str
    group: NotRequired[int]  # the number that copies of a picture share


class GivenLabel(NamedTuple):
    """The label that a person gave to an image."""

    where: str  # in the file, for messages: line 3, or task 5
    sha256: str  # of the file as the user has it; "" if the tool's file has none
    name: str  # of the image: its file name, or what a tool kept of it
    label: str  # a class, or what `name_drop` returns; "" if the person decided nothing
    annotator: str = ""  # who gave it, if the file says so


def describe_issue(issue: Issue) -> ExportedIssue:
    """What goes out with an image."""
    described: ExportedIssue = {
        "sha256": issue.sha256,
        "filename": issue.filename,
        "suggestion": issue.suggestion,
        "why": issue.why,
    }
    if issue.group is not None:
        described["group"] = issue.group
    return described


def name_drop(classes: Collection[str]) -> str:
    """The label of an image to drop: drop, or (drop) where a class is called drop, or ((drop)) if both are."""
    name = "drop"
    while name in classes:
        name = f"({name})"
    return name


def name_image(sha256: str, filename: str) -> str:
    """A name without a suffix for a copy of an image that goes to another tool, by which it is found again.

    Tools drop folders and suffixes, by which alone the names of two images may differ. A file name may also be too long
    to be a part of another one, so a hash stands for it.
    """
    return f"{sha256}-{hashlib.sha256(filename.encode()).hexdigest()[:16]}"


def find_image_name(path: str) -> str:
    """What `name_image` returned for the image that has this path in another tool; "" if it has another name."""
    stem = _STEM.match(PurePosixPath(path).name)
    return stem[0] if stem else ""


def is_label_table(columns: Collection[str]) -> bool:
    """Whether a table with these columns, in small letters, says which label each image has.

    Where a table that another stage or tool has written has columns of these names, they say what the label was.
    """
    return LABEL in columns and not set(NAMES).isdisjoint(columns) and _OF_OTHERS.isdisjoint(columns)


def read_labels(path: str | Path, *, shown: str = "") -> Iterator[GivenLabel]:
    """Reads the table.

    Args:
        path: The file.
        shown: What messages call it, if not by its path.

    Raises:
        UserError: The file is no such table.
    """
    for line, row in read_rows(path, [LABEL], ADVICE, shown=shown, optional=[*NAMES, SHA256], may_end_early=True):
        name = next(row[column] for column in NAMES if column in row)
        yield GivenLabel(f"line {line}", row.get(SHA256, "").strip().lower(), name, row[LABEL])
