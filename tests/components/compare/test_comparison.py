import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from PIL import Image

from components.compare.comparison import ComparisonInputs, compare_evaluations, list_metrics
from components.compare.paired import Bootstrap, compare_accuracy, compute_mcnemar_p
from components.compare.summary import write_comparison_summary
from components.evaluate.evaluation import evaluate_model
from components.evaluate.metrics import measure_split
from components.shared.errors import UserError
from components.shared.formats.comparison import DIFFERENCES, Comparison, read_comparison
from components.shared.formats.evaluation import FILE as EVALUATION
from components.shared.formats.evaluation import read_evaluation
from components.shared.formats.examples import SPLITS, open_examples
from components.shared.formats.predictions import describe_image, write_predictions
from tests.conftest import BEAM, CLASSES, Folders, contents, ingest_folder
from tests.pages import Page

NAMES = ["NA", "$v$", "7"]  # classes that a table reader or a plot could take for something else
EVIL = """<script>alert('1')<|script> & "quoted".png"""
BOOTSTRAP = Bootstrap(200, 0.9, 4)
GALLERY = 2
TEXTS = ("label", "prediction", *(f"prediction_seed_{seed}" for seed in range(2, 9)))
FAVOURED = (
    " The new model's best epoch was chosen on those that stay, and the previous one's on all of val, which favours the"
    " new model a little."
)
DOCUMENT = {"data_version": "a", "trained_on": "a", "settings": {}, "classes": NAMES}  # an evaluation without splits


class Versions(NamedTuple):
    """The stage's inputs in a folder, to be changed and read again."""

    folder: Path
    examples: Path

    def read(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / name, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False)

    def write(self, name: str, rows: pd.DataFrame) -> None:
        write_predictions(rows, self.folder / name)

    def evaluate(self, name: str, data_version: str) -> None:
        """Writes the evaluation that belongs to the predictions."""
        rows = self.read(f"{name}_predictions")
        splits = {split: rows[rows["split"] == split] for split in SPLITS}
        metrics = {
            "data_version": data_version,
            "trained_on": data_version,
            "settings": {"epochs": 2, "seed": 1},
            "classes": NAMES,
            "train": {"images": len(splits["train"])},
            **{split: measure_split(splits[split], NAMES, 3) for split in ("val", "test") if len(splits[split])},
        }
        self.edit(name, metrics)

    def edit(self, name: str, metrics: dict[str, Any]) -> None:
        path = self.evaluation(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **metrics}))

    def evaluation(self, name: str) -> Path:
        return self.folder / f"{name}_evaluation" / EVALUATION

    def compare(self, output: str = "outputs", **changed: Any) -> Comparison:
        names = [name for name in ComparisonInputs._fields if name != "examples"]
        inputs = ComparisonInputs(*(str(self.folder / name) for name in names), str(self.examples))
        options: dict[str, Any] = {"bootstrap": BOOTSTRAP, "slice_bins": 3, "gallery_size": GALLERY}
        return compare_evaluations(
            inputs,
            **{**options, **changed},
            comparison_output=str(self.folder / output / "comparison"),
            report_output=str(self.folder / output / "report"),
        )

    def page(self) -> Page:
        return Page(self.folder / "outputs" / "report")


@pytest.fixture(scope="module")
def made(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """The tiny data under other class names, and the predictions of three models that nobody trained.

    Of 12 val images the first model has 6 right, the second 8: 4 newly right, 2 newly wrong. In the new version the
    train images lack two, one is relabelled, and there are three augmented ones.
    """
    root = tmp_path_factory.mktemp("made")
    for split in SPLITS:
        folder = tiny.test if split == "test" else tiny.data / split
        for name, alias in zip(CLASSES, NAMES, strict=True):
            shutil.copytree(folder / name, root / "data" / split / alias)
    (root / "data/val/NA/00.png").rename(root / "data/val/NA" / EVIL)
    ingest_folder(root / "data", root / "examples", classes=NAMES)
    versions = Versions(root / "versions", root / "examples")
    versions.folder.mkdir()
    before = described(versions.examples)
    yardstick = before.copy()
    right, wrong = before["label"], before["label"].map(dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)))
    number = before.groupby("split").cumcount()
    before["prediction"] = right.where(number % 2 == 0, wrong)
    yardstick["prediction"] = right.where((number % 3 > 0), wrong)
    versions.write("before_predictions", before)
    versions.write("yardstick_predictions", yardstick)
    train = yardstick.index[yardstick["split"] == "train"]
    after = yardstick.drop(index=train[:2])
    after.loc[train[2], ["label", "filename"]] = ["7", "train/7/relabelled.png"]
    drawn = [
        after.loc[train[2:3]].assign(filename=f"train/7/x.augmented-{n}.png", sha256=f"{n:064x}") for n in range(3)
    ]
    versions.write("after_predictions", pd.concat([after, *drawn]))
    versions.evaluate("before", open_examples(versions.examples).manifest.data_version)
    versions.evaluate("after", "new.dir")
    return versions


def described(examples: Path) -> pd.DataFrame:
    """The images as evaluate describes them, with a loss and a confidence, by split and name."""
    opened = open_examples(examples)
    rows = [describe_image(split, example) for split in opened.manifest.splits for example in opened.read(split)]
    table = pd.DataFrame(rows).sort_values(["split", "filename"], ignore_index=True)
    random = np.random.default_rng(1).random((2, len(table)))
    return table.assign(confidence=0.5 + random[0] / 2, loss=random[1])


@pytest.fixture
def versions(made: Versions, tmp_path: Path) -> Versions:
    """A copy that the test may change."""
    return Versions(shutil.copytree(made.folder, tmp_path / "versions"), made.examples)


@pytest.fixture(scope="module")
def compared(made: Versions, tmp_path_factory: pytest.TempPathFactory) -> tuple[Versions, Comparison]:
    folder = shutil.copytree(made.folder, tmp_path_factory.mktemp("compared") / "versions")
    versions = Versions(folder, made.examples)
    return versions, versions.compare()


