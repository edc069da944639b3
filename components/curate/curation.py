"""A data version, what the audit found in it and what people decided -> the next data version."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.curate import augmentation as augmenting
from components.curate import cleaning as cleaner
from components.curate import planning
from components.curate.augmentation import Augmentation
from components.curate.balance import copies, read_hardness
from components.curate.planning import Outcome, Policy
from components.curate.reading import CURATED, Image, read_images, read_issues, read_people
from components.curate.report import write_curation_report
from components.curate.writing import Target, targets, write_images
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import examples as ex

CHANGES = ("filename", "sha256", "label", "new_filename", "new_label", "action", "decided_by", "why")


def curate_examples(
    examples: str,
    issues: str,
    predictions: str,
    decisions_uri: str,
    policy: Policy,
    cleaning: list[str],
    augmentation: Augmentation,
    data_output: str,
    changes_output: str,
    report_output: str,
) -> dict[str, int]:
    """Writes the folder of the new version with its manifest.csv, the changes as CSV, and the report.

    Returns:
        The number of images relabelled, dropped, moved to another split, and augmented, and those of train and val.

    Raises:
        UserError: a setting is out of range, the issues, decisions or predictions are not of these examples or are
            broken, more images are left than `max_images`, or a class has none left.
    """
    planning.check(policy)
    cleaner.check(cleaning)
    augmenting.check(augmentation)
    manifest = ex.read_manifest(examples)
    classes = manifest["classes"]
    images = read_images(examples, manifest)
    people = read_people(decisions_uri, images, classes)
    outcomes = planning.plan(images, read_issues(issues, images, classes), people, policy, classes)
    numbers = _copies(outcomes, images, predictions, augmentation, classes)
    found = targets(outcomes, numbers, cleaning)
    with new_directory(data_output) as folder, new_file(changes_output) as path:
        rows = write_images(folder, examples, manifest, found, augmentation)
        _write_changes(path, outcomes, found)
        write_curation_report(report_output, examples, manifest, outcomes, found, folder)
    return _counts(outcomes, [row["filename"] for row in rows])


def _copies(
    outcomes: Iterable[Outcome], images: list[Image], predictions: str, augmentation: Augmentation, classes: list[str]
) -> dict[str, int]:
    """The number of augmented images by the file name of their source."""
    by_split = {split: [outcome for outcome in outcomes if outcome.split == split] for split in CURATED}
    count = sum(map(len, by_split.values()))
    if count > augmentation.max_images:
        raise UserError(
            f"curation leaves {count:,} images in train and val; max_images allows {augmentation.max_images:,}:"
            f" drop {count - augmentation.max_images:,}."
        )
    if count >= augmentation.augment_to:
        return {}
    hardness = read_hardness(predictions, images, classes)
    return copies(by_split["train"], augmentation.augment_to - len(by_split["val"]), hardness, augmentation.hard_weight)


def _write_changes(path: Path, outcomes: Iterable[Outcome], found: dict[str, Target]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CHANGES)
        writer.writeheader()
        for outcome in outcomes:
            image = outcome.image
            new_filename = found[image.filename].filename if outcome.split else ""
            cells = (image.filename, image.sha256, image.label, new_filename, outcome.label)
            said = (outcome.action, outcome.decided_by, outcome.why)
            writer.writerow(dict(zip(CHANGES, (*cells, *said), strict=True)))


def _counts(outcomes: list[Outcome], filenames: list[str]) -> dict[str, int]:
    splits: Counter[Any] = Counter(filename.partition("/")[0] for filename in filenames)
    return {
        "relabelled": sum(bool(outcome.split) and outcome.label != outcome.image.label for outcome in outcomes),
        "dropped": sum(not outcome.split for outcome in outcomes),
        "moved": sum(outcome.split not in ("", outcome.image.split) for outcome in outcomes),
        "augmented": len(filenames) - sum(bool(outcome.split) for outcome in outcomes),
        "train_images": splits["train"],
        "val_images": splits["val"],
    }
