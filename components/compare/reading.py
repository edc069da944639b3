"""The predictions of two models, paired image by image."""

import pandas as pd

from components.shared.errors import UserError
from components.shared.formats import predictions as columns

BEFORE = "before"  # the prediction of the previous model
AFTER = "after"
LOSS_BEFORE = "loss_before"
LOSS_AFTER = "loss_after"


def pair_predictions(before: pd.DataFrame, yardstick: pd.DataFrame, split: str) -> pd.DataFrame:
    """Pairs what both models predict for the images of a split.

    Args:
        before: The predictions of the previous model.
        yardstick: The predictions of the new model for the same images.
        split: The split.

    Returns:
        The rows of `before`, by file name, with the columns BEFORE, AFTER, LOSS_BEFORE and LOSS_AFTER, and those of
        further seeds, which begin with BEFORE and AFTER.

    Raises:
        UserError: The two have different images in the split, or different labels.
    """
    identity = [columns.FILENAME, columns.SHA256, columns.LABEL]
    renamed = _name_predictions(yardstick, AFTER) | {columns.LOSS: LOSS_AFTER}
    pairs = before[before[columns.SPLIT] == split].merge(
        yardstick[yardstick[columns.SPLIT] == split][[*identity, *renamed]].rename(columns=renamed),
        how="outer",
        on=identity,
        indicator=True,
    )
    pairs = pairs.rename(columns=_name_predictions(before, BEFORE) | {columns.LOSS: LOSS_BEFORE})
    alone = pairs[pairs["_merge"] != "both"].sort_values(columns.FILENAME)
    if len(alone):
        raise UserError(
            f"yardstick_predictions: its {split} images are not those of before_predictions "
            f"({alone[columns.FILENAME].iloc[0]} is not the same in both); evaluate the new model on the examples of "
            "the previous version."
        )
    return pairs.sort_values(columns.FILENAME, ignore_index=True)


def list_models(pairs: pd.DataFrame, version: str) -> list[str]:
    """Lists the columns with what each model of a version predicts, BEFORE or AFTER, that of its first seed first."""
    return [name for name in pairs.columns if name == version or str(name).startswith(f"{version}_")]


def _name_predictions(table: pd.DataFrame, version: str) -> dict[str, str]:
    """The names that the columns with predictions of a version get beside those of the other."""
    first, *others = columns.list_predictions(table)
    return {first: version} | {name: f"{version}_{name}" for name in others}
