"""Curation: makes the next data version from a data version, its audit, and what people decided about its images."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from components.curate.agreement import measure_agreement
from components.curate.augmentation import Augmentation, check_augmentation
from components.curate.balance import count_copies, read_hardness
from components.curate.cleaning import check_cleaning
from components.curate.content import look_at_images
from components.curate.moving import LEAST_OF_CLASS
from components.curate.planning import Outcome, Policy, check_policy, plan_outcomes
from components.curate.reading import SourceImage, read_images, read_issues, read_reviews
from components.curate.report import write_curation_report
from components.curate.voting import Settlement, Voting, check_voting, let_earlier_yield, settle_decisions
from components.curate.writing import ImageTarget, name_targets, write_images
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats.changes import Change, write_changes
from components.shared.formats.decisions import SETTLED, Decision, check_deciding_reviewer
from components.shared.formats.examples import CURATED_SPLITS, ExampleSet, open_examples
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.guideline import copy_guideline, read_guideline
from components.shared.formats.issues import Issue
from components.shared.formats.manifest import CuratedImage
from components.shared.review import MOST, draw_pictures, write_review


class CurationInputs(NamedTuple):
    """The paths of the inputs."""

    examples: str
    issues: str
    predictions: str
    decisions_uris: Mapping[str, str]  # a path or gs://BUCKET/OBJECT by the name of the person who decided
    examples_uri: str = ""  # where workers on other machines find the examples


class CurationOutputs(NamedTuple):
    """The paths of the outputs."""

    data: str  # a folder
    changes: str  # a CSV file
    disputed: str  # an HTML file
    report: str  # an HTML file


def curate_examples(
    inputs: CurationInputs,
    outputs: CurationOutputs,
    *,
    voting: Voting,
    policy: Policy,
    cleaning: list[str],
    augmentation: Augmentation,
    beam_options: list[str],
) -> dict[str, int]:
    """Writes the folder of the new version with its manifest.csv, the changes as CSV, and the pages.

    Args:
        inputs: The examples of the previous version, and what the audit, a model and people say about them.
        outputs: Where to write.
        voting: What counts where people disagree.
        policy: What to do with the images about which no person decided.
        cleaning: The operations on each picture of train and val, in the order in which they are applied.
        augmentation: How many images are made from others, and how.
        beam_options: Options of Apache Beam, which writes the images, each as --name=value.

    Returns:
        The numbers of images relabelled, dropped, moved to another split, and augmented, and those of train and val; of
        several people also the numbers of images about which they disagree, and which that leaves undecided.

    Raises:
        UserError: A setting is out of range, the issues, decisions or predictions are broken or do not belong to these
            examples, more images are left than `max_images`, or a class has none left.
    """
    check_policy(policy)
    check_cleaning(cleaning)
    if cleaning and policy.val_to_train:
        raise UserError(
            "cleaning and val_to_train are given together, but cleaning changes the bytes by which a comparison knows"
            " the images that have moved to train; clean in one version and move in the next."
        )
    check_augmentation(augmentation)
    check_voting(voting)
    examples = open_examples(inputs.examples)
    classes = examples.manifest.classes
    images = read_images(examples)
    reviews = let_earlier_yield(read_reviews(inputs.decisions_uris, images, classes))
    check_deciding_reviewer(voting.deciding_reviewer, reviews)
    people = settle_decisions(reviews, voting)
    issues = read_issues(inputs.issues, images, classes)
    outcomes = plan_outcomes(images, issues=issues, people=people, policy=policy, classes=classes)
    copies = _plan_copies(outcomes, images, predictions=inputs.predictions, augmentation=augmentation, classes=classes)
    if copies:
        augmentation = look_at_images(examples, images, augmentation)
    targets = name_targets(outcomes, copies, cleaning)
    with new_directory(outputs.data) as folder, new_file(outputs.changes) as path:
        curated = write_images(
            folder,
            examples,
            targets=targets,
            augmentation=augmentation,
            beam_options=beam_options,
            examples_uri=inputs.examples_uri,
        )
        copy_guideline(Path(examples.folder, GUIDELINE), folder, classes)
        write_changes(path, (_describe_change(outcome, targets) for outcome in outcomes))
        settled = reviews.get(SETTLED, {}).values()
        _write_disputed(outputs.disputed, examples, people=people, issues=issues, settled=settled)
        left = [
            *describe_moved(outcomes, policy),
            *describe_undecided(outcomes, issues, people),
            *describe_disputed(people),
        ]
        write_curation_report(
            outputs.report,
            examples=examples,
            outcomes=outcomes,
            targets=targets,
            folder=folder,
            left=left,
            people=people,
            agreement=measure_agreement(reviews, issues, classes),
            voting=voting,
            hard_weight=augmentation.hard_weight,
        )
    for sentence in left:
        print(f"curate: {sentence}", flush=True)
    disputes = {"disagreements": len(people.disagreements), "undecided": len(people.undecided)}
    return _count(outcomes, curated) | (disputes if len(reviews) > 1 else {})


def describe_moved(outcomes: Iterable[Outcome], policy: Policy) -> list[str]:
    """Says how many images move from val to train, if any may."""
    if not policy.val_to_train:
        return []
    val = [outcome for outcome in outcomes if outcome.image.split == "val"]
    moved = sum(outcome.is_moved for outcome in val)
    return [
        f"Images that move to train: {moved:,} of the {len(val):,} of val. At least {LEAST_OF_CLASS} of each class, or"
        " all there are, are left there by the move, before images are dropped; so are those with a near duplicate, or"
        " with a copy in train or test."
    ]


def describe_undecided(outcomes: Iterable[Outcome], issues: dict[str, Issue], people: Settlement) -> list[str]:
    """Says how many images the audit doubts that neither a person nor the policy has decided about, if any."""
    doubted = Counter(
        outcome.split
        for outcome in outcomes
        if outcome.decided_by in ("", "split")
        and outcome.image.filename not in people.disagreements
        and outcome.image.filename in issues
        and issues[outcome.image.filename].action in ("relabel", "drop", "look")
    )
    if not doubted:
        return []
    count = " and ".join(f"{doubted[split]:,} of {split}" for split in CURATED_SPLITS if doubted[split])
    return [f"Doubted images that stay as they are until a person decides on the review page: {count}."]


def describe_disputed(people: Settlement) -> list[str]:
    """Says how many images stay as they are because people disagree, if any."""
    count = len(people.undecided)
    if not count:
        return []
    return [f"Images that people leave undecided because they disagree: {count:,}; the page disputed asks again."]


def _write_disputed(
    output: str, examples: ExampleSet, *, people: Settlement, issues: Mapping[str, Issue], settled: Iterable[Decision]
) -> None:
    """Writes the page on which a person decides what people leave undecided; empty if that is nothing.

    Its file takes the place of the one that such a page saved before, so it has what that one settled as well.
    """
    disputes = {filename: each.decisions for filename, each in people.undecided.items()}
    if not disputes:
        with new_file(output) as path:
            path.touch()
        return
    asked = sorted(issues[filename] for filename in disputes)  # by their ranks
    listed = asked[:MOST]
    rest = (
        f"Here are the first {MOST:,} disputed images, of {len(asked):,}; the next page asks about those that are left."
    )
    write_review(
        output,
        listed,
        pictures=draw_pictures(examples, listed),
        classes=examples.manifest.classes,
        data_version=examples.manifest.data_version,
        left_out=rest if len(listed) < len(asked) else "",
        guideline=read_guideline(Path(examples.folder, GUIDELINE), examples.manifest.classes),
        disputes=disputes,
        settled=settled,
    )


def _plan_copies(
    outcomes: Iterable[Outcome],
    images: list[SourceImage],
    *,
    predictions: str,
    augmentation: Augmentation,
    classes: list[str],
) -> dict[str, int]:
    """Returns the number of augmented images by the file name of their source."""
    by_split = {split: [outcome for outcome in outcomes if outcome.split == split] for split in CURATED_SPLITS}
    count = sum(map(len, by_split.values()))
    if count > augmentation.max_images:
        raise UserError(
            f"curation leaves {count:,} images in train and val, but max_images allows {augmentation.max_images:,}; "
            f"drop {count - augmentation.max_images:,}."
        )
    before = sum(image.split == "train" for image in images)
    before += sum(outcome.is_moved for outcome in by_split["train"])
    wanted = augmentation.count_wanted(before, len(by_split["val"]))
    if count >= wanted:
        return {}
    hardness = read_hardness(predictions, outcomes, classes)
    wanted -= len(by_split["val"])
    return count_copies(by_split["train"], wanted, hardness=hardness, hard_weight=augmentation.hard_weight)


def _describe_change(outcome: Outcome, targets: dict[str, ImageTarget]) -> Change:
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
        "relabelled": sum(outcome.is_relabelled for outcome in outcomes),
        "dropped": sum(not outcome.split for outcome in outcomes),
        "moved": sum(outcome.is_moved for outcome in outcomes),
        "augmented": len(curated) - sum(bool(outcome.split) for outcome in outcomes),
        "train_images": splits["train"],
        "val_images": splits["val"],
    }
