"""The training report: the curves, and whether they have come to rest."""

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.shared.formats.training import Epoch, Training
from components.shared.report import render_svg, write_report


def write_training_report(output: str, history: list[Epoch], training: Training, rise: str) -> None:
    """Writes the page.

    Args:
        output: The path of the HTML file.
        history: The metrics of each epoch.
        training: The content of training.json.
        rise: That the accuracy on val still rises, as a sentence; empty if it does not.
    """
    epochs = [row["epoch"] for row in history]
    curves = {
        "accuracy": ([row["accuracy"] for row in history], [row["val_accuracy"] for row in history]),
        "loss": ([row["loss"] for row in history], [row["val_loss"] for row in history]),
    }
    plots = [_plot_curves(name, epochs, *pair, best_epoch=training["best_epoch"]) for name, pair in curves.items()]
    write_report(output, "train/report.html.j2", training=training, rise=rise, plots=plots)


def _plot_curves(name: str, epochs: list[int], train: list[float], val: list[float], *, best_epoch: int) -> Markup:
    figure = Figure(figsize=(5.3, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(epochs, train, label="train")
    axis.plot(epochs, val, label="val")
    axis.axvline(best_epoch, color="gray", linestyle=":", label="best epoch")
    axis.set(title=name, xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return render_svg(figure)
