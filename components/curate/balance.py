"""How often each training image is augmented: classes alike, and more of what the last evaluation got wrong."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from components.curate.planning import Outcome
from components.curate.reading import SCALARS, Image
from components.shared.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BINS = 4  # slices of a scalar, of equally many val images
PRIOR = 10  # val images of the average error that each class and slice is thought to have besides its own


class Slices(NamedTuple):
    edges: "np.ndarray"  # float, ascending, between the slices
    errors: "np.ndarray"  # float [slices], share of val images that were taken for another class


class Hardness(NamedTuple):
    """Shares of val images that were taken for another class."""

    classes: dict[str, float]
    scalars: list[Slices]  # as SCALARS

    def of(self, image: Image) -> float:
        """The error of images like this one, the mean over the scalars."""
        import numpy as np

        errors = [
            found.errors[np.searchsorted(found.edges, value)]
            for found, value in zip(self.scalars, image.scalars, strict=True)
        ]
        return float(np.mean(errors))


def read_hardness(path: str, images: Iterable[Image], classes: list[str]) -> Hardness:
    """What evaluate's predictions say of val. The test split is left aside: it only measures.

    Raises:
        UserError: they are not evaluate's, or not of these images.
    """
    import numpy as np

    val = {image.filename: image.sha256 for image in images if image.split == "val"}
    rows = _read_predictions(path)
    rows = rows[rows["split"].eq("val") & rows["filename"].isin(val)]
    if not val or dict(zip(rows["filename"], rows["sha256"], strict=True)) != val:
        raise UserError(f"{path}: not predictions of the val images of these examples; evaluate a model on them.")
    wrong = (rows["label"] != rows["prediction"]).to_numpy(float)
    average = float(wrong.mean())

    def error(chosen: "np.ndarray") -> float:
        return (wrong[chosen].sum() + PRIOR * average) / (chosen.sum() + PRIOR)

    scalars = []
    for name in SCALARS:
        values = rows[name].to_numpy(float)
        edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
        slice_of = np.searchsorted(edges, values)
        scalars.append(Slices(edges, np.array([error(slice_of == number) for number in range(len(edges) + 1)])))
    return Hardness({name: error((rows["label"] == name).to_numpy()) for name in classes}, scalars)


def _read_predictions(path: str) -> "pd.DataFrame":
    import pandas as pd

    texts = ["split", "filename", "sha256", "label", "prediction"]
    types = {**dict.fromkeys(texts, str), **dict.fromkeys(SCALARS, float)}
    try:
        return pd.read_csv(path, usecols=list(types), dtype=types, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give predictions as evaluate writes them.") from None


def copies(train: Iterable[Outcome], images: int, hardness: Hardness, hard_weight: float) -> dict[str, int]:
    """How many augmented images to make of each training image, by file name.

    They make train a split of `images` images: each class gets the share 1 + hard_weight * its error, and within a
    class each image the share 1 + hard_weight * the error of the slices it is in; no image is taken away.
    """
    by_class = defaultdict(list)
    for outcome in sorted(train, key=lambda outcome: outcome.image.sha256):
        by_class[outcome.label].append(outcome.image)
    names = sorted(by_class)
    weights = [1 + hard_weight * hardness.classes[name] for name in names]
    totals = shares(images, weights, [len(by_class[name]) for name in names])
    found = {}
    for name, total in zip(names, totals, strict=True):
        sources = by_class[name]
        numbers = shares(total, [1 + hard_weight * hardness.of(image) for image in sources], [1] * len(sources))
        found.update({image.filename: number - 1 for image, number in zip(sources, numbers, strict=True)})
    return found


def shares(total: int, weights: list[float], least: list[int]) -> list[int]:
    """Numbers that add up to `total` in proportion to their weights, but none below its least.

    Where the least add up to more, those are the numbers. Fractions are rounded by the largest remainder.
    """
    import numpy as np

    floor, weight = np.array(least), np.array(weights, float)
    if floor.sum() >= total:
        return floor.tolist()
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
    return numbers.tolist()
