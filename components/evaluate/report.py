"""The error analysis: where the model is wrong, and which images to look at first."""

from typing import TYPE_CHECKING, Any

from components.report import thumbnails, write_report

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
    galleries = {split: _worst(predictions, split, gallery_size) for split in manifest["splits"]}
    shown = {row["filename"] for rows in galleries.values() for row in rows}
    write_report(
        output,
        "evaluate/report.html.j2",
        result=result,
        splits={split: result[split] for split in ("test", "val") if split in result},
        confusions={split: _confusions(predictions, split) for split in manifest["splits"]},
        galleries=galleries,
        wrong={split: len(_mistakes(predictions, split)) for split in manifest["splits"]},
        pictures=thumbnails(examples, manifest, shown),
    )


def _mistakes(predictions: "pd.DataFrame", split: str) -> "pd.DataFrame":
    return predictions[(predictions["split"] == split) & (predictions["label"] != predictions["prediction"])]


def _worst(predictions: "pd.DataFrame", split: str, gallery_size: int) -> list[dict[str, Any]]:
    columns = ["filename", "label", "prediction", "confidence", "loss"]
    return _mistakes(predictions, split)[columns].head(gallery_size).to_dict("records")


def _confusions(predictions: "pd.DataFrame", split: str, shown: int = 8) -> list[tuple[str, str, int]]:
    """The most frequent mistakes of a split: given label, predicted label, images."""
    counts = _mistakes(predictions, split).groupby(["label", "prediction"]).size()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ranked[:shown]]
