"""The figures of one split, from its predictions."""

from typing import TYPE_CHECKING

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import SplitFigures
from components.shared.metrics import bound_share, slice_accuracy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def split_metrics(rows: "pd.DataFrame", classes: list[str], slice_bins: int) -> SplitFigures:
    """Accuracy, macro F1, log loss and calibration error; per class and per slice; the confusion matrix.

    Args:
        rows: predictions as `evaluation.predict` returns them.
        slice_bins: into how many equally large slices each scalar is cut.

    Returns:
        Plain data for JSON. `confusion_matrix[i][j]` counts the images of class i predicted as class j. Intervals are
        95 % Wilson score intervals.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels, predictions = rows[columns.LABEL], rows[columns.PREDICTION]
    correct = labels == predictions
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
    return {
        "images": len(rows),
        "accuracy": float(correct.mean()),
        "accuracy_interval": bound_share(int(correct.sum()), len(rows)),
        "macro_f1": float(f1.mean()),
        "log_loss": float(rows[columns.LOSS].mean()),
        "calibration_error": calibration_error(rows[columns.CONFIDENCE].to_numpy(), correct.to_numpy()),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        },
        "slices": slice_accuracy(rows, slice_bins),
        "confusion_matrix": confusion_matrix(labels, predictions, labels=classes).tolist(),
    }


def calibration_error(confidence: "np.ndarray", correct: "np.ndarray", bins: int = 15) -> float:
    """Expected calibration error: the mean distance of accuracy and confidence over equal bins of confidence.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3, with its 15 bins.
    """
    import numpy as np

    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[bin_of == i].mean() - confidence[bin_of == i].mean()) * (bin_of == i).mean() for i in set(bin_of)
    ]
    return float(sum(gaps))
