"""The training report: the curves."""

from typing import TYPE_CHECKING

from components.shared.formats.training import Epoch, Training
from components.shared.report import svg, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_training_report(output: str, history: list[Epoch], training: Training) -> None:
    write_report(
        output, "train/report.html.j2", training=training, curves=svg(_curves(history, training["best_epoch"]))
    )


def _curves(history: list[Epoch], best_epoch: int) -> "Figure":
    from matplotlib.figure import Figure

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
