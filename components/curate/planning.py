"""What becomes of each image: by people's decisions, then by the policy, then so that no two splits share a picture."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from components.curate.decisions import Decision
from components.curate.reading import CURATED, Image, Issue
from components.shared.errors import UserError

DOUBTED = 0.5  # largest share of its images that a policy may change: an audit that finds more has learned too little
MOVED = 0.2  # share of a class's training images that goes to val if that has none


class Policy(NamedTuple):
    """What is done where no person decided. Confidences are the audit's; a threshold above 1 is never reached."""

    splits: list[str]
    relabel_confidence: float
    drop_confidence: float
    doubt_confidence: float  # to drop what the audit only says to look at
    duplicates: str  # drop or keep


class Outcome(NamedTuple):
    image: Image
    split: str  # of the new version; "" if the image is dropped
    label: str
    decided_by: str = ""  # person, policy, duplicate or split; "" if nothing was decided
    why: str = ""

    @property
    def action(self) -> str:
        if not self.split:
            return "dropped"
        if self.split != self.image.split:
            return "moved"
        return "relabelled" if self.label != self.image.label else "kept"

    def dropped(self, decided_by: str, why: str) -> "Outcome":
        return self._replace(split="", label="", decided_by=decided_by, why=why)


def check(policy: Policy) -> None:
    """Raises a UserError if a setting is out of range."""
    for split in policy.splits:
        if split not in CURATED:
            raise UserError(f"policy_splits has {split!r}; it may hold {' and '.join(CURATED)}.")
    for name in ("relabel_confidence", "drop_confidence", "doubt_confidence"):
        if not getattr(policy, name) >= 0:  # nor NaN
            raise UserError(f"{name} is {getattr(policy, name)}; it must be 0 or more.")
    if policy.duplicates not in ("drop", "keep"):
        raise UserError(f"duplicates is {policy.duplicates!r}; it must be drop or keep.")


def plan(
    images: Iterable[Image], issues: dict[str, Issue], people: dict[str, Decision], policy: Policy, classes: list[str]
) -> list[Outcome]:
    """The outcome of each image, in the order of their file names.

    `issues` and `people` have file names as keys; an image that differs from its twin in another split by nothing, or
    by its place on the page, leaves train, so that a model can be measured on val and test, those before curation too.

    Raises:
        UserError: the policy would change most images, or a class would be left without images in train or val.
    """
    by_name = sorted(images)
    labels = {
        person.sha256: person.new_label or person.label for person in people.values() if person.decision != "drop"
    }
    outcomes = [_decided(image, issues.get(image.filename), people, labels, policy) for image in by_name]
    _check_audit(outcomes, policy)
    outcomes = _apart_from_test(outcomes)
    group = _grouping(issues)
    outcomes = _by_group(outcomes, group, lambda twins: _apart_from_val(twins, people))
    if policy.duplicates == "drop":
        outcomes = _by_group(outcomes, group, lambda twins: _one_of_each(twins, issues, people, policy.splits))
    return _represented(outcomes, group, classes)


def _decided(
    image: Image, issue: Issue | None, people: dict[str, Decision], labels: dict[str, str], policy: Policy
) -> Outcome:
    """`labels` is what people call the pictures with these bytes: copies of one picture have one label."""
    outcome = Outcome(image, image.split, image.label)
    if issue is None:  # test
        return outcome
    if image.filename in people:
        decision = people[image.filename]
        if decision.decision == "drop":
            return outcome.dropped("person", "")
        return outcome._replace(label=decision.new_label or image.label, decided_by="person")
    if image.sha256 in labels:
        return outcome._replace(label=labels[image.sha256], decided_by="person", why="As decided for a copy of it.")
    return _by_policy(outcome, issue, policy) if image.split in policy.splits else outcome


def _by_policy(outcome: Outcome, issue: Issue, policy: Policy) -> Outcome:
    if issue.action == "relabel" and issue.confidence >= policy.relabel_confidence:
        return outcome._replace(label=issue.new_label, decided_by="policy", why=issue.why)
    thresholds = {"drop": policy.drop_confidence, "look": policy.doubt_confidence}
    if issue.confidence >= thresholds.get(issue.action, math.inf):
        return outcome.dropped("policy", issue.why)
    return outcome


def _check_audit(outcomes: list[Outcome], policy: Policy) -> None:
    judged = [outcome for outcome in outcomes if outcome.image.split in policy.splits]
    changed = sum(outcome.decided_by == "policy" for outcome in judged)
    if changed > DOUBTED * len(judged):
        raise UserError(
            f"the policy would relabel or drop {changed:,} of the {len(judged):,} images of"
            f" {' and '.join(policy.splits)}: the audit has learned too little; audit with more epochs, or raise the"
            " policy's confidences."
        )


