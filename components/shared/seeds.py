"""What trainings that differ in their seed alone say together."""

from collections.abc import Sequence
from statistics import mean


def summarize_seeds(name: str, accuracies: Sequence[float]) -> dict[str, float]:
    """The mean, the least and the highest of several trainings' accuracies, for metrics.

    Args:
        name: What they are, such as val_accuracy.
        accuracies: One for each seed; none or one if there is nothing to sum up.

    Returns:
        The figures by their names, such as val_accuracy_mean; empty unless there are several seeds.
    """
    if len(accuracies) < 2:
        return {}
    return {
        f"{name}_mean": mean(accuracies),
        f"{name}_min": min(accuracies),
        f"{name}_max": max(accuracies),
    }


def format_seeds(accuracies: Sequence[float]) -> str:
    """The mean, and in brackets the least and the highest: 0.912 (0.905 to 0.920)."""
    return f"{mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f})"


def describe_seeds(split: str, accuracies: Sequence[float]) -> dict[str, str]:
    """The line about several seeds in the summary of a stage; empty if there is one.

    Args:
        split: Where the accuracies were measured.
        accuracies: One for each seed; none if there is one.

    Returns:
        What the figure is, with the figure.
    """
    return {f"accuracy on {split} of {len(accuracies)} seeds": format_seeds(accuracies)} if accuracies else {}