def pairs_of(versions: Versions, split: str) -> pd.DataFrame:
    before, yardstick = versions.read("before_predictions"), versions.read("yardstick_predictions")
    after = yardstick.set_index("filename")["prediction"]
    rows = before[before["split"] == split].rename(columns={"prediction": "before"})
    return rows.assign(after=after.loc[rows["filename"]].to_numpy())


# --- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_accuracy_is_that_of_both_models_on_the_same_images(split: str, compared: tuple[Versions, Comparison]) -> None:
    versions, result = compared
    pairs, figures = pairs_of(versions, split), result["splits"][split]
    before, after = (pairs[name] == pairs["label"] for name in ("before", "after"))
    assert figures["images"] == len(pairs)
    assert figures["accuracy"]["before"] == before.mean()
    assert figures["accuracy"]["after"] == after.mean()
    assert figures["accuracy"] == compare_accuracy(before.to_numpy(), after.to_numpy(), BOOTSTRAP)
    assert figures["newly_right"] == (after & ~before).sum() > 0
    assert figures["newly_wrong"] == (before & ~after).sum() > 0
    assert figures["mcnemar_p"] == compute_mcnemar_p(figures["newly_right"], figures["newly_wrong"])


def test_images_that_changed_sides_are_listed_the_surest_mistake_first(
    compared: tuple[Versions, Comparison],
) -> None:
    versions, result = compared
    losses = {
        name: versions.read(f"{name}_predictions").set_index("filename")["loss"] for name in ("before", "yardstick")
    }
    pairs = pairs_of(versions, "val")
    before, after = (pairs[name] == pairs["label"] for name in ("before", "after"))
    for name, which, loss in (
        ("newly_right_images", after & ~before, losses["before"]),
        ("newly_wrong_images", before & ~after, losses["yardstick"]),
    ):
        expected = pairs[which].sort_values("filename", key=lambda names, loss=loss: -loss.loc[names].to_numpy())
        assert result["splits"]["val"][name] == expected[["filename", "label", "before", "after"]].to_dict("records")


def test_classes_and_slices_agree_with_both_evaluations(versions: Versions) -> None:
    versions.write("after_predictions", versions.read("yardstick_predictions"))
    versions.evaluate("after", "new.dir")
    result = versions.compare()
    for name in ("before", "after"):
        evaluation = read_evaluation(versions.evaluation(name).parent)
        for split in ("val", "test"):
            figures = result["splits"][split]
            assert figures["macro_f1"][name] == pytest.approx(evaluation[split]["macro_f1"])
            for label, expected in evaluation[split]["classes"].items():
                found = figures["classes"][label]
                assert found["images"] == expected["images"]
                assert found["recall"][name] == pytest.approx(expected["recall"])
                assert found["f1"][name] == pytest.approx(expected["f1"])
            slices = {(each["scalar"], each["from"], each["to"]): each for each in figures["slices"]}
            assert len(slices) == len(evaluation[split]["slices"]) > 3
            for expected in evaluation[split]["slices"]:
                found = slices[expected["scalar"], expected["from"], expected["to"]]
                assert found["images"] == expected["images"]
                assert found["accuracy"][name] == pytest.approx(expected["accuracy"])


def test_own_split_of_the_new_data_stands_beside(compared: tuple[Versions, Comparison], versions: Versions) -> None:
    _, result = compared
    evaluation = read_evaluation(versions.evaluation("after").parent)
    for split in ("val", "test"):
        expected = {name: evaluation[split][name] for name in ("images", "accuracy", "accuracy_interval", "macro_f1")}
        assert result["splits"][split]["new_data"] == {**expected, "same_images": True}
    after = versions.read("after_predictions")
    after.loc[after["split"] == "val", "label"] = "7"
    versions.write("after_predictions", after)
    versions.evaluate("after", "new.dir")
    changed = versions.compare()["splits"]["val"]
    assert changed["new_data"]["same_images"] is False
    assert changed["new_data"]["accuracy"] != result["splits"]["val"]["accuracy"]["after"]
    assert changed["accuracy"] == result["splits"]["val"]["accuracy"], "the yardstick holds the labels before"
    assert "other images or labels" in versions.page().text


def put_in_train(versions: Versions, name: str, images: pd.DataFrame, *, stay: bool = True) -> None:
    """Puts images of another split into train of a version as well, or in place of where they were."""
    rows = versions.read(f"{name}_predictions")
    moved = images.assign(split="train", filename=images["filename"].str.replace("val/", "train/moved-"))
    left = rows if stay else rows[~rows["filename"].isin(images["filename"])]
    versions.write(f"{name}_predictions", pd.concat([left, moved]))
    evaluation = read_evaluation(versions.evaluation(name).parent)
    versions.evaluate(name, evaluation["data_version"])


def test_yardstick_images_that_both_models_were_trained_on_are_told(versions: Versions) -> None:
    pairs = pairs_of(versions, "val")
    for name in ("before", "after"):
        leaked = versions.read(f"{name}_predictions")
        put_in_train(versions, name, leaked[leaked["filename"] == pairs["filename"].iloc[-1]])
    versions.write("yardstick_predictions", yardstick_with_train_of(versions, "before"))
    result = versions.compare()
    figures = result["splits"]["val"]
    assert (figures["images"], figures["left_out"]) == (12, None)
    assert figures["seen_in_training"] == {"before": 1, "after": 1}
    rest = pairs.iloc[:-1]
    assert figures["unseen"]["images"] == len(rest) == 11
    assert figures["unseen"]["accuracy"]["after"] == pytest.approx((rest["after"] == rest["label"]).mean())
    assert result["splits"]["test"]["seen_in_training"] == {"before": 0, "after": 0}
    assert result["splits"]["test"]["unseen"] is None
    assert (
        "1 of these val images also occur, byte for byte, in the previous version's train split, and 1"
        in versions.page().text
    )


def yardstick_with_train_of(versions: Versions, name: str) -> pd.DataFrame:
    """The new model on all images of a version; what it says of train does not count."""
    rows, yardstick = versions.read(f"{name}_predictions"), versions.read("yardstick_predictions")
    return pd.concat([yardstick[yardstick["split"] != "train"], rows[rows["split"] == "train"]])


