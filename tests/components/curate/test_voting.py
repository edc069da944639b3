from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.voting import Settlement, Voting, check_voting, let_earlier_yield, settle_decisions
from components.shared.errors import UserError
from components.shared.formats.decisions import EARLIER, SETTLED, Decision, check_deciding_reviewer

CLASSES = ["i", "v", "x"]
MAJORITY, UNANIMITY = Voting("majority", ""), Voting("unanimity", "")
IMAGES = {  # the picture and the label of each
    "train/i/1.png": ("a", "i"),
    "train/v/1.png": ("a", "v"),  # a copy of it under another label
    "train/i/2.png": ("b", "i"),
    "val/x/1.png": ("c", "x"),
}


def decide(filename: str, outcome: str) -> Decision:
    """The decision that gives an image this class; "" drops it."""
    sha256, label = IMAGES[filename]
    if not outcome:
        return Decision(sha256, filename, label, "drop")
    return Decision(sha256, filename, label, *(("keep", "") if outcome == label else ("relabel", outcome)))


def review(outcomes: dict[str, str]) -> dict[str, Decision]:
    return {filename: decide(filename, outcome) for filename, outcome in outcomes.items()}


def settle(filename: str, outcomes: dict[str, str], voting: Voting = MAJORITY) -> str | None:
    """What becomes of an image about which reviewers decided so; None if that is left undecided."""
    reviews = {reviewer: review({filename: outcome}) for reviewer, outcome in outcomes.items()}
    decision = settle_decisions(reviews, voting).decisions.get(filename)
    return decision.outcome if decision else None


@pytest.mark.parametrize(
    ("votes", "majority", "unanimity"),
    [
        (["v"], "v", "v"),
        (["v", "v"], "v", "v"),
        (["", ""], "", ""),
        (["v", "i"], None, None),
        (["v", ""], None, None),
        (["v", "v", "i"], "v", None),
        (["v", "v", "i", "x"], None, None),  # the most, but not more than half
        (["v", "v", "v", "x"], "v", None),
        (["v", "v", "x", "x"], None, None),
        (["v", "i", "x"], None, None),
    ],
)
def test_what_counts(votes: list[str], majority: str | None, unanimity: str | None) -> None:
    outcomes = {f"reviewer {number}": outcome for number, outcome in enumerate(votes)}
    assert settle("train/i/2.png", outcomes) == majority
    assert settle("train/i/2.png", outcomes, UNANIMITY) == unanimity


def test_a_named_person_counts_before_the_rule_and_the_last_word_before_both() -> None:
    outcomes = {"anna": "i", "ben": "v", "cleo": "v"}
    anna = Voting("majority", "anna")
    assert settle("train/i/2.png", outcomes, anna) == "i"
    assert settle("train/i/2.png", {"ben": "v", "cleo": "v", "dora": "x"}, anna) == "v", "anna decided nothing"
    assert settle("train/i/2.png", {**outcomes, SETTLED: ""}, anna) == ""
    assert settle("train/i/2.png", {**outcomes, SETTLED: "x"}) == "x"


def test_a_label_is_that_of_all_copies_of_a_picture() -> None:
    """Who gives a copy a label disagrees with who gives another copy another one."""
    reviews = {"anna": review({"train/i/1.png": "i"}), "ben": review({"train/v/1.png": "v"})}
    found = settle_decisions(reviews, MAJORITY)
    assert found.decisions == {}
    for filename in ("train/i/1.png", "train/v/1.png"):
        assert found.undecided[filename].decisions == {"anna": decide(filename, "i"), "ben": decide(filename, "v")}
    reviews["cleo"] = review({"train/i/1.png": "v"})
    assert settle_decisions(reviews, MAJORITY).decisions == review({"train/i/1.png": "v", "train/v/1.png": "v"})


@pytest.mark.parametrize("voting", [MAJORITY, UNANIMITY, Voting("majority", "ben"), Voting("majority", "anna")])
def test_who_keeps_one_copy_says_nothing_against_dropping_another(voting: Voting) -> None:
    kept, copy = "train/i/1.png", "train/v/1.png"
    reviews = {"anna": review({kept: "i", copy: ""}), "ben": review({kept: "i"})}
    deciders = {kept: ["anna", "ben"], copy: ["anna"]}
    assert settle_decisions(reviews, voting) == Settlement(reviews["anna"], {}, deciders)
    reviews["cleo"] = review({copy: "i"})
    assert settle_decisions(reviews, MAJORITY).undecided[copy].why == (
        "Undecided: anna drop, ben relabel to i, cleo relabel to i."
    )
    reviews["dora"] = review({copy: ""})
    assert settle_decisions(reviews, MAJORITY).decisions[copy].decision == "drop", "two of the three who saw it"


def test_what_was_decided_earlier_counts_where_nobody_decides_anew() -> None:
    kept, copy, other, last = IMAGES
    earlier = review({kept: "i", copy: "i", other: "i", last: "x"})
    anew = review({other: "", last: "v"})
    reviews = let_earlier_yield({"decisions": anew, EARLIER: earlier})
    assert reviews == {"decisions": anew, EARLIER: review({kept: "i", copy: "i"})}
    found = settle_decisions(reviews, UNANIMITY)
    assert found.decisions == anew | review({kept: "i", copy: "i"})
    assert found.disagreements == {}
    labelled = review({copy: "v"})
    assert let_earlier_yield({EARLIER: earlier, "anna": labelled})[EARLIER] == review({other: "i", last: "x"})
    dropped = review({copy: ""})
    assert let_earlier_yield({EARLIER: earlier, "anna": dropped})[EARLIER].keys() == {kept, other, last}
    assert let_earlier_yield({EARLIER: earlier}) == {EARLIER: earlier}


