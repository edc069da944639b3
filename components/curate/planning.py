"""The outcome of each image: people decide first, then the policy; finally, pictures that splits share are removed."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from components.curate.moving import choose_moving
from components.curate.reading import SourceImage
from components.curate.voting import Disagreement, Settlement
from components.shared.errors import UserError, quote
from components.shared.formats.decisions import Decision
from components.shared.formats.examples import CURATED_SPLITS, CopyOrder
from components.shared.formats.issues import Issue

# If the policy would change more than this share of the images, the audit has learned too little to be trusted.
MOST_CHANGED = 0.5
FEW_DROPPED = 5  # images that may be dropped even from a small class, as long as half of it stays
MOVED = 0.2  # share of the training images of a class that is moved to val if val has none of the class


class Policy(NamedTuple):
    """What to do with images about which no person decided. A confidence above 1 is never reached."""

    splits: list[str]  # where the policy acts: train, val, or both
    relabel_confidence: float  # the least confidence of the audit at which its label is taken
    drop_confidence: float  # the least at which images are dropped that it suggests to drop
    doubt_confidence: (
        float  # the least doubt at which images are dropped that it only suggests to look at, or does not doubt
    )
    duplicates: str  # whether all but one image of a group of duplicates are dropped: drop or keep
    most_dropped: float = 0.2  # the largest share of a class in a split that is dropped, besides exact copies
    val_to_train: float = 0.0  # about which share of val moves to train, whatever `splits`
    seed: int = 1  # which part of val stays then


class Outcome(NamedTuple):
    """What becomes of an image."""

    image: SourceImage
    split: str  # of the new version; "" if the image is dropped
    label: str
    decided_by: str = ""  # person, policy, duplicate or split; "" if nothing was decided
    why: str = ""

    @property
    def action(self) -> str:
        """The outcome in one word: dropped, moved, relabelled or kept."""
        if not self.split:
            return "dropped"
        return "moved" if self.is_moved else "relabelled" if self.is_relabelled else "kept"

    @property
    def is_relabelled(self) -> bool:
        """Whether it stays with another label; it may be moved as well."""
        return bool(self.split) and self.label != self.image.label

    @property
    def is_moved(self) -> bool:
        """Whether it stays in another split."""
        return self.split not in ("", self.image.split)

    def drop(self, decided_by: str, why: str) -> "Outcome":
        """Changes the outcome to that of an image that is not in the new version.

        Args:
            decided_by: As the field.
            why: As the field.

        Returns:
            The changed outcome.
        """
        return self._replace(split="", label="", decided_by=decided_by, why=why)


def check_policy(policy: Policy) -> None:
    """Checks the settings.

    Args:
        policy: The settings.

    Raises:
        UserError: A setting is out of range.
    """
    for split in policy.splits:
        if split not in CURATED_SPLITS:
            raise UserError(f"policy_splits has {quote(split)}; it may hold {' and '.join(CURATED_SPLITS)}.")
    for name in ("relabel_confidence", "drop_confidence", "doubt_confidence"):
        if not getattr(policy, name) >= 0:  # nor NaN
            raise UserError(f"{name} is {getattr(policy, name)}; it must be 0 or more.")
    if policy.duplicates not in ("drop", "keep"):
        raise UserError(f"duplicates is {quote(policy.duplicates)}; it must be drop or keep.")
    if not 0 <= policy.most_dropped <= 1:
        raise UserError(f"most_dropped is {policy.most_dropped}; it must be from 0 to 1.")
    if not 0 <= policy.val_to_train < 1:
        raise UserError(f"val_to_train is {policy.val_to_train}; it must be 0 or more and below 1.")


def plan_outcomes(
    images: Iterable[SourceImage],
    *,
    issues: dict[str, Issue],
    people: Settlement,
    policy: Policy,
    classes: list[str],
) -> list[Outcome]:
    """Determines what becomes of each image.

    The policy leaves alone what people leave undecided because they disagree, and all copies and near duplicates of it.

    What moves from val to train counts as train from the start.

    Exact and near duplicates of val images, and exact ones of test images, are dropped from train, so that val and test
    stay uncontaminated. That includes val images that are dropped now, since the models of both versions are compared
    on the val images of the previous version.

    Args:
        images: All images of the data version.
        issues: What the audit says about each image of train and val, by file name.
        people: What people decided.
        policy: What to do with the other images.
        classes: The names of the classes.

    Returns:
        The outcomes, in the order of the file names.

    Raises:
        UserError: The policy would change most images or drop too many of a class, or a class would be left without
            images in train or val.
    """
    images = sorted(images)
    labels = _list_decided_labels(people.decisions)
    disputes = _list_disputes(people)
    group = _group_by_issue(issues)

    moving = _choose_moving(images, policy, group=group, disputes=disputes)
    outcomes = [
        _decide(
            _start(image, moving),
            issues.get(image.filename),
            people=people,
            labels=labels,
            disputes=disputes,
            policy=policy,
        )
        for image in images
    ]
    _check_audit(outcomes, policy, moving)
    outcomes = _separate_from_test(outcomes)
    outcomes = _change_groups(outcomes, group, lambda twins: _separate_from_val(twins, people.decisions))
    if policy.duplicates == "drop":
        outcomes = _change_groups(
            outcomes,
            group,
            lambda twins: _keep_one(twins, issues, people=people.decisions, disputes=disputes, splits=policy.splits),
        )
    _check_dropped(outcomes, issues, policy, moving)
    outcomes = _fill_val(outcomes, group, classes, disputes)
    return [_tell_moved(outcome, policy) if outcome.image.filename in moving else outcome for outcome in outcomes]


def _list_decided_labels(people: dict[str, Decision]) -> dict[str, str]:
    """Returns the labels that people decided on by sha256, since copies of one picture have one label.

    Where people left open in an earlier turn which one that is, copies keep several, which say nothing about another.
    """
    labels = defaultdict[str, set[str]](set)
    for person in people.values():
        if person.outcome:
            labels[person.sha256].add(person.outcome)
    return {sha256: label for sha256, (label, *others) in labels.items() if not others}


def _list_disputes(people: Settlement) -> dict[str, Disagreement]:
    """Returns what people leave undecided by sha256, since who doubts one copy of a picture doubts the others."""
    return {next(iter(each.decisions.values())).sha256: each for each in people.undecided.values()}


def _choose_moving(
    images: list[SourceImage],
    policy: Policy,
    *,
    group: Callable[[SourceImage], str],
    disputes: Mapping[str, Disagreement],
) -> set[str]:
    if not policy.val_to_train:
        return set()
    return choose_moving(images, share=policy.val_to_train, seed=policy.seed, group=group, disputed=disputes.keys())


def _start(image: SourceImage, moving: Collection[str]) -> Outcome:
    return Outcome(image, "train" if image.filename in moving else image.split, image.label)


def _tell_moved(outcome: Outcome, policy: Policy) -> Outcome:
    """Says why an image has moved, if it is still there."""
    if not outcome.is_moved:
        return outcome
    why = f"{outcome.why} It is of the share of val that moves to train, {policy.val_to_train:g}.".strip()
    return outcome._replace(decided_by=outcome.decided_by or "split", why=why)


def _decide(
    outcome: Outcome,
    issue: Issue | None,
    *,
    people: Settlement,
    labels: dict[str, str],
    disputes: dict[str, Disagreement],
    policy: Policy,
) -> Outcome:
    """Decides as people did, about the image or a copy of it, or else as the policy says."""
    image = outcome.image
    if issue is None:  # an image of test
        return outcome
    if decision := people.decisions.get(image.filename):
        why = people.explain(image.filename)
        if not decision.outcome:
            return outcome.drop("person", why)
        return outcome._replace(label=decision.outcome, decided_by="person", why=why)
    if image.sha256 in labels:
        return outcome._replace(label=labels[image.sha256], decided_by="person", why="As decided for a copy of it.")
    if dispute := people.disagreements.get(image.filename) or disputes.get(image.sha256):
        return outcome._replace(why=dispute.why)
    return _apply_policy(outcome, issue, policy) if outcome.split in policy.splits else outcome


def _apply_policy(outcome: Outcome, issue: Issue, policy: Policy) -> Outcome:
    if issue.action == "relabel" and issue.confidence >= policy.relabel_confidence:
        return outcome._replace(label=issue.new_label, decided_by="policy", why=issue.why)
    action = "" if issue.is_for_people else issue.action
    thresholds = {"drop": policy.drop_confidence, "look": policy.doubt_confidence}
    if issue.confidence >= thresholds.get(action, math.inf):
        return outcome.drop("policy", issue.why)
    # A stricter policy than the audit, which says to look at an image from a doubt of 0.7 on.
    probability = issue.label_probability
    is_doubted = probability is not None and 1 - probability > policy.doubt_confidence
    if is_doubted and action in ("", "keep_one"):
        return outcome.drop("policy", f"That it is {outcome.label} has a probability of {probability:.2f} alone.")
    return outcome


def _check_audit(outcomes: list[Outcome], policy: Policy, moving: Collection[str]) -> None:
    audited = [outcome for outcome in outcomes if _start(outcome.image, moving).split in policy.splits]
    changed = sum(outcome.decided_by == "policy" for outcome in audited)
    if changed > MOST_CHANGED * len(audited):
        raise UserError(
            f"the policy would relabel or drop {changed:,} of the {len(audited):,} images of"
            f" {' and '.join(policy.splits)}, so the audit has learned too little; audit with more epochs, or raise the"
            " confidences of the policy."
        )


def _check_dropped(outcomes: list[Outcome], issues: dict[str, Issue], policy: Policy, moving: Collection[str]) -> None:
    """Checks that few images of each class are dropped that no person decided about; exact copies do not count."""

    def count_classes(chosen: Iterable[Outcome]) -> Counter[tuple[str, str]]:
        return Counter((_start(outcome.image, moving).split, outcome.image.label) for outcome in chosen)

    images = count_classes(outcomes)
    dropped = count_classes(outcome for outcome in outcomes if _is_doubtful_drop(outcome, issues))
    for (split, label), count in sorted(dropped.items()):
        of_class = images[split, label]
        always = min(FEW_DROPPED, of_class // 2) if policy.most_dropped else 0
        if count > max(policy.most_dropped * of_class, always):
            raise UserError(
                f"the policy would drop {count:,} of the {of_class:,} images of the class {label} in"
                f" {split}, more than most_dropped allows, {policy.most_dropped}; decide about them on the review page,"
                " raise the confidences of the policy, keep duplicates with duplicates=keep, or raise most_dropped."
            )


def _is_doubtful_drop(outcome: Outcome, issues: dict[str, Issue]) -> bool:
    if outcome.split or outcome.decided_by not in ("policy", "duplicate"):
        return False
    return outcome.decided_by == "policy" or "near_duplicate" in issues[outcome.image.filename].kinds


def _separate_from_test(outcomes: list[Outcome]) -> list[Outcome]:
    test = {outcome.image.sha256: outcome.image.filename for outcome in outcomes if outcome.split == "test"}
    return [
        outcome.drop("duplicate", f"The same file is in test: {test[outcome.image.sha256]}.")
        if outcome.split == "train" and outcome.image.sha256 in test
        else outcome
        for outcome in outcomes
    ]


def _group_by_issue(issues: dict[str, Issue]) -> Callable[[SourceImage], str]:
    """Returns a function that names the group of duplicates of an image, which may be the only one in its group."""

    def name_group(image: SourceImage) -> str:
        group = issues[image.filename].group
        return image.sha256 if group is None else str(group)

    return name_group


def _change_groups(
    outcomes: list[Outcome], group: Callable[[SourceImage], str], change: Callable[[list[Outcome]], list[Outcome]]
) -> list[Outcome]:
    """Changes the outcomes of each group of duplicates in train and val."""
    groups = defaultdict(list)
    for outcome in outcomes:
        if outcome.image.split in CURATED_SPLITS:
            groups[group(outcome.image)].append(outcome)
    changed = {outcome.image: outcome for twins in groups.values() if len(twins) > 1 for outcome in change(twins)}
    return [changed.get(outcome.image, outcome) for outcome in outcomes]


def _separate_from_val(twins: list[Outcome], people: dict[str, Decision]) -> list[Outcome]:
    """Drops the training images of a group of which some are in val.

    If people dropped all of those in val, training images that people decided about stay.
    """
    val = [twin for twin in twins if twin.image.split == "val"]
    if not val:
        return twins
    is_freed = all(twin.decided_by == "person" and not twin.split for twin in val)
    why = f"The same picture is in val: {val[0].image.filename}."
    return [
        twin.drop("duplicate", why)
        if twin.image.split == twin.split == "train" and not (is_freed and twin.image.filename in people)
        else twin
        for twin in twins
    ]


def _keep_one(
    twins: list[Outcome],
    issues: dict[str, Issue],
    *,
    people: dict[str, Decision],
    disputes: Mapping[str, Disagreement],
    splits: list[str],
) -> list[Outcome]:
    """Drops all but one of the remaining images of a group; images that a person keeps stay, and disputed groups."""
    left = [twin for twin in twins if twin.split in splits]
    if len(left) < 2 or any(twin.image.sha256 in disputes for twin in left):
        return twins
    conflicting = len({twin.label for twin in left}) > 1

    def rank(twin: Outcome) -> tuple[bool, float, CopyOrder, str]:
        filename = twin.image.filename
        likely = issues[filename].probabilities.get(twin.label, 0.0) if conflicting else 0.0
        return (filename not in people, -likely, twin.image.copy_order, filename)

    best = min(left, key=rank)
    why = f"{best.image.filename} is the same picture{', as ' + best.label if conflicting else ''}."
    return [
        twin.drop("duplicate", why) if twin in left and twin is not best and twin.image.filename not in people else twin
        for twin in twins
    ]


def _fill_val(
    outcomes: list[Outcome], group: Callable[[SourceImage], str], classes: list[str], disputes: Collection[str]
) -> list[Outcome]:
    """Moves some training images to val for each class of which val has none."""
    for name in classes:
        if not any((outcome.split, outcome.label) == ("val", name) for outcome in outcomes):
            outcomes = _move_to_val(outcomes, group, name, disputes)
    counts = Counter((outcome.split, outcome.label) for outcome in outcomes)
    for name in classes:
        for split in CURATED_SPLITS:
            if not counts[split, name]:
                raise UserError(
                    f"curation would leave no image of the class {name} in {split}; add images of it, decide"
                    " differently about those there are, or raise the confidences of the policy."
                )
    return outcomes


def _move_to_val(
    outcomes: list[Outcome], group: Callable[[SourceImage], str], name: str, disputes: Collection[str]
) -> list[Outcome]:
    """Moves whole groups of duplicates, those with the smallest hash first, and leaves one group in train.

    What people disagree about stays in train.
    """

    def is_disputed(twins: list[Outcome]) -> bool:
        return any(twin.image.sha256 in disputes for twin in twins)

    groups = defaultdict(list)
    for outcome in outcomes:
        if outcome.split == "train":
            groups[group(outcome.image)].append(outcome)
    candidates = [twins for twins in groups.values() if any(twin.label == name for twin in twins)]
    candidates.sort(key=lambda twins: (is_disputed(twins), min(twin.image.sha256 for twin in twins)))
    wanted = MOVED * sum(twin.label == name for twins in candidates for twin in twins)
    moved: dict[SourceImage, Outcome] = {}
    for twins in candidates[:-1]:
        if is_disputed(twins) or sum(outcome.label == name for outcome in moved.values()) >= wanted:
            break
        for twin in twins:
            why = f"{twin.why} val had no {name} left.".strip()
            moved[twin.image] = twin._replace(split="val", decided_by=twin.decided_by or "split", why=why)
    return [moved.get(outcome.image, outcome) for outcome in outcomes]
