"""Compares the evaluation of a data version with the evaluation of the previous version.

The yardstick is the val and test images of the previous version with the labels they had. Both models have predicted
them, so every figure is a difference of pairs. Where the new version has moved some of them to train, it is those that
neither model learned from.
"""

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.compare.data_difference import compare_data, find_new_labels, follow_converted
from components.compare.paired import Bootstrap, compare_accuracy, compare_classes, compare_seeds, compute_mcnemar_p
from components.compare.reading import AFTER, BEFORE, LOSS_AFTER, LOSS_BEFORE, list_models, pair_predictions
from components.compare.report import write_comparison_report
from components.shared.errors import UserError
from components.shared.files import new_directory
from components.shared.formats import predictions as columns
from components.shared.formats.comparison import (
    DIFFERENCES,
    AccuracyChange,
    ChangedImage,
    ClassChange,
    ComparedVersion,
    Comparison,
    CorrectedChange,
    LeftOut,
    NewData,
    SeedChange,
    SeenInTraining,
    SliceChange,
    SplitComparison,
    UnseenChange,
    list_verdicts,
    write_comparison,
)
from components.shared.formats.evaluation import MEASURED_SPLITS, Evaluation, list_measured_splits, read_evaluation
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.formats.predictions import read_predictions
from components.shared.metrics import SLICES, slice_accuracy
from components.shared.summary import count

LENGTH = "the length of the training"
MAYBE_LENGTH = "; the length of the training may explain it as well"
NOISE = ("seed", "seeds")  # the settings that change a model by chance alone
SAME_LENGTH = 1.2  # two trainings count as equally long if neither sees this many times the images of the other


class ComparisonInputs(NamedTuple):
    """The paths of the inputs."""

    before_evaluation: str
    before_predictions: str
    after_evaluation: str
    after_predictions: str  # the new model on the new version
    yardstick_predictions: str  # the new model on the previous version
    examples: str  # of the previous version


class TrainingLength(NamedTuple):
    """How long the new training was beside the previous one."""

    sentence: str  # empty if about as long
    may_explain: bool  # whether that alone may have changed the model
    equal_epochs: int  # of a training on the previous version that would be as long; 0 if it tells nothing


class ComparedVersions(NamedTuple):
    """The inputs; predictions are tables as formats/predictions.py describes them.

    Where the new version has the PNG that ingest made of an image, the tables of the previous version name its sha256.
    """

    before: Evaluation
    after: Evaluation
    before_predictions: pd.DataFrame
    after_predictions: pd.DataFrame
    yardstick_predictions: pd.DataFrame
    examples: ExampleSet


def compare_evaluations(
    inputs: ComparisonInputs,
    *,
    bootstrap: Bootstrap,
    slice_bins: int,
    gallery_size: int,
    comparison_output: str,
    report_output: str,
) -> Comparison:
    """Writes `comparison.json` and the report.

    Args:
        inputs: The paths of what is compared.
        bootstrap: How the intervals are drawn.
        slice_bins: The number of slices, with equally many images, into which each scalar is cut.
        gallery_size: The most images that a gallery of the report shows.
        comparison_output: The folder to write `comparison.json` into.
        report_output: The HTML file to write.

    Returns:
        The content of `comparison.json`.

    Raises:
        UserError: An option is out of range, an input is not what evaluate or ingest makes, the two versions have
            different classes, or the images of the yardstick are not those of the previous version.
    """
    _check_options(bootstrap, slice_bins, gallery_size)
    versions = _read_versions(inputs)
    comparison = _compare_versions(versions, bootstrap, slice_bins)
    with new_directory(comparison_output) as folder:
        write_comparison(folder, comparison)
        write_comparison_report(report_output, versions.examples, comparison, gallery_size=gallery_size)
    for sentence in list_verdicts(comparison):
        print(f"compare: {sentence}", flush=True)
    return comparison


