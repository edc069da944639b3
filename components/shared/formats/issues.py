"""What the audit says about each image of train and val: issues.csv, beginning with what to look at first."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from components.shared.errors import UserError
from components.shared.formats.tables import read_rows, write_rows

KINDS = {
    "label": "Another label fits better",
    "blank": "No ink",
    "ambiguous": "No class fits",
    "outlier": "Unlike the other images of their label",
    "conflicting_duplicate": "The same picture under two labels",
    "exact_duplicate": "Byte for byte the same",
    "near_duplicate": "The same ink, moved or saved again",
}
ACTIONS = ("relabel", "drop", "keep_one", "look", "")  # "": the image is as it should be
_ADVICE = "give issues.csv as audit writes it"


class Issue(NamedTuple):
    """A row of issues.csv; shares and scores are from 0 to 1."""

    rank: int  # 1 is to be looked at first
    sha256: str
    filename: str  # split/class/file
    split: str
    label: str
    kinds: tuple[str, ...]  # of KINDS
    action: str  # of ACTIONS: what the audit suggests
    new_label: str  # the class that it suggests, or ""
    confidence: float  # that the action is right
    prediction: str
    probability: float  # of the predicted class
    label_probability: float  # of the given class
    label_score: float  # low: the label is probably wrong
    outlier_score: float  # high: unlike the other images of its label
    duplicate_score: float  # high: like another image; 0 without any
    group: int | None  # the number that duplicates share
    why: str
    decision: str = ""  # for a person to fill in
    decided_label: str = ""  # likewise

    @property
    def probabilities(self) -> dict[str, float]:
        """The probabilities of the predicted class and of the given class."""
        return {self.prediction: self.probability, self.label: self.label_probability}


def write_issues(path: Path, issues: Iterable[Issue]) -> None:
    """Writes issues.csv.

    Args:
        path: The file.
        issues: Its rows, in their order.
    """
    rows = (issue._replace(kinds=";".join(issue.kinds)) for issue in issues)  # type: ignore[arg-type]
    write_rows(path, Issue._fields, rows)


def read_issues(path: str | Path, classes: Collection[str]) -> Iterator[tuple[int, Issue]]:
    """Reads issues.csv.

    Args:
        path: The file.
        classes: The names that a suggested label may have.

    Yields:
        Each row with the number of its line.

    Raises:
        UserError: The file is not as audit writes it.
    """
    for line, row in read_rows(path, Issue._fields, _ADVICE):
        yield line, _parse(f"{path}, line {line}", row, classes)


def _parse(place: str, row: dict[str, str], classes: Collection[str]) -> Issue:
    if row["action"] not in ACTIONS:
        raise UserError(f"{place}: has the unknown action {row['action']!r}; {_ADVICE}.")
    if row["action"] == "relabel" and row["new_label"] not in classes:
        raise UserError(f"{place}: has the unknown class {row['new_label']!r}; {_ADVICE}.")
    numbers = {name: row[name] for name, kind in Issue.__annotations__.items() if kind is float}
    try:
        shares = {name: float(text) for name, text in numbers.items()}
        rank, group = int(row["rank"]), int(row["group"]) if row["group"] else None
    except ValueError as error:
        raise UserError(f"{place}: has no number where one must be ({error}); {_ADVICE}.") from None
    for name, share in shares.items():
        if not 0 <= share <= 1:  # nor NaN
            raise UserError(f"{place}: {name} is {share}, which is not a number from 0 to 1; {_ADVICE}.")
    kinds = tuple(kind for kind in row["kinds"].split(";") if kind)
    texts = {name: row[name] for name, kind in Issue.__annotations__.items() if kind is str}
    return Issue(rank=rank, kinds=kinds, group=group, **texts, **shares)  # type: ignore[arg-type]
