"""The summary of train: which epoch was kept, and how good it was."""

from components.shared.formats.training import Training
from components.shared.seeds import describe_seeds
from components.shared.summary import write_summary


def write_training_summary(output: str, training: Training) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        training: The content of training.json.
    """
    best, epochs = training["best_epoch"], training["settings"]["epochs"]
    advice = "look at the report of evaluate for what the model gets wrong."
    if best == epochs:
        advice = f"the last epoch was the best, so more of them may be better. Then {advice}"
    write_summary(
        output,
        f"Epoch {best} of {epochs} was kept, with an accuracy of {training['val_accuracy']:.3f} on val.",
        {
            "accuracy on val": training["val_accuracy"],
            **describe_seeds("val", training.get("val_accuracies", [])),
            "loss on val": training["val_loss"],
            "weights of the model": training["parameters"],
            "data version": training["data_version"],
        },
        advice,
    )
