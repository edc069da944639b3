"""Two evaluations, the one of a data version and the one of the version before: what changed.

The yardstick is the val and test images of the version before with the labels they had: both models have predicted
them, so every figure is a difference of pairs. `comparison.json` holds everything:

    {"before": {"data_version": "<md5>.dir", "trained_on": "<md5>.dir", "settings": {"epochs": 50, ...}},
     "after": {likewise},
     "classes": ["i", "ii", ...],
     "confidence_level": 0.95, "resamples": 2000, "seed": 1,
     "splits": {"val": SPLIT, "test": SPLIT},     # in this order; one without images is left out
     "data": DATA}

    CHANGE = {"before": 0.691, "after": 0.842, "change": 0.151, "low": 0.12, "high": 0.18}
        # low and high bound the change: a percentile bootstrap interval at the confidence level

    SPLIT = {"images": 813,
             "verdict": "On the 813 untouched val images the accuracy went from 0.691 to 0.842 (+0.151, ...).",
             "accuracy": CHANGE,
             "newly_right": 150, "newly_wrong": 27,       # images
             "mcnemar_p": 1.2e-09,                        # exact, two-sided
             "macro_f1": CHANGE,
             "classes": {"i": {"images": 80, "recall": CHANGE, "f1": CHANGE}, ...},   # CHANGE is null without images
             "slices": [{"scalar": "pixels", "from": 14641.0, "to": 29000.0, "images": 204, "accuracy": CHANGE}, ...],
             "seen_in_training": {"before": 0, "after": 12},    # of the images: their bytes are in the train split
             "unseen": {"images": 801, "accuracy": CHANGE, "newly_right": 148, "newly_wrong": 27, "mcnemar_p": 1e-9},
                                                          # those in neither; null where that is all images, or none
             "new_data": {"images": 790, "accuracy": 0.85, "accuracy_interval": [0.82, 0.87], "macro_f1": 0.84,
                          "same_images": false},          # the new model on this split of the new version, which may
                                                          # hold other images or labels; null if there is no such split
             "newly_right_images": [{"filename": "val/i/a.png", "label": "i", "before": "v", "after": "i"}, ...],
             "newly_wrong_images": [likewise]}            # all, those first that the wrong model was surest of

    DATA = {"relabelled": 120, "moved": 8, "dropped": 31, "added": 0, "altered": 0, "augmented": 7000,   # images
            "relabels": [{"from": "ii", "to": "iii", "images": 9}, ...],    # the most frequent first
            "images": {"train": {"i": {"before": 200, "after": 190, "augmented_before": 0, "augmented_after": 800},
                                 ...}, ...}}              # by split and class; before and after are without augmented
        # Images are the same if their bytes are. moved: to another split; an image may be relabelled and moved.
        # altered: of other bytes, under the same name. augmented: images that curate made, in the new version.
"""

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from components.compare.data_difference import data_difference
from components.compare.paired import Bootstrap, Change, accuracy_change, class_changes, mcnemar_p
from components.compare.reading import FIGURES, SPLITS, pair_predictions, read_evaluation, read_predictions
from components.compare.report import write_comparison_report
from components.evaluate.metrics import SLICES, slices
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats import examples as ex

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Inputs(NamedTuple):
    """Paths."""

    before_evaluation: str
    before_predictions: str
    after_evaluation: str
    after_predictions: str  # the new model on the new version
    yardstick_predictions: str  # the new model on the version before
    examples: str  # of the version before


