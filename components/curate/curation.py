"""A data version, what the audit found in it and what people decided -> the next data version."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from components.curate.augmentation import Augmentation, check_augmentation
from components.curate.balance import count_copies, read_hardness
from components.curate.cleaning import check_cleaning
from components.curate.planning import Outcome, Policy, check_policy, plan_outcomes
from components.curate.reading import SourceImage, read_images, read_issues, read_people
from components.curate.report import write_curation_report
from components.curate.writing import Target, name_targets, write_images
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats.changes import Change, write_changes
from components.shared.formats.examples import CURATED_SPLITS, open_examples
from components.shared.formats.manifest import CuratedImage


class Inputs(NamedTuple):
    """Where the inputs are."""

    examples: str
    issues: str
    predictions: str
    decisions_uri: str  # a path or gs://BUCKET/OBJECT; empty if nobody decided anything


class Outputs(NamedTuple):
    """The paths to write to."""

    data: str
    changes: str
    report: str


def curate_examples(
    inputs: Inputs, outputs: Outputs, *, policy: Policy, cleaning: list[str], augmentation: Augmentation
) -> dict[str, int]:
    """Writes the folder of the new version with its manifest.csv, the changes as CSV, and the report.

    Args:
        inputs: the examples of the version before, and what the audit, a model and people say about them.
        outputs: where to write.
        policy: what is done where no person decided.
        cleaning: the operations on each picture of train and val, in this order.
        augmentation: how many images are made from others, and how.

    Returns:
        The number of images relabelled, dropped, moved to another split, and augmented, and those of train and val.

    Raises:
        UserError: a setting is out of range, the issues, decisions or predictions are broken or do not belong to these
            examples, more images are left than `max_images`, or a class has none left.
    """
    check_policy(policy)
    check_cleaning(cleaning)
    check_augmentation(augmentation)
    examples = open_examples(inputs.examples)
    classes = examples.manifest.classes
    images = read_images(examples)
    people = read_people(inputs.decisions_uri, images, classes)
    issues = read_issues(inputs.issues, images, classes)
    outcomes = plan_outcomes(images, issues=issues, people=people, policy=policy, classes=classes)
    copies = _plan_copies(outcomes, images, inputs.predictions, augmentation, classes)
    targets = name_targets(outcomes, copies, cleaning)
    with new_directory(outputs.data) as folder, new_file(outputs.changes) as path:
        curated = write_images(folder, examples, targets, augmentation)
        write_changes(path, (_describe_change(outcome, targets) for outcome in outcomes))
        write_curation_report(outputs.report, examples=examples, outcomes=outcomes, targets=targets, folder=folder)
    return _count(outcomes, curated)


def _plan_copies(
    outcomes: Iterable[Outcome],
    images: list[SourceImage],
    predictions: str,
    augmentation: Augmentation,
    classes: list[str],
) -> dict[str, int]:
    """The number of augmented images by the file name of their source."""
    by_split = {split: [outcome for outcome in outcomes if outcome.split == split] for split in CURATED_SPLITS}
    count = sum(map(len, by_split.values()))
    if count > augmentation.max_images:
        raise UserError(
            f"curation leaves {count:,} images in train and val; max_images allows {augmentation.max_images:,}:"
            f" drop {count - augmentation.max_images:,}."
        )
    if count >= augmentation.augment_to:
        return {}
    hardness = read_hardness(predictions, images, classes)
    wanted = augmentation.augment_to - len(by_split["val"])
    return count_copies(by_split["train"], wanted, hardness, augmentation.hard_weight)


def _describe_change(outcome: Outcome, targets: dict[str, Target]) -> Change:
    image = outcome.image
    return Change(
        filename=image.filename,
        sha256=image.sha256,
        label=image.label,
        new_filename=targets[image.filename].filename if outcome.split else "",
        new_label=outcome.label,
        action=outcome.action,
        decided_by=outcome.decided_by,
        why=outcome.why,
    )


def _count(outcomes: list[Outcome], curated: list[CuratedImage]) -> dict[str, int]:
    splits = Counter(image.filename.partition("/")[0] for image in curated)
    return {
        "relabelled": sum(bool(outcome.split) and outcome.label != outcome.image.label for outcome in outcomes),
        "dropped": sum(not outcome.split for outcome in outcomes),
        "moved": sum(outcome.split not in ("", outcome.image.split) for outcome in outcomes),
        "augmented": len(curated) - sum(bool(outcome.split) for outcome in outcomes),
        "train_images": splits["train"],
        "val_images": splits["val"],
    }
