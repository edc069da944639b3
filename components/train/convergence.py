"""Whether val still rises at the end of a training: then more epochs would give another model."""

from collections.abc import Sequence
from statistics import mean, variance

from components.shared.formats.training import Epoch
from components.shared.summary import count

LAST = 0.2  # share of the epochs that is compared with as many before them
ENOUGH = 4  # epochs of each part; with fewer, that no rise is seen does not say that there is none
LEAST = 0.01  # of accuracy; a smaller rise over so many epochs is none that matters
ERRORS = 2  # standard errors that the mean must have risen by; epochs jump by less without rising


def has_settled(history: Sequence[Epoch]) -> bool:
    """Whether the accuracy on val has come to rest at the end; False also if the epochs are too few to be sure."""
    return round(LAST * len(history)) >= ENOUGH and not describe_rise(history)


def describe_rise(history: Sequence[Epoch]) -> str:
    """Says so if the accuracy on val still rises, or nobody can tell.

    Args:
        history: The metrics of each epoch.

    Returns:
        A sentence, also if the epochs are too few (under eight) to tell; empty if it does not rise.
    """
    accuracies = [row["val_accuracy"] for row in history]
    epochs = round(LAST * len(accuracies))
    if epochs < 2:
        return (
            f"{count(len(accuracies), 'epoch')} cannot tell whether the accuracy on val has settled; it takes eighteen."
            " A comparison of two versions may show how long they were trained, and not their data."
        )
    last, before = accuracies[-epochs:], accuracies[-2 * epochs : -epochs]
    error = ((variance(last) + variance(before)) / epochs) ** 0.5
    if mean(last) - mean(before) <= max(LEAST, ERRORS * error):
        return ""
    return (
        f"The accuracy on val still rises: it is {mean(last):.3f} on average over the last {epochs} epochs, and was "
        f"{mean(before):.3f} over the {epochs} before. More epochs would give another model, so a comparison of "
        "two versions may show how long they were trained, and not their data."
    )
