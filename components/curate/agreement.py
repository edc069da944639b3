"""How far people agree about the images that several of them decided about."""

import itertools
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from components.curate.voting import Reviews
from components.shared.formats.decisions import SETTLED
from components.shared.formats.issues import Issue

SMALL = 1e-6  # the least probability of a class, so that they can be scaled to a sum of 1


class ReviewerFigures(NamedTuple):
    """What is known of a reviewer; shares and the quality are from 0 to 1."""

    name: str
    words: Counter[str]  # images by decision: keep, relabel or drop
    agreement: float | None  # share of the others' decisions about the same images that are the same; None without any
    quality: float | None  # CROWDLAB's; None if nobody else decided about the same images


class PairFigures(NamedTuple):
    """How far two reviewers agree."""

    names: tuple[str, str]
    images: int  # that both decided about
    same: float  # share of them about which they decided the same
    kappa: float | None  # Cohen's; None if both gave all of these images one and the same class


class Agreement(NamedTuple):
    """How far several reviewers agree who did not know of each other's decisions."""

    reviewers: list[ReviewerFigures]
    pairs: list[PairFigures]  # those with images in common
    images: int  # that all reviewers decided about
    kappa: float | None  # Fleiss' on those, of more than two reviewers; None if there is no such image, or one class
    consensus: dict[str, tuple[str, float]]  # CROWDLAB's outcome, and its quality, by file name


def measure_agreement(reviews: Reviews, issues: Mapping[str, Issue], classes: list[str]) -> Agreement | None:
    """Measures how far reviewers agree. Dropping counts as giving a class of its own.

    Who decided about disputed images, SETTLED, had seen what the others say, and is left out.

    Args:
        reviews: What each reviewer decided.
        issues: What the audit says about each image, by file name.
        classes: The names of the classes.

    Returns:
        The figures, or None if fewer than two reviewers decided anything.
    """
    outcomes = pd.DataFrame(
        {
            reviewer: pd.Series({name: decision.outcome for name, decision in decisions.items()}, dtype=object)
            for reviewer, decisions in reviews.items()
            if reviewer != SETTLED and decisions
        }
    )
    if outcomes.shape[1] < 2:
        return None
    codes = {name: code for code, name in enumerate([*classes, ""])}
    labels = outcomes.apply(lambda column: column.map(codes)).astype(float)  # NaN where there is no decision
    qualities, consensus = _weigh_reviewers(labels, issues, classes)
    complete = labels.dropna().to_numpy(int)
    return Agreement(
        reviewers=[
            ReviewerFigures(
                name=name,
                words=Counter(decision.decision for decision in reviews[name].values()),
                agreement=_compare_with_others(labels, name),
                quality=qualities.get(name),
            )
            for name in labels.columns
        ],
        pairs=[pair for names in itertools.combinations(labels.columns, 2) if (pair := _compare_pair(labels, names))],
        images=len(complete),
        kappa=measure_fleiss_kappa(_count_votes(complete, len(codes))) if labels.shape[1] > 2 else None,
        consensus=consensus,
    )


def measure_fleiss_kappa(votes: NDArray[np.int64]) -> float | None:
    """Measures the agreement of several raters beyond chance.

    Fleiss, "Measuring nominal scale agreement among many raters", Psychological Bulletin 76 (1971): the mean share of
    agreeing pairs of raters P, and that expected of the categories' shares P_e, give (P - P_e) / (1 - P_e).

    Args:
        votes: How many raters put each image into each category, int64 [images, categories]; each row has the same sum,
            of 2 or more.

    Returns:
        Kappa, 1 at most; None if there is no image, or all are in one category, where it is not defined.
    """
    if not len(votes):
        return None
    raters = votes[0].sum()
    agreeing = ((votes**2).sum(axis=1) - raters) / (raters * (raters - 1))
    expected = ((votes.sum(axis=0) / votes.sum()) ** 2).sum()
    return None if expected == 1 else float((agreeing.mean() - expected) / (1 - expected))


def _count_votes(labels: NDArray[np.int64], categories: int) -> NDArray[np.int64]:
    """Turns the label that each rater gave, int64 [images, raters], into votes, int64 [images, categories]."""
    return np.stack([(labels == category).sum(axis=1) for category in range(categories)], axis=1)


def _compare_with_others(labels: pd.DataFrame, name: str) -> float | None:
    """The share of the others' decisions, about images that this reviewer decided about too, that are the same."""
    own, others = labels[name], labels.drop(columns=name)
    is_common = others.notna().to_numpy() & own.notna().to_numpy()[:, None]
    return float(others.eq(own, axis=0).to_numpy()[is_common].mean()) if is_common.any() else None


def _compare_pair(labels: pd.DataFrame, names: tuple[str, str]) -> PairFigures | None:
    """Compares two reviewers; None if they have no image in common."""
    common = labels[list(names)].dropna().to_numpy(int)
    if not len(common):
        return None
    one, other = common.T
    kappa = float(cohen_kappa_score(one, other)) if len(np.unique(common)) > 1 else None
    return PairFigures(names, len(common), float((one == other).mean()), kappa)


def _weigh_reviewers(
    labels: pd.DataFrame, issues: Mapping[str, Issue], classes: list[str]
) -> tuple[dict[str, float], dict[str, tuple[str, float]]]:
    """Estimates the quality of each reviewer, and the outcome of each image, by CROWDLAB.

    Goh et al., "CROWDLAB: Supervised learning to infer consensus labels and quality scores for data with multiple
    annotators" (2022), in cleanlab. It weighs reviewers by their agreement with each other and with a model.

    Args:
        labels: Positions in the classes, of which dropping is one more, or NaN, float64 [images, reviewers].
        issues: As in measure_agreement.
        classes: Likewise.

    Returns:
        The qualities by reviewer, and the outcomes with their qualities by file name; nothing where no image has two
        decisions, or where nothing speaks for either.
    """
    if labels.notna().sum(axis=1).max() < 2:
        return {}, {}
    probabilities = np.array([_list_probabilities(issues[filename], classes) for filename in labels.index])
    np.random.seed(0)  # cleanlab breaks ties at random
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of, that people do not agree on anything, the report shows
        try:
            found = get_label_quality_multiannotator(
                labels, probabilities, verbose=False, return_detailed_quality=False
            )
        except ValueError:  # where all images are ties, of which the model breaks none, cleanlab has nothing to go by
            return {}, {}
    qualities = found["annotator_stats"]["annotator_quality"].dropna().to_dict()
    table, outcomes = found["label_quality"], [*classes, ""]
    consensus = {
        filename: (outcomes[code], float(quality))
        for filename, code, quality in zip(
            table.index, table["consensus_label"], table["consensus_quality_score"], strict=True
        )
    }
    return {name: float(quality) for name, quality in qualities.items()}, consensus


def _list_probabilities(issue: Issue, classes: list[str]) -> list[float]:
    """The audit's probability of each class, and at the end of dropping the image.

    The audit's networks have not seen the image, as CROWDLAB needs it; evaluate's model has learned the labels of train
    that are in question. issues.csv has the probabilities of two classes; the others share what is left.
    """
    known = issue.probabilities
    left = max(0.0, 1 - sum(known.values())) / max(1, len(classes) - len(known))
    weights = np.array([max(known.get(name, left), SMALL) for name in classes])
    dropped = issue.confidence if issue.action == "drop" else 0.0
    return [*(weights / weights.sum() * (1 - dropped)), dropped]