def list_metrics(comparison: Comparison) -> dict[str, float]:
    """Chooses what the KFP UI shows.

    Args:
        comparison: The content of `comparison.json`.

    Returns:
        By name: a few figures of each split, and how many images changed.
    """
    metrics: dict[str, float] = {}
    for split, figures in comparison["splits"].items():
        accuracy = figures["accuracy"]
        metrics |= {
            f"{split}_accuracy_before": accuracy["before"],
            f"{split}_accuracy": accuracy["after"],
            f"{split}_accuracy_change": accuracy["change"],
            f"{split}_accuracy_change_low": accuracy["low"],
            f"{split}_accuracy_change_high": accuracy["high"],
            f"{split}_mcnemar_p": figures["mcnemar_p"],
            f"{split}_newly_right": figures["newly_right"],
            f"{split}_newly_wrong": figures["newly_wrong"],
        }
        if seeds := figures["seeds"]:
            metrics |= {
                f"{split}_mean_accuracy_change": seeds["change"],
                f"{split}_mean_accuracy_change_margin": seeds["margin"],
                f"{split}_seeds_p": seeds["p"],
            }
        if corrected := figures["corrected"]:
            metrics[f"{split}_corrected_accuracy_before"] = corrected["accuracy"]["before"]
            metrics[f"{split}_corrected_accuracy"] = corrected["accuracy"]["after"]
    return metrics | {f"images_{name}": comparison["data"][name] for name in DIFFERENCES}


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


def _read_versions(inputs: ComparisonInputs) -> ComparedVersions:
    """Reads the inputs, checks that they belong together, and follows the images that ingest converted."""
    before, after = read_evaluation(inputs.before_evaluation), read_evaluation(inputs.after_evaluation)
    examples, classes = open_examples(inputs.examples), before["classes"]
    _check_versions(before, after, examples)
    old, new, yardstick = (
        read_predictions(path, classes)
        for path in (inputs.before_predictions, inputs.after_predictions, inputs.yardstick_predictions)
    )
    _check_together("before", before, old)
    _check_together("after", after, new)
    if columns.list_predictions(yardstick) != columns.list_predictions(new):
        raise UserError(
            "yardstick_predictions and after_predictions are of other seeds; give those of one model, as evaluate wrote"
            " them."
        )
    converted = follow_converted(old, new, examples)
    old, yardstick = (
        table.assign(**{columns.SHA256: [converted.get(sha256, sha256) for sha256 in table[columns.SHA256]]})
        for table in (old, yardstick)
    )
    return ComparedVersions(before, after, old, new, yardstick, examples)


def _check_versions(before: Evaluation, after: Evaluation, examples: ExampleSet) -> None:
    if sorted(after["classes"]) != sorted(before["classes"]):
        raise UserError(
            f"the previous version has the classes {', '.join(before['classes'])}, the new one "
            f"{', '.join(after['classes'])}; only versions with the same classes can be compared."
        )
    if examples.manifest.data_version != before["data_version"]:
        raise UserError(
            f"examples are of the data version {examples.manifest.data_version}, but before_evaluation is of "
            f"{before['data_version']}; give the examples on which it was made."
        )


def _check_together(name: str, evaluation: Evaluation, predictions: pd.DataFrame) -> None:
    figures = list_measured_splits(evaluation)
    for split in MEASURED_SPLITS:
        images = int((predictions[columns.SPLIT] == split).sum())
        counted = figures[split]["images"] if split in figures else 0
        if images != counted:
            raise UserError(
                f"{name}_predictions have {images} {split} images, but {name}_evaluation has {counted}; "
                "give both of the same run."
            )
    models = len(columns.list_predictions(predictions))
    if any(models != len(of_split.get("accuracies", [of_split["accuracy"]])) for of_split in figures.values()):
        raise UserError(
            f"{name}_predictions are of {count(models, 'seed')}, but {name}_evaluation is of others; give both of the"
            " same run."
        )


