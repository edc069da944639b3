"""Differences of two models that have predicted the same images, with bootstrap intervals and McNemar's test.

The bootstrap resamples images, each with its label and both predictions. Only how often a combination of these three
occurs matters, so a resample is one draw of the multinomial distribution over the combinations: the same as drawing
images with replacement, without the images. Intervals are percentile intervals (Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, chapter 13). They, as the test, hold for these two models and for images like these; what
another seed of the training would change is not in them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from components.shared.formats.comparison import Change

Array = NDArray[Any]  # the docstrings say of what, and of which shape


class Bootstrap(NamedTuple):
    """How the intervals are drawn."""

    resamples: int
    confidence_level: float  # between 0 and 1
    seed: int


def compare_accuracy(before: Array, after: Array, bootstrap: Bootstrap) -> Change:
    """How the accuracy changes from one model to the other, over at least one image.

    Args:
        before: whether the first model is right, bool [images].
        after: whether the second is, likewise.
        bootstrap: how the interval is drawn.

    Returns:
        The accuracies, their difference, and the interval of that.
    """
    outcomes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # right before, right after
    counts = _resample(np.bincount(2 * before + after.astype(int), minlength=4), bootstrap)
    right = counts @ outcomes / len(before)
    return _summarize(right[:, 0], right[:, 1], bootstrap)


def compare_classes(
    labels: Array, before: Array, after: Array, classes: int, bootstrap: Bootstrap
) -> tuple[list[tuple[Change | None, Change | None]], Change]:
    """How recall and F1 of each class change, None for a class without images, and macro F1, the mean over classes.

    A resample without an image of a class does not count for that class.

    Args:
        labels: of at least one image, int [images], each at least 0 and below `classes`.
        before: the predictions of the first model, likewise.
        after: those of the second.
        classes: how many classes there are.
        bootstrap: how the intervals are drawn.

    Returns:
        The changes of recall and F1 of each class, and the change of macro F1.
    """
    kinds, frequencies = np.unique(np.stack([labels, before, after], axis=1), axis=0, return_counts=True)
    counts = _resample(frequencies, bootstrap)
    recalls, f1s = zip(*(_score(counts, kinds[:, 0], kinds[:, i], classes) for i in (1, 2)), strict=True)
    present = set(labels.tolist())
    of_classes: list[tuple[Change | None, Change | None]] = [
        (
            _summarize(recalls[0][:, i], recalls[1][:, i], bootstrap),
            _summarize(f1s[0][:, i], f1s[1][:, i], bootstrap),
        )
        if i in present
        else (None, None)
        for i in range(classes)
    ]
    macro_before, macro_after = (np.nan_to_num(f1).mean(axis=1) for f1 in f1s)
    return of_classes, _summarize(macro_before, macro_after, bootstrap)


def compute_mcnemar_p(newly_right: int, newly_wrong: int) -> float:
    """The two-sided p-value of McNemar's exact test that both models are right equally often.

    McNemar, Psychometrika 12, 1947; for classifiers: Dietterich, Neural Computation 10, 1998. Under the null hypothesis
    each model gets half of the images on which one alone is right: a binomial test.
    """
    discordant = newly_right + newly_wrong
    return float(binomtest(newly_right, discordant).pvalue) if discordant else 1.0


def _resample(frequencies: Array, bootstrap: Bootstrap) -> Array:
    """The frequencies, int [kinds], as the first row of int [1 + resamples, kinds], resamples of them below."""
    images = frequencies.sum()
    rng = np.random.default_rng(bootstrap.seed)
    return np.vstack([frequencies, rng.multinomial(images, frequencies / images, size=bootstrap.resamples)])


def _score(counts: Array, labels: Array, predictions: Array, classes: int) -> tuple[Array, Array]:
    """Recall and F1, float [rows of counts, classes], from how often each label meets each prediction.

    NaN for a class that no image has.
    """
    given = counts @ (labels[:, None] == np.arange(classes))
    said = counts @ (predictions[:, None] == np.arange(classes))
    hits = counts @ ((labels[:, None] == np.arange(classes)) & (labels == predictions)[:, None])
    with np.errstate(invalid="ignore"):
        recall = hits / given
        f1 = 2 * hits / np.where(given > 0, given + said, np.nan)
    return recall, f1


def _summarize(before: Array, after: Array, bootstrap: Bootstrap) -> Change:
    """From a figure's values, the first for the images themselves, the others for their resamples."""
    tail = (1 - bootstrap.confidence_level) / 2
    low, high = np.nanquantile((after - before)[1:], [tail, 1 - tail])
    return {
        "before": float(before[0]),
        "after": float(after[0]),
        "change": float(after[0] - before[0]),
        "low": float(low),
        "high": float(high),
    }