def test_the_reason_tells_who_decided_what() -> None:
    reviews = {"anna": review({"val/x/1.png": "x"}), "ben": review({"val/x/1.png": "v"})}
    (undecided,) = settle_decisions(reviews, MAJORITY).disagreements.values()
    assert undecided.why == "Undecided: anna keep, ben relabel to v."
    (decided,) = settle_decisions(reviews, Voting("majority", "ben")).disagreements.values()
    assert decided.why == "By the word of ben: anna keep, ben relabel to v."
    reviews["cleo"] = review({"val/x/1.png": "v"})
    (decided,) = settle_decisions(reviews, MAJORITY).disagreements.values()
    assert decided.why == "By majority: anna keep, ben relabel to v, cleo relabel to v."


@st.composite
def many_reviews(draw: st.DrawFn) -> dict[str, dict[str, Decision]]:
    """Of up to five people, none of whom gives one picture two labels."""
    reviews = {}
    for reviewer in draw(st.lists(st.sampled_from(["anna", "ben", "cleo", "dora", SETTLED]), unique=True)):
        labels = {sha256: draw(st.sampled_from(CLASSES)) for sha256 in "abc"}
        words = {filename: draw(st.sampled_from(["label", "label", "drop", ""])) for filename in IMAGES}
        reviews[reviewer] = review(
            {
                filename: labels[IMAGES[filename][0]] if word == "label" else ""
                for filename, word in words.items()
                if word
            }
        )
    return reviews


VOTINGS = st.builds(Voting, st.sampled_from(["majority", "unanimity"]), st.sampled_from(["", "anna", "ben"]))


@given(many_reviews(), VOTINGS, st.randoms())
def test_rules_hold_whoever_decides_what(reviews: dict[str, dict[str, Decision]], voting: Voting, lottery: Any) -> None:
    found = settle_decisions(reviews, voting)
    shuffled = lottery.sample(list(reviews), len(reviews))
    again = settle_decisions({reviewer: reviews[reviewer] for reviewer in shuffled}, voting)
    assert (again.decisions, again.undecided.keys()) == (found.decisions, found.undecided.keys()), "whoever is first"
    named = {filename for decisions in reviews.values() for filename in decisions}
    assert found.decisions.keys() | found.undecided.keys() == named
    assert not found.decisions.keys() & found.undecided.keys()
    labels = {(decision.sha256, decision.outcome) for decision in found.decisions.values() if decision.outcome}
    assert len(labels) == len(dict(labels)), "no picture gets two labels"
    for filename in named:
        check_image(filename, reviews, voting, found)


def check_image(filename: str, reviews: dict[str, dict[str, Decision]], voting: Voting, found: Settlement) -> None:
    votes = {reviewer: decisions[filename].outcome for reviewer, decisions in reviews.items() if filename in decisions}
    decision = found.decisions.get(filename)
    if decision is None:
        assert len({each.outcome for each in found.undecided[filename].decisions.values()}) > 1
        return
    assert decision == decide(filename, decision.outcome)
    last = next((reviewer for reviewer in (SETTLED, voting.deciding_reviewer) if reviewer in votes), None)
    if last and (last == SETTLED or not gives_a_label(SETTLED, filename, reviews)):
        assert decision.outcome == votes[last]
    elif filename not in found.disagreements:
        assert set(votes.values()) == {decision.outcome}
    elif decider := found.disagreements[filename].decider:
        assert decider in (SETTLED, voting.deciding_reviewer)
        assert decision == found.disagreements[filename].decisions[decider]
    else:
        given = found.disagreements[filename].decisions
        is_kept = [bool(outcome) for outcome in votes.values()]
        assert 2 * is_kept.count(bool(decision.outcome)) > len(is_kept)
        labels = [each.outcome for each in given.values()]
        assert not decision.outcome or 2 * labels.count(decision.outcome) > len(labels)


def gives_a_label(reviewer: str, filename: str, reviews: dict[str, dict[str, Decision]]) -> bool:
    """Whether a reviewer has given the picture of an image a label."""
    decisions = reviews.get(reviewer, {}).values()
    return any(decision.outcome and decision.sha256 == IMAGES[filename][0] for decision in decisions)


@given(many_reviews(), VOTINGS)
def test_one_person_decides_as_that_person_did(reviews: dict[str, dict[str, Decision]], voting: Voting) -> None:
    for reviewer, decisions in reviews.items():
        assert settle_decisions({reviewer: decisions}, voting) == Settlement(decisions, {}, {})


def test_settings_that_cannot_be_are_named() -> None:
    check_deciding_reviewer("anna", ["anna", "ben"])
    check_deciding_reviewer("anna", ["ben"])
    check_deciding_reviewer("anna", [])
    with pytest.raises(UserError, match="the deciding_reviewer 'ann' does not exist. Did you mean anna"):
        check_deciding_reviewer("ann", ["anna", "ben"])
    check_deciding_reviewer("anna", ["decisions", EARLIER])
    with pytest.raises(UserError, match=r"the deciding_reviewer 'anna' does not exist\. There are: ben, cleo\."):
        check_deciding_reviewer("anna", ["ben", "cleo", EARLIER])
    with pytest.raises(UserError, match="disagreement is 'dice'; it must be majority or unanimity"):
        check_voting(Voting("dice", ""))
