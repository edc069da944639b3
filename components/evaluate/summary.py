"""The summary of evaluate: how good the model is, and on which class it is worst."""

from components.shared.formats.evaluation import Evaluation, SplitFigures, list_measured_splits
from components.shared.seeds import describe_seeds
from components.shared.summary import count, write_summary


def write_evaluation_summary(output: str, evaluation: Evaluation) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        evaluation: The content of evaluation.json, with the figures of one split at least.
    """
    measured = list_measured_splits(evaluation)
    figures: dict[str, str | float] = {}
    for split, of_split in measured.items():
        figures |= {
            **describe_seeds(split, of_split.get("accuracies", [])),
            f"macro F1 on {split}": of_split["macro_f1"],
            f"the class of {split} with the lowest recall": _describe_worst(of_split),
        }
    write_summary(
        output,
        f"Accuracy {' and '.join(_describe_accuracy(*each) for each in reversed(measured.items()))}.",
        figures | {"data version": evaluation["data_version"], "trained on": evaluation["trained_on"]},
        "look at the images that the report shows first. The pipeline improvement audits the labels of all of them, and"
        " tries a next version.",
    )


def _describe_accuracy(split: str, figures: SplitFigures) -> str:
    low, high = figures["accuracy_interval"]
    images = count(figures["images"], "image")
    return f"{figures['accuracy']:.3f} on the {images} of {split} (95 % {low:.3f} to {high:.3f})"


def _describe_worst(figures: SplitFigures) -> str:
    of_classes = {name: each for name, each in figures["classes"].items() if each["images"]}
    name = min(of_classes, key=lambda name: of_classes[name]["recall"])
    worst = of_classes[name]
    return f"{name}, {round(worst['recall'] * worst['images']):,} of {worst['images']:,} are right"
