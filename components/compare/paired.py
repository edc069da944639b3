"""Differences of two models that have predicted the same images, with bootstrap intervals and McNemar's test.

The bootstrap resamples images, each with its label and both predictions. Only how often each combination of these three
occurs matters, so a resample is one draw from the multinomial distribution over the combinations. That is equivalent to
drawing images with replacement, but much faster. Intervals are percentile intervals (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13). Like the test, they hold for these two models and for images like
these; what another seed of the training would change, only several trainings of each version tell.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from components.shared.formats.comparison import FigureChange, SeedChange

Array = NDArray[Any]  # docstrings give the type and the shape


class Bootstrap(NamedTuple):
    """How bootstrap intervals are drawn."""

    resamples: int
    confidence_level: float  # between 0 and 1
    seed: int


def compare_accuracy(before: Array, after: Array, bootstrap: Bootstrap) -> FigureChange:
    """Measures how the accuracy changes from one model to the other.

    Args:
        before: Whether the first model is right, bool [images], for at least one image.
        after: Whether the second model is right, likewise.
        bootstrap: How the interval is drawn.

    Returns:
        Both accuracies, their difference, and its interval.
    """
    outcomes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # right before, right after
    counts = _resample(np.bincount(2 * before + after.astype(int), minlength=4), bootstrap)
    right = counts @ outcomes / len(before)
    return _summarize(right[:, 0], right[:, 1], bootstrap)


def compare_classes(
    labels: Array, before: Array, after: Array, *, classes: int, bootstrap: Bootstrap
) -> tuple[list[tuple[FigureChange | None, FigureChange | None]], FigureChange]:
    """Measures how recall and F1 of each class, and macro F1, change from one model to the other.

    A resample without an image of a class does not count for that class.

    Args:
        labels: The classes of the images, int [images], from 0 to `classes` - 1, for at least one image.
        before: The classes that the first model predicts, likewise.
        after: The classes that the second model predicts, likewise.
        classes: The number of classes.
        bootstrap: How the intervals are drawn.

    Returns:
        The changes of recall and F1 of each class, both None for a class without images; and the change of macro F1,
        the mean of F1 over all classes.
    """
    kinds, frequencies = np.unique(np.stack([labels, before, after], axis=1), axis=0, return_counts=True)
    counts = _resample(frequencies, bootstrap)
    recalls, f1s = zip(*(_score(counts, kinds[:, 0], kinds[:, i], classes=classes) for i in (1, 2)), strict=True)
    present = set(labels.tolist())
    of_classes: list[tuple[FigureChange | None, FigureChange | None]] = [
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


def compare_seeds(before: Array, after: Array, bootstrap: Bootstrap) -> SeedChange | None:
    """Measures how the mean accuracy over the seeds changes, and what other seeds or other images might have shown.

    Only the seed of the training varies; the copies that augmentation drew are the same for every model. The seeds are
    compared by Welch's t-test and interval, which do not assume that the seeds of both versions vary equally (Welch,
    Biometrika 34, 1947). Trainings with the same seed are not treated as pairs, which loses little, since other images
    soon lead to other weights. The images are resampled as above, each with the share of the models that are right.

    Args:
        before: Whether each model of the first version is right, bool [models, images].
        after: The same of the second version.
        bootstrap: How the interval over images is drawn; its confidence level is that of both intervals.

    Returns:
        The change; None unless there are two models of each version.
    """
    if min(len(before), len(after)) < 2:
        return None
    accuracies = before.mean(axis=1), after.mean(axis=1)
    margin, p = _test_welch(*accuracies, bootstrap.confidence_level)
    differences, frequencies = np.unique(after.mean(axis=0) - before.mean(axis=0), return_counts=True)
    low, high = _bound(_resample(frequencies, bootstrap) @ differences / before.shape[1], bootstrap)
    return {
        "before": accuracies[0].tolist(),
        "after": accuracies[1].tolist(),
        "change": _round(accuracies[1].mean() - accuracies[0].mean()),
        "margin": margin,
        "p": p,
        "low": _round(low),
        "high": _round(high),
    }


def _round(figure: float) -> float:
    """Rounds off the digits that depend on the order of summation, so that equal accuracies differ by exactly 0."""
    return round(float(figure), 12) + 0.0  # not -0.0


def _test_welch(before: Array, after: Array, confidence_level: float) -> tuple[float, float]:
    """Half the width of the interval of the difference of means, and the p-value of the two-sided test."""
    if not np.ptp(before) and not np.ptp(after):  # no seed makes a difference, so the test is not defined
        return 0.0, float(before[0] == after[0])
    of_before, of_after = (values.var(ddof=1) / len(values) for values in (before, after))  # variances of the means
    error = math.sqrt(of_before + of_after)
    freedom = error**4 / (of_before**2 / (len(before) - 1) + of_after**2 / (len(after) - 1))
    errors = abs(after.mean() - before.mean()) / error
    return float(t.ppf((1 + confidence_level) / 2, freedom) * error), float(2 * t.sf(errors, freedom))


def compute_mcnemar_p(newly_right: int, newly_wrong: int) -> float:
    """Computes the p-value of McNemar's exact test, whose null hypothesis is that both models are right equally often.

    Under it, each model is right on half of the images on which only one of them is, so the test is a binomial one.
    McNemar, Psychometrika 12, 1947; for classifiers: Dietterich, Neural Computation 10, 1998.

    Args:
        newly_right: The number of images on which only the second model is right.
        newly_wrong: The number of images on which only the first model is right.

    Returns:
        The two-sided p-value; 1 if both are 0.
    """
    discordant = newly_right + newly_wrong
    return float(binomtest(newly_right, discordant).pvalue) if discordant else 1.0


def _resample(frequencies: Array, bootstrap: Bootstrap) -> Array:
    """Returns int [1 + resamples, kinds]: the frequencies, int [kinds], in the first row, resamples of them below."""
    images = frequencies.sum()
    rng = np.random.default_rng(bootstrap.seed)
    return np.vstack([frequencies, rng.multinomial(images, frequencies / images, size=bootstrap.resamples)])


def _score(counts: Array, labels: Array, predictions: Array, *, classes: int) -> tuple[Array, Array]:
    """Computes recall and F1, float [rows of counts, classes], NaN for a class without images.

    `counts` holds how often each pair of `labels` and `predictions`, both int [kinds], occurs: int [rows, kinds].
    """
    actual = counts @ (labels[:, None] == np.arange(classes))
    predicted = counts @ (predictions[:, None] == np.arange(classes))
    hits = counts @ ((labels[:, None] == np.arange(classes)) & (labels == predictions)[:, None])
    with np.errstate(invalid="ignore"):
        recall = hits / actual
        f1 = 2 * hits / np.where(actual > 0, actual + predicted, np.nan)
    return recall, f1


def _summarize(before: Array, after: Array, bootstrap: Bootstrap) -> FigureChange:
    """Summarizes a figure of both models: the first value is that of the images, the others are of resamples."""
    low, high = _bound(after - before, bootstrap)
    return {
        "before": float(before[0]),
        "after": float(after[0]),
        "change": float(after[0] - before[0]),
        "low": low,
        "high": high,
    }


def _bound(changes: Array, bootstrap: Bootstrap) -> tuple[float, float]:
    """The percentile interval of the resampled changes; the first value, the observed change, is left out."""
    tail = (1 - bootstrap.confidence_level) / 2
    low, high = np.nanquantile(changes[1:], [tail, 1 - tail])
    return float(low), float(high)
