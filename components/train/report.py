"""The training report: the curves."""

from typing import TYPE_CHECKING, Any

from components.shared.report import svg, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_training_report(output: str, history: list[dict[str, float]], training: dict[str, Any]) -> None:
    write_report(
        output, "train/report.html.j2", training=training, curves=svg(_curves(history, training["best_epoch"]))
    )


def _curves(history: list[dict[str, float]], best_epoch: int) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        axis.plot(epochs, [row[name] for row in history], label="train")
        axis.plot(epochs, [row[f"val_{name}"] for row in history], label="val")
        axis.axvline(best_epoch, color="gray", linestyle=":", label="best epoch")
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure
