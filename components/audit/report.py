"""The audit's report: how many images of each kind and class are doubted, and a gallery by kind."""

from collections import Counter
from typing import NamedTuple

from components.shared.formats.examples import ExampleSet
from components.shared.formats.issues import KINDS, STATE_KINDS, Issue
from components.shared.report import write_report
from components.shared.thumbnails import draw_thumbnails

RARE = 0.1  # of the images that a class would have if all had as many: cleanlab's threshold of class imbalance


class ClassSummary(NamedTuple):
    """A row of the report's table of classes."""

    name: str
    images: int
    rare: bool
    doubted: int
    suggested: list[tuple[str, int]]  # the classes that its images look like instead, with their number of images


def write_audit_report(
    output: str, examples: ExampleSet, *, issues: list[Issue], warnings: list[str], gallery_size: int
) -> None:
    """Writes the report.

    Args:
        output: The path of the file.
        examples: The images.
        issues: The rows of issues.csv, best first.
        warnings: What to know before believing them, a sentence each.
        gallery_size: The most images in a gallery. An image is in the gallery of every kind that it is of.
    """
    classes = examples.manifest.classes
    galleries = {kind: [issue for issue in issues if kind in issue.kinds] for kind in KINDS}
    by_class: dict[str, list[Issue]] = {name: [] for name in classes}
    for issue in issues:
        by_class[issue.label].append(issue)
    shown = {issue.filename for gallery in galleries.values() for issue in gallery[:gallery_size]}
    write_report(
        output,
        "audit/report.html.j2",
        data_version=examples.manifest.data_version,
        warnings=warnings,
        images=len(issues),
        doubted=sum(bool(issue.kinds) for issue in issues),
        actions=Counter(issue.action for issue in issues if issue.action),
        classes=[_summarize_class(name, own, RARE * len(issues) / len(classes)) for name, own in by_class.items()],
        titles=KINDS,
        states=STATE_KINDS,
        galleries={kind: gallery for kind, gallery in galleries.items() if gallery},
        gallery_size=gallery_size,
        pictures=draw_thumbnails(examples, shown),
    )


def _summarize_class(name: str, own: list[Issue], few: float) -> ClassSummary:
    suggested = Counter(issue.new_label for issue in own if "label" in issue.kinds and issue.new_label)
    return ClassSummary(
        name=name,
        images=len(own),
        rare=len(own) < few,
        doubted=sum(bool(issue.kinds) for issue in own),
        suggested=suggested.most_common(3),
    )
