"""What the audit says about each image of train and val: issues.csv, beginning with what to look at first."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from components.shared.errors import UserError, quote
from components.shared.formats.documents import Share
from components.shared.formats.tables import OptionalInt, parse_row, read_rows, write_rows

KINDS = {
    "label": "Another label fits better",
    "blank": "No ink, or one plain colour",
    "fragmented": "Ink in many parts: broken strokes, dust, or more than one drawing",
    "faded": "Ink that hardly stands out from its paper",
    "framed": "A frame around the ink",
    "cut": "Ink that runs into the edge of the picture",
    "crowded": "Far more strokes than is usual for their label: more than one drawing, a scribble, or a dirty page",
    "ambiguous": "No class fits",
    "outlier": "Unlike the other images of their label",
    "conflicting_duplicate": "The same picture under two labels",
    "exact_duplicate": "Byte for byte the same",
    "near_duplicate": "The same picture saved again, or the same ink elsewhere on the page",
}
LABEL_KINDS = frozenset({"label", "ambiguous", "outlier", "conflicting_duplicate"})  # those that doubt the label
STATE_KINDS = frozenset({"fragmented", "faded", "framed", "cut", "crowded"})  # those that doubt the picture
ACTIONS = ("relabel", "drop", "keep_one", "look", "")  # "": the image is as it should be
_ADVICE = "give issues.csv as audit writes it"


OptionalShare = Annotated[Share | None, BeforeValidator(lambda cell: None if cell == "" else cell)]


def _check_action(cell: str) -> str:
    if cell not in ACTIONS:
        raise ValueError(f"is the unknown {quote(cell)}")
    return cell


def _split_kinds(cell: str) -> list[str]:
    return [kind for kind in cell.split(";") if kind]


class Issue(NamedTuple):
    """A row of issues.csv; shares and scores are from 0 to 1."""

    rank: Annotated[int, Field(ge=1)]  # 1 is to be looked at first
    sha256: str
    filename: str  # split/class/file
    split: str
    label: str
    kinds: Annotated[tuple[str, ...], BeforeValidator(_split_kinds)]  # of KINDS
    action: Annotated[str, AfterValidator(_check_action)]  # what the audit suggests
    new_label: str  # the class that it suggests, or ""
    confidence: Share  # that the action is right
    prediction: str  # "" if the image was not judged, because its class has too few
    probability: OptionalShare  # of the predicted class; None if the image was not judged
    label_probability: OptionalShare  # of the given class; likewise
    label_score: Share  # low: the label is probably wrong
    outlier_score: Share  # high: unlike the other images of its label
    duplicate_score: Share  # high: like another image; 0 without any
    group: OptionalInt  # the number that duplicates share
    why: str
    decision: str = ""  # for a person to fill in
    decided_label: str = ""  # likewise

    @property
    def is_for_people(self) -> bool:
        """Whether it is to be looked at for the state of its picture alone, which no policy judges."""
        return self.action == "look" and bool(self.kinds) and not LABEL_KINDS.intersection(self.kinds)

    @property
    def suggestion(self) -> str:
        """What the audit suggests, short enough for a caption; the label alone if nothing."""
        if self.action == "relabel":
            return f"{self.label} → {self.new_label}?"
        if self.action == "drop":
            reasons = [kind for kind in self.kinds if kind != "label"] or list(self.kinds)
            return f"drop: {', '.join(reasons).replace('_', ' ')}" if reasons else "drop"
        if self.action == "keep_one":
            return "keep one of these"
        if self.action == "look":
            return f"{self.label}, or {self.new_label}?" if self.new_label else f"{self.label}?"
        return self.label

    @property
    def probabilities(self) -> dict[str, float]:
        """The probabilities of the predicted class and of the given class; none if the image was not judged."""
        found = {self.prediction: self.probability, self.label: self.label_probability}
        return {name: probability for name, probability in found.items() if probability is not None}


def find_spare_copies(issues: Iterable[Issue]) -> set[str]:
    """The file names of images of which the audit would keep another copy: all but the first of each group."""
    kept: set[int | None] = set()
    spare = set()
    for issue in issues:
        if issue.action == "keep_one":
            if issue.group in kept:
                spare.add(issue.filename)
            kept.add(issue.group)
    return spare


def write_issues(path: Path, issues: Iterable[Issue]) -> None:
    """Writes issues.csv.

    Args:
        path: The file.
        issues: Its rows, in their order.
    """
    rows = (issue._replace(kinds=";".join(issue.kinds)) for issue in issues)  # type: ignore[arg-type]
    write_rows(path, Issue._fields, rows)


def read_issues(path: str | Path, classes: Collection[str] | None = None) -> Iterator[tuple[int, Issue]]:
    """Reads issues.csv.

    Args:
        path: The file.
        classes: The names that a suggested label may have; None does not check them.

    Yields:
        Each row with the number of its line.

    Raises:
        UserError: The file is not as audit writes it.
    """
    for line, row in read_rows(path, Issue._fields, _ADVICE):
        place = f"{path}, line {line}"
        issue = parse_row(Issue, row, place=place, advice=_ADVICE)
        if issue.action == "relabel" and classes is not None and issue.new_label not in classes:
            raise UserError(f"{place}: has the unknown class {quote(issue.new_label)}; {_ADVICE}.")
        yield line, issue
