"""The figures of one split, from its predictions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_curve

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import RocCurve, SplitFigures
from components.shared.formats.predictions import list_predictions, name_probability
from components.shared.metrics import bound_share, slice_accuracy

MOST_POINTS = 200  # of an ROC curve, which Kubeflow Pipelines keeps in its database


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
    figures: SplitFigures = {
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
    if len(of_seeds := list_predictions(rows)) > 1:
        figures["accuracies"] = [float((rows[name] == labels).mean()) for name in of_seeds]
    if len(classes) == 2 and labels.nunique() == 2:
        figures["roc_curve"] = trace_roc_curve(labels == classes[1], rows[name_probability(classes[1])])
    return figures


def trace_roc_curve(is_positive: "pd.Series[bool]", probability: "pd.Series[float]") -> RocCurve:
    """Traces how many images of either class count as the second one at each threshold.

    Args:
        is_positive: [images], whether the label is the second class.
        probability: [images], the predicted probability of the second class.

    Returns:
        No more than MOST_POINTS points, from none positive to all.
    """
    false_positive, true_positive, threshold = roc_curve(is_positive, probability)
    chosen = np.unique(np.linspace(0, len(threshold) - 1, MOST_POINTS).round().astype(int))
    return {
        "false_positive_rate": false_positive[chosen].tolist(),
        "true_positive_rate": true_positive[chosen].tolist(),
        "threshold": threshold[chosen].clip(0, 1).tolist(),  # scikit-learn begins at infinity, which JSON has not
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
