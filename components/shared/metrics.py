"""Figures that evaluate and compare both work out."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from components.shared.formats import predictions as columns
from components.shared.formats.evaluation import Slice

SLICES = (columns.INK_FRACTION, "pixels", columns.ASPECT_RATIO)  # what images are sliced by


def slice_accuracy(rows: pd.DataFrame, bins: int) -> list[Slice]:
    """The accuracy in each quantile of each scalar, worst first; a slice holds its upper bound.

    Args:
        rows: predictions, as formats/predictions.py describes them.
        bins: into how many slices of equally many images each scalar is cut.
    """
    table = rows.assign(
        pixels=rows[columns.WIDTH] * rows[columns.HEIGHT], correct=rows[columns.LABEL] == rows[columns.PREDICTION]
    )
    found: list[Slice] = []
    for name in SLICES:
        edges = np.unique(np.quantile(table[name], np.linspace(0, 1, bins + 1)))  # one, if all images are alike
        last = max(len(edges) - 2, 0)
        for i, part in table.groupby(np.clip(np.searchsorted(edges, table[name]) - 1, 0, last)):
            right = int(part["correct"].sum())
            found.append(
                {
                    "scalar": name,
                    "from": float(edges[i]),
                    "to": float(edges[min(i + 1, len(edges) - 1)]),
                    "images": len(part),
                    "accuracy": right / len(part),
                    "accuracy_interval": bound_share(right, len(part)),
                }
            )
    return sorted(found, key=lambda entry: entry["accuracy"])


def bound_share(right: int, images: int) -> list[float]:
    """The 95 % Wilson score interval of a share: its lower and upper bound.

    Wilson, Journal of the American Statistical Association 22, 1927.
    """
    bounds = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return [float(bounds.low), float(bounds.high)]