def _apart_from_test(outcomes: list[Outcome]) -> list[Outcome]:
    test = {outcome.image.sha256: outcome.image.filename for outcome in outcomes if outcome.split == "test"}
    return [
        outcome.dropped("duplicate", f"The same file is in test: {test[outcome.image.sha256]}.")
        if outcome.split == "train" and outcome.image.sha256 in test
        else outcome
        for outcome in outcomes
    ]


def _grouping(issues: dict[str, Issue]) -> Callable[[Outcome], str]:
    """The group of duplicates that an image belongs to, perhaps alone."""
    return lambda outcome: issues[outcome.image.filename].group or outcome.image.sha256


def _by_group(
    outcomes: list[Outcome], group: Callable[[Outcome], str], change: Callable[[list[Outcome]], list[Outcome]]
) -> list[Outcome]:
    """The outcomes after a change of each group of duplicates in train and val."""
    groups = defaultdict(list)
    for outcome in outcomes:
        if outcome.image.split in CURATED:
            groups[group(outcome)].append(outcome)
    changed = {outcome.image: outcome for twins in groups.values() if len(twins) > 1 for outcome in change(twins)}
    return [changed.get(outcome.image, outcome) for outcome in outcomes]


def _apart_from_val(twins: list[Outcome], people: dict[str, Decision]) -> list[Outcome]:
    """Without the training images, if one is in val. A person may decide for them: drop those of val, keep those."""
    val = [twin for twin in twins if twin.image.split == "val"]
    if not val:
        return twins
    gone = all(twin.decided_by == "person" and not twin.split for twin in val)
    why = f"The same picture is in val: {val[0].image.filename}."
    return [
        twin.dropped("duplicate", why)
        if twin.split == "train" and not (gone and twin.image.filename in people)
        else twin
        for twin in twins
    ]


def _one_of_each(
    twins: list[Outcome], issues: dict[str, Issue], people: dict[str, Decision], splits: list[str]
) -> list[Outcome]:
    """Without what is left of them but one; what a person keeps stays."""
    left = [twin for twin in twins if twin.split in splits]
    if len(left) < 2:
        return twins
    conflicting = len({twin.label for twin in left}) > 1

    def order(twin: Outcome) -> tuple[bool, float, int]:
        issue = issues[twin.image.filename]
        likely = issue.probabilities.get(twin.label, 0.0) if conflicting else 0.0
        return (twin.image.filename not in people, -likely, issue.rank)

    best = min(left, key=order)
    why = f"{best.image.filename} is the same picture{', as ' + best.label if conflicting else ''}."
    return [
        twin.dropped("duplicate", why)
        if twin in left and twin is not best and twin.image.filename not in people
        else twin
        for twin in twins
    ]


def _represented(outcomes: list[Outcome], group: Callable[[Outcome], str], classes: list[str]) -> list[Outcome]:
    """With some training images moved to val for each class that val has none of."""
    for name in classes:
        if not any((outcome.split, outcome.label) == ("val", name) for outcome in outcomes):
            outcomes = _moved(outcomes, group, name)
    counts = Counter((outcome.split, outcome.label) for outcome in outcomes)
    for name in classes:
        for split in CURATED:
            if not counts[split, name]:
                raise UserError(
                    f"curation would leave no image of the class {name} in {split}; add images of it, decide otherwise"
                    " about those there are, or let the policy act later."
                )
    return outcomes


def _moved(outcomes: list[Outcome], group: Callable[[Outcome], str], name: str) -> list[Outcome]:
    """Whole groups of duplicates go, those with the smallest hash first; one always stays."""
    groups = defaultdict(list)
    for outcome in outcomes:
        if outcome.split == "train":
            groups[group(outcome)].append(outcome)
    candidates = [twins for twins in groups.values() if any(twin.label == name for twin in twins)]
    candidates.sort(key=lambda twins: min(twin.image.sha256 for twin in twins))
    wanted = MOVED * sum(twin.label == name for twins in candidates for twin in twins)
    moved: dict[Image, Outcome] = {}
    for twins in candidates[:-1]:
        if sum(outcome.label == name for outcome in moved.values()) >= wanted:
            break
        for twin in twins:
            why = f"{twin.why} val had no {name} left.".strip()
            moved[twin.image] = twin._replace(split="val", decided_by="split", why=why)
    return [moved.get(outcome.image, outcome) for outcome in outcomes]
