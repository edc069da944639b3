"""What became of the images between two data versions."""

from typing import TYPE_CHECKING, Any

from components.shared.formats.examples import SPLITS, is_augmented

if TYPE_CHECKING:
    import pandas as pd

# What an image of one version has in common with its match in the other: first the images that stayed where they were,
# then those that moved, that were relabelled, both; last those that are other bytes under the same name.
ALIKE = (["sha256", "split", "label"], ["sha256", "label"], ["sha256", "split"], ["sha256"], ["filename"])


def data_difference(before: "pd.DataFrame", after: "pd.DataFrame", classes: list[str]) -> dict[str, Any]:
    """DATA of `comparison.json`, from the predictions of both versions on their own data.

    Bytes that occur several times are matched one to one, so that as few images as possible are relabelled.
    """
    old, old_augmented = _parted(before)
    new, new_augmented = _parted(after)
    pairs = _matched(old, new)
    relabelled = pairs[pairs["label_before"] != pairs["label_after"]]
    relabels = relabelled.groupby(["label_before", "label_after"]).size()
    parts = {"before": old, "after": new, "augmented_before": old_augmented, "augmented_after": new_augmented}
    counts = {name: part.groupby(["split", "label"]).size() for name, part in parts.items()}
    splits = [split for split in SPLITS if split in {*before["split"], *after["split"]}]
    return {
        "relabelled": len(relabelled),
        "moved": int((pairs["split_before"] != pairs["split_after"]).sum()),
        "dropped": len(old) - len(pairs),
        "added": len(new) - len(pairs),
        "altered": int((pairs["sha256_before"] != pairs["sha256_after"]).sum()),
        "augmented": len(new_augmented),
        "relabels": [
            {"from": old_label, "to": new_label, "images": int(images)}
            for (old_label, new_label), images in sorted(relabels.items(), key=lambda item: (-item[1], item[0]))
        ],
        "images": {
            split: {
                label: {name: int(count.get((split, label), 0)) for name, count in counts.items()} for label in classes
            }
            for split in splits
        },
    }


def _parted(table: "pd.DataFrame") -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """The images that people made, and those that curate made of them."""
    augmented = table["filename"].map(is_augmented).astype(bool)  # also of an empty table
    return table[~augmented], table[augmented]


def _matched(before: "pd.DataFrame", after: "pd.DataFrame") -> "pd.DataFrame":
    """A row per image that both versions have: its columns, once with _before and once with _after."""
    import pandas as pd

    identity = ["filename", "sha256", "split", "label"]
    before = before[identity].add_suffix("_before")
    after = after[identity].add_suffix("_after")
    found = []
    for keys in ALIKE:
        # The first of some bytes meets the first of the same bytes, the second the second.
        old_keys, new_keys = [f"{key}_before" for key in keys], [f"{key}_after" for key in keys]
        old = before.assign(row_before=before.index, nth=before.groupby(old_keys).cumcount())
        new = after.assign(row_after=after.index, nth=after.groupby(new_keys).cumcount())
        pairs = old.merge(new, left_on=[*old_keys, "nth"], right_on=[*new_keys, "nth"])
        before = before.drop(index=pairs["row_before"])
        after = after.drop(index=pairs["row_after"])
        found.append(pairs)
    return pd.concat(found, ignore_index=True)
