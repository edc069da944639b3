"""A page, without any other file, on which a person decides about images: suspicious ones, or disputed ones."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from components.shared.formats.decisions import (
    COLUMNS,
    FILE,
    LABELS,
    REQUIRED,
    SETTLED_FILE,
    WORDS,
    Decision,
    SavedDecision,
)
from components.shared.formats.issues import Issue
from components.shared.report import write_report

PICTURE = (200, 200)  # pixels; the most of width and height


class ReviewImage(TypedDict):
    """An image of the page, with what is known of it from issues.csv."""

    rank: int
    sha256: str
    filename: str
    split: str
    label: str
    kinds: list[str]
    action: str
    new_label: str
    suggestion: str
    prediction: str
    probability: float | None  # JSON knows no NaN
    label_probability: float | None
    group: int | None
    why: str
    decided: list[tuple[str, str]]  # the reviewers who disagree about it, each with the decision in words
    picture: str  # a data: address


class ReviewPage(TypedDict):
    """What review.js reads from the page, as JSON."""

    title: str
    data_version: str
    store: str  # under which name the browser keeps the decisions
    file: str  # the name of the file that the page saves
    classes: list[str]
    rows: list[ReviewImage]
    words: tuple[str, ...]  # the decisions that a person can make
    columns: tuple[str, ...]  # of that file; the script keeps a decision as an object with these fields
    required_columns: tuple[str, ...]  # of a file that is loaded
    label_columns: tuple[str, ...]  # of such a file: the first of them that is there holds the class that a person gave
    settled: list[dict[str, str]]  # decisions that were saved before, by columns; the page saves them again


def write_review(
    output: str,
    issues: Iterable[Issue],
    *,
    pictures: Mapping[str, str],
    classes: list[str],
    data_version: str,
    guideline: Mapping[str, str] | None = None,
    disputes: Mapping[str, Mapping[str, Decision]] | None = None,
    settled: Iterable[Decision] = (),
) -> None:
    """Writes the page.

    Args:
        output: The path of the file.
        issues: The images to decide about, best first.
        pictures: Their pictures as data: addresses, by file name.
        classes: The names of the classes.
        data_version: The page shows it; the browser keeps the decisions about each data version apart.
        guideline: The section of each class that has one, as read_guideline returns it; none if there is no guideline.
        disputes: What each reviewer decided, by file name, if the page is the one of the disputed images: it saves the
            file that has the last word, and the browser keeps its decisions apart from the person's own before.
        settled: What an earlier such file said, which the new one is to say too; also of images that are not shown.

    Raises:
        KeyError: The picture of an image is missing.
    """
    kept = "decisions" if disputes is None else "decisions about disputed images"
    page: ReviewPage = {
        "title": "Review" if disputes is None else "Disputed images",
        "data_version": data_version,
        "store": f"{kept} on data version {data_version}",
        "file": FILE if disputes is None else SETTLED_FILE,
        "classes": classes,
        "rows": [
            _describe_image(issue, pictures[issue.filename], (disputes or {}).get(issue.filename, {}))
            for issue in issues
        ],
        "words": WORDS,
        "columns": COLUMNS,
        "required_columns": REQUIRED,
        "label_columns": LABELS,
        "settled": [SavedDecision(*decision, decided_at="")._asdict() for decision in settled],
    }
    style, script = (
        Markup(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in ("review.css", "review.js")
    )
    rules = {name: Markup(guideline.get(name, "")) for name in classes} if guideline else {}  # HTML of read_guideline
    write_report(output, "shared/review.html.j2", page=page, style=style, script=script, rules=rules)


def _describe_image(issue: Issue, picture: str, decided: Mapping[str, Decision]) -> ReviewImage:
    return {
        "rank": issue.rank,
        "sha256": issue.sha256,
        "filename": issue.filename,
        "split": issue.split,
        "label": issue.label,
        "kinds": list(issue.kinds),
        "action": issue.action,
        "new_label": issue.new_label,
        "suggestion": issue.suggestion,
        "prediction": issue.prediction,
        "probability": issue.probability,
        "label_probability": issue.label_probability,
        "group": issue.group,
        "why": issue.why,
        "decided": [(reviewer, str(decision)) for reviewer, decision in decided.items()],
        "picture": picture,
    }
