"""A page, without any other file, on which a person decides about images: suspicious ones, or disputed ones.

The page holds the pictures itself, since the sandboxed frame of Kubeflow Pipelines reaches no other file. So that it is
quick with 50,000 images, the pictures are in blocks, of which the script parses those in view, and the pictures of many
images are smaller.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from components.shared.formats.examples import ExampleSet
from components.shared.formats.issues import Issue
from components.shared.report import write_report
from components.shared.thumbnails import draw_thumbnails

MOST = 50_000  # images on a page, which then has some 120 MB
FEW = 5000  # images; with more the pictures are small
PICTURE = (200, 200)  # pixels; the most of width and height
SMALL_PICTURE = (112, 112)
BLOCK = 250  # images whose pictures the script parses at once


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


class ReviewPage(TypedDict):
    """What review.js reads from the page, as JSON; beside it there are the rows and, by blocks, their pictures."""

    title: str
    data_version: str
    store: str  # under which name the browser keeps the decisions
    file: str  # the name of the file that the page saves
    classes: list[str]
    block: int  # pictures in a block, but for the last one
    words: tuple[str, ...]  # the decisions that a person can make
    columns: tuple[str, ...]  # of that file; the script keeps a decision as an object with these fields
    required_columns: tuple[str, ...]  # of a file that is loaded
    label_columns: tuple[str, ...]  # of such a file: the first of them that is there holds the class that a person gave
    settled: list[dict[str, str]]  # decisions that were saved before, by columns; the page saves them again


def draw_pictures(examples: ExampleSet, issues: Collection[Issue]) -> dict[str, str]:
    """Makes the pictures of the images that a page shows, by file name; of many images they are small.

    Raises:
        UserError: One cannot be decoded.
    """
    many = len(issues) > FEW
    size = SMALL_PICTURE if many else PICTURE
    return draw_thumbnails(examples, {issue.filename for issue in issues}, size, compact=many)


def write_review(
    output: str,
    issues: Sequence[Issue],
    *,
    pictures: Mapping[str, str],
    classes: list[str],
    data_version: str,
    left_out: str = "",
    guideline: Mapping[str, str] | None = None,
    disputes: Mapping[str, Mapping[str, Decision]] | None = None,
    settled: Iterable[Decision] = (),
) -> None:
    """Writes the page.

    Args:
        output: The path of the file.
        issues: The images to decide about, best first, at most MOST.
        pictures: Their pictures as data: addresses, by file name.
        classes: The names of the classes.
        data_version: The page shows it; the browser keeps the decisions about each data version apart.
        left_out: How many others there are that the page does not show, and what to do about them, in a sentence.
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
        "block": BLOCK,
        "words": WORDS,
        "columns": COLUMNS,
        "required_columns": REQUIRED,
        "label_columns": LABELS,
        "settled": [SavedDecision(*decision, decided_at="")._asdict() for decision in settled],
    }
    style, script = (
        Markup(Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in ("review.css", "review.js")
    )
    blocks = [issues[start : start + BLOCK] for start in range(0, len(issues), BLOCK)]
    rules = {name: Markup(guideline.get(name, "")) for name in classes} if guideline else {}  # HTML of read_guideline
    write_report(
        output,
        "shared/review.html.j2",
        page=page,
        rows=([_describe_image(issue, (disputes or {}).get(issue.filename, {})) for issue in some] for some in blocks),
        pictures=([pictures[issue.filename] for issue in some] for some in blocks),
        left_out=left_out,
        style=style,
        script=script,
        rules=rules,
    )


def _describe_image(issue: Issue, decided: Mapping[str, Decision]) -> ReviewImage:
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
    }