def compare_evaluations(
    inputs: Inputs,
    bootstrap: Bootstrap,
    slice_bins: int,
    gallery_size: int,
    comparison_output: str,
    report_output: str,
) -> dict[str, Any]:
    """Writes `comparison.json` and the report.

    Returns:
        The content of `comparison.json`.

    Raises:
        UserError: an option is out of range, an input is not what evaluate or ingest makes, the two versions have other
            classes, or the yardstick's images are not those of the version before.
    """
    _check_options(bootstrap, slice_bins, gallery_size)
    before, after = read_evaluation(inputs.before_evaluation), read_evaluation(inputs.after_evaluation)
    manifest, classes = ex.read_manifest(inputs.examples), before["classes"]
    _check_versions(before, after, manifest)
    old, new, yardstick = (
        read_predictions(path, classes)
        for path in (inputs.before_predictions, inputs.after_predictions, inputs.yardstick_predictions)
    )
    _check_together("before", before, old)
    _check_together("after", after, new)
    tables = {split: pair_predictions(old, yardstick, split) for split in SPLITS if split in set(old["split"])}
    if not tables:
        raise UserError("before_predictions: has no val or test image; there is nothing to compare the models on.")
    result = {
        **{
            name: {key: version[key] for key in ("data_version", "trained_on", "settings")}
            for name, version in (("before", before), ("after", after))
        },
        "classes": classes,
        **bootstrap._asdict(),
        "splits": {
            split: {
                **_compare_split(split, pairs, classes, slice_bins, bootstrap, _seen_in_training(pairs, old, new)),
                "new_data": _new_data(split, after, old, new),
                **_changed_sides(pairs),
            }
            for split, pairs in tables.items()
        },
        "data": data_difference(old, new, classes),
    }
    with new_directory(comparison_output) as folder:
        (folder / "comparison.json").write_text(json.dumps(result, indent=1) + "\n")
        write_comparison_report(report_output, inputs.examples, manifest, result, gallery_size)
    for figures in result["splits"].values():
        print(f"compare: {figures['verdict']}", flush=True)
    return result


def scalar_metrics(comparison: dict[str, Any]) -> dict[str, float]:
    """What the KFP UI shows: a few figures of each split, and how many images changed."""
    found: dict[str, float] = {}
    for split, figures in comparison["splits"].items():
        accuracy = figures["accuracy"]
        found |= {
            f"{split}_accuracy_before": accuracy["before"],
            f"{split}_accuracy": accuracy["after"],
            f"{split}_accuracy_change": accuracy["change"],
            f"{split}_accuracy_change_low": accuracy["low"],
            f"{split}_accuracy_change_high": accuracy["high"],
            f"{split}_mcnemar_p": figures["mcnemar_p"],
            f"{split}_newly_right": figures["newly_right"],
            f"{split}_newly_wrong": figures["newly_wrong"],
        }
    changes = ("relabelled", "moved", "dropped", "added", "altered", "augmented")
    return found | {f"images_{name}": comparison["data"][name] for name in changes}


