"""What evaluate left of each version, read and checked: evaluations, predictions, and the pairs of two predictions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.errors import UserError
from components.shared.formats import examples as ex

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("val", "test")  # what is compared
FIGURES = ("images", "accuracy", "accuracy_interval", "macro_f1")  # that are shown of the new version's own splits
TEXTS = ("split", "filename", "sha256", "label", "prediction")
NUMBERS = ("loss", "ink_fraction", "aspect_ratio", "height", "width")


def read_evaluation(folder: str) -> dict[str, Any]:
    """The `metrics.json` of an evaluation.

    Raises:
        UserError: it is missing, or evaluate did not make it.
    """
    path = Path(folder) / "metrics.json"
    try:
        evaluation = json.loads(path.read_text())
        for name, kind in (("data_version", str), ("trained_on", str), ("settings", dict), ("classes", list)):
            if not isinstance(evaluation[name], kind):
                raise ValueError(f"{name} is {evaluation[name]!r}")
        for split in SPLITS:
            if lacking := sorted(set(FIGURES) - set(evaluation.get(split, FIGURES))):
                raise ValueError(f"{split} lacks {lacking[0]}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}); give the output `evaluation` of evaluate.") from None
    return evaluation


def read_predictions(path: str, classes: list[str]) -> "pd.DataFrame":
    """The columns TEXTS (str) and NUMBERS (float64) of a CSV of predictions, a row per image, by file name.

    Raises:
        UserError: it is no such CSV, has an image twice, or knows another split or class.
    """
    import pandas as pd

    try:
        kinds = {**dict.fromkeys(TEXTS, str), **dict.fromkeys(NUMBERS, float)}
        # A class may be called NA or 1.
        table = pd.read_csv(path, usecols=list(kinds), dtype=kinds, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: is no table of predictions ({reason}); give the one that evaluate made.") from None
    twice = table["filename"][table["filename"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: has {twice.iloc[0]} twice; give the predictions as evaluate made them.")
    for column, known in (("split", list(ex.SPLITS)), ("label", classes), ("prediction", classes)):
        other = table[column][~table[column].isin(known)]
        if len(other):
            raise UserError(
                f"{path}: has the {column} {other.iloc[0]!r}, which is none of {', '.join(known)}; "
                "give predictions of the same run as the evaluation."
            )
    return table.sort_values("filename", ignore_index=True)


def pair_predictions(before: "pd.DataFrame", yardstick: "pd.DataFrame", split: str) -> "pd.DataFrame":
    """The images of a split with what both models say of them, by file name.

    Returns:
        The rows of `before` with the columns `before` and `after` (the predictions), `loss_before` and `loss_after`.

    Raises:
        UserError: the two have other images in the split, or other labels.
    """
    identity = ["filename", "sha256", "label"]
    columns = {"prediction": "after", "loss": "loss_after"}
    pairs = before[before["split"] == split].merge(
        yardstick[yardstick["split"] == split][[*identity, *columns]].rename(columns=columns),
        how="outer",
        on=identity,
        indicator=True,
    )
    pairs = pairs.rename(columns={"prediction": "before", "loss": "loss_before"})
    alone = pairs[pairs["_merge"] != "both"].sort_values("filename")
    if len(alone):
        raise UserError(
            f"yardstick_predictions: its {split} images are not those of before_predictions "
            f"({alone['filename'].iloc[0]} is not the same in both); evaluate the new model on the examples of the "
            "version before."
        )
    return pairs.sort_values("filename", ignore_index=True)