@pytest.mark.parametrize("stay", [True, False])
def test_what_the_new_version_moved_to_train_is_left_out_of_every_figure(
    stay: bool, versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = pairs_of(versions, "val")
    after = versions.read("after_predictions")
    put_in_train(versions, "after", after[after["filename"].isin(pairs["filename"].iloc[:5])], stay=stay)
    result = versions.compare()
    rest, figures = pairs.iloc[5:], result["splits"]["val"]
    right_before, right_after = (rest[name] == rest["label"] for name in ("before", "after"))
    expected = compare_accuracy(right_before.to_numpy(), right_after.to_numpy(), BOOTSTRAP)
    assert (figures["images"], figures["accuracy"]) == (7, expected)
    assert figures["newly_right"] == (right_after & ~right_before).sum()
    assert figures["newly_wrong"] == (right_before & ~right_after).sum()
    assert sum(each["images"] for each in figures["classes"].values()) == 7
    assert {row["filename"] for row in figures["newly_right_images"]} == set(
        rest["filename"][right_after & ~right_before]
    )
    assert (figures["seen_in_training"], figures["unseen"]) == ({"before": 0, "after": 0}, None)
    assert figures["corrected"] is None, "the images that count stayed as they were"
    assert figures["verdict"].startswith(
        "On the 7 untouched val images that neither model learned from, the accuracy went from "
    )
    why = "Left out, since a model learned from them: 5 of the 12 val images; the new version has 5 in train."
    assert figures["left_out"] == {"images": 5, "why": why + FAVOURED}
    assert f"compare: {why}{FAVOURED}\n" in capsys.readouterr().out
    words = " ".join(versions.page().text.split())
    assert why + FAVOURED in words
    assert "with the labels they had, but for those that a model learned from." in words
    assert result["splits"]["test"]["images"] == 6
    assert result["splits"]["test"]["left_out"] is None
    write_comparison_summary(str(versions.folder / "summary"), result)
    assert why in (versions.folder / "summary").read_text(encoding="utf-8")
    assert list_metrics(result)["val_accuracy"] == expected["after"]


def test_images_of_train_before_are_left_out_as_well_where_others_moved(versions: Versions) -> None:
    pairs = pairs_of(versions, "val")
    before, after = (versions.read(f"{name}_predictions") for name in ("before", "after"))
    put_in_train(versions, "before", before[before["filename"].isin(pairs["filename"].iloc[:2])])
    put_in_train(versions, "after", after[after["filename"].isin(pairs["filename"].iloc[1:4])], stay=False)
    versions.write("yardstick_predictions", yardstick_with_train_of(versions, "before"))
    figures = versions.compare()["splits"]["val"]
    assert figures["left_out"]["images"] == 4
    assert figures["left_out"]["why"] == (
        "Left out, since a model learned from them: 4 of the 12 val images; the new version has 3 in train, the"
        " previous one 2." + FAVOURED
    )
    assert figures["images"] == 8
    assert figures["seen_in_training"] == {"before": 0, "after": 0}


def test_corrected_images_among_those_that_count_are_told(versions: Versions) -> None:
    pairs = pairs_of(versions, "val")
    after = versions.read("after_predictions")
    moved, relabelled = pairs["filename"].iloc[:5], pairs["filename"].iloc[6]
    chosen = after["filename"] == relabelled
    after.loc[chosen, "label"] = NAMES[1]
    after.loc[chosen, "filename"] = f"val/{NAMES[1]}/relabelled.png"
    versions.write("after_predictions", after)
    put_in_train(versions, "after", after[after["filename"].isin(moved)], stay=False)
    figures = versions.compare()["splits"]["val"]
    assert figures["verdict"].startswith(
        "On the 7 val images that neither model learned from, as they were before, the accuracy "
    )
    assert figures["corrected"]["verdict"].startswith(
        "On the 7 val images that stayed, 1 of them with another label, the accuracy "
    )


def test_if_a_model_learned_from_all_of_them_that_is_told(versions: Versions) -> None:
    after = versions.read("after_predictions")
    put_in_train(versions, "after", after[after["split"] == "val"])
    figures = versions.compare()["splits"]["val"]
    why = "A model learned from each of the 12 val images, so this says little about others."
    assert (figures["images"], figures["left_out"]) == (12, {"images": 0, "why": why})
    assert figures["verdict"].startswith("On the 12 untouched val images the accuracy went from ")
    assert why in versions.page().text


def test_models_are_compared_on_corrected_images_too(versions: Versions) -> None:
    """People drop a val image, and give two others the label that the first model predicted, and rightly so."""
    assert {name: figures["corrected"] for name, figures in versions.compare()["splits"].items()} == {
        "val": None,
        "test": None,
    }
    before, after = versions.read("before_predictions"), versions.read("after_predictions")
    val = before[before["split"] == "val"]
    wrong = val[val["prediction"] != val["label"]].iloc[:2]
    gone = val[val["prediction"] == val["label"]]["filename"].iloc[0]
    new = dict(zip(wrong["filename"], wrong["prediction"], strict=True))
    is_new = after["filename"].isin(new)
    after.loc[is_new, "label"] = after["filename"].map(new)
    after.loc[is_new, "filename"] = "val/" + after["label"] + "/right-" + after["filename"].str.split("/").str[2]
    versions.write("after_predictions", after[after["filename"] != gone])
    versions.evaluate("after", "new.dir")
    result = versions.compare()
    left = pairs_of(versions, "val").set_index("filename").drop(gone)
    labels = left["label"].mask(left.index.isin(new), left.index.map(new))
    corrected = result["splits"]["val"]["corrected"]
    assert corrected
    assert (corrected["images"], corrected["relabelled"]) == (len(val) - 1, 2)
    for name in ("before", "after"):
        assert corrected["accuracy"][name] == pytest.approx((left[name] == labels).mean())  # type: ignore[literal-required]
    assert result["splits"]["val"]["verdict"].startswith(
        "On the 12 val images, as they were before, the accuracy went "
    )
    said = "On the 11 val images that stayed, 2 of them with another label, the accuracy "
    assert corrected["verdict"].startswith(said)
    text = versions.page().text
    assert text.index(said) < text.index("On the 12 val images, as they were before,"), "the right labels come first"
    assert text.index("points val accuracy, corrected labels") < text.index("points val accuracy, old labels")
    assert text.index("11 images that stayed, with their labels now") < text.index("val macro F1")
    assert result["splits"]["test"]["corrected"] is None


def replace_all(val: pd.DataFrame) -> pd.DataFrame:
    return crop_all(val).assign(filename=val["filename"].str.replace(r"(\w+\.png)$", r"new-\1", regex=True))


def drop_one(val: pd.DataFrame) -> pd.DataFrame:
    return val.iloc[1:]


def crop_all(val: pd.DataFrame) -> pd.DataFrame:
    return val.assign(sha256=[f"{number:064x}" for number in range(len(val))])


def crop_and_relabel(val: pd.DataFrame) -> pd.DataFrame:
    """As curate with `crop` leaves an image that was relabelled where another of its name was dropped."""
    first, other = (val[val["label"] == name].index[0] for name in NAMES[:2])
    cropped = crop_all(val)
    cropped.loc[first, ["label", "filename"]] = [NAMES[1], cropped["filename"][other]]
    return cropped.drop(index=other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replace_all, None),
        (drop_one, "On the 11 val images that stayed the accuracy "),
        (crop_all, None),
        (crop_and_relabel, None),
    ],
)
def test_only_unaltered_images_that_stayed_are_corrected_ones(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: str | None, versions: Versions
) -> None:
    after = versions.read("after_predictions")
    is_val = after["split"] == "val"
    changed = change(after[is_val].reset_index(drop=True))
    versions.write("after_predictions", pd.concat([after[~is_val], changed]))
    versions.evaluate("after", "new.dir")
    val = versions.compare()["splits"]["val"]
    assert val["verdict"].startswith("On the 12 val images, as they were before, the accuracy ")
    assert (val["corrected"]["verdict"] if val["corrected"] else "").startswith(said or "")
    assert bool(val["corrected"]) == bool(said)


