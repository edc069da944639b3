"""Which images of train and val a person should look at first, and why: issues.csv, the page to decide, a report."""

import shutil
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray

from components.audit.cross_validation import (
    AuditSettings,
    check_least,
    check_settings,
    find_judged_classes,
    judge_images,
)
from components.audit.finished_folds import fetch_verdicts
from components.audit.pictures import is_plain
from components.audit.ranking import AuditedImage, rank_images
from components.audit.reading import JudgedImages, read_images
from components.audit.report import write_audit_report
from components.audit.state import NO_INK, measure_state
from components.shared.beam import make_work_folder
from components.shared.code import hash_code
from components.shared.duplicates import MOST_NEAR, check_content, find_duplicates
from components.shared.errors import UserError, cut
from components.shared.files import find_cache_folder, new_file, scratch_folder
from components.shared.formats.examples import ExamplesManifest, ImageExample, open_examples
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.guideline import list_unexplained, read_guideline
from components.shared.formats.issues import Issue, write_issues
from components.shared.ink import SPECKS, convert_to_gray, crop_ink
from components.shared.review import MOST, draw_pictures, write_review

UNJUDGED = "Its class has too few different images to be judged."


class AuditSummary(NamedTuple):
    """What the audit says about a data version, in figures."""

    data_version: str
    images: int
    doubted: int  # images with an issue
    kinds: Counter[str]  # images by kind of issue
    actions: Counter[str]  # images by suggested action


def audit_examples(
    folder: str,
    settings: AuditSettings,
    *,
    content: str,
    review_size: int,
    gallery_size: int,
    beam_options: list[str],
    verdicts_uris: list[str],
    issues_output: str,
    review_output: str,
    report_output: str,
    examples_uri: str = "",
) -> AuditSummary:
    """Writes issues.csv with a row per image of train and val, the page on which a person decides, and the report.

    Finished folds are kept in the user's cache until everything is written: an audit that was killed continues there.

    Args:
        folder: The examples, as ingest writes them.
        settings: How long and how often the images are judged.
        content: What the images are: ink, pictures, or auto if they are to tell.
        review_size: The most images on the page, those first that are doubted most.
        gallery_size: The most images in a gallery of the report.
        beam_options: Options of Apache Beam, which reads the images, each as --name=value.
        verdicts_uris: The addresses of verdicts that tasks of judge have written; what is missing is judged here.
        issues_output: The path of issues.csv.
        review_output: The path of the page.
        report_output: The path of the report.
        examples_uri: Where workers on other machines find the examples.

    Raises:
        UserError: A setting is out of range, the examples are damaged, or there are too few to judge.
    """
    check_settings(settings)
    check_sizes(review_size, gallery_size)
    check_content(content)
    examples = open_examples(folder)
    manifest = examples.manifest
    guideline = read_guideline(Path(folder, GUIDELINE), manifest.classes)
    with scratch_folder(Path(issues_output).with_name("audit-work")) as scratch:
        kept = scratch / "kept" if verdicts_uris else _choose_work_folder(manifest, settings)
        fetch_verdicts(verdicts_uris, scratch / "kept")
        with make_work_folder(beam_options, scratch) as work:
            print("audit: looking at the images", flush=True)
            read = read_images(
                examples,
                content,
                describe_image,
                beam_options=beam_options,
                examples_uri=examples_uri,
                work=work,
                views=scratch / "views.npy",
            )
        issues, unjudged = audit_images(read, manifest.classes, settings=settings, work=kept)
    with new_file(issues_output) as path:
        write_issues(path, issues)
        doubted = [issue for issue in issues if issue.kinds]
        listed = doubted[:review_size]
        write_review(
            review_output,
            listed,
            pictures=draw_pictures(examples, listed),
            classes=manifest.classes,
            data_version=manifest.data_version,
            left_out=describe_left_out(len(listed), len(doubted)),
            guideline=guideline,
        )
        warnings = [
            *warn_of_unjudged(unjudged),
            *warn_of_duplicates(issues, ink=read.ink),
            *warn_of_unexplained(guideline, manifest.classes),
        ]
        for warning in warnings:
            print(f"audit: {warning}", flush=True)
        write_audit_report(report_output, examples, issues=issues, warnings=warnings, gallery_size=gallery_size)
    shutil.rmtree(kept, ignore_errors=True)  # another audit of the same images may have cleared it
    kinds = Counter(kind for issue in issues for kind in issue.kinds)
    actions = Counter(issue.action for issue in issues if issue.action)
    return AuditSummary(manifest.data_version, len(issues), len(doubted), kinds, actions)


