import io
import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from components.evaluate.doubt import rank_doubted
from components.evaluate.evaluation import evaluate_model
from components.evaluate.metrics import MOST_POINTS, compute_calibration_error, measure_split
from components.evaluate.report import write_evaluation_report
from components.ingest.ingestion import ingest_data
from components.shared.errors import UserError
from components.shared.formats.examples import ImageExample, open_examples
from components.shared.metrics import SLICES, bound_share, slice_accuracy
from components.shared.thumbnails import draw_thumbnail
from pipelines.output.results import keep_results
from tests.conftest import BEAM, CLASSES, Folders, contents, copy_folders, outputs_in
from tests.pages import Page
from tests.shards import edit_record, set_text

EVIL = """<script>alert('1')<|script> & "quoted".png"""
GALLERY = 4
BINS = 3
OUTPUTS = ("evaluation", "predictions", "report")


class Evaluated(NamedTuple):
    folder: Path
    result: dict[str, Any]

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "predictions")


def evaluate(model: Path, examples: Path, folder: Path, **changed: Any) -> Evaluated:
    options: dict[str, Any] = {"batch_size": 5, "slice_bins": BINS, "gallery_size": GALLERY, "beam_options": BEAM}
    result = evaluate_model(str(model), str(examples), **{**options, **changed}, **outputs_in(folder, *OUTPUTS))
    return Evaluated(folder, result)


@pytest.fixture(scope="module")
def raw(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with file names that a report must escape, one of them wrongly labelled on purpose."""
    root = tmp_path_factory.mktemp("raw")
    data, test = copy_folders(tiny, root)
    for folder in (data / "train", data / "val", test):
        for name in CLASSES:
            shutil.copy(folder / CLASSES[0] / "00.png", folder / name / EVIL)
    ingest_data(
        str(data),
        test_data_uri=str(test),
        data_version="other.dir",
        classes=CLASSES,
        on_bad_image="fail",
        max_images=10_000,
        max_pixels=10_000_000,
        shards=2,
        beam_options=BEAM,
        output=str(root / "examples"),
    )
    return root / "examples"


@pytest.fixture(scope="module")
def evaluated(trained: Path, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate(trained / "model", raw, tmp_path_factory.mktemp("evaluated"))


def images(raw: Path) -> dict[str, ImageExample]:
    opened = open_examples(raw)
    return {example.filename: example for split in opened.manifest.splits for example in opened.read(split)}


# --- predictions -------------------------------------------------------------------------------


def test_workers_elsewhere_predict_the_same(
    elsewhere: list[str], trained: Path, raw: Path, evaluated: Evaluated, tmp_path: Path
) -> None:
    """They read the inputs by their URIs, which here are copies, and share nothing else but the temp_location."""
    uris = {
        "model_uri": str(shutil.copytree(trained / "model", tmp_path / "elsewhere/model")),
        "examples_uri": str(shutil.copytree(raw, tmp_path / "elsewhere/examples")),
    }
    again = evaluate(trained / "model", raw, tmp_path / "out", beam_options=elsewhere, **uris)
    assert contents(again.folder / "evaluation") == contents(evaluated.folder / "evaluation")
    assert (again.folder / "predictions").read_bytes() == (evaluated.folder / "predictions").read_bytes()
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_models_of_further_seeds_are_measured_too(
    trained: Path, raw: Path, evaluated: Evaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the further model is the first one with its classes turned around."""
    model = shutil.copytree(trained / "model", tmp_path / "model")
    module = tf.Module()
    module.model = tf.saved_model.load(str(model))
    module.predict = tf.function(
        lambda image_bytes: {"probabilities": module.model(image_bytes)["probabilities"][:, ::-1]},
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")],
    )
    other = model / "seeds/2"
    tf.saved_model.save(module, str(other), signatures={"serving_default": module.predict})
    training = json.loads((model / "training.json").read_text())
    (other / "training.json").write_text(json.dumps({**training, "settings": {**training["settings"], "seed": 2}}))
    (model / "training.json").write_text(json.dumps({**training, "settings": {**training["settings"], "seeds": 2}}))
    both = evaluate(model, raw, tmp_path / "both")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("evaluate: val-")]
    assert [line.endswith(" images predicted by 2 models") for line in said] == [True, True]  # a line for each shard
    alone = evaluate(other, raw, tmp_path / "alone")
    table, first, second = (each.predictions.set_index("filename").sort_index() for each in (both, evaluated, alone))
    assert (first["prediction"] != second["prediction"]).any()
    pd.testing.assert_frame_equal(table.drop(columns="prediction_seed_2"), first)
    pd.testing.assert_series_equal(table["prediction_seed_2"], second["prediction"], check_names=False)
    for split in ("val", "test"):
        figures = both.result[split]
        assert figures.pop("accuracies") == [evaluated.result[split]["accuracy"], alone.result[split]["accuracy"]]
        assert figures == evaluated.result[split]
    text = " ".join(Page(both.folder / "report").text.split())
    assert "test accuracy, mean of 2 seeds" in text
    assert "All other figures on this page are of the model of the first seed, 1." in text
    assert "mean of" not in Page(evaluated.folder / "report").text


