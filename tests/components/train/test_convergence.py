from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.shared.formats.training import Epoch, Training
from components.train.convergence import describe_rise, has_settled
from components.train.report import write_training_report
from tests.pages import Page


def history(accuracies: Sequence[float]) -> list[Epoch]:
    return [
        {"epoch": number, "accuracy": 0.5, "loss": 1.0, "val_accuracy": float(value), "val_loss": 1.0}
        for number, value in enumerate(accuracies, start=1)
    ]


def test_a_curve_that_rises_to_the_end_is_told_with_its_figures() -> None:
    assert describe_rise(history([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.70, 0.71, 0.80, 0.81])) == (
        "The accuracy on val still rises: it is 0.805 on average over the last 2 epochs, and was 0.705 over the 2 "
        "before. More epochs would give another model, so a comparison of two versions may show how long they "
        "were trained, and not their data."
    )


@pytest.mark.parametrize(
    "accuracies",
    [
        [0.1, 0.5, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],  # at rest
        [0.1, 0.5, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8],  # it falls
        [0.1, 0.5, 0.7, 0.8, 0.9, 0.9, 0.80, 0.90, 0.82, 0.92],  # the rise is smaller than the jumps
        [0.1, 0.5, 0.7, 0.8, 0.9, 0.9, 0.951, 0.956, 0.961, 0.961],  # it is less than a point
    ],
)
def test_no_rise_is_told_where_there_is_none(accuracies: list[float]) -> None:
    assert describe_rise(history(accuracies)) == ""


@pytest.mark.parametrize(
    ("accuracies", "epochs"), [([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], "7 epochs"), ([0.5], "1 epoch")]
)
def test_too_few_epochs_to_tell_are_told(accuracies: list[float], epochs: str) -> None:
    assert describe_rise(history(accuracies)) == (
        f"{epochs} cannot tell whether the accuracy on val has settled; it takes eighteen. A comparison of two versions"
        " may show how long they were trained, and not their data."
    )


@pytest.mark.parametrize(
    ("accuracies", "settled"),
    [
        ([0.1, 0.5, 0.7, 0.8, *[0.9] * 16], True),
        ([0.1, 0.5, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], False),  # too few to be sure
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.71, 0.80, 0.81], False),
        ([0.9] * 7, False),
    ],
)
def test_a_training_has_settled_if_that_can_be_told(accuracies: list[float], settled: bool) -> None:
    assert has_settled(history(accuracies)) is settled


def test_jumps_about_a_mean_are_seldom_taken_for_a_rise() -> None:
    rng = np.random.default_rng(1)
    found = [describe_rise(history(rng.normal(0.9, 0.03, 100))) for _ in range(500)]
    assert np.mean([bool(text) for text in found]) < 0.05
    rising = [describe_rise(history(np.linspace(0.6, 0.9, 100) + rng.normal(0, 0.03, 100))) for _ in range(500)]
    assert np.mean([bool(text) for text in rising]) > 0.95


@pytest.mark.parametrize("is_rising", [True, False])
def test_the_report_warns_of_a_rise(tmp_path: Path, is_rising: bool) -> None:
    curve = history(np.linspace(0.1, 0.9 if is_rising else 0.1, 10))
    training: Training = {
        "data_version": "1.dir",
        "classes": ["i"],
        "settings": {"epochs": 10},
        "parameters": 9,
        "best_epoch": 10,
        "val_accuracy": 0.9,
        "val_loss": 1.0,
    }
    warning = describe_rise(curve)
    write_training_report(str(tmp_path / "report"), [curve], training, warning)
    assert bool(warning) == is_rising
    assert ("still rises" in Page(tmp_path / "report").text) == is_rising
    assert warning in Page(tmp_path / "report").text
