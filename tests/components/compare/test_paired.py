import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, recall_score

from components.compare.paired import Bootstrap, compare_accuracy, compare_classes, compute_mcnemar_p

CLASSES = 4
ANY = settings(deadline=None, max_examples=50)
QUICK = Bootstrap(100, 0.9, 3)
CAREFUL = Bootstrap(4000, 0.95, 5)
TABLES = st.lists(st.tuples(*[st.integers(0, CLASSES - 1)] * 3), min_size=1, max_size=60).map(
    lambda rows: np.array(rows).T
)


def everything(labels: np.ndarray, before: np.ndarray, after: np.ndarray, bootstrap: Bootstrap = QUICK) -> list[Any]:
    """Every change: of accuracy, of macro F1, then of recall and F1 of each class."""
    of_classes, macro_f1 = compare_classes(labels, before, after, classes=CLASSES, bootstrap=bootstrap)
    accuracy = compare_accuracy(before == labels, after == labels, bootstrap)
    return [accuracy, macro_f1, *(change for pair in of_classes for change in pair)]


def images(count: int, seed: int = 0) -> np.ndarray:
    """Labels and the predictions of a worse and of a better model, int [3, count]."""
    rng = np.random.default_rng(seed)
    labels, wrong = rng.choice(CLASSES, count, p=[0.4, 0.3, 0.2, 0.1]), rng.integers(0, CLASSES, count)
    hard = rng.random(count)
    return np.stack([labels, np.where(hard < 0.5, wrong, labels), np.where(abs(hard - 0.2) < 0.15, wrong, labels)])


# --- figures -----------------------------------------------------------------------------------


@ANY
@given(TABLES)
def test_figures_are_those_of_scikit_learn(table: np.ndarray) -> None:
    labels, *predictions = table
    accuracy, macro_f1, *of_classes = everything(*table)
    every = list(range(CLASSES))
    for name, said in zip(("before", "after"), predictions, strict=True):
        assert accuracy[name] == pytest.approx((said == labels).mean())
        f1s = f1_score(labels, said, labels=every, average=None, zero_division=0)
        recalls = recall_score(labels, said, labels=every, average=None, zero_division=0)
        present = np.isin(every, labels)
        assert macro_f1[name] == pytest.approx((f1s * present).mean())
        for i in every:
            recall, f1 = of_classes[2 * i : 2 * i + 2]
            if present[i]:
                assert (recall[name], f1[name]) == pytest.approx((recalls[i], f1s[i]))
            else:
                assert recall is f1 is None
    for change in filter(None, [accuracy, macro_f1, *of_classes]):
        assert change["change"] == pytest.approx(change["after"] - change["before"])
        assert -1 <= change["low"] <= change["high"] <= 1


@ANY
@given(TABLES)
def test_identical_predictions_make_no_difference(table: np.ndarray) -> None:
    labels, before, _ = table
    for change in filter(None, everything(labels, before, before)):
        assert change["before"] == change["after"]
        assert (change["change"], change["low"], change["high"]) == (0, 0, 0)


@ANY
@given(TABLES)
def test_swapped_models_negate_the_changes(table: np.ndarray) -> None:
    labels, before, after = table
    for there, back in zip(everything(labels, before, after), everything(labels, after, before), strict=True):
        assert (there is None) == (back is None)
        if there:
            assert there["change"] == -back["change"]
            assert (there["before"], there["after"]) == (back["after"], back["before"])


def test_swapped_models_swap_the_bounds() -> None:
    labels, before, after = images(400)
    for there, back in zip(
        everything(labels, before, after, CAREFUL), everything(labels, after, before, CAREFUL), strict=True
    ):
        assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]), abs=0.01)


@ANY
@given(TABLES, st.randoms(use_true_random=False))
def test_order_of_the_images_changes_nothing(table: np.ndarray, random: Any) -> None:
    order = list(range(table.shape[1]))
    random.shuffle(order)
    assert everything(*table[:, order]) == everything(*table)


# --- intervals ---------------------------------------------------------------------------------