def test_data_difference_is_that_of_the_two_versions(compared: tuple[Versions, Comparison]) -> None:
    data = compared[1]["data"]
    totals = {name: count for name, count in data.items() if isinstance(count, int)}
    assert totals == {"relabelled": 1, "moved": 0, "dropped": 2, "added": 0, "altered": 0, "augmented": 3}
    assert [each["to"] for each in data["relabels"]] == ["7"]
    assert sum(each["before"] for each in data["images"]["train"].values()) == 24
    assert sum(each["after"] for each in data["images"]["train"].values()) == 22
    assert data["images"]["train"]["7"]["augmented_after"] == 3


def test_images_that_ingest_converts_stay_the_same(tmp_path: Path) -> None:
    """A TIFF is in the next version as PNG; of three one is relabelled, and one dropped."""
    for split in SPLITS:
        for name in NAMES:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng([number, *f"{split}{name}".encode()]).integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.tiff")
    ingest_folder(tmp_path / "data", tmp_path / "examples", classes=NAMES)
    versions = Versions(tmp_path / "versions", tmp_path / "examples")
    versions.folder.mkdir()
    examples = open_examples(versions.examples)
    converted = {
        example.filename: hashlib.sha256(example.encoded).hexdigest()
        for split in SPLITS
        for example in examples.read(split)
    }
    before = described(versions.examples).assign(prediction=lambda table: table["label"])
    after = before.assign(
        sha256=before["filename"].map(converted), filename=before["filename"].str.replace(".tiff", ".png")
    )
    after = after[after["filename"] != "train/7/0.png"]
    after.loc[after["filename"] == "train/NA/0.png", ["label", "filename"]] = ["7", "train/7/0.png"]
    for name, table in (("before", before), ("yardstick", before), ("after", after)):
        versions.write(f"{name}_predictions", table)
    versions.evaluate("before", examples.manifest.data_version)
    versions.evaluate("after", "new.dir")
    comparison = versions.compare()
    data = comparison["data"]
    assert {name: data[name] for name in DIFFERENCES if data[name]} == {"relabelled": 1, "dropped": 1}
    assert [figures["new_data"]["same_images"] for figures in comparison["splits"].values()] == [True, True]
    moved = versions.read("after_predictions")
    put_in_train(versions, "after", moved[moved["filename"] == "val/NA/0.png"], stay=False)
    val = versions.compare()["splits"]["val"]
    assert (val["images"], val["left_out"]["images"]) == (8, 1)


def test_file_and_metrics_hold_the_result(versions: Versions, capsys: pytest.CaptureFixture[str]) -> None:
    result = versions.compare()
    verdicts = [f"compare: {each['verdict']}" for each in result["splits"].values()]
    assert capsys.readouterr().out.splitlines() == [*verdicts, f"compare: {result['seed_noise']}"]
    assert read_comparison(versions.folder / "outputs/comparison") == result
    assert result["after"] == {
        "data_version": "new.dir",
        "trained_on": "new.dir",
        "settings": {"epochs": 2, "seed": 1},
    }
    val, metrics = result["splits"]["val"], list_metrics(result)
    assert metrics["val_accuracy_before"] == val["accuracy"]["before"]
    assert metrics["val_accuracy"] == val["accuracy"]["after"]
    assert metrics["val_accuracy_change_low"] == val["accuracy"]["low"]
    assert metrics["test_mcnemar_p"] == result["splits"]["test"]["mcnemar_p"]
    assert metrics["images_augmented"] == 3
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_verdict_says_what_happened(compared: tuple[Versions, Comparison]) -> None:
    figures = compared[1]["splits"]["val"]
    accuracy = figures["accuracy"]
    assert figures["verdict"] == (
        f"On the 12 untouched val images the accuracy went from 0.500 to 0.667 (+0.167, 90 % {accuracy['low']:.3f} to "
        f"{accuracy['high']:.3f}; McNemar p = 0.688), which chance may explain."
    )


