"""The error analysis: where the model is wrong, and which images to look at first."""

import numpy as np
import pandas as pd

from components.evaluate.doubt import rank_doubted
from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import Evaluation, SplitFigures, list_measured_splits
from components.shared.formats.examples import ExampleSet, is_augmented
from components.shared.formats.predictions import list_rows
from components.shared.report import write_report
from components.shared.thumbnails import draw_thumbnails

MOST_CLASSES = 60  # in the table of a confusion matrix


def write_evaluation_report(
    output: str, *, examples: ExampleSet, predictions: pd.DataFrame, evaluation: Evaluation, gallery_size: int
) -> None:
    """Writes the page.

    Args:
        output: The path of the HTML file.
        examples: The images.
        predictions: A row per image, in each split those with the highest loss first.
        evaluation: The figures.
        gallery_size: The most images that a gallery shows.
    """
    rows = {split: predictions[predictions[columns.SPLIT] == split] for split in examples.manifest.splits}
    mistakes = {split: part[part[columns.LABEL] != part[columns.PREDICTION]] for split, part in rows.items()}
    is_made = rows["train"][columns.FILENAME].map(is_augmented).astype(bool)  # of an image that is there itself
    doubted = rank_doubted(rows["train"][~is_made])
    listed = {**mistakes, "train": doubted.rows}
    galleries = {split: list_rows(part.head(gallery_size)) for split, part in listed.items()}
    shown = {row.filename for gallery in galleries.values() for row in gallery}
    write_report(
        output,
        "evaluate/report.html.j2",
        result=evaluation,
        splits=dict(reversed(list_measured_splits(evaluation).items())),
        confusions={split: _rank_confusions(part) for split, part in mistakes.items()},
        confused={split: _choose_confused(figures) for split, figures in list_measured_splits(evaluation).items()},
        galleries=galleries,
        doubted=doubted,
        augmented=bool(is_made.any()),
        wrong={split: len(part) for split, part in mistakes.items()},
        pictures=draw_thumbnails(examples, shown),
    )


def _choose_confused(figures: SplitFigures) -> list[int]:
    """The classes of the confusion matrix's table: those that have the most to do with mistakes, in their order."""
    matrix = np.array(figures["confusion_matrix"])
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    return sorted(np.argsort(-mistakes, kind="stable")[:MOST_CLASSES].tolist())


def _rank_confusions(mistakes: pd.DataFrame, shown: int = 8) -> list[tuple[str, str, int]]:
    """The most frequent of these mistakes: given label, predicted label, images."""
    counts = mistakes.groupby([columns.LABEL, columns.PREDICTION]).size()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(label, prediction, count) for (label, prediction), count in ranked[:shown]]