def test_interval_of_the_accuracy_is_that_of_scipys_paired_bootstrap() -> None:
    labels, before, after = images(300)
    right = before == labels, after == labels
    expected = stats.bootstrap(
        right,
        lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        random_state=1,
    ).confidence_interval
    found = compare_accuracy(*right, CAREFUL)
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=0.01)
    assert found["high"] - found["low"] > 0.05


def test_intervals_of_the_classes_are_those_of_images_drawn_with_replacement() -> None:
    table = images(300)
    rng = np.random.default_rng(2)
    values = np.array([class_scores(*table[:, rng.integers(0, 300, 300)]) for _ in range(3000)])
    expected = np.quantile(values, [0.025, 0.975], axis=0)  # [bounds, recall and F1, classes]
    of_classes, macro_f1 = compare_classes(*table, classes=CLASSES, bootstrap=CAREFUL)
    for i, changes in enumerate(of_classes):
        for change, bounds in zip(changes, expected[:, :, i].T, strict=True):
            assert change is not None
            assert (change["low"], change["high"]) == pytest.approx(bounds, abs=0.02)
            assert change["high"] - change["low"] > 0.05
    macro_bounds = np.quantile(values[:, 1].mean(axis=1), [0.025, 0.975])
    assert (macro_f1["low"], macro_f1["high"]) == pytest.approx(macro_bounds, abs=0.015)


def class_scores(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[list[float]]:
    """The change of recall and of F1 of each class, counted by hand."""
    changes: list[list[float]] = [[], []]
    for i in range(CLASSES):
        given, right = labels == i, (labels == i) & (after == i)
        was_right = given & (before == i)
        changes[0].append((right.sum() - was_right.sum()) / given.sum())
        f1s = [
            2 * hits.sum() / (given.sum() + (said == i).sum()) for hits, said in ((was_right, before), (right, after))
        ]
        changes[1].append(f1s[1] - f1s[0])
    return changes


def test_interval_covers_the_true_change_about_as_often_as_it_says() -> None:
    truth = [(0.6, 0.0), (0.1, 1.0), (0.05, -1.0), (0.25, 0.0)]  # share of images, change of being right
    rng = np.random.default_rng(7)
    covered = 0
    for seed in range(300):
        kinds = rng.choice(4, 200, p=[share for share, _ in truth])
        change = compare_accuracy(np.isin(kinds, [0, 2]), np.isin(kinds, [0, 1]), Bootstrap(500, 0.9, seed))
        covered += change["low"] <= 0.05 <= change["high"]
    assert 0.85 < covered / 300 < 0.95


def test_more_confidence_needs_more_room_and_another_seed_other_draws() -> None:
    labels, before, after = images(300)
    right = before == labels, after == labels
    narrow, wide = (compare_accuracy(*right, Bootstrap(2000, level, 1)) for level in (0.5, 0.99))
    assert wide["low"] < narrow["low"] < narrow["change"] < narrow["high"] < wide["high"]
    assert compare_accuracy(*right, Bootstrap(101, 0.5, 1)) != compare_accuracy(*right, Bootstrap(101, 0.5, 2))


def test_class_of_one_image_has_an_interval() -> None:
    labels = np.array([0] * 50 + [1])
    of_classes, _ = compare_classes(labels, np.zeros(51, int), labels, classes=CLASSES, bootstrap=QUICK)
    assert of_classes[1][0] == {"before": 0, "after": 1, "change": 1, "low": 1, "high": 1}


# --- McNemar -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newly_right", "newly_wrong", "expected"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (5, 5, 1),
        (5, 0, 2 / 32),
        (2, 10, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_mcnemar_of_a_known_case(newly_right: int, newly_wrong: int, expected: float) -> None:
    assert compute_mcnemar_p(newly_right, newly_wrong) == pytest.approx(expected)


@ANY
@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_is_twice_the_tail_of_the_binomial(newly_right: int, newly_wrong: int) -> None:
    count, fewer = newly_right + newly_wrong, min(newly_right, newly_wrong)
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    assert compute_mcnemar_p(newly_right, newly_wrong) == pytest.approx(min(1, 2 * tail))
    assert compute_mcnemar_p(newly_right, newly_wrong) == compute_mcnemar_p(newly_wrong, newly_right)