def test_one_row_per_image_of_every_split(raw: Path, evaluated: Evaluated) -> None:
    expected = images(raw)
    rows = evaluated.predictions
    assert Counter(rows["filename"]) == Counter(expected.keys())
    for row in rows.itertuples():
        example = expected[row.filename]
        assert row.sha256 == example.sha256
        assert row.label == example.class_name
        assert row.split == row.filename.split("/")[0]
        assert row.width == example.width
        assert row.ink_fraction == pytest.approx(example.ink_fraction, rel=1e-5)


def test_probabilities_are_those_of_the_saved_model(trained: Path, raw: Path, evaluated: Evaluated) -> None:
    signature = tf.saved_model.load(str(trained / "model")).signatures["serving_default"]
    stored, rows = images(raw), evaluated.predictions
    encoded = [stored[name].encoded for name in rows["filename"]]
    outputs = signature(image_bytes=tf.constant(encoded))
    probabilities = rows[[f"probability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probabilities, outputs["probabilities"], rtol=1e-4, atol=1e-6)
    assert rows["prediction"].tolist() == [name.decode() for name in outputs["class"].numpy()]
    np.testing.assert_allclose(rows["confidence"], probabilities.max(axis=1))
    labels = rows["label"].map(CLASSES.index).to_numpy()
    np.testing.assert_allclose(rows["loss"], -np.log(probabilities[np.arange(len(rows)), labels]), rtol=1e-4, atol=1e-6)


def test_rows_come_by_split_and_the_worst_first(evaluated: Evaluated) -> None:
    rows = evaluated.predictions
    assert rows["split"].drop_duplicates().tolist() == ["train", "val", "test"]
    for _, part in rows.groupby("split", sort=False):
        assert part["loss"].is_monotonic_decreasing
        assert part["loss"].nunique() > 1


def test_batches_and_runs_change_nothing(trained: Path, raw: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    again = evaluate(trained / "model", raw, tmp_path / "again")
    assert contents(again.folder) == contents(evaluated.folder)
    other = evaluate(trained / "model", raw, tmp_path / "other", batch_size=64).predictions
    key = ["split", "filename"]
    pd.testing.assert_frame_equal(
        other.sort_values(key, ignore_index=True),
        evaluated.predictions.sort_values(key, ignore_index=True),
        rtol=1e-3,  # the CPU adds up in another order
    )


# --- metrics -----------------------------------------------------------------------------------


def random_rows(seed: int, count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.choice(CLASSES, count)
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), count)
    truth = np.array([CLASSES.index(name) for name in label])
    probabilities[np.arange(count), truth] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "label": label,
            "prediction": np.array(CLASSES)[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            "loss": -np.log(probabilities[np.arange(count), truth]),
            "ink_fraction": rng.random(count),
            "width": rng.integers(20, 400, count),
            "height": rng.integers(20, 400, count),
            "aspect_ratio": rng.choice([0.5, 1.0, 2.0], count),
            **{f"probability_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)},
        }
    )


def check_metrics(metrics: dict[str, Any], rows: pd.DataFrame, bins: int) -> None:
    """Everything again, counted by hand from the predictions."""
    count, right = len(rows), int((rows["label"] == rows["prediction"]).sum())
    assert metrics["images"] == count
    assert metrics["accuracy"] == pytest.approx(right / count)
    assert metrics["accuracy_interval"] == pytest.approx(wilson(right, count))
    assert metrics["log_loss"] == pytest.approx(sum(rows["loss"]) / count, rel=1e-4)
    pairs = Counter(zip(rows["label"], rows["prediction"], strict=True))
    assert metrics["confusion_matrix"] == [[pairs[given, said] for said in CLASSES] for given in CLASSES]
    f1s = []
    for name in CLASSES:
        given = sum(number for pair, number in pairs.items() if pair[0] == name)
        said = sum(number for pair, number in pairs.items() if pair[1] == name)
        hits = pairs[name, name]
        f1s.append(2 * hits / (given + said) if given + said else 0)
        assert metrics["classes"][name] == pytest.approx(
            {
                "precision": hits / said if said else 0,
                "recall": hits / given if given else 0,
                "f1": f1s[-1],
                "images": given,
            }
        )
    assert metrics["macro_f1"] == pytest.approx(sum(f1s) / len(f1s))
    assert metrics["calibration_error"] == pytest.approx(expected_calibration_error(rows), abs=1e-5)
    check_slices(metrics["slices"], rows, bins)


def check_slices(found: list[dict[str, Any]], rows: pd.DataFrame, bins: int) -> None:
    values = rows.assign(pixels=rows["width"] * rows["height"])
    assert [entry["accuracy"] for entry in found] == sorted(entry["accuracy"] for entry in found)
    for scalar in SLICES:
        parts = sorted((entry for entry in found if entry["scalar"] == scalar), key=lambda entry: entry["from"])
        assert 1 <= len(parts) <= bins
        assert sum(part["images"] for part in parts) == len(rows), "an image is in no slice, or in two"
        assert parts[0]["from"] == pytest.approx(values[scalar].min(), rel=1e-5)
        assert parts[-1]["to"] == pytest.approx(values[scalar].max(), rel=1e-5)
        for before, after in zip(parts, parts[1:], strict=False):
            assert before["from"] < before["to"] <= after["from"]
        for part in parts:
            right = part["accuracy"] * part["images"]
            assert right == pytest.approx(round(right))
            assert part["accuracy_interval"] == pytest.approx(wilson(round(right), part["images"]))
        hits = (values["label"] == values["prediction"]).sum()
        assert sum(part["accuracy"] * part["images"] for part in parts) == pytest.approx(hits)


def wilson(right: int, count: int) -> list[float]:
    """Wilson, Probable Inference, 1927."""
    z = 1.959963984540054
    share = right / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return [middle - half, middle + half]


def expected_calibration_error(rows: pd.DataFrame) -> float:
    total = 0.0
    for low in range(15):
        inside = [
            row
            for row in rows.itertuples()
            if low <= row.confidence * 15 < low + 1 or (low == 14 and row.confidence == 1)
        ]
        total += abs(sum((row.label == row.prediction) - row.confidence for row in inside)) / len(rows)
    return total


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_follow_from_the_predictions(split: str, evaluated: Evaluated) -> None:
    rows = evaluated.predictions
    check_metrics(evaluated.result[split], rows[rows["split"] == split], BINS)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_random_predictions(seed: int) -> None:
    rows = random_rows(seed)
    check_metrics(measure_split(rows, CLASSES, 4), rows, 4)


def test_metrics_with_a_class_that_is_never_predicted() -> None:
    rows = random_rows(5)
    rows["prediction"] = CLASSES[0]
    check_metrics(measure_split(rows, CLASSES, 4), rows, 4)


def test_roc_curve_of_two_classes_counts_images_above_each_threshold() -> None:
    rows = random_rows(0, 400)
    rows = rows[rows["label"].isin(CLASSES[:2])].reset_index(drop=True)
    curve = measure_split(rows, CLASSES[:2], 4)["roc_curve"]
    positive, probability = rows["label"] == CLASSES[1], rows[f"probability_{CLASSES[1]}"]
    points = list(zip(curve["threshold"], curve["false_positive_rate"], curve["true_positive_rate"], strict=True))
    assert points[0] == (1, 0, 0)
    assert points[-1][1:] == (1, 1)
    assert 2 < len(points) <= MOST_POINTS
    for threshold, false_positive, true_positive in points:
        assert false_positive == (probability[~positive] >= threshold).mean()
        assert true_positive == (probability[positive] >= threshold).mean()
    json.dumps(curve, allow_nan=False)


def test_roc_curve_of_many_images_is_thinned() -> None:
    rows = random_rows(1, 20_000)
    rows = rows[rows["label"].isin(CLASSES[:2])].reset_index(drop=True)
    assert len(measure_split(rows, CLASSES[:2], 4)["roc_curve"]["threshold"]) == MOST_POINTS


@pytest.mark.parametrize(("classes", "kept"), [(CLASSES, CLASSES), (CLASSES[:2], CLASSES[:1])])
def test_more_classes_or_images_of_one_have_no_roc_curve(classes: list[str], kept: list[str]) -> None:
    rows = random_rows(2, 100)
    assert "roc_curve" not in measure_split(rows[rows["label"].isin(kept)], classes, 4)


def test_slices_of_images_that_are_all_alike() -> None:
    rows = random_rows(6).assign(width=32, height=32, aspect_ratio=1.0)
    check_slices(slice_accuracy(rows, 4), rows, 4)


def test_slices_hold_the_images_between_their_bounds() -> None:
    rows = random_rows(7)
    found = [entry for entry in slice_accuracy(rows, 4) if entry["scalar"] == "ink_fraction"]
    assert len(found) == 4
    for entry in found:
        above = rows["ink_fraction"] > entry["from"]
        if entry["from"] == rows["ink_fraction"].min():
            above[:] = True
        part = rows[above & (rows["ink_fraction"] <= entry["to"])]
        assert entry["images"] == len(part) == pytest.approx(len(rows) / 4, abs=1)
        assert entry["accuracy"] == pytest.approx((part["label"] == part["prediction"]).mean())


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([0.9] * 4 + [0.5] * 6, [1, 1, 1, 0] + [1, 1, 1, 0, 0, 0], 0.4 * 0.15),
        ([1.0] * 3, [1, 1, 1], 0),
        ([1.0] * 3, [0, 0, 0], 1),
        ([0.61, 0.65], [1, 0], 0.13),  # one bin, from 0.6 to 0.667: |0.5 - 0.63|
        ([0.61, 0.69], [1, 0], (0.39 + 0.69) / 2),  # two bins
    ],
)
def test_calibration_error_of_a_known_case(confidence: list[float], correct: list[int], expected: float) -> None:
    assert compute_calibration_error(np.array(confidence), np.array(correct, bool)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("right", "count", "expected"), [(8, 10, (0.490, 0.943)), (0, 10, (0, 0.278)), (5, 5, (0.566, 1))]
)
def test_interval_of_a_known_case(right: int, count: int, expected: tuple[float, float]) -> None:
    assert bound_share(right, count) == pytest.approx(expected, abs=5e-4)
    assert bound_share(right, count) == pytest.approx(wilson(right, count))


