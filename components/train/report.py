"""The training report: the curves."""

from matplotlib.figure import Figure

from components.shared.formats.training import Epoch, Training
from components.shared.report import render_svg, write_report


def write_training_report(output: str, history: list[Epoch], training: Training) -> None:
    """Writes the page.

    Args:
        output: The path of the HTML file.
        history: The metrics of each epoch.
        training: The content of training.json.
    """
    curves = render_svg(_plot_curves(history, training["best_epoch"]))
    write_report(output, "train/report.html.j2", training=training, curves=curves)


def _plot_curves(history: list[Epoch], best_epoch: int) -> Figure:
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    epochs = [row["epoch"] for row in history]
    curves = {
        "accuracy": ([row["accuracy"] for row in history], [row["val_accuracy"] for row in history]),
        "loss": ([row["loss"] for row in history], [row["val_loss"] for row in history]),
    }
    for axis, (name, (train, val)) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        axis.plot(epochs, train, label="train")
        axis.plot(epochs, val, label="val")
        axis.axvline(best_epoch, color="gray", linestyle=":", label="best epoch")
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure
