"""From what several people decided about images to the decisions that count."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from components.shared.errors import UserError, quote
from components.shared.formats.decisions import EARLIER, SETTLED, Decision

RULES = ("majority", "unanimity")

Reviews = Mapping[str, Mapping[str, Decision]]  # by reviewer, then by file name


class Voting(NamedTuple):
    """What counts where people disagree."""

    disagreement: str  # one of RULES
    deciding_reviewer: str  # whose word counts before that; "" for nobody's


class Disagreement(NamedTuple):
    """An image about which people decided differently."""

    decisions: dict[str, Decision]  # of each reviewer who decided about it, or about a copy of it
    settled: Decision | None  # what counts; None if that is left undecided
    decider: str = ""  # the reviewer whose word alone counts; "" if the rule has settled it, or nothing

    @property
    def how(self) -> str:
        """What has settled it."""
        if not self.settled:
            return "Undecided"
        return f"By the word of {self.decider}" if self.decider else "By majority"

    @property
    def why(self) -> str:
        """What has settled it, and who decided what."""
        return f"{self.how}: {', '.join(f'{reviewer} {decision}' for reviewer, decision in self.decisions.items())}."


class Settlement(NamedTuple):
    """What people decided together."""

    decisions: dict[str, Decision]  # that count, by file name
    disagreements: dict[str, Disagreement]  # by file name
    deciders: dict[str, list[str]]  # of each image that several people might have decided about: who did

    def explain(self, filename: str) -> str:
        """Who decided what about an image, in a sentence; empty if there is nobody but one person who decides."""
        if disagreement := self.disagreements.get(filename):
            return disagreement.why
        return f"Decided by {', '.join(deciders)}." if (deciders := self.deciders.get(filename)) else ""

    @property
    def undecided(self) -> dict[str, Disagreement]:
        """The disagreements that nothing settles."""
        return {filename: each for filename, each in self.disagreements.items() if not each.settled}


def check_voting(voting: Voting) -> None:
    """Checks the settings, apart from the name of a reviewer, which only the decisions tell.

    Raises:
        UserError: The rule is unknown.
    """
    if voting.disagreement not in RULES:
        raise UserError(f"disagreement is {quote(voting.disagreement)}; it must be {' or '.join(RULES)}.")


def let_earlier_yield(reviews: Reviews) -> Reviews:
    """Leaves out what people decided in earlier turns about images that somebody has decided about anew.

    Who decides again has changed their mind, or knows more, and does not vote against themselves. Likewise, who gives a
    copy of an image a label decides about the label of that picture.

    Args:
        reviews: What each reviewer decided, and under the name EARLIER what people had decided before.

    Returns:
        The same, but under that name only what nobody else decides about.
    """
    anew = [decision for reviewer, each in reviews.items() if reviewer != EARLIER for decision in each.values()]
    images = {decision.filename for decision in anew}
    labelled = _list_labels(anew)

    def is_left(decision: Decision) -> bool:
        return decision.filename not in images and decision.sha256 not in labelled

    return {
        reviewer: {
            filename: decision for filename, decision in each.items() if reviewer != EARLIER or is_left(decision)
        }
        for reviewer, each in reviews.items()
    }


def settle_decisions(reviews: Reviews, voting: Voting) -> Settlement:
    """Determines which decision about each image counts.

    A label is that of a picture: who gave one to an image has given it to the copies, with the same bytes, about which
    that person decided nothing else. So copies never get two labels: each would need more than half of the same people.
    It says nothing against dropping one of the copies: on that only those vote who decided about the very image.

    Args:
        reviews: What each reviewer decided.
        voting: What counts where they disagree.

    Returns:
        The decisions of a single reviewer as they are; of several, those on which they agree or which the rule settles.
    """
    labels = {reviewer: _list_labels(decisions.values()) for reviewer, decisions in reviews.items()}
    images = {filename: decision for decisions in reviews.values() for filename, decision in decisions.items()}
    counted: dict[str, Decision] = {}
    disagreements: dict[str, Disagreement] = {}
    deciders: dict[str, list[str]] = {}
    for filename, image in sorted(images.items()):
        own = {reviewer: decisions[filename] for reviewer, decisions in reviews.items() if filename in decisions}
        given = {
            reviewer: decision
            for reviewer in reviews
            if (decision := own.get(reviewer) or _decide_as_copy(image, labels[reviewer]))
        }
        settled, decider = _settle(own, given, voting)
        if settled:
            counted[filename] = settled
        if len(reviews) > 1:
            deciders[filename] = list(own)
        outcomes = {decision.outcome for decision in own.values()}
        labels_given = {decision.outcome for decision in given.values() if decision.outcome}
        if len(outcomes) > 1 or (len(labels_given) > 1 and outcomes != {""}):
            disagreements[filename] = Disagreement(given, settled, decider)
    return Settlement(counted, disagreements, deciders)


def _list_labels(decisions: Iterable[Decision]) -> dict[str, str]:
    """The label of each picture that a reviewer has not only dropped, by sha256."""
    return {decision.sha256: decision.outcome for decision in decisions if decision.outcome}


def _decide_as_copy(image: Decision, labels: Mapping[str, str]) -> Decision | None:
    """What a reviewer who gave a copy of this image a label would say of it; None if the reviewer gave none."""
    label = labels.get(image.sha256)
    if label is None:
        return None
    word, new_label = ("keep", "") if label == image.label else ("relabel", label)
    return image._replace(decision=word, new_label=new_label)


def _settle(own: Mapping[str, Decision], given: Mapping[str, Decision], voting: Voting) -> tuple[Decision | None, str]:
    """The decision that counts, and the reviewer whose word makes it count; "" if it is the rule, or nothing counts.

    Args:
        own: What reviewers decided about the very image.
        given: The same, with what others decided about copies of it.
        voting: What counts where they disagree.
    """
    drops = [decision for decision in own.values() if not decision.outcome]
    is_dropped = _is_enough(len(drops), len(own), voting)
    for reviewer in (SETTLED, voting.deciding_reviewer):
        if reviewer in own or (reviewer in given and not is_dropped):
            return given[reviewer], reviewer
        if reviewer in given:
            break
    if is_dropped:
        return drops[0], ""
    votes = Counter(decision.outcome for decision in given.values() if decision.outcome)
    for decision in given.values() if _is_enough(len(own) - len(drops), len(own), voting) else ():
        if _is_enough(votes[decision.outcome], len(given), voting):
            return decision, ""
    return None, ""


def _is_enough(votes: int, voters: int, voting: Voting) -> bool:
    """Whether so many votes for an outcome make it count."""
    return votes == voters if voting.disagreement == "unanimity" else votes > voters // 2