def _check_options(bootstrap: Bootstrap, slice_bins: int, gallery_size: int) -> None:
    for name, value, least in (
        ("resamples", bootstrap.resamples, 100),
        ("seed", bootstrap.seed, 0),
        ("slice_bins", slice_bins, 1),
        ("gallery_size", gallery_size, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; it must be {least} or more.")
    if not 0 < bootstrap.confidence_level < 1:
        raise UserError(f"confidence_level is {bootstrap.confidence_level}; it must be above 0 and below 1.")


def _check_versions(before: dict[str, Any], after: dict[str, Any], manifest: dict[str, Any]) -> None:
    if sorted(after["classes"]) != sorted(before["classes"]):
        raise UserError(
            f"the version before has the classes {', '.join(before['classes'])}, the new one "
            f"{', '.join(after['classes'])}; only versions of the same classes can be compared."
        )
    if manifest["data_version"] != before["data_version"]:
        raise UserError(
            f"examples are of the data version {manifest['data_version']}, before_evaluation of "
            f"{before['data_version']}; give the examples that it was made on."
        )


def _check_together(name: str, evaluation: dict[str, Any], predictions: "pd.DataFrame") -> None:
    for split in SPLITS:
        images, counted = int((predictions["split"] == split).sum()), evaluation.get(split, {}).get("images", 0)
        if images != counted:
            raise UserError(
                f"{name}_predictions have {images} {split} images, {name}_evaluation {counted}; give both of one run."
            )


def _compare_split(
    split: str,
    pairs: "pd.DataFrame",
    classes: list[str],
    slice_bins: int,
    bootstrap: Bootstrap,
    seen: dict[str, "np.ndarray"],
) -> dict[str, Any]:
    labels, before, after = (pairs[name].map(classes.index).to_numpy() for name in ("label", "before", "after"))
    of_classes, macro_f1 = class_changes(labels, before, after, len(classes), bootstrap)
    images = pairs["label"].value_counts()
    overall = _accuracy(pairs, bootstrap)
    unseen = ~(seen["before"] | seen["after"])
    return {
        "images": len(pairs),
        "verdict": verdict(split, len(pairs), overall["accuracy"], overall["mcnemar_p"], bootstrap.confidence_level),
        **overall,
        "macro_f1": macro_f1,
        "classes": {
            name: {"images": int(images.get(name, 0)), **(changes or {"recall": None, "f1": None})}
            for name, changes in zip(classes, of_classes, strict=True)
        },
        "slices": _slices(pairs, slice_bins, bootstrap),
        "seen_in_training": {name: int(each.sum()) for name, each in seen.items()},
        "unseen": {"images": int(unseen.sum()), **_accuracy(pairs[unseen], bootstrap)}
        if unseen.any() and not unseen.all()
        else None,
    }


def _accuracy(pairs: "pd.DataFrame", bootstrap: Bootstrap) -> dict[str, Any]:
    before = (pairs["before"] == pairs["label"]).to_numpy()
    after = (pairs["after"] == pairs["label"]).to_numpy()
    newly_right, newly_wrong = int((after & ~before).sum()), int((before & ~after).sum())
    return {
        "accuracy": accuracy_change(before, after, bootstrap),
        "newly_right": newly_right,
        "newly_wrong": newly_wrong,
        "mcnemar_p": mcnemar_p(newly_right, newly_wrong),
    }


def verdict(split: str, images: int, accuracy: Change, p: float, confidence_level: float) -> str:
    """The outcome of a split as a sentence."""
    before, after = (f"{accuracy[name]:.3f}" for name in ("before", "after"))
    went = f"went from {before} to {after}" if before != after else f"stayed at {after}"
    return (
        f"On the {images:,} untouched {split} image{'s' if images != 1 else ''} the accuracy {went} "
        f"({accuracy['change']:+.3f}, {100 * confidence_level:g} % {accuracy['low']:.3f} to {accuracy['high']:.3f}; "
        f"McNemar p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})."
    )


def _slices(pairs: "pd.DataFrame", bins: int, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """The slices that the evaluation has, by scalar, from small to large."""
    rows = pairs.assign(pixels=pairs["width"] * pairs["height"])
    found = slices(pairs.assign(prediction=pairs["before"]), bins)
    entries = []
    for entry in sorted(found, key=lambda entry: (SLICES.index(entry["scalar"]), entry["from"])):
        values = rows[entry["scalar"]]
        above = (values > entry["from"]) | (entry["from"] == values.min())  # the first holds its lower bound as well
        part = pairs[above & (values <= entry["to"])]
        bounds = {name: entry[name] for name in ("scalar", "from", "to")}
        entries.append({**bounds, "images": len(part), "accuracy": _accuracy(part, bootstrap)["accuracy"]})
    return entries


def _seen_in_training(pairs: "pd.DataFrame", old: "pd.DataFrame", new: "pd.DataFrame") -> dict[str, "np.ndarray"]:
    """Which of the images are byte for byte in the train split of each version, bool [images]."""
    return {
        name: pairs["sha256"].isin(table["sha256"][table["split"] == "train"]).to_numpy()
        for name, table in (("before", old), ("after", new))
    }


def _new_data(split: str, after: dict[str, Any], old: "pd.DataFrame", new: "pd.DataFrame") -> dict[str, Any] | None:
    if split not in after:
        return None
    held = [
        sorted(zip(part["sha256"], part["label"], strict=True))
        for part in (table[table["split"] == split] for table in (old, new))
    ]
    return {**{name: after[split][name] for name in FIGURES}, "same_images": held[0] == held[1]}


def _changed_sides(pairs: "pd.DataFrame") -> dict[str, list[dict[str, str]]]:
    before, after = pairs["before"] == pairs["label"], pairs["after"] == pairs["label"]
    columns = ["filename", "label", "before", "after"]
    return {
        f"newly_{name}_images": pairs[which]
        .sort_values([loss, "filename"], ascending=[False, True])[columns]
        .to_dict("records")
        for name, which, loss in (("right", after & ~before, "loss_before"), ("wrong", before & ~after, "loss_after"))
    }
