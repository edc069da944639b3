"""The figures of one split, from its predictions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import SplitFigures
from components.shared.metrics import bound_share, slice_accuracy


def measure_split(rows: pd.DataFrame, classes: list[str], slice_bins: int) -> SplitFigures:
    """Measures accuracy, macro F1, log loss and calibration error, also per class and per slice.

    Args:
        rows: The predictions of the split, as `evaluation.predict_images` returns them.
        classes: The names of the classes, by label.
        slice_bins: The number of slices, with equally many images, into which each scalar is cut.

    Returns:
        Plain data for JSON. `confusion_matrix[i][j]` counts the images of class i predicted as class j. Intervals are
        95 % Wilson score intervals.
    """
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
        "calibration_error": compute_calibration_error(rows[columns.CONFIDENCE].to_numpy(), correct.to_numpy()),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        },
        "slices": slice_accuracy(rows, slice_bins),
        "confusion_matrix": confusion_matrix(labels, predictions, labels=classes).tolist(),
    }


def compute_calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Computes the expected calibration error: the mean distance of accuracy and confidence over bins of confidence.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3, with its 15 bins.

    Args:
        confidence: [images], the probability of the predicted class.
        correct: [images], whether that class is the label.
        bins: The number of bins, equally wide.

    Returns:
        The error, 0 to 1.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(correct[bin_of == i].mean() - confidence[bin_of == i].mean()) * (bin_of == i).mean() for i in set(bin_of)
    ]
    return float(sum(gaps))
