import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.agreement import Agreement, measure_agreement, measure_fleiss_kappa
from components.shared.formats.decisions import SETTLED, Decision
from tests.rows import make_issue

CLASSES = ["i", "v", "x"]


def measure(outcomes: dict[str, str], **said: dict[str, object]) -> Agreement | None:
    """The agreement of reviewers who gave images, all labelled i, these outcomes: - for none, 0 to drop."""
    issues = {
        f"{number}": make_issue(filename=f"{number}", **said.get(f"image_{number}", {}))
        for number in range(max(map(len, outcomes.values())))
    }
    reviews = {
        reviewer: {
            f"{number}": Decision(
                "0" * 64,
                f"{number}",
                "i",
                {"0": "drop", "i": "keep"}.get(outcome, "relabel"),
                outcome if outcome in "vx" else "",
            )
            for number, outcome in enumerate(given)
            if outcome != "-"
        }
        for reviewer, given in outcomes.items()
    }
    return measure_agreement(reviews, issues, CLASSES)


def test_fleiss_kappa_is_that_of_the_literature() -> None:
    """Fourteen raters put ten subjects into five categories: the worked example of the article on it in Wikipedia."""
    votes = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    assert measure_fleiss_kappa(votes) == pytest.approx(0.210, abs=0.0005)


@given(st.integers(2, 6), st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_fleiss_kappa_is_one_where_all_agree_on_several_classes(raters: int, classes: list[int]) -> None:
    kappa = measure_fleiss_kappa(raters * np.eye(4, dtype=int)[classes])
    assert kappa == (pytest.approx(1) if len(set(classes)) > 1 else None)


def test_fleiss_kappa_of_nothing_is_none() -> None:
    assert measure_fleiss_kappa(np.zeros((0, 4), int)) is None


def test_two_reviewers_have_the_kappa_of_cohen() -> None:
    """Of 50 grants each is read by two, who say yes or no: 20 both yes, 15 both no, 5 and 10 differently."""
    found = measure({"anna": "i" * 25 + "v" * 25, "ben": "i" * 20 + "v" * 5 + "i" * 10 + "v" * 15})
    assert found is not None
    (pair,) = found.pairs
    assert (pair.names, pair.images, pair.same, pair.kappa) == (("anna", "ben"), 50, 0.7, pytest.approx(0.4))
    assert found.kappa is None
    assert [reviewer.agreement for reviewer in found.reviewers] == [0.7, 0.7]


def test_dropping_is_a_class_and_what_nobody_decided_is_missing() -> None:
    found = measure({"anna": "0i-v-", "ben": "0-iv-", "cleo": "iiii-", "dora": "-----"})
    assert found is not None
    assert [reviewer.name for reviewer in found.reviewers] == ["anna", "ben", "cleo"]
    assert [dict(reviewer.words) for reviewer in found.reviewers] == [
        {"drop": 1, "keep": 1, "relabel": 1},
        {"drop": 1, "keep": 1, "relabel": 1},
        {"keep": 4},
    ]
    assert [(pair.names, pair.images, pair.same) for pair in found.pairs] == [
        (("anna", "ben"), 2, 1.0),
        (("anna", "cleo"), 3, pytest.approx(1 / 3)),
        (("ben", "cleo"), 3, pytest.approx(1 / 3)),
    ]
    assert found.images == 2
    assert found.consensus.keys() == {"0", "1", "2", "3"}
    assert found.consensus["1"][0] == "i"


def test_cleanlab_trusts_who_agrees_with_the_others_and_the_audit() -> None:
    said = {f"image_{number}": {"prediction": "v", "probability": 0.9, "label_probability": 0.05} for number in (0, 1)}
    said["image_2"] = {"action": "drop", "confidence": 0.95, "probability": 0.3, "label_probability": 0.3}
    found = measure({"anna": "vv0iii", "ben": "vv0iii", "cleo": "xi0xvv"}, **said)
    assert found is not None
    quality = {reviewer.name: reviewer.quality for reviewer in found.reviewers}
    assert quality["anna"] == quality["ben"]
    assert quality["anna"] > 0.8 > 0.5 > quality["cleo"] > 0
    outcomes = [found.consensus[f"{number}"][0] for number in range(6)]
    assert outcomes == ["v", "v", "", "i", "i", "i"]
    assert all(0 < share <= 1 for _, share in found.consensus.values())


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ({"anna": "v", "ben": "x"}, {"prediction": "i"}),
        ({"anna": "i", "ben": "v"}, {"prediction": "", "probability": None, "label_probability": None}),
        ({"anna": "iv", "ben": "xi"}, {"prediction": "", "probability": None, "label_probability": None}),
        ({"anna": "i", "ben": "v", "cleo": "x"}, {}),
    ],
)
def test_people_who_agree_about_nothing_are_still_told_so(outcomes: dict[str, str], said: dict[str, object]) -> None:
    agreement = measure(outcomes, image_0=said, image_1=said)
    assert agreement
    assert {figures.agreement for figures in agreement.reviewers} == {0.0}
    assert {pair.same for pair in agreement.pairs} == {0.0}


def test_who_has_the_last_word_is_no_independent_witness() -> None:
    found = measure({"anna": "iv", "ben": "ii", SETTLED: "vv"})
    assert found is not None
    assert [reviewer.name for reviewer in found.reviewers] == ["anna", "ben"]
    assert measure({"anna": "iv", SETTLED: "vv"}) is None
    assert measure({"anna": "iv", "ben": "--"}) is None


@given(
    st.dictionaries(
        st.sampled_from(["anna", "ben", "cleo", "dora"]), st.text("ivx0-", min_size=1, max_size=6), min_size=1
    ),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_figures_are_shares_whoever_decides_what(outcomes: dict[str, str], probability: float) -> None:
    said = {
        f"image_{number}": {"prediction": "v", "probability": probability, "label_probability": 0.0, "action": action}
        for number, action in enumerate(["drop", "look", "", "relabel", "drop", ""])
    }
    found = measure(outcomes, **said)
    if sum(any(vote != "-" for vote in votes) for votes in outcomes.values()) < 2:
        assert found is None
        return
    assert found is not None
    for reviewer in found.reviewers:
        assert (reviewer.agreement is None) == (reviewer.quality is None)
        for share in (reviewer.agreement, reviewer.quality):
            assert share is None or 0 <= share <= 1
    for kappa in (found.kappa, *(pair.kappa for pair in found.pairs)):
        assert kappa is None or (math.isfinite(kappa) and kappa <= 1 + 1e-9)
    for outcome, share in found.consensus.values():
        assert outcome in [*CLASSES, ""]
        assert 0 <= share <= 1