def test_verdict_of_a_gain_that_chance_does_not_show(versions: Versions) -> None:
    before = versions.read("before_predictions")
    wrong = before.assign(prediction=before["label"].map({"7": "NA", "NA": "$v$", "$v$": "7"}))
    for name, table in (("before", wrong), ("yardstick", before.assign(prediction=before["label"]))):
        versions.write(f"{name}_predictions", table)
    assert versions.compare()["splits"]["val"]["verdict"].endswith(
        "McNemar p < 0.001), which is more than the choice of images explains, but one seed cannot tell how much of it"
        " is of the data."
    )


def test_verdict_says_where_the_interval_and_the_test_disagree(versions: Versions) -> None:
    before = versions.read("before_predictions")
    val = before.index[before["split"] == "val"]
    wrong = before.copy()
    wrong.loc[val[:4], "prediction"] = wrong.loc[val[:4], "label"].map({"7": "NA", "NA": "$v$", "$v$": "7"})
    right = before.copy()
    right.loc[val[:4], "prediction"] = right.loc[val[:4], "label"]
    for name, table in (("before", wrong), ("yardstick", right)):
        versions.write(f"{name}_predictions", table)
    figures = versions.compare()["splits"]["val"]
    assert (figures["newly_right"], figures["newly_wrong"], figures["accuracy"]["low"] > 0) == (4, 0, True)
    assert figures["verdict"].endswith(
        "McNemar p = 0.125), which may or may not be chance: the interval and the test disagree."
    )


def test_same_model_on_the_same_data_changes_nothing(versions: Versions) -> None:
    for name in ("yardstick_predictions", "after_predictions"):
        versions.write(name, versions.read("before_predictions"))
    versions.evaluate("after", "new.dir")
    result = versions.compare()
    for split in ("val", "test"):
        figures = result["splits"][split]
        assert figures["accuracy"]["change"] == figures["accuracy"]["low"] == figures["accuracy"]["high"] == 0
        assert (figures["newly_right"], figures["newly_wrong"], figures["mcnemar_p"]) == (0, 0, 1)
        assert "the accuracy stayed at 0.500 (+0.000, 90 % 0.000 to 0.000; McNemar p = 1.000)." in figures["verdict"]
    assert not any(count for count in result["data"].values() if isinstance(count, int))
    assert versions.page().values("src") == []


def test_order_of_the_rows_and_another_run_change_no_byte(
    compared: tuple[Versions, Comparison], versions: Versions
) -> None:
    for name in ("before_predictions", "after_predictions", "yardstick_predictions"):
        versions.write(name, versions.read(name).sample(frac=1, random_state=3))
    versions.compare()
    assert contents(versions.folder / "outputs") == contents(compared[0].folder / "outputs")


def test_without_test_images_val_alone_is_compared(versions: Versions) -> None:
    for name in ("before_predictions", "after_predictions", "yardstick_predictions"):
        rows = versions.read(name)
        versions.write(name, rows[rows["split"] != "test"])
    for name in ("before", "after"):
        path = versions.evaluation(name)
        metrics = json.loads(path.read_text())
        del metrics["test"]
        path.write_text(json.dumps(metrics))
    result = versions.compare()
    assert list(result["splits"]) == ["val"]
    assert not any(name.startswith("test") for name in list_metrics(result))
    assert "Test" not in versions.page().text


def test_class_without_yardstick_images_has_no_figures(versions: Versions) -> None:
    for name in ("before_predictions", "yardstick_predictions"):
        rows = versions.read(name)
        versions.write(name, rows[(rows["split"] != "val") | (rows["label"] != "7")])
    versions.evaluate("before", open_examples(versions.examples).manifest.data_version)
    result = versions.compare()
    assert result["splits"]["val"]["classes"]["7"] == {"images": 0, "recall": None, "f1": None}
    assert result["splits"]["val"]["new_data"]["same_images"] is False
    assert "no images" in versions.page().text


def test_what_evaluate_makes_is_read(trained: Path, examples: Path, tmp_path: Path) -> None:
    evaluation, predictions, report = (str(tmp_path / name) for name in ("evaluation", "predictions", "evaluated"))
    evaluated = evaluate_model(
        str(trained / "model"),
        str(examples),
        batch_size=16,
        slice_bins=3,
        gallery_size=4,
        beam_options=BEAM,
        evaluation_output=evaluation,
        predictions_output=predictions,
        report_output=report,
    )
    inputs = ComparisonInputs(evaluation, predictions, evaluation, predictions, predictions, str(examples))
    result = compare_evaluations(
        inputs,
        bootstrap=BOOTSTRAP,
        slice_bins=3,
        gallery_size=4,
        comparison_output=str(tmp_path / "comparison"),
        report_output=str(tmp_path / "report"),
    )
    for split in ("val", "test"):
        accuracy = evaluated[split]["accuracy"]
        assert result["splits"][split]["accuracy"] == {
            "before": accuracy,
            "after": accuracy,
            "change": 0,
            "low": 0,
            "high": 0,
        }


# --- the report --------------------------------------------------------------------------------


def test_report_is_one_file_that_begins_with_the_verdicts(compared: tuple[Versions, Comparison]) -> None:
    versions, result = compared
    page = versions.page()
    page.check_self_contained()
    places = [page.text.index(result["splits"][split]["verdict"]) for split in ("val", "test")]
    assert places == sorted(places)
    assert places[1] < page.text.index("On the same images")


def test_galleries_show_the_first_and_tell_the_total(compared: tuple[Versions, Comparison]) -> None:
    versions, result = compared
    page = versions.page()
    expected = [
        row["filename"]
        for split in ("val", "test")
        for name in ("newly_right_images", "newly_wrong_images")
        for row in result["splits"][split][name][:GALLERY]
    ]
    assert page.values("alt") == expected
    assert all(address.startswith("data:image/png;base64,") for address in page.values("src"))
    assert "Val, newly right: 4 images, the first 2 shown" in page.text
    assert "Val, newly wrong: 2 images" in page.text
    assert "Val, newly wrong: 2 images, the first" not in page.text


