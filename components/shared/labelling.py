"""What the audit doubts, for the tools in which people label: Label Studio and FiftyOne."""

from collections.abc import Callable
from pathlib import Path

from components.shared.errors import UserError, name_unknown, quote
from components.shared.files import new_directory
from components.shared.formats import fiftyone, label_studio
from components.shared.formats.examples import ExampleSet
from components.shared.formats.issues import Issue
from components.shared.thumbnails import draw_thumbnails

PICTURE = (400, 400)  # pixels; the most of width and height in Label Studio


def export_issues(tool: str, folder: Path, issues: list[Issue], examples: ExampleSet) -> Path:
    """Writes a folder with images for another tool.

    Args:
        tool: One of TOOLS.
        folder: The new folder.
        issues: What the audit says of the images, best first.
        examples: The images that were audited.

    Returns:
        The folder.

    Raises:
        UserError: There is no such tool, the folder is there, the issues are about other images, or an image cannot be
            decoded.
    """
    if tool not in TOOLS:
        raise UserError(name_unknown("the tool", tool, TOOLS))
    if folder.exists():
        raise UserError(f"{folder}: is there already; move it, or name another folder.")
    _check_images(issues, examples)
    with new_directory(folder) as new:
        TOOLS[tool](new, issues, examples)
    return folder


def _check_images(issues: list[Issue], examples: ExampleSet) -> None:
    """Checks that the issues are about these examples."""
    known = {
        (image.filename, image.sha256, image.class_name)
        for split in examples.manifest.splits
        for image in examples.read(split)
    }
    for issue in issues:
        if (issue.filename, issue.sha256, issue.label) not in known:
            raise UserError(
                f"{quote(issue.filename)} is in the audit, but not in the examples {examples.folder}; name the run that"
                " audited them."
            )


def _write_project(folder: Path, issues: list[Issue], examples: ExampleSet) -> None:
    label_studio.write_project(
        folder,
        issues,
        pictures=draw_thumbnails(examples, {issue.filename for issue in issues}, PICTURE),
        classes=examples.manifest.classes,
        data_version=examples.manifest.data_version,
    )


def _write_dataset(folder: Path, issues: list[Issue], examples: ExampleSet) -> None:
    splits = {issue.split for issue in issues}
    images = (image for split in examples.manifest.splits if split in splits for image in examples.read(split))
    fiftyone.write_dataset(folder, issues, images=images, classes=examples.manifest.classes)


TOOLS: dict[str, Callable[[Path, list[Issue], ExampleSet], None]] = {
    "label-studio": _write_project,
    "fiftyone": _write_dataset,
}
