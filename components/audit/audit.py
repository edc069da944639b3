"""Which images of train and val a person should look at first, and why: issues.csv."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.audit.duplicates import Print, find_duplicates, fingerprint
from components.audit.judging import Settings, judged
from components.audit.pictures import ink, views
from components.audit.ranking import COLUMNS, Described, ranked
from components.audit.report import kinds_of, write_audit_report
from components.audit.review import write_review
from components.shared.errors import UserError
from components.shared.files import new_file
from components.shared.formats import examples as ex

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val")  # test is never audited: it only measures


class Images(NamedTuple):
    described: list[Described]
    views: "np.ndarray"  # uint8 [images, views, side, side]
    prints: list[Print]


def audit_examples(
    examples: str,
    settings: Settings,
    review_size: int,
    gallery_size: int,
    issues_output: str,
    review_output: str,
    report_output: str,
) -> dict[str, Any]:
    """Writes issues.csv, a row per image of train and val, those to look at first on top; the page on which a person
    decides about the first `review_size` of the doubted ones; and the report, with `gallery_size` images per gallery.

    Finished folds are kept in the user's cache until all is written: an audit that was killed continues there.

    Returns:
        The data version, the number of images, and of images by kind of issue and by action.

    Raises:
        UserError: a setting is out of range, the examples are damaged, or there are too few to judge.
    """
    check(settings, review_size, gallery_size)
    manifest = ex.read_manifest(examples)
    images = read_images(examples, manifest)
    work = _kept_folds(manifest, settings)
    rows = audit_images(images, manifest["classes"], settings, work)
    with new_file(issues_output) as path:
        write_issues(rows, path)
        doubted = [row for row in rows if row["kinds"]][:review_size]
        pictures = ((name, _encoded(example)) for _, name, example in _audited(examples, manifest))
        write_review(review_output, doubted, pictures, manifest["classes"], manifest["data_version"])
        write_audit_report(report_output, examples, manifest, rows, gallery_size)
    shutil.rmtree(work, ignore_errors=True)  # another audit of the same images may have cleared it
    return {
        "data_version": manifest["data_version"],
        "images": len(rows),
        "kinds": Counter(kind for row in rows for kind in kinds_of(row)),
        "actions": Counter(row["action"] for row in rows if row["action"]),
    }


def audit_images(images: Images, classes: list[str], settings: Settings, work: Path) -> list[dict[str, Any]]:
    """The rows of issues.csv; `work` is a folder for what is finished.

    Raises:
        UserError: there are too few images to judge, or `work` cannot be made.
    """
    import numpy as np

    labels = np.array([image.label for image in images.described])
    duplicates = find_duplicates([image.sha256 for image in images.described], images.prints)
    _check_enough(labels, duplicates.groups, classes, settings.folds)
    verdict = judged(images.views, labels, duplicates.groups, len(classes), settings, work)
    return ranked(images.described, verdict, duplicates, classes)


def read_images(folder: str, manifest: dict[str, Any]) -> Images:
    """The images of train and val; in memory is only their ink, 5 KiB each.

    Raises:
        UserError: there is none.
    """
    import numpy as np

    described, pictures, prints = [], [], []
    for split, filename, example in _audited(folder, manifest):
        found = ink(_encoded(example))
        label = example.features.feature[ex.LABEL].int64_list.value[0]
        described.append(Described(ex.text(example, ex.SHA256), filename, split, label, not found.any()))
        pictures.append(views(found))
        prints.append(fingerprint(found))
    if not described:
        raise UserError(f"{folder}: no image in train or val to audit; rerun ingest on a folder with train/ or val/.")
    return Images(described, np.stack(pictures), prints)


def _audited(folder: str, manifest: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yields the split, the file name and the tf.train.Example of each image to audit.

    One that was made of another image here is not: it is made anew when that has changed.
    """
    for split in SPLITS:
        if split in manifest["splits"]:
            for example in ex.read_examples(ex.shard_paths(folder, manifest, split)):
                filename = ex.text(example, ex.FILENAME)
                if not ex.is_augmented(filename):
                    yield split, filename, example


def _encoded(example: Any) -> bytes:
    return example.features.feature[ex.ENCODED].bytes_list.value[0]


def write_issues(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def check(settings: Settings, review_size: int, gallery_size: int) -> None:
    """Raises a UserError if a setting is out of range."""
    given = {**settings._asdict(), "review_size": review_size, "gallery_size": gallery_size}
    for name, least in (("folds", 2), ("repeats", 1), ("epochs", 1), ("review_size", 1), ("gallery_size", 1)):
        if given[name] < least:
            raise UserError(f"{name} is {given[name]}; it must be {least} or more.")
    if not 0 <= settings.seed < 2**31:
        raise UserError(f"seed is {settings.seed}; it must be from 0 to 2147483647.")


def _check_enough(labels: "np.ndarray", groups: "np.ndarray", classes: list[str], folds: int) -> None:
    for label, name in enumerate(classes):
        different = len(set(groups[labels == label]))
        if different < folds:
            raise UserError(
                f"the class {name} has {different} different images in train and val, fewer than the {folds} folds; "
                "add images, or audit with fewer folds."
            )


def _kept_folds(manifest: dict[str, Any], settings: Settings) -> Path:
    """A folder in the user's cache: the same for the same images, settings and code."""
    import joblib

    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return Path.home() / ".cache/audit" / joblib.hash([manifest, settings, code])