def test_report_escapes_names(versions: Versions) -> None:
    before = versions.read("before_predictions")
    evil = before["filename"].str.endswith(EVIL)
    before.loc[evil, "prediction"] = "7"
    versions.write("before_predictions", before)
    yardstick = versions.read("yardstick_predictions")
    yardstick.loc[yardstick["filename"].str.endswith(EVIL), "prediction"] = "NA"
    versions.write("yardstick_predictions", yardstick)
    versions.compare(gallery_size=100)
    page = versions.page()
    assert [name for name in page.values("alt") if name.endswith(EVIL)] == [f"val/NA/{EVIL}"]
    assert "<script" not in page.source
    assert page.source.count("$v$") >= 4  # as it is, in the plots too


def test_other_settings_and_a_model_of_other_data_are_told(versions: Versions) -> None:
    versions.edit("after", {"settings": {"epochs": 50, "seed": 1, "patience": 3}, "trained_on": "third.dir"})
    versions.compare()
    text = " ".join(versions.page().text.split())
    assert "Not only the data changed: epochs from 2 to 50, patience from not set to 3." in text
    assert "The model after learned from another data version, third.dir ; here it is only measured." in text


@pytest.mark.parametrize(
    ("epochs", "copies", "said", "tells"),
    [
        (2, 3, "3.0", "6 epochs"),  # as augmentation does it
        (8, 1, "4.0", "8 epochs"),
        (1, 1, "0.5", "1 epoch"),
        (100, 2, "100", "200 epochs"),
    ],
)
def test_longer_training_is_told(
    epochs: int, copies: int, said: str, tells: str, versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    """The images of train times the epochs are what a model learns from; a gain may be only that."""
    before = versions.read("before_predictions")
    train = before[before["split"] == "train"]
    more = [
        train.assign(
            filename=train["filename"].str.replace(".png", f".augmented-{n}.png", regex=False),
            sha256=[f"{n}{sha256[1:]}" for sha256 in train["sha256"]],
        )
        for n in range(1, copies)
    ]
    versions.write("after_predictions", pd.concat([before, *more]))
    versions.evaluate("after", "new.dir")
    versions.edit("after", {"settings": {"epochs": epochs, "seed": 1}})
    result = versions.compare()
    sentence = result["training_length"]
    assert (result["length_may_explain"], str(result["equal_epochs"])) == (True, tells.split()[0])
    assert sentence == (
        f"The new model was trained {said} times as long as the previous one, by images times epochs,"
        f" augmented images included, so part of a change may come from that; a training on the previous version with"
        f" {tells} would tell."
    )
    assert sentence in " ".join(versions.page().text.split())
    assert f"compare: {sentence}" in capsys.readouterr().out


def test_longer_training_hardly_explains_a_change_where_val_had_settled(versions: Versions) -> None:
    versions.edit("after", {"settings": {"epochs": 8, "seed": 1}})
    versions.edit("before", {"has_settled": False})
    versions.edit("after", {"has_settled": True})
    assert "part of a change may come from that" in versions.compare("rising")["training_length"]
    versions.edit("before", {"has_settled": True, "settings": {"epochs": 2, "learning_rate_schedule": "CosineDecay"}})
    assert "part of a change may come from that" in versions.compare("schedule")["training_length"]
    versions.edit("before", {"settings": {"epochs": 2, "seed": 1}})
    versions.edit("after", {"has_settled": False})
    settled = versions.compare("settled")
    assert (settled["length_may_explain"], settled["equal_epochs"]) == (False, 0)
    assert settled["training_length"].endswith(
        "augmented images included; that hardly explains a change, since the accuracy on val had settled in the"
        " shorter training."
    )


def test_training_of_about_the_same_length_or_an_unknown_one_is_not_told(versions: Versions) -> None:
    assert versions.compare()["training_length"] == ""
    versions.edit("after", {"settings": {"epochs": 50, "seed": 1}, "trained_on": "third.dir"})
    assert versions.compare("unknown")["training_length"] == ""


# --- seeds -------------------------------------------------------------------------------------


def add_seeds(versions: Versions, name: str, shares: list[float]) -> np.ndarray:
    """Adds the predictions of further seeds, right for these shares; returns the accuracy of all on val.

    Those of the new model are added to its predictions on either version, and the evaluations say so.
    """
    if name == "yardstick":
        add_seeds(versions, "after", shares)
    table = versions.read(f"{name}_predictions")
    wrong = table["label"].map({"7": "NA", "NA": "$v$", "$v$": "7"})
    number = table.groupby("split").cumcount() / table.groupby("split")["label"].transform("size")
    for seed, share in enumerate(shares, start=2):
        table[f"prediction_seed_{seed}"] = table["label"].where(number < share, wrong)
    versions.write(f"{name}_predictions", table)
    if name != "yardstick":
        versions.evaluate(name, read_evaluation(versions.evaluation(name).parent)["data_version"])
    val = table[table["split"] == "val"]
    columns = ["prediction", *(f"prediction_seed_{seed}" for seed in range(2, len(shares) + 2))]
    return np.array([(val[column] == val["label"]).mean() for column in columns])


def test_means_of_several_seeds_are_compared_and_their_noise_is_told(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    before = add_seeds(versions, "before", [0.5, 0.4])
    after = add_seeds(versions, "yardstick", [0.75, 0.8, 0.7])
    result = versions.compare()
    figures = result["splits"]["val"]
    seeds, test = figures["seeds"], scipy.stats.ttest_ind(after, before, equal_var=False)
    assert seeds["before"] == pytest.approx(before)
    assert seeds["after"] == pytest.approx(after)
    assert seeds["change"] == pytest.approx(after.mean() - before.mean())
    assert seeds["p"] == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(BOOTSTRAP.confidence_level)
    assert (seeds["change"] - seeds["margin"], seeds["change"] + seeds["margin"]) == pytest.approx((low, high))
    assert seeds["low"] < seeds["change"] < seeds["high"]
    assert figures["verdict"] == (
        f"On the 12 untouched val images the mean accuracy went from {before.mean():.3f} to {after.mean():.3f}:"
        f" {after.mean() - before.mean():+.3f} from the data, ± {seeds['margin']:.3f} from the seed (3 and 4 trainings,"
        f" {before.min():.3f} to {before.max():.3f} before and {after.min():.3f} to {after.max():.3f} after;"
        f" 90 % over images {seeds['low']:+.3f} to {seeds['high']:+.3f}), which is more than chance explains."
    )
    assert result["seed_noise"] == ""
    assert f"compare: {figures['verdict']}\n" in capsys.readouterr().out
    text = " ".join(versions.page().text.split())
    assert figures["verdict"] in text
    assert f"{100 * seeds['change']:+.1f} ± {100 * seeds['margin']:.1f}" in text
    assert list_metrics(result)["val_mean_accuracy_change_margin"] == seeds["margin"]
    # The models of the first seed are compared as without the others.
    assert figures["accuracy"]["before"] == before[0]
    assert figures["accuracy"]["after"] == after[0]


@pytest.mark.parametrize(
    ("shares_before", "shares_after", "said"),
    [
        ([0.5, 0.5], [0.6, 0.6], "the choice of images may explain"),  # all seeds agree, but on an image or two
        ([0.1, 1.0], [0.2, 1.0], "chance may explain"),
        ([0.0, 0.6], [0.4, 1.0], "the seed may explain"),
    ],
)
def test_verdict_says_what_kind_of_chance_may_explain_a_change(
    shares_before: list[float], shares_after: list[float], said: str, versions: Versions
) -> None:
    add_seeds(versions, "before", shares_before)
    add_seeds(versions, "yardstick", shares_after)
    assert versions.compare()["splits"]["val"]["verdict"].endswith(f"), which {said}.")


def test_causes_besides_the_data_are_named(versions: Versions) -> None:
    add_seeds(versions, "before", [0.5, 0.5])
    add_seeds(versions, "yardstick", [0.75, 0.75])
    versions.edit("after", {"settings": {"epochs": 8, "seed": 1, "optimizer": "SGD"}})
    verdict = versions.compare()["splits"]["val"]["verdict"]
    assert " from the data, the settings and the length of the training, ± " in verdict


def test_two_runs_on_the_same_data_change_nothing_by_the_data(versions: Versions) -> None:
    for name in ("before", "yardstick"):
        add_seeds(versions, name, [0.5, 0.75])
    for name in ("before", "after"):
        versions.edit(name, {"trained_on": "1.dir"})
    assert " from the same data and settings, ± " in versions.compare("same")["splits"]["val"]["verdict"]
    versions.edit("after", {"settings": {"epochs": 2, "seed": 9, "optimizer": "SGD"}})
    assert " from the settings, ± " in versions.compare("other")["splits"]["val"]["verdict"]


@pytest.mark.parametrize(
    ("seeded", "trained"),
    [
        ((), "One training of each version"),
        (("before",), "2 trainings of the previous version and 1 of the new one"),
        (("yardstick",), "1 training of the previous version and 2 of the new one"),
    ],
)
def test_one_training_of_a_version_cannot_tell_what_the_seed_does(
    seeded: tuple[str, ...], trained: str, versions: Versions
) -> None:
    for name in seeded:
        add_seeds(versions, name, [0.5])
    result = versions.compare()
    assert [figures["seeds"] for figures in result["splits"].values()] == [None, None]
    assert result["seed_noise"] == (
        f"{trained} cannot tell what the seed changes; three of each would, with the parameter seeds=3."
    )
    assert result["seed_noise"] in " ".join(versions.page().text.split())


def test_what_several_seeds_say_alike_has_no_margin_but_images_that_may_explain_it(versions: Versions) -> None:
    """Nothing is known of other seeds then, so that the choice of images decides."""
    for name, share in (("before", 0.5), ("yardstick", 0.6)):
        table = versions.read(f"{name}_predictions")
        versions.write(f"{name}_predictions", table.drop(columns="prediction").assign(prediction=table["label"]))
        add_seeds(versions, name, [share, share])
        table = versions.read(f"{name}_predictions")
        versions.write(f"{name}_predictions", table.assign(prediction=table["prediction_seed_2"]))
    val = versions.compare()["splits"]["val"]
    assert (val["seeds"]["margin"], val["seeds"]["p"]) == (0, 0)
    assert val["verdict"].endswith("which the choice of images may explain.")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("yardstick", "yardstick_predictions and after_predictions are of other seeds; give those of one model"),
        ("before", "before_predictions are of 1 seed, but before_evaluation is of others; give both of the same run."),
    ],
)
def test_seeds_that_were_taken_out_of_predictions_are_missed(name: str, sentence: str, versions: Versions) -> None:
    for each in ("before", "yardstick"):
        add_seeds(versions, each, [0.5])
    table = versions.read(f"{name}_predictions")
    versions.write(f"{name}_predictions", table.drop(columns="prediction_seed_2"))
    with pytest.raises(UserError) as caught:
        versions.compare()
    assert str(caught.value).startswith(sentence)