def _compare_versions(versions: ComparedVersions, bootstrap: Bootstrap, slice_bins: int) -> Comparison:
    old, new = versions.before_predictions, versions.after_predictions
    splits = [split for split in MEASURED_SPLITS if split in set(old[columns.SPLIT])]
    if not splits:
        raise UserError("before_predictions have no val or test image, so there is nothing to compare the models on.")
    new_labels = find_new_labels(old, new)
    length = _compare_training_lengths(versions)
    causes = _name_causes(versions, is_other_length=length.may_explain)
    compared: dict[str, SplitComparison] = {
        split: _compare_split(
            split, versions, new_labels=new_labels, causes=causes, bootstrap=bootstrap, slice_bins=slice_bins
        )
        for split in splits
    }
    return {
        "before": _describe_version(versions.before),
        "after": _describe_version(versions.after),
        "classes": versions.before["classes"],
        "resamples": bootstrap.resamples,
        "confidence_level": bootstrap.confidence_level,
        "seed": bootstrap.seed,
        "splits": compared,
        "data": compare_data(old, new, versions.before["classes"]),
        "training_length": length.sentence,
        "length_may_explain": length.may_explain,
        "equal_epochs": length.equal_epochs,
        "seed_noise": _describe_seed_noise(old, new),
    }


