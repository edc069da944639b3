"""What validate found in the data: a JSON list, by kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.formats.documents import read_document, write_document

KINDS = {
    "schema": "the statistics do not fit the schema",
    "skew": "train and val are distributed differently",
    "drift": "train and test are distributed differently",
    "imbalance": "a class has far fewer or far more images than the others",
    "duplicate_across_splits": "the same image is in two splits",
    "duplicate_with_other_label": "the same image has two labels",
    "duplicate_in_split": "a split has the same image twice",
    "blank": "nothing is drawn on the image",
}
SEVERITIES = ("error", "warning", "ignore")


class Finding(TypedDict):
    """Something about the data that a person may want to know."""

    kind: str  # one of KINDS
    message: str
    images: list[str]  # file names; empty if it is about a whole split
    severity: NotRequired[str]  # one of SEVERITIES; missing until it is known


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Writes the findings in their order."""
    write_document(path, findings)


def read_findings(path: Path) -> list[Finding]:
    """Reads the findings.

    Raises:
        UserError: The file is not as validate writes it.
    """
    return read_document(path, list[Finding], "give the output `findings` of validate")