def test_two_trainings_hardly_tell(versions: Versions) -> None:
    for name in ("before", "yardstick"):
        add_seeds(versions, name, [0.5])
    assert versions.compare()["seed_noise"] == (
        "Two trainings of a version hardly tell how much the seed changes; three do, with the parameter seeds=3."
    )


def test_class_of_a_further_seed_that_does_not_exist_is_refused(versions: Versions) -> None:
    add_seeds(versions, "before", [0.5])
    table = versions.read("before_predictions")
    versions.write("before_predictions", table.assign(prediction_seed_2="viii"))
    with pytest.raises(UserError, match="has the prediction_seed_2 'viii', which is none of "):
        versions.compare()


# --- refused -----------------------------------------------------------------------------------


def refused(versions: Versions, words: str, **changed: Any) -> None:
    with pytest.raises(UserError, match=words) as caught:
        versions.compare(**changed)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert not (versions.folder / "outputs").exists() or os.listdir(versions.folder / "outputs") == []


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("resamples is 99; it must be 100 or more", {"bootstrap": BOOTSTRAP._replace(resamples=99)}),
        ("seed is -1; it must be 0 or more", {"bootstrap": BOOTSTRAP._replace(seed=-1)}),
        ("confidence_level is 1.0; it must be above 0", {"bootstrap": BOOTSTRAP._replace(confidence_level=1.0)}),
        ("confidence_level is nan; it must", {"bootstrap": BOOTSTRAP._replace(confidence_level=float("nan"))}),
        ("slice_bins is 0; it must be 1 or more", {"slice_bins": 0}),
        ("gallery_size is 0; it must be 1 or more", {"gallery_size": 0}),
    ],
)
def test_option_out_of_range_is_refused(versions: Versions, words: str, changed: dict[str, Any]) -> None:
    refused(versions, words, **changed)


