"""How the images of two data versions differ."""

import hashlib
import re
from collections import Counter
from pathlib import PurePosixPath

import pandas as pd

from components.shared.formats.comparison import ClassCounts, DataDifference
from components.shared.formats.examples import SPLITS, ExampleSet, is_augmented
from components.shared.formats.predictions import FILENAME, LABEL, SHA256, SPLIT

NAME = "name"  # of the file, without its folder and ending, and without what curate adds where two would meet
ADDED = re.compile(r"\.[0-9a-f]{8}(-[0-9]+)?$")  # the start of a sha256, and perhaps a number

# What an image has in common with its match in the other version. Images are matched in this order: those that stayed
# where they were, that moved, that were relabelled, that were both, and last those with other bytes under one place,
# first with the same ending, then with another one, since curate writes what it crops as PNG.
# Each is first looked for under its name, so that an image which curate relabelled counts as such even if a copy of it
# had that label already and was dropped.
PLACES: tuple[list[str], ...] = ([SPLIT, LABEL], [LABEL], [SPLIT], [])
ALIKE = (
    *([SHA256, NAME, *place] for place in PLACES),
    *([SHA256, *place] for place in PLACES),
    [FILENAME],
    [SPLIT, LABEL, NAME],
)


def compare_data(before: pd.DataFrame, after: pd.DataFrame, classes: list[str]) -> DataDifference:
    """Compares the images of two data versions.

    Images with the same bytes are matched one to one, first those of one name, and of the others so that as few as
    possible count as relabelled.

    Args:
        before: The predictions for the previous version, as formats/predictions.py describes them.
        after: The predictions for the new version, likewise.
        classes: The names of the classes.

    Returns:
        The difference.
    """
    old, old_augmented = _split_off_augmented(before)
    new, new_augmented = _split_off_augmented(after)
    pairs = _match(old, new)
    relabelled = pairs[pairs[f"{LABEL}_before"] != pairs[f"{LABEL}_after"]]
    relabels = relabelled.groupby([f"{LABEL}_before", f"{LABEL}_after"]).size()
    counts = tuple(_count_images(part) for part in (old, new, old_augmented, new_augmented))
    splits = [split for split in SPLITS if split in {*before[SPLIT], *after[SPLIT]}]
    return {
        "relabelled": len(relabelled),
        "moved": int((pairs[f"{SPLIT}_before"] != pairs[f"{SPLIT}_after"]).sum()),
        "dropped": len(old) - len(pairs),
        "added": len(new) - len(pairs),
        "altered": int((pairs[f"{SHA256}_before"] != pairs[f"{SHA256}_after"]).sum()),
        "augmented": len(new_augmented),
        "relabels": [
            {"from": old_label, "to": new_label, "images": int(images)}
            for (old_label, new_label), images in sorted(relabels.items(), key=lambda item: (-item[1], item[0]))
        ],
        "images": {split: {label: _select_counts(counts, split, label) for label in classes} for split in splits},
    }


def find_new_labels(before: pd.DataFrame, after: pd.DataFrame) -> "pd.Series[str]":
    """Finds the images that are in the same split of the new version, unaltered.

    Args:
        before: As compare_data takes it.
        after: Likewise.

    Returns:
        Their labels in the new version, by their file names in the previous one.
    """
    pairs = _match(*(_split_off_augmented(table)[0] for table in (before, after)))
    is_same = pairs[f"{SHA256}_before"] == pairs[f"{SHA256}_after"]
    stayed = pairs[is_same & (pairs[f"{SPLIT}_before"] == pairs[f"{SPLIT}_after"])]
    return stayed.set_index(f"{FILENAME}_before")[f"{LABEL}_after"]


def follow_converted(before: pd.DataFrame, after: pd.DataFrame, examples: ExampleSet) -> dict[str, str]:
    """Finds the images that are in the new version as the PNG which ingest made of them, a TIFF for example.

    Args:
        before: The predictions for the previous version.
        after: The predictions for the new version.
        examples: The images of the previous version.

    Returns:
        For each of them, the sha256 of the PNG, keyed by the sha256 of the original file.
    """
    known, left = set(before[SHA256]), set(after[SHA256])
    if left <= known:
        return {}
    pictures = (
        (example.sha256, hashlib.sha256(example.encoded).hexdigest())
        for split in examples.manifest.splits
        for example in examples.read(split)
        if example.sha256 not in left
    )
    return {sha256: picture for sha256, picture in pictures if picture in left}


def _split_off_augmented(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Splits a table into the images that people made and those that curate made from them."""
    augmented = table[FILENAME].map(is_augmented).astype(bool)  # also of an empty table
    return table[~augmented], table[augmented]


def _count_images(table: pd.DataFrame) -> Counter[tuple[str, str]]:
    """Counts the images by split and label."""
    return Counter(zip(table[SPLIT], table[LABEL], strict=True))


def _select_counts(counts: tuple[Counter[tuple[str, str]], ...], split: str, label: str) -> ClassCounts:
    before, after, augmented_before, augmented_after = (count[split, label] for count in counts)
    return {
        "before": before,
        "after": after,
        "augmented_before": augmented_before,
        "augmented_after": augmented_after,
    }


def _match(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Matches images: a row per image that both versions have, its columns once with _before and once with _after."""
    before = _identify(before).add_suffix("_before")
    after = _identify(after).add_suffix("_after")
    found = []
    for keys in ALIKE:
        # Of several images with the same keys, the first is matched with the first, the second with the second.
        old_keys, new_keys = [f"{key}_before" for key in keys], [f"{key}_after" for key in keys]
        old = before.assign(row_before=before.index, nth=before.groupby(old_keys).cumcount())
        new = after.assign(row_after=after.index, nth=after.groupby(new_keys).cumcount())
        pairs = old.merge(new, left_on=[*old_keys, "nth"], right_on=[*new_keys, "nth"])
        before = before.drop(index=pairs["row_before"])
        after = after.drop(index=pairs["row_after"])
        found.append(pairs)
    return pd.concat(found, ignore_index=True)


def _identify(table: pd.DataFrame) -> pd.DataFrame:
    """The columns by which images are matched."""
    names = [ADDED.sub("", PurePosixPath(filename).stem) for filename in table[FILENAME]]
    return table[[FILENAME, SHA256, SPLIT, LABEL]].assign(**{NAME: pd.Series(names, table.index, str)})
