"""The error analysis: where the model is wrong, and which images to look at first."""

from typing import TYPE_CHECKING, Any

from components.shared.report import thumbnails, write_report

if TYPE_CHECKING:
    import pandas as pd


def write_evaluation_report(
    output: str,
    examples: str,
    manifest: dict[str, Any],
    predictions: "pd.DataFrame",
    result: dict[str, Any],
    gallery_size: int,
) -> None:
    mistakes = {split: _mistakes(predictions, split) for split in manifest["splits"]}
    # A long training learns even wrong labels by heart: of train the costliest images are shown, mistaken or not.
    listed = {**mistakes, "train": predictions[predictions["split"] == "train"]}
    columns = ["filename", "label", "prediction", "confidence", "loss"]
    galleries = {split: rows[columns].head(gallery_size).to_dict("records") for split, rows in listed.items()}
    shown = {row["filename"] for rows in galleries.values() for row in rows}
    write_report(
        output,
        "evaluate/report.html.j2",
        result=result,
        splits={split: result[split] for split in ("test", "val") if split in result},
        confusions={split: _confusions(rows) for split, rows in mistakes.items()},
        galleries=galleries,
        train_images=manifest["splits"]["train"]["images"],
        wrong={split: len(rows) for split, rows in mistakes.items()},
        pictures=thumbnails(examples, manifest, shown),
    )


def _mistakes(predictions: "pd.DataFrame", split: str) -> "pd.DataFrame":
    return predictions[(predictions["split"] == split) & (predictions["label"] != predictions["prediction"])]


def _confusions(mistakes: "pd.DataFrame", shown: int = 8) -> list[tuple[str, str, int]]:
    """The most frequent of these mistakes: given label, predicted label, images."""
    counts = mistakes.groupby(["label", "prediction"]).size()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ranked[:shown]]