def test_versions_of_other_classes_are_refused(versions: Versions) -> None:
    evaluation = json.loads(versions.evaluation("after").read_text())
    unmeasured = {name: value for name, value in evaluation.items() if name not in ("val", "test")}
    versions.evaluation("after").write_text(json.dumps({**unmeasured, "classes": ["NA", "$v$"]}))
    refused(versions, r"the previous version has the classes NA, \$v\$, 7, the new one NA, \$v\$; only")


def test_examples_of_another_version_are_refused(versions: Versions) -> None:
    versions.edit("before", {"data_version": "other.dir"})
    refused(versions, "examples are of the data version .*, but before_evaluation is of other.dir; give the examples")


@pytest.mark.parametrize("name", ["before", "after"])
def test_predictions_of_another_run_are_refused(versions: Versions, name: str) -> None:
    rows = versions.read(f"{name}_predictions")
    versions.write(f"{name}_predictions", rows.drop(index=rows[rows["split"] == "val"].index[0]))
    refused(versions, f"{name}_predictions have 11 val images, but {name}_evaluation has 12; give both of the same run")


def spoil_yardstick(versions: Versions, how: str) -> None:
    rows = versions.read("yardstick_predictions")
    val = rows[rows["split"] == "val"].index
    if how == "fewer":
        rows = rows.drop(index=val[1])
    elif how == "none":
        rows = rows.drop(index=val)
    elif how == "more":
        rows = pd.concat([rows, rows.loc[val[:1]].assign(filename="val/7/new.png")])
    elif how == "bytes":
        rows.loc[val[0], "sha256"] = "0" * 64
    else:
        rows.loc[val[0], "label"] = "7"
    versions.write("yardstick_predictions", rows)


@pytest.mark.parametrize("how", ["fewer", "none", "more", "bytes", "label"])
def test_yardstick_of_other_images_is_refused(versions: Versions, how: str) -> None:
    spoil_yardstick(versions, how)
    refused(versions, r"yardstick_predictions: its val images are not those of before_predictions \(val/.*evaluate the")


def test_nothing_to_compare_on_is_refused(versions: Versions) -> None:
    for name in ("before_predictions", "yardstick_predictions"):
        rows = versions.read(name)
        versions.write(name, rows[rows["split"] == "train"])
    path = versions.evaluation("before")
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({name: each for name, each in metrics.items() if name not in ("val", "test")}))
    refused(versions, "before_predictions have no val or test image, so there is nothing to compare")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}", b"\x89PNG\r\n\x1a\n\x00", b"split,filename\nval,val/i/a.png\n", None],
    ids=["empty", "blank", "json", "picture", "other columns", "absent"],
)
@pytest.mark.parametrize("name", ["before_predictions", "yardstick_predictions"])
def test_files_that_are_no_predictions_are_refused(versions: Versions, name: str, content: bytes | None) -> None:
    (versions.folder / name).unlink()
    if content is not None:
        (versions.folder / name).write_bytes(content)
    refused(versions, f"{name}: cannot be read as predictions .*give the predictions as evaluate writes them")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("loss", "high", "cannot be read as predictions .*'high'"),
        ("loss", "", "cannot be read as predictions"),
        ("label", "viii", "has the label 'viii', which is none of NA, "),
        ("prediction", "", "has the prediction '', which is none of NA, "),
        ("split", "extra", "has the split 'extra', which is none of train, val, test"),
        ("filename", f"val/NA/{EVIL}", r"has val/NA/<script>.* twice"),
    ],
)
def test_broken_rows_are_refused(versions: Versions, column: str, value: str, words: str) -> None:
    rows = versions.read("after_predictions").astype({column: object})
    rows.loc[0, column] = value
    versions.write("after_predictions", rows)
    refused(versions, f"after_predictions: {words}")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (None, "cannot be read .No such file"),
        ("", r"is not JSON \(EOF while parsing a value at line 1 column 0\)"),
        ("[]", r"is \[\], but should be an object"),
        ('{"classes": []}', "data_version: is missing"),
        ('{"data_version": 3}', "data_version: is 3, but should be a valid string"),
        (json.dumps({**DOCUMENT, "val": {"images": 1}}), "val.accuracy: is missing"),
        (json.dumps({**DOCUMENT, "val": 1}), "val: is 1, but should be an object"),
    ],
)
def test_folder_that_is_no_evaluation_is_refused(versions: Versions, left: str | None, words: str) -> None:
    path = versions.evaluation("after")
    path.unlink()
    if left is not None:
        path.write_text(left)
    refused(versions, f"after_evaluation/evaluation.json.*{words}.*; give the output `evaluation` of evaluate")


def test_examples_without_an_image_to_show_are_refused(versions: Versions) -> None:
    for name in ("before_predictions", "yardstick_predictions"):
        rows = versions.read(name)
        rows["filename"] = rows["filename"].str.replace("val/", "val/other-")
        versions.write(name, rows)
    refused(versions, "examples lack val/other-.* of before_predictions; give the examples that were predicted")
