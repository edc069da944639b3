"""Measures that evaluate and compare share."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import Slice

SLICES = (columns.INK_FRACTION, "pixels", columns.ASPECT_RATIO)  # the scalars by which images are sliced


def slice_accuracy(rows: pd.DataFrame, bins: int) -> list[Slice]:
    """Measures the accuracy in slices between the quantiles of each scalar.

    Args:
        rows: Predictions, as formats/predictions.py describes them.
        bins: The number of slices, with equally many images, into which each scalar is cut.

    Returns:
        The slices that hold images, that with the lowest accuracy first.
    """
    table = rows.assign(
        pixels=rows[columns.WIDTH] * rows[columns.HEIGHT], correct=rows[columns.LABEL] == rows[columns.PREDICTION]
    )
    slices: list[Slice] = []
    for name in SLICES:
        edges = np.unique(np.quantile(table[name], np.linspace(0, 1, bins + 1)))  # one, if all images are alike
        last = max(len(edges) - 2, 0)
        for i, part in table.groupby(np.clip(np.searchsorted(edges, table[name]) - 1, 0, last)):
            right = int(part["correct"].sum())
            slices.append(
                {
                    "scalar": name,
                    "from": float(edges[i]),
                    "to": float(edges[min(i + 1, len(edges) - 1)]),
                    "images": len(part),
                    "accuracy": right / len(part),
                    "accuracy_interval": bound_share(right, len(part)),
                }
            )
    return sorted(slices, key=lambda entry: entry["accuracy"])


def bound_share(right: int, images: int) -> list[float]:
    """Computes the 95 % Wilson score interval of a share.

    Wilson, Journal of the American Statistical Association 22, 1927.

    Args:
        right: The number of images that the model gets right.
        images: The number of all images, at least 1.

    Returns:
        The lower and the upper bound.
    """
    bounds = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return [float(bounds.low), float(bounds.high)]
