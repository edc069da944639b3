"""The training report: the curves, and whether they have come to rest."""

from typing import Literal

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.shared.formats.training import Epoch, Training
from components.shared.report import render_svg, write_report
from components.shared.seeds import format_seeds


def write_training_report(output: str, histories: list[list[Epoch]], training: Training, rise: str) -> None:
    """Writes the page.

    Args:
        output: The path of the HTML file.
        histories: The metrics of each epoch, of the training with each seed; the first is that of the model.
        training: The content of training.json.
        rise: That the accuracy on val still rises, as a sentence; empty if it does not.
    """
    plots = [
        _plot_curves("accuracy", "val_accuracy", histories, training["best_epoch"]),
        _plot_curves("loss", "val_loss", histories, training["best_epoch"]),
    ]
    seeds = format_seeds(training["val_accuracies"]) if "val_accuracies" in training else ""
    write_report(output, "train/report.html.j2", training=training, rise=rise, seeds=seeds, plots=plots)


def _plot_curves(
    name: Literal["accuracy", "loss"],
    val_name: Literal["val_accuracy", "val_loss"],
    histories: list[list[Epoch]],
    best_epoch: int,
) -> Markup:
    """Plots train and val of the first training, and val of the others."""
    history, *others = histories
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(5.3, 3.6), layout="constrained")
    axis = figure.subplots()
    for number, other in enumerate(others):
        label = None if number else "val, other seeds"
        axis.plot(epochs, [row[val_name] for row in other], color="gray", linewidth=0.8, alpha=0.6, label=label)
    axis.plot(epochs, [row[name] for row in history], color="C0", label="train")
    axis.plot(epochs, [row[val_name] for row in history], color="C1", label="val")
    axis.axvline(best_epoch, color="gray", linestyle=":", label="best epoch")
    axis.set(title=name, xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return render_svg(figure)
