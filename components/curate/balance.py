"""How often each training image is augmented: classes become equally frequent, hard images more frequent than others.

Hard images are those that resemble the val images which the last model got wrong.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.curate.planning import Outcome
from components.curate.reading import SourceImage
from components.shared.errors import UserError
from components.shared.formats import predictions as columns
from components.shared.formats.predictions import read_predictions

SCALARS = (columns.ASPECT_RATIO, columns.INK_FRACTION, columns.CONTRAST)  # by whose slices images are hard or easy
BINS = 4  # slices of each scalar, with equally many val images
PRIOR = 10  # imaginary val images with the average error, added to each class and slice so that few images say little


class Slices(NamedTuple):
    """The slices of a scalar."""

    edges: NDArray[np.float64]  # [slices - 1], ascending, the values between the slices
    errors: NDArray[np.float64]  # [slices], share of the val images that the model takes for another class


class Hardness(NamedTuple):
    """Shares of the val images that the model takes for another class."""

    classes: dict[str, float]
    scalars: list[Slices]  # in the order of SCALARS

    def estimate_error(self, image: SourceImage) -> float:
        """Estimates how often the model is wrong on images like this one.

        Args:
            image: The image.

        Returns:
            The mean over the scalars of the error of the slice that the image is in, 0 to 1.
        """
        values = (image.aspect_ratio, image.ink_fraction, image.contrast)
        errors = [
            slices.errors[np.searchsorted(slices.edges, value)]
            for slices, value in zip(self.scalars, values, strict=True)
        ]
        return float(np.mean(errors))


def read_hardness(path: str, outcomes: Iterable[Outcome], classes: list[str]) -> Hardness:
    """Measures what the previous model got wrong on val. The test split is not used, since it only measures.

    Only images that stay in val count, with the labels that they get: a wrong label is no mistake of the model.

    Args:
        path: The predictions, as evaluate writes them.
        outcomes: What becomes of the images of the data version.
        classes: The names of the classes.

    Returns:
        The errors by class and by slice.

    Raises:
        UserError: The predictions are not as evaluate writes them, or are not of these images.
    """
    of_val = [outcome for outcome in outcomes if outcome.image.split == "val"]
    val = {outcome.image.filename: outcome.image.sha256 for outcome in of_val}
    rows = read_predictions(path, classes)
    rows = rows[rows[columns.SPLIT].eq("val") & rows[columns.FILENAME].isin(val)]
    if not val or dict(zip(rows[columns.FILENAME], rows[columns.SHA256], strict=True)) != val:
        raise UserError(f"{path}: not predictions of the val images of these examples; evaluate a model on them.")
    kept = {outcome.image.filename: outcome.label for outcome in of_val if outcome.split == "val"}
    rows = rows[rows[columns.FILENAME].isin(kept)]
    if rows.empty:  # nothing is known then
        return Hardness(dict.fromkeys(classes, 0.0), [Slices(np.empty(0), np.zeros(1))] * len(SCALARS))
    labels = rows[columns.FILENAME].map(kept)
    is_wrong = (labels != rows[columns.PREDICTION]).to_numpy(float)
    average = float(is_wrong.mean())

    def measure_error(chosen: NDArray[np.bool_]) -> float:
        return float((is_wrong[chosen].sum() + PRIOR * average) / (chosen.sum() + PRIOR))

    scalars = []
    for name in SCALARS:
        values = rows[name].to_numpy(float)
        edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
        slice_of = np.searchsorted(edges, values)
        scalars.append(Slices(edges, np.array([measure_error(slice_of == number) for number in range(len(edges) + 1)])))
    return Hardness({name: measure_error((labels == name).to_numpy()) for name in classes}, scalars)


def count_copies(train: Iterable[Outcome], images: int, *, hardness: Hardness, hard_weight: float) -> dict[str, int]:
    """Determines how many augmented images to make from each training image.

    The share of a class in the split is proportional to 1 + hard_weight * its error; within a class, the share of an
    image is proportional to 1 + hard_weight * the error of the slices that it is in. No image is removed.

    Args:
        train: The outcomes of the images that are in train after curation.
        images: The number of images that train is to have, including the augmented ones.
        hardness: What the previous model got wrong on val.
        hard_weight: How much that counts; 0 treats all images alike.

    Returns:
        The number of augmented images by the file name of their source.
    """
    by_class = defaultdict(list)
    for outcome in sorted(train, key=lambda outcome: outcome.image.sha256):
        by_class[outcome.label].append(outcome.image)
    names = sorted(by_class)
    weights = [1 + hard_weight * hardness.classes[name] for name in names]
    totals = divide(images, weights, [len(by_class[name]) for name in names])
    copies = {}
    for name, total in zip(names, totals, strict=True):
        sources = by_class[name]
        numbers = divide(
            total, [1 + hard_weight * hardness.estimate_error(image) for image in sources], [1] * len(sources)
        )
        copies.update({image.filename: number - 1 for image, number in zip(sources, numbers, strict=True)})
    return copies


def divide(total: int, weights: list[float], least: list[int]) -> list[int]:
    """Divides a total in proportion to weights, with a least number for each part.

    Fractions are rounded by the largest remainder.

    Args:
        total: What the numbers are to add up to.
        weights: The weight of each part.
        least: The least number of each part. If they add up to more than the total, they are the numbers.

    Returns:
        The number of each part.
    """
    floor, weight = np.array(least), np.array(weights, float)
    if floor.sum() >= total:
        return list(map(int, floor))
    free = np.ones(len(floor), bool)
    while True:
        ideal = np.where(free, (total - floor[~free].sum()) * weight / weight[free].sum(), floor)
        below = ideal < floor
        if not below.any():
            break
        free &= ~below
    numbers = np.floor(ideal).astype(int)
    order = np.argsort(numbers - ideal, kind="stable")
    numbers[order[: total - numbers.sum()]] += 1
    return list(map(int, numbers))
