"""The error analysis: where the model is wrong, and which images to look at first."""

from typing import TYPE_CHECKING

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import Evaluation, measured_splits
from components.shared.formats.examples import ExampleSet
from components.shared.formats.predictions import list_rows
from components.shared.report import thumbnails, write_report

if TYPE_CHECKING:
    import pandas as pd


def write_evaluation_report(
    output: str,
    examples: ExampleSet,
    predictions: "pd.DataFrame",
    result: Evaluation,
    gallery_size: int,
) -> None:
    mistakes = {split: _mistakes(predictions, split) for split in examples.manifest.splits}
    # A long training learns even wrong labels by heart: of train the costliest images are shown, mistaken or not.
    listed = {**mistakes, "train": predictions[predictions[columns.SPLIT] == "train"]}
    galleries = {split: list_rows(rows.head(gallery_size)) for split, rows in listed.items()}
    shown = {row.filename for rows in galleries.values() for row in rows}
    write_report(
        output,
        "evaluate/report.html.j2",
        result=result,
        splits=dict(reversed(measured_splits(result).items())),
        confusions={split: _confusions(rows) for split, rows in mistakes.items()},
        galleries=galleries,
        train_images=examples.manifest.splits["train"].images,
        wrong={split: len(rows) for split, rows in mistakes.items()},
        pictures=thumbnails(examples, shown),
    )


def _mistakes(predictions: "pd.DataFrame", split: str) -> "pd.DataFrame":
    return predictions[
        (predictions[columns.SPLIT] == split) & (predictions[columns.LABEL] != predictions[columns.PREDICTION])
    ]


def _confusions(mistakes: "pd.DataFrame", shown: int = 8) -> list[tuple[str, str, int]]:
    """The most frequent of these mistakes: given label, predicted label, images."""
    counts = mistakes.groupby([columns.LABEL, columns.PREDICTION]).size()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ranked[:shown]]