def describe_image(
    split: str, example: ImageExample, picture: NDArray[np.uint8], ink: NDArray[np.bool_] | None
) -> AuditedImage:
    """What is known of an image before it is judged; `ink` is None unless the images are ink on paper."""
    blank, state = is_plain(picture), NO_INK
    if ink is not None:
        blank, state = not crop_ink(ink, SPECKS).size, measure_state(convert_to_gray(picture), ink)
    return AuditedImage(example.sha256, example.filename, split, example.label, blank, state, example.copy_order)


def audit_images(
    read: JudgedImages, classes: list[str], *, settings: AuditSettings, work: Path
) -> tuple[list[Issue], list[str]]:
    """Judges and ranks images.

    Args:
        read: The images, each looked at by describe_image.
        classes: The names of the classes.
        settings: How long and how often the images are judged.
        work: A folder for what is finished.

    Returns:
        A row per image, by rank, and the names of the classes whose labels were not judged.

    Raises:
        UserError: There are too few images to judge.
    """
    images: list[AuditedImage] = read.looks
    duplicates = find_duplicates(read.fingerprints, read.ink)
    is_judged = find_judged_classes(read.labels, duplicates.groups, classes=len(classes), folds=settings.folds)
    verdict = judge_images(read, duplicates.groups, is_judged=is_judged, settings=settings, work=work)
    issues = rank_images(images, verdict, is_judged=is_judged, duplicates=duplicates, classes=classes, ink=read.ink)
    unjudged = {classes[label] for label in np.unique(read.labels[~is_judged[read.labels]])}
    issues = [issue._replace(why=issue.why or UNJUDGED) if issue.label in unjudged else issue for issue in issues]
    return issues, [name for name in classes if name in unjudged]


def describe_left_out(listed: int, doubted: int) -> str:
    """Says which of the doubted images the review page shows, if not all.

    Args:
        listed: The number of those that it shows.
        doubted: The number of all.

    Returns:
        A sentence or two, or nothing.
    """
    if listed == doubted:
        return ""
    more = "" if listed == MOST else f" To see more of them here, audit with a review_size of up to {MOST:,}."
    return f"Here are the {listed:,} images that are doubted most, of {doubted:,}; issues.csv lists all.{more}"


def warn_of_unjudged(classes: list[str]) -> list[str]:
    """Names the classes whose labels were taken as they are.

    Args:
        classes: Their names.

    Returns:
        A sentence, if there are any.
    """
    names = cut(", ".join(classes))
    few = "These classes have too few different images for their labels to be judged"
    return [f"{few}: {names}. Look at their images yourself; issues.csv lists them."] if classes else []


def warn_of_duplicates(issues: list[Issue], *, ink: bool) -> list[str]:
    """Says so if near duplicates are found at a rate that no collection has, since then the measure is wrong for it.

    Args:
        issues: The rows of issues.csv.
        ink: Whether the images were compared as ink on paper.

    Returns:
        A sentence, if there are many.
    """
    near = sum("near_duplicate" in issue.kinds for issue in issues)
    if near <= MOST_NEAR * len(issues):
        return []
    advice = "audit with content=pictures" if ink else "curate with duplicates=keep"
    return [
        f"{near:,} of {len(issues):,} images look like another one saved again or moved, more than collections have, so"
        f" the measure of likeness is probably wrong for them; look at the near duplicates, and if they are different"
        f" pictures, {advice}."
    ]


def warn_of_unexplained(guideline: dict[str, str] | None, classes: list[str]) -> list[str]:
    """Names the classes of which the guideline says nothing.

    Args:
        guideline: The section of each class that has one; None if there is no guideline.
        classes: The names of the classes.

    Returns:
        A sentence, if there are any.
    """
    names = list_unexplained(guideline, classes)
    return [f"{GUIDELINE} has no section on these classes: {cut(', '.join(names))}."] if names else []


def check_sizes(review_size: int, gallery_size: int) -> None:
    """Checks how much the pages are to show.

    Raises:
        UserError: Nothing, or more than a page can.
    """
    check_least("review_size", review_size, 1)
    if review_size > MOST:
        raise UserError(f"review_size is {review_size}; it must be {MOST} or less, and issues.csv lists all images.")
    check_least("gallery_size", gallery_size, 1)


def _choose_work_folder(manifest: ExamplesManifest, settings: AuditSettings) -> Path:
    """A folder in the user's cache: the same for the same images, wherever they are, settings and code."""
    code = hash_code(("components/audit", "components/shared"), ("tensorflow", "keras", "numpy", "scikit-learn"))
    images = replace(manifest, data_uri="", test_data_uri="")
    return find_cache_folder("audit") / str(joblib.hash([asdict(images), settings, code]))