def _describe_seed_noise(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Says that a version was trained once, or twice, if one was."""
    before, after = (len(columns.list_predictions(table)) for table in (old, new))
    if min(before, after) > 2:
        return ""
    if min(before, after) == 2:
        return "Two trainings of a version hardly tell how much the seed changes; three do, with the parameter seeds=3."
    trained = "One training of each version"
    if before != after:
        trained = f"{count(before, 'training')} of the previous version and {after:,} of the new one"
    return f"{trained} cannot tell what the seed changes; three of each would, with the parameter seeds=3."


def _compare_training_lengths(versions: ComparedVersions) -> TrainingLength:
    """Says how many times as long the new training was, if that is clearly longer or shorter."""
    before = _count_trained_images(versions.before, versions.before_predictions)
    after = _count_trained_images(versions.after, versions.after_predictions)
    ratio = after / before if before and after else 1.0
    if 1 / SAME_LENGTH < ratio < SAME_LENGTH:
        return TrainingLength("", may_explain=False, equal_epochs=0)
    longer = (
        f"The new model was trained {ratio:,.{0 if ratio >= 10 else 1}f} times as long as the previous one, by images"
        " times epochs, augmented images included"
    )
    if _has_settled(versions.before if ratio >= 1 else versions.after):
        settled = "that hardly explains a change, since the accuracy on val had settled in the shorter training"
        return TrainingLength(f"{longer}; {settled}.", may_explain=False, equal_epochs=0)
    epochs = cast("float", versions.before["settings"]["epochs"])
    equal = round(ratio * epochs)
    equal = 0 if equal == epochs else equal
    tells = f"; a training on the previous version with {count(equal, 'epoch')} would tell" if equal else ""
    sentence = f"{longer}, so part of a change may come from that{tells}."
    return TrainingLength(sentence, may_explain=True, equal_epochs=equal)


def _has_settled(evaluation: Evaluation) -> bool:
    """Whether more epochs would hardly change the model; with a schedule, perhaps only its learning rate has ended."""
    return evaluation.get("has_settled", False) and "learning_rate_schedule" not in evaluation["settings"]


def _name_causes(versions: ComparedVersions, *, is_other_length: bool) -> str:
    """Names what may have changed the accuracy besides chance: the data, and what else differs."""
    old, new = (
        {name: value for name, value in version["settings"].items() if name not in NOISE}
        for version in (versions.before, versions.after)
    )
    differs = {
        "the data": versions.before["trained_on"] != versions.after["trained_on"],
        "the settings": old != new,
        LENGTH: is_other_length,
    }
    causes = [cause for cause, is_so in differs.items() if is_so]
    if not causes:
        return "the same data and settings"
    return " and ".join(filter(None, [", ".join(causes[:-1]), causes[-1]]))


def _count_trained_images(evaluation: Evaluation, predictions: pd.DataFrame) -> float:
    """How many images the model saw in all its epochs; 0 if that is not known."""
    epochs = evaluation["settings"].get("epochs")
    if evaluation["trained_on"] != evaluation["data_version"] or not isinstance(epochs, int | float):
        return 0
    return epochs * int((predictions[columns.SPLIT] == "train").sum())


def _describe_version(evaluation: Evaluation) -> ComparedVersion:
    return {
        "data_version": evaluation["data_version"],
        "trained_on": evaluation["trained_on"],
        "settings": evaluation["settings"],
    }


def _compare_split(
    split: str,
    versions: ComparedVersions,
    *,
    new_labels: "pd.Series[str]",
    causes: str,
    bootstrap: Bootstrap,
    slice_bins: int,
) -> SplitComparison:
    classes, old, new = versions.before["classes"], versions.before_predictions, versions.after_predictions
    pairs, left_out = _leave_out_learned(pair_predictions(old, versions.yardstick_predictions, split), split, versions)
    labels, before, after = (pairs[name].map(classes.index).to_numpy() for name in (columns.LABEL, BEFORE, AFTER))
    of_classes, macro_f1 = compare_classes(labels, before, after, classes=len(classes), bootstrap=bootstrap)
    images = pairs[columns.LABEL].value_counts()
    overall = _compare_accuracy(pairs, bootstrap)
    seen_before, seen_after = (_find_seen_in_training(pairs, table) for table in (old, new))
    stayed = _take_new_labels(pairs, new_labels)
    is_untouched = len(stayed) == len(pairs) and bool((stayed[columns.LABEL] == pairs[columns.LABEL]).all())
    counted = f"the {count(len(pairs), f'untouched {split} image' if is_untouched else f'{split} image')}"
    if left_out and left_out["images"]:
        counted += " that neither model learned from" + ("," if is_untouched else "")
    where = counted if is_untouched else f"{counted}, as they were before,"
    is_right_before, is_right_after = (pairs[name] == pairs[columns.LABEL] for name in (BEFORE, AFTER))
    return {
        "images": len(pairs),
        "left_out": left_out,
        "verdict": _format_verdict(where, overall, causes=causes, confidence_level=bootstrap.confidence_level),
        **overall,
        "macro_f1": macro_f1,
        "classes": {
            name: ClassChange(images=int(images.get(name, 0)), recall=recall, f1=f1)
            for name, (recall, f1) in zip(classes, of_classes, strict=True)
        },
        "slices": _compare_slices(pairs, slice_bins, bootstrap),
        "seen_in_training": SeenInTraining(before=int(seen_before.sum()), after=int(seen_after.sum())),
        "unseen": _compare_unseen(pairs, ~(seen_before | seen_after), bootstrap),
        "corrected": None
        if is_untouched or stayed.empty
        else _compare_corrected(split, pairs, stayed, causes=causes, bootstrap=bootstrap),
        "new_data": _describe_new_data(split, versions),
        "newly_right_images": _list_images(pairs[is_right_after & ~is_right_before], LOSS_BEFORE),
        "newly_wrong_images": _list_images(pairs[is_right_before & ~is_right_after], LOSS_AFTER),
    }


def _compare_accuracy(pairs: pd.DataFrame, bootstrap: Bootstrap) -> AccuracyChange:
    before, after = _find_right(pairs, BEFORE), _find_right(pairs, AFTER)
    newly_right, newly_wrong = int((after[0] & ~before[0]).sum()), int((before[0] & ~after[0]).sum())
    return {
        "accuracy": compare_accuracy(before[0], after[0], bootstrap),
        "seeds": compare_seeds(before, after, bootstrap),
        "newly_right": newly_right,
        "newly_wrong": newly_wrong,
        "mcnemar_p": compute_mcnemar_p(newly_right, newly_wrong),
    }


def _find_right(pairs: pd.DataFrame, version: str) -> NDArray[np.bool_]:
    """Whether each model of a version is right on each image, bool [models, images]; the first seed comes first."""
    return np.array([pairs[name] == pairs[columns.LABEL] for name in list_models(pairs, version)])


def _format_verdict(where: str, overall: AccuracyChange, *, causes: str, confidence_level: float) -> str:
    """Says in a sentence how the accuracy changed on some images."""
    if seeds := overall["seeds"]:
        return _format_seeds_verdict(where, seeds, causes=causes, confidence_level=confidence_level)
    accuracy, p = overall["accuracy"], overall["mcnemar_p"]
    before, after = f"{accuracy['before']:.3f}", f"{accuracy['after']:.3f}"
    went = f"went from {before} to {after}" if before != after else f"stayed at {after}"
    meaning = (
        f", which {_judge(overall, confidence_level)}{MAYBE_LENGTH * (LENGTH in causes)}" if before != after else ""
    )
    return (
        f"On {where} the accuracy {went} "
        f"({accuracy['change']:+.3f}, {100 * confidence_level:g} % {accuracy['low']:.3f} to {accuracy['high']:.3f}; "
        f"McNemar p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}){meaning}."
    )


def _format_seeds_verdict(where: str, seeds: SeedChange, *, causes: str, confidence_level: float) -> str:
    """Says in a sentence what the data changed, and how much of it the seeds may explain."""
    before, after = seeds["before"], seeds["after"]
    is_even = len(before) == len(after)
    trainings = f"{len(before)} trainings each" if is_even else f"{len(before)} and {len(after)} trainings"
    return (
        f"On {where} the mean accuracy went from {mean(before):.3f} to {mean(after):.3f}: {seeds['change']:+.3f} from"
        f" {causes}, ± {seeds['margin']:.3f} from the seed ({trainings},"
        f" {min(before):.3f} to {max(before):.3f} before and {min(after):.3f} to {max(after):.3f} after;"
        f" {100 * confidence_level:g} % over images {seeds['low']:+.3f} to {seeds['high']:+.3f}),"
        f" which {_judge_seeds(seeds)}{MAYBE_LENGTH * (LENGTH in causes)}."
    )


def _judge_seeds(seeds: SeedChange) -> str:
    """Says whether other seeds or other images of the same kind might have shown no such change."""
    is_of_seed = abs(seeds["change"]) <= seeds["margin"]
    is_of_images = seeds["low"] <= 0 <= seeds["high"]
    if is_of_seed:
        return "chance may explain" if is_of_images else "the seed may explain"
    return "the choice of images may explain" if is_of_images else "is more than chance explains"


def _judge(change: AccuracyChange, confidence_level: float) -> str:
    """Says whether other images of the same kind might have shown no such change from one model to the other."""
    is_in_interval = change["accuracy"]["low"] <= 0 <= change["accuracy"]["high"]
    is_in_test = change["mcnemar_p"] >= 1 - confidence_level
    if is_in_interval != is_in_test:
        return "may or may not be chance: the interval and the test disagree"
    if is_in_test:
        return "chance may explain"
    return "is more than the choice of images explains, but one seed cannot tell how much of it is of the data"


def _compare_slices(pairs: pd.DataFrame, bins: int, bootstrap: Bootstrap) -> list[SliceChange]:
    """Compares the accuracy in the slices that the evaluation has, by scalar, from small to large."""
    rows = pairs.assign(pixels=pairs[columns.WIDTH] * pairs[columns.HEIGHT])
    slices = slice_accuracy(pairs.assign(**{columns.PREDICTION: pairs[BEFORE]}), bins)
    changes: list[SliceChange] = []
    for entry in sorted(slices, key=lambda entry: (SLICES.index(entry["scalar"]), entry["from"])):
        values = rows[entry["scalar"]]
        is_above = (values > entry["from"]) | (entry["from"] == values.min())  # the first holds its lower bound as well
        part = pairs[is_above & (values <= entry["to"])]
        changes.append(
            {
                "scalar": entry["scalar"],
                "from": entry["from"],
                "to": entry["to"],
                "images": len(part),
                "accuracy": compare_accuracy(_find_right(part, BEFORE)[0], _find_right(part, AFTER)[0], bootstrap),
            }
        )
    return changes


def _find_seen_in_training(pairs: pd.DataFrame, predictions: pd.DataFrame) -> NDArray[np.bool_]:
    """Finds the images that are, byte for byte, in the train split of a version, bool [images]."""
    train = predictions[columns.SHA256][predictions[columns.SPLIT] == "train"]
    return cast("NDArray[np.bool_]", pairs[columns.SHA256].isin(train).to_numpy())


def _leave_out_learned(
    pairs: pd.DataFrame, split: str, versions: ComparedVersions
) -> tuple[pd.DataFrame, LeftOut | None]:
    """Leaves out what a model learned from, if the new version has images of the split in train that were not there."""
    before, after = (
        _find_seen_in_training(pairs, table) for table in (versions.before_predictions, versions.after_predictions)
    )
    learned = before | after
    if not (after & ~before).any():
        return pairs, None
    images, of_split = int(learned.sum()), count(len(pairs), f"{split} image")
    if images == len(pairs):
        why = f"A model learned from each of the {of_split}, so this says little about others."
        return pairs, {"images": 0, "why": why}
    too = f", the previous one {int(before.sum()):,}" if before.any() else ""
    why = (
        f"Left out, since a model learned from them: {images:,} of the {of_split}; the new version has"
        f" {int(after.sum()):,} in train{too}."
    )
    if split == "val":
        why += " The new model's best epoch was chosen on those that stay, and the previous one's on all of val, which"
        why += " favours the new model a little."
    return pairs[~learned], {"images": images, "why": why}


def _compare_unseen(pairs: pd.DataFrame, is_unseen: NDArray[np.bool_], bootstrap: Bootstrap) -> UnseenChange | None:
    if is_unseen.all() or not is_unseen.any():
        return None
    return {"images": int(is_unseen.sum()), **_compare_accuracy(pairs[is_unseen], bootstrap)}


def _take_new_labels(pairs: pd.DataFrame, new_labels: "pd.Series[str]") -> pd.DataFrame:
    """The images that stayed, with their labels in the new version."""
    stayed = pairs[pairs[columns.FILENAME].isin(new_labels.index)]
    return stayed.assign(**{columns.LABEL: stayed[columns.FILENAME].map(new_labels)})


def _compare_corrected(
    split: str, pairs: pd.DataFrame, stayed: pd.DataFrame, *, causes: str, bootstrap: Bootstrap
) -> CorrectedChange:
    change = _compare_accuracy(stayed, bootstrap)
    relabelled = int((stayed[columns.LABEL] != pairs[columns.LABEL].loc[stayed.index]).sum())
    where = f"the {count(len(stayed), f'{split} image')} that stayed"
    where += f", {relabelled:,} of them with another label," if relabelled else ""
    return {
        "images": len(stayed),
        "relabelled": relabelled,
        "verdict": _format_verdict(where, change, causes=causes, confidence_level=bootstrap.confidence_level),
        **change,
    }


def _describe_new_data(split: str, versions: ComparedVersions) -> NewData | None:
    figures = list_measured_splits(versions.after).get(split)
    if not figures:
        return None
    old, new = (
        sorted(zip(part[columns.SHA256], part[columns.LABEL], strict=True))
        for part in (
            table[table[columns.SPLIT] == split] for table in (versions.before_predictions, versions.after_predictions)
        )
    )
    return {
        "images": figures["images"],
        "accuracy": figures["accuracy"],
        "accuracy_interval": figures["accuracy_interval"],
        "macro_f1": figures["macro_f1"],
        "same_images": old == new,
    }


def _list_images(pairs: pd.DataFrame, loss: str) -> list[ChangedImage]:
    """Lists the images, beginning with those on which the model that is wrong has the highest loss."""
    ordered = pairs.sort_values([loss, columns.FILENAME], ascending=[False, True])
    cells: Sequence[tuple[str, str, str, str]] = list(
        ordered[[columns.FILENAME, columns.LABEL, BEFORE, AFTER]].itertuples(index=False, name=None)
    )
    return [
        ChangedImage(filename=filename, label=label, before=before, after=after)
        for filename, label, before, after in cells
    ]