def test_metrics_file_holds_the_result_with_its_origin(trained: Path, raw: Path, evaluated: Evaluated) -> None:
    written = json.loads((evaluated.folder / "evaluation" / "evaluation.json").read_text())
    assert written == evaluated.result
    training = json.loads((trained / "model" / "training.json").read_text())
    assert written["data_version"] == open_examples(raw).manifest.data_version
    assert written["trained_on"] == training["data_version"] != written["data_version"]
    assert written["settings"] == training["settings"]
    assert written["classes"] == CLASSES
    assert written["train"] == {"images": (evaluated.predictions["split"] == "train").sum()}


def test_evaluation_has_what_the_comparison_of_data_versions_needs(evaluated: Evaluated, tmp_path: Path) -> None:
    keep_results(evaluated.folder / "evaluation", None, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["data_version"] == evaluated.result["data_version"]
    assert metrics["trained_on"] == evaluated.result["trained_on"]
    for split in ("val", "test"):
        rows = evaluated.predictions[evaluated.predictions["split"] == split]
        assert metrics[split]["accuracy"] == evaluated.result[split]["accuracy"]
        confusion = pd.read_csv(tmp_path / f"plots/confusion/{split}.csv")
        pairs = Counter(zip(confusion["label"], confusion["prediction"], strict=True))
        assert pairs == Counter(zip(rows["label"], rows["prediction"], strict=True))


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "edit", "sentence"),
    [
        ("3", {}, "{model}: has further models of the seeds 3, but training.json says that there are 1; give"),
        ("2", {"classes": CLASSES[::-1]}, "{model}/seeds/2: is of another training than the model beside it; give"),
        ("2", {"data_version": "9.dir"}, "{model}/seeds/2: is of another training than the model beside it; give"),
    ],
)
def test_models_of_further_seeds_that_were_edited_are_refused(
    folder: str, edit: dict[str, Any], sentence: str, trained: Path, raw: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(trained / "model", tmp_path / "model")
    training = json.loads((model / "training.json").read_text())
    other = shutil.copytree(trained / "model", model / "seeds" / folder)
    own = {**training, "settings": {**training["settings"], "seed": int(folder)}, **edit}
    (other / "training.json").write_text(json.dumps(own))
    (model / "training.json").write_text(json.dumps({**training, "settings": {**training["settings"], "seeds": 2}}))
    with pytest.raises(UserError) as caught:
        evaluate(model, raw, tmp_path / "outputs")
    assert str(caught.value).startswith(sentence.format(model=model))
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("option", ["batch_size", "slice_bins", "gallery_size"])
def test_option_below_one_is_refused(option: str, trained: Path, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{option} is 0; it must be 1 or more"):
        evaluate(trained / "model", raw, tmp_path, **{option: 0})
    assert os.listdir(tmp_path) == []


def test_model_of_other_classes_is_refused(trained: Path, raw: Path, tmp_path: Path) -> None:
    model = shutil.copytree(trained / "model", tmp_path / "model")
    training = json.loads((model / "training.json").read_text())
    (model / "training.json").write_text(json.dumps({**training, "classes": CLASSES[::-1]}))
    with pytest.raises(UserError, match=r"the model knows the classes \['x', 'v', 'i'\], the examples have"):
        evaluate(model, raw, tmp_path / "outputs")
    assert os.listdir(tmp_path) == ["model"]


def test_model_whose_outputs_are_not_numbers_is_refused(trained: Path, raw: Path, tmp_path: Path) -> None:
    module = tf.Module()
    module.predict = tf.function(
        lambda image_bytes: {"probabilities": tf.fill([tf.size(image_bytes), len(CLASSES)], math.nan)},
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")],
    )
    model = tmp_path / "model"
    tf.saved_model.save(module, str(model), signatures={"serving_default": module.predict})
    shutil.copy(trained / "model" / "training.json", model)
    with pytest.raises(UserError) as caught:
        evaluate(model, raw, tmp_path / "outputs")
    first = next(iter(open_examples(raw).read("train"))).filename
    assert str(caught.value) == (
        f"{model}: its probabilities for {first} are not numbers; train again with a lower learning_rate."
    )
    assert os.listdir(tmp_path / "outputs") == []


@pytest.mark.parametrize("left", [None, '{"classes": '], ids=["missing", "cut"])
def test_model_without_its_record_is_refused(left: str | None, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    if left:
        (tmp_path / "model" / "training.json").write_text(left)
    with pytest.raises(UserError, match="cannot be read|is not JSON") as caught:
        evaluate(tmp_path / "model", raw, tmp_path / "outputs")
    assert str(tmp_path / "model" / "training.json") in str(caught.value)
    assert os.listdir(tmp_path) == ["model"]


# --- the report --------------------------------------------------------------------------------


def test_report_is_one_file_without_outside_addresses(evaluated: Evaluated) -> None:
    Page(evaluated.folder / "report").check_self_contained()


def test_galleries_show_the_worst_first(evaluated: Evaluated) -> None:
    rows = evaluated.predictions
    mistakes = rows[rows["label"] != rows["prediction"]]
    expected: list[str] = rank_doubted(rows[rows["split"] == "train"]).rows["filename"].head(GALLERY).tolist()
    for split in ("test", "val"):
        worst = mistakes[mistakes["split"] == split].nlargest(GALLERY, "loss")["filename"]
        assert len(worst) > 1
        expected += worst.tolist()
    page = Page(evaluated.folder / "report")
    assert page.values("alt") == expected
    pictures = page.values("src")
    assert len(pictures) == len(expected)
    assert all(address.startswith("data:image/png;base64,") for address in pictures)


def test_images_that_curate_made_are_not_among_those_to_look_at(
    evaluated: Evaluated, raw: Path, tmp_path: Path
) -> None:
    rows = evaluated.predictions
    doubted = rank_doubted(rows[rows["split"] == "train"])
    made = doubted.rows.head(1).assign(filename="train/v/00.augmented-1.png", loss=99.0)
    write_evaluation_report(
        str(tmp_path / "report.html"),
        examples=open_examples(raw),
        predictions=pd.concat([made, rows], ignore_index=True),
        evaluation=evaluated.result,
        gallery_size=GALLERY,
    )
    page = Page(tmp_path / "report.html")
    assert page.values("alt") == Page(evaluated.folder / "report").values("alt")
    count = f"{doubted.contradicted} of the {doubted.images} training images that are not augmented"
    assert count in " ".join(page.text.split())


def test_colours_are_shown_as_they_are_and_ink_in_few_bytes() -> None:
    def draw(tint: tuple[int, int, int], share: float) -> str:
        pixels = np.random.default_rng(1).integers(0, 256, (100, 100, 1)).repeat(3, axis=2)
        pixels[: int(100 * share)] = tint
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        return draw_thumbnail(buffer.getvalue())

    assert draw((200, 180, 150), 0.5).startswith("data:image/jpeg;base64,")
    assert draw((200, 190, 165), 0.5).startswith("data:image/png;base64,")  # paper that has turned yellow
    assert draw((255, 0, 0), 0.0).startswith("data:image/png;base64,")


def predict_train(given: str, right: int, **shown: list[float]) -> pd.DataFrame:
    """Train images of a label: so many that the model is right about, and some with the probabilities that it finds."""
    certain = [0.9 if name == given else 0.05 for name in CLASSES]
    probabilities = {**{str(number): certain for number in range(right)}, **shown}
    rows = [
        {
            "filename": filename,
            "label": given,
            "prediction": CLASSES[int(np.argmax(found))],
            **{f"probability_{name}": value for name, value in zip(CLASSES, found, strict=True)},
        }
        for filename, found in probabilities.items()
    ]
    return pd.DataFrame(rows)


def test_doubt_is_measured_by_what_the_model_is_unsure_of_anyway() -> None:
    """A class that it hardly knows does not fill the list, although its images have the smaller probabilities."""
    known = predict_train(CLASSES[0], 40, doubted=[0.2, 0.8, 0.0])
    unknown = predict_train(
        CLASSES[1], 0, **{f"good{i}": [0.3, 0.35, 0.35] for i in range(20)}, usual=[0.55, 0.15, 0.3]
    )
    doubted = rank_doubted(pd.concat([unknown, known], ignore_index=True))
    assert doubted.rows["filename"].tolist() == ["doubted", "usual"]
    assert (doubted.contradicted, doubted.images, doubted.has_learned) == (2, 62, True)


def test_a_model_that_contradicts_much_of_what_it_has_learned_names_no_image() -> None:
    few = {f"wrong{i}": [0.1, 0.9, 0.0] for i in range(10)}
    doubted = rank_doubted(predict_train(CLASSES[0], 10, **few))
    assert (doubted.has_learned, len(doubted.rows)) == (True, 10)
    doubted = rank_doubted(predict_train(CLASSES[0], 9, **few))
    assert (doubted.has_learned, len(doubted.rows), doubted.contradicted) == (False, 0, 10)


def write_page_with_doubts(evaluated: Evaluated, raw: Path, folder: Path, wrong: int | None) -> tuple[Page, list[str]]:
    """The report of a model that contradicts so many training images, or all; and these images."""
    table = evaluated.predictions.copy()
    table["prediction"] = table["label"]
    for name in CLASSES:
        table[f"probability_{name}"] = (table["label"] == name).astype(float)
    odd = table.index[table["split"] == "train"][:wrong]
    table.loc[odd, "prediction"] = [CLASSES[1] if label == CLASSES[0] else CLASSES[0] for label in table["label"][odd]]
    write_evaluation_report(
        str(folder / "report"),
        examples=open_examples(raw),
        predictions=table,
        evaluation=evaluated.result,  # type: ignore[arg-type]
        gallery_size=GALLERY,
    )
    return Page(folder / "report"), table.loc[odd, "filename"].tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (1, "The model gives 1 of the {} training images another label. Those"),
        (0, "The model gives every one of the {} training images the label that it was trained with: it has memorized"),
        (
            None,
            "The model has learned too little for such a list to mean anything: it gives {} of the {} training images "
            "another label than the one that it was trained with, and most of these images are good. Train longer, or "
            "look at the page of the audit, which the pipeline improvement makes",
        ),
    ],
)
def test_report_lists_doubted_images_or_says_why_it_cannot(
    evaluated: Evaluated, raw: Path, tmp_path: Path, wrong: int | None, said: str
) -> None:
    page, odd = write_page_with_doubts(evaluated, raw, tmp_path, wrong)
    images = int((evaluated.predictions["split"] == "train").sum())
    assert page.values("alt") == (odd if wrong else [])
    assert said.format(images, images) in " ".join(page.text.split())


def test_report_escapes_file_names(trained: Path, raw: Path, evaluated: Evaluated, tmp_path: Path) -> None:
    everything = evaluate(trained / "model", raw, tmp_path, gallery_size=1000)
    page = Page(everything.folder / "report")
    shown = [name for name in page.values("alt") if name.endswith(EVIL)]
    assert any(name.startswith("val/") for name in shown)
    assert "<script" not in page.source
    assert shown[0] in page.text


def test_report_of_a_thousand_classes_shows_those_with_the_most_mistakes(
    evaluated: Evaluated, raw: Path, tmp_path: Path
) -> None:
    classes = [f"c{number:03d}" for number in range(1000)]
    rows = pd.concat([evaluated.predictions.head(1)] * 3000, ignore_index=True)
    rows["split"], rows["label"] = "val", [classes[number % 1000] for number in range(3000)]
    rows["prediction"] = [
        classes[(number + (700 <= number < 900)) % 1000] if number < 1000 else classes[number % 1000]
        for number in range(3000)
    ]
    rows["filename"] = list(evaluated.predictions.query("split == 'val'")["filename"].head(1)) * 3000
    result = {**evaluated.result, "classes": classes, "val": measure_split(rows, classes, 2)}
    del result["test"]
    write_evaluation_report(
        str(tmp_path / "report"),
        examples=open_examples(raw),
        predictions=rows,
        evaluation=result,  # type: ignore[arg-type]
        gallery_size=1,
    )
    page = Page(tmp_path / "report")
    assert (tmp_path / "report").stat().st_size < 1_000_000
    text = " ".join(page.text.split())
    said = "Here are the 60 classes with the most mistakes, of 1,000; evaluation.json has all."
    assert f"Rows: the given label. Columns: the prediction. {said}" in text
    shown = text.partition(said)[2].partition("recall")[0].split()
    assert shown == classes[701:761], "each is wrong twice, as a label and as a prediction; c700 and c900 only once"
    assert page.source.count("background: rgba(") == 60 * 60
    assert page.source.count('background: rgba(198,40,40, 0.25)">1<') == 59, "one of three images of a class"


def test_report_shows_the_confusion_matrix_and_scores(evaluated: Evaluated) -> None:
    page = Page(evaluated.folder / "report")
    words = page.text.split()
    for split in ("val", "test"):
        metrics = evaluated.result[split]
        assert f"{100 * metrics['accuracy']:.1f}" in words
        assert f"{metrics['log_loss']:.3f}" in words
        for count in (count for row in metrics["confusion_matrix"] for count in row if count):
            assert str(count) in words
    origin = f"The model was trained on another data version, {evaluated.result['trained_on']}"
    assert f"{origin} . That is meant where the figures of two versions are compared" in " ".join(words)
    assert "flatter" not in words, "val has chosen no epoch of a model of another version"


def test_report_says_that_val_has_chosen_the_epoch(evaluated: Evaluated, raw: Path, tmp_path: Path) -> None:
    result = evaluated.result | {"trained_on": evaluated.result["data_version"]}
    write_evaluation_report(
        str(tmp_path / "report"),
        examples=open_examples(raw),
        predictions=evaluated.predictions,
        evaluation=result,
        gallery_size=GALLERY,
    )
    chosen = "The epoch that was kept is the one with the best accuracy on val, so the figures of val flatter a little"
    assert f"{chosen}; those of test do not." in " ".join(Page(tmp_path / "report").text.split())


def test_model_that_is_damaged_is_named(trained: Path, raw: Path, tmp_path: Path) -> None:
    model = shutil.copytree(trained / "model", tmp_path / "model")
    index = model / "variables/variables.index"
    for damaged, content in ((index, b"no index"), (model / "saved_model.pb", b"no model")):
        damaged.write_bytes(content)
        with pytest.raises(UserError) as caught:
            evaluate(model, raw, tmp_path / "out")
        assert str(caught.value).startswith(f"{model}: cannot be read as a SavedModel (")
        assert str(caught.value).endswith("); give a model that train made.")
    assert os.listdir(tmp_path / "out") == []


def test_model_of_another_kind_is_refused(trained: Path, raw: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    tf.saved_model.save(tf.Module(), str(model))
    shutil.copy(trained / "model/training.json", model)
    with pytest.raises(UserError, match="model: has no signature serving_default; give a model that train made.$"):
        evaluate(model, raw, tmp_path / "out")


def test_picture_that_cannot_be_decoded_is_named(trained: Path, raw: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(raw, tmp_path / "examples")
    edit_record(folder, set_text("image/encoded", b"no picture"))
    names = [example.filename for example in open_examples(folder).read("val")]
    with pytest.raises(UserError) as caught:
        evaluate(trained / "model", folder, tmp_path / "out")
    sentence = f"{folder}: the model cannot decode an image of {names[0]} to {names[4]}; rerun ingest on the data."
    assert str(caught.value) == sentence
