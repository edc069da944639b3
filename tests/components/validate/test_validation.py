import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf.json_format import MessageToDict
from PIL import Image, ImageOps
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from components.ingest.ingestion import ingest_data
from components.shared.errors import UserError
from components.shared.formats import examples as ex
from components.shared.formats.examples import (
    ExampleSet,
    ExamplesManifest,
    ImageExample,
    MadeSplit,
    Quarantined,
    SplitInfo,
    open_examples,
)
from components.shared.formats.findings import Finding
from components.validate import anomalies, validation
from components.validate.anomalies import load_statistics
from components.validate.image_statistics import FEATURES
from components.validate.report import write_validation_report
from components.validate.validation import Thresholds, validate_examples
from tests.conftest import BEAM, CLASSES, ROOT, Folders, contents, copy_folders, outputs_in
from tests.pages import Page

THRESHOLDS = Thresholds(label=0.1, scalar=0.9, blank_contrast=0.02, imbalance_ratio=3)
OUTPUTS = ("statistics", "schema", "findings", "report")
EVIL = """<script>alert('1')<|script> & "quoted".png"""


class Validated(NamedTuple):
    folder: Path
    counts: dict[str, int]

    @property
    def findings(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "findings").read_text())

    def images(self, kind: str) -> set[tuple[str, ...]]:
        return {tuple(finding["images"]) for finding in self.findings if finding["kind"] == kind}

    def messages(self, kind: str) -> list[str]:
        return [finding["message"] for finding in self.findings if finding["kind"] == kind]


def ingest(data: Path, output: Path, test: str = "") -> Path:
    ingest_data(
        str(data),
        test_data_uri=test,
        data_version="1.dir",
        classes=[],
        on_bad_image="quarantine",
        max_images=10_000,
        max_pixels=10_000_000,
        shards=2,
        beam_options=BEAM,
        output=str(output / "examples"),
    )
    return output / "examples"


def validate(
    examples: Path,
    folder: Path,
    severity: dict[str, str] | None = None,
    thresholds: Thresholds = THRESHOLDS,
    options: list[str] = BEAM,
    uri: str = "",
    schema: Path | str = "",
) -> Validated:
    counts = validate_examples(
        str(examples),
        thresholds=thresholds,
        severity=severity or {},
        beam_options=options,
        examples_uri=uri,
        curated_schema_uri=str(schema),
        **outputs_in(folder, *OUTPUTS),
    )
    return Validated(folder, counts)


def read_all(examples: Path) -> dict[str, ImageExample]:
    """Every image by its name."""
    opened = open_examples(examples)
    return {example.filename: example for split in opened.manifest.splits for example in opened.read(split)}


# --- faults put into the data, and nothing else found ------------------------------------------


def repaint(path: Path, level: int) -> bytes:
    Image.new("L", (60, 50), level).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def faulty(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with one fault of each kind; the test split has three times as many x as the others."""
    root = tmp_path_factory.mktemp("faulty")
    data, test = copy_folders(tiny, root)
    (data / "val/i/leak.png").write_bytes((data / "train/i/00.png").read_bytes())
    (test / "x/conflict.png").write_bytes((data / "train/v/01.png").read_bytes())
    (data / f"train/x/{EVIL}").write_bytes((data / "train/x/02.png").read_bytes())
    (data / "train/v/broken.png").write_text("no picture")  # ingest leaves it out
    repaint(data / "train/v/white.png", 255)
    repaint(test / "v/black.png", 0)
    for number in range(6):
        picture = Image.open(test / f"x/{number % 2:02d}.png")
        picture.putpixel((0, 0), 10 + number)  # or it would be a duplicate
        picture.save(test / f"x/more {number}.png")
    return ingest(data, root, str(test))


@pytest.fixture(scope="module")
def found(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    return validate(faulty, tmp_path_factory.mktemp("found"))


DUPLICATES = {
    "duplicate_across_splits": {("train/i/00.png", "val/i/leak.png")},
    "duplicate_with_other_label": {("test/x/conflict.png", "train/v/01.png")},
    "duplicate_in_split": {("train/x/02.png", f"train/x/{EVIL}")},
    "blank": {("train/v/white.png",), ("test/v/black.png",)},
}


@pytest.mark.parametrize(("kind", "images"), DUPLICATES.items(), ids=DUPLICATES)
def test_finding_names_exactly_the_faulty_images(kind: str, images: set[tuple[str, ...]], found: Validated) -> None:
    assert found.images(kind) == images
    assert found.counts[kind] == len(images)


def test_imbalance_names_the_class_and_its_split(faulty: Path, found: Validated) -> None:
    assert open_examples(faulty).manifest.splits["test"].classes == {"i": 2, "v": 3, "x": 9}
    assert found.messages("imbalance") == ["test/x has 9 images, the median class of test 3."]


@pytest.mark.parametrize(
    ("counts", "ratio", "expected"),
    [
        ([10, 10, 10], 2, []),
        ([10, 10, 5], 2, ["c"]),
        ([10, 10, 6], 2, []),
        ([10, 20, 10], 2, ["b"]),
        ([10, 19, 10], 2, []),
        ([10, 0, 40], 2, ["b", "c"]),
        ([1, 1, 1], 3, []),
    ],
)
def test_imbalance_is_measured_against_the_median_class(counts: list[int], ratio: float, expected: list[str]) -> None:
    split = SplitInfo(sum(counts), dict(zip("abc", counts, strict=True)), shards=[])
    findings = validation.find_imbalance(ExamplesManifest("", "", "1.dir", list("abc"), {"val": split}, []), ratio)
    assert [finding["message"].split()[0] for finding in findings] == [f"val/{name}" for name in expected]


def test_counts_are_those_of_the_findings(found: Validated) -> None:
    kinds = [finding["kind"] for finding in found.findings]
    assert found.counts == {kind: kinds.count(kind) for kind in validation.KINDS}
    assert {finding["severity"] for finding in found.findings} == {"warning"}


def test_clean_data_has_no_findings_about_images(validated: Path) -> None:
    findings = json.loads((validated / "findings").read_text())
    assert not {"imbalance", *DUPLICATES} & {finding["kind"] for finding in findings}


# --- statistics and schema ---------------------------------------------------------------------


def test_statistics_count_the_images_and_never_their_bytes(faulty: Path, found: Validated) -> None:
    opened = open_examples(faulty)
    assert {path.stem for path in (found.folder / "statistics").iterdir()} == set(opened.manifest.splits)
    for split, content in opened.manifest.splits.items():
        (dataset,) = tfdv.load_statistics(str(found.folder / "statistics" / f"{split}.tfrecord")).datasets
        assert dataset.num_examples == content.images
        features = {feature.path.step[0]: feature for feature in dataset.features}
        assert features.keys() == set(FEATURES)
        assert not {ex.ENCODED, ex.FILENAME, ex.SHA256} & features.keys()
        ranks = features[ex.CLASS].string_stats.rank_histogram.buckets
        assert {bucket.label: bucket.sample_count for bucket in ranks} == content.classes
        stored = [example.mean_intensity for example in opened.read(split)]
        assert features[ex.MEAN_INTENSITY].num_stats.mean == pytest.approx(np.mean(stored))


def test_inferred_schema_holds_every_feature_of_the_examples(faulty: Path, found: Validated) -> None:
    schema = tfdv.load_schema_text(str(found.folder / "schema" / "schema.pbtxt"))
    assert {feature.name for feature in schema.feature} == set(ex.FEATURES)
    assert {feature.presence.min_fraction for feature in schema.feature} == {1}
    assert sorted(tfdv.get_domain(schema, ex.CLASS).value) == CLASSES


def test_inferred_schema_can_be_curated_and_violations_name_their_images(
    faulty: Path, found: Validated, tmp_path: Path
) -> None:
    rows = read_all(faulty)
    most = sorted(row.width for row in rows.values())[len(rows) // 2]
    schema = tfdv.load_schema_text(str(found.folder / "schema" / "schema.pbtxt"))
    tfdv.get_domain(schema, ex.CLASS).value.remove("x")
    tfdv.get_feature(schema, ex.WIDTH).int_domain.max = most
    curated = tmp_path / "curated.pbtxt"
    tfdv.write_schema_text(schema, str(curated))
    others = {kind: "ignore" for kind in validation.KINDS if kind != "schema"}

    again = validate(faulty, tmp_path, others, schema=curated)
    expected: dict[str, list[str]] = {"the class x is not in the schema": []}
    for split in open_examples(faulty).manifest.splits:
        wide = {name: row.width for name, row in rows.items() if name.startswith(f"{split}/") and row.width > most}
        lowest, highest = min(wide.values()), max(wide.values())
        values = f"{lowest}" if lowest == highest else f"from {lowest} to {highest}"
        expected[f"{split}: image/width is {values}, where the schema has {most} or less"] = sorted(wide)
    assert {finding["message"]: finding["images"] for finding in again.findings} == expected
    assert {finding["kind"] for finding in again.findings} == {"schema"}
    assert found.messages("schema") == [], "the inferred schema fits"
    assert tfdv.load_schema_text(str(tmp_path / "schema" / "schema.pbtxt")) == schema
    with pytest.raises(UserError) as caught:
        validate(faulty, tmp_path / "stopped", others | {"schema": "error"}, schema=curated)
    assert str(caught.value).startswith(f"the images do not fit {curated}: the class x is not in the schema; test: ")
    assert str(caught.value).endswith("; correct the images or the schema, or leave it out to infer one.")
    assert len(str(caught.value).splitlines()) == 1
    assert contents(tmp_path / "stopped") == {}


NUMERALS = ROOT / "pipelines/config/competition.pbtxt"


def test_schema_of_other_classes_is_one_sentence_with_the_difference(tiny: Folders, tmp_path: Path) -> None:
    """The schema of the competition on the images of i, v and x alone."""
    others = {kind: "ignore" for kind in validation.KINDS if kind != "schema"} | {"schema": "error"}
    with pytest.raises(UserError) as caught:
        validate(ingest(tiny.data, tmp_path / "few", str(tiny.test)), tmp_path / "out", others, schema=NUMERALS)
    assert str(caught.value) == (
        f"the images do not fit {NUMERALS}: the classes ii, iii, iv, vi, vii, viii and ix of the schema have no "
        "images; correct the images or the schema, or leave it out to infer one."
    )


def test_words_for_classes_values_and_ranges(found: Validated) -> None:
    schema = tfdv.load_schema_text(str(found.folder / "schema" / "schema.pbtxt"))

    def compare(classes: list[str]) -> list[str]:
        feature = tfdv.get_feature(schema, ex.CLASS)
        return [finding["message"] for finding in anomalies._compare_classes(feature, schema, classes)]

    assert compare(["x", "i", "v"]) == []
    assert compare(["i", "v"]) == ["the class x of the schema has no images"]
    assert compare(["i", "v", "x", "a b"]) == ["the class a b is not in the schema"]
    assert compare(["circle", "square"]) == [
        "the classes circle and square are not in the schema, and i, v and x of the schema have no images"
    ]
    many = [f"c{number}" for number in range(12)]
    assert compare(["i", "v", "x", *many]) == [
        "the classes c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more are not in the schema"
    ]


def test_splits_that_differ_fit_the_schema_inferred_from_them(tiny: Folders, tmp_path: Path) -> None:
    data, test = copy_folders(tiny, tmp_path)
    for path in (data / "val").rglob("*.png"):
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    done = validate(ingest(data, tmp_path, str(test)), tmp_path / "out", {"schema": "error"})
    schema = tfdv.load_schema_text(str(tmp_path / "out/schema/schema.pbtxt"))
    assert sorted(tfdv.get_domain(schema, ex.FORMAT).value) == ["jpeg", "png"]
    assert done.counts["schema"] == 0
    assert "The schema was inferred from these images" in Page(tmp_path / "out/report").text


def test_inferred_schema_knows_each_of_many_classes(tmp_path: Path) -> None:
    names = [f"class {number:03d}" for number in range(120)]
    pictures = tmp_path / "data"
    for split in ("train", "val"):
        for number, name in enumerate(names):
            (pictures / split / name).mkdir(parents=True)
            Image.new("L", (20, 20 + number), 100).save(pictures / split / name / "0.png")
    output = tmp_path / "examples"
    ingest_data(
        str(pictures),
        test_data_uri="",
        data_version="",
        classes=names,
        on_bad_image="fail",
        max_images=10_000,
        max_pixels=50_000_000,
        shards=1,
        beam_options=BEAM,
        output=str(output),
    )
    validate(output, tmp_path / "out", {"schema": "error"})
    schema = tfdv.load_schema_text(str(tmp_path / "out/schema/schema.pbtxt"))
    assert sorted(tfdv.get_domain(schema, ex.CLASS).value) == names


def test_broken_curated_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    path.write_text("feature { name: ")
    with pytest.raises(
        UserError, match="cannot be read as a schema .*; correct that, or leave the schema out"
    ) as caught:
        anomalies.read_curated_schema(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [2, -0.5])
def test_schema_that_asks_for_an_impossible_share_of_examples_is_named(
    share: float, found: Validated, tmp_path: Path
) -> None:
    path = tmp_path / "schema.pbtxt"
    written = (found.folder / "schema" / "schema.pbtxt").read_text()
    path.write_text(written.replace("min_fraction: 1.0", f"min_fraction: {share}", 1))
    with pytest.raises(UserError, match=f"image/aspect_ratio: min_fraction is {share}, not from 0 to 1; correct that"):
        anomalies.read_curated_schema(str(path))


def test_feature_missing_in_the_curated_schema_is_named(found: Validated, tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    written = (found.folder / "schema" / "schema.pbtxt").read_text()
    for name in (*FEATURES, ex.ENCODED, ex.FILENAME, ex.SHA256):
        path.write_text(written.replace(f'"{name}"', '"other"'))
        with pytest.raises(UserError, match=f"the features {name} are missing") as caught:
            anomalies.read_curated_schema(str(path))
        assert str(path) in str(caught.value)


# --- workers -----------------------------------------------------------------------------------


def in_order(folder: Path) -> dict[str, Any]:
    """The outputs with what TFDV orders and rounds as the workers happen to finish put into one order."""
    schema = MessageToDict(tfdv.load_schema_text(str(folder / "schema" / "schema.pbtxt")))
    for kind in ("feature", "stringDomain"):
        schema[kind].sort(key=lambda message: message["name"])
    found = {name: (folder / name).read_text() for name in ("findings", "report")}
    for path in sorted((folder / "statistics").iterdir()):
        features = MessageToDict(tfdv.load_statistics(str(path)).datasets[0])["features"]
        by_name = {feature["path"]["step"][0]: feature for feature in features}
        found[path.name] = by_name
    return dict(leaves({**found, "schema": schema}))


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of each leaf of nested dictionaries and lists."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{place}/{key}")
    else:
        yield place, value


def test_workers_elsewhere_find_the_same(elsewhere: list[str], faulty: Path, found: Validated, tmp_path: Path) -> None:
    again = validate(faulty, tmp_path / "outputs", options=elsewhere, uri=str(faulty))
    assert again.counts == found.counts
    actual, expected = in_order(again.folder), in_order(found.folder)
    assert actual.keys() == expected.keys()
    for place, value in expected.items():
        # TFDV adds up in the order in which the workers happen to finish, so that the last digits of sums differ.
        assert actual[place] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), place
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_workers_elsewhere_read_the_examples_by_their_uri(faulty: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(faulty, tmp_path / "elsewhere")
    shard = sorted(elsewhere.glob("val-*"))[0]
    images = sum(1 for _ in tf.data.TFRecordDataset(str(shard)))
    shard.write_bytes(2 * shard.read_bytes())  # which shows where they read
    expected = open_examples(faulty).manifest.splits["val"].images
    with pytest.raises(UserError, match=f"with {expected + images} of {expected} parts"):
        validate(faulty, tmp_path, options=[*BEAM, f"--temp_location={tmp_path / 'shared'}"], uri=str(elsewhere))


def test_wrong_beam_option_is_refused(faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="beam_options: 'FnApiRunner' is not an option; write it as --name=value"):
        validate(faulty, tmp_path, options=["FnApiRunner"])
    assert os.listdir(tmp_path) == []


# --- skew and drift ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shifted(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """Test is a copy of train; val is its negative, with other shares of the classes."""
    root = tmp_path_factory.mktemp("shifted")
    data, test = copy_folders(tiny, root)
    for path in [*(data / "val").rglob("*.png"), *test.rglob("*.png")]:
        path.unlink()
    for path in (data / "train").rglob("*.png"):
        name = path.parent.name
        (test / name / path.name).write_bytes(path.read_bytes())
        if name == CLASSES[0] or path.name < "02.png":
            ImageOps.invert(Image.open(path)).save(data / "val" / name / path.name)
    thresholds = Thresholds(0.05, 0.05, 0.02, 100)
    return validate(ingest(data, root, str(test)), root / "outputs", {"duplicate_across_splits": "ignore"}, thresholds)


def test_other_distribution_of_val_is_skew(shifted: Validated) -> None:
    features = {re.match(r"train against val: (\S+): ", message)[1] for message in shifted.messages("skew")}
    assert {ex.MEAN_INTENSITY, ex.INK_FRACTION} <= features
    assert shifted.counts["skew"] == len(shifted.messages("skew"))
    assert all(" between train and val is " in message for message in shifted.messages("skew"))


@pytest.mark.parametrize("images", [4, 12, 40, 300])
def test_chance_is_no_skew_however_few_the_images(images: int) -> None:
    """Of one distribution, few images differ by more than many; of another one, they are found to."""
    rng = np.random.default_rng(images)

    def count(size: int, shift: float = 0) -> DatasetFeatureStatisticsList:
        return tfdv.generate_statistics_from_dataframe(pd.DataFrame({ex.CONTRAST: rng.normal(shift, 1, size)}))

    def compare(val: DatasetFeatureStatisticsList) -> list[Finding]:
        statistics = {"train": count(200), "val": val}
        schema = anomalies.infer_schema(statistics)
        return anomalies.compare_splits(statistics, schema, label_threshold=0.1, scalar_threshold=0.2)

    assert [compare(count(images)) for _ in range(5)] == [[]] * 5
    (finding,) = compare(count(images, shift=9))
    assert finding["message"].startswith(f"train against val: {ex.CONTRAST}: ")
    assert " (0.2 and what chance allows for this many images)" in finding["message"]


@pytest.mark.parametrize(("split", "kind"), [("val", "skew"), ("test", "drift")])
@pytest.mark.parametrize("images", [12, 40, 300])
def test_classes_are_found_to_differ_by_more_than_chance(images: int, split: str, kind: str) -> None:
    rng = np.random.default_rng(images)

    def compare(share: float) -> tuple[list[Finding], float]:
        """The findings, and the distance of the shares."""
        cats = {"train": rng.random(1000) < 0.5, split: rng.random(images) < share}
        statistics = {
            name: tfdv.generate_statistics_from_dataframe(pd.DataFrame({ex.CLASS: np.where(are, "cat", "dog")}))
            for name, are in cats.items()
        }
        schema = anomalies.infer_schema(statistics)
        findings = anomalies.compare_splits(statistics, schema, label_threshold=0.1, scalar_threshold=0.2)
        return findings, abs(cats["train"].mean() - cats[split].mean())

    assert [compare(0.5)[0] for _ in range(5)] == [[]] * 5
    (finding,), distance = compare(0.99)
    assert finding["kind"] == kind
    start = f"train against {split}: {ex.CLASS}: The L-infinity distance between train and {split} is "
    said = re.match(re.escape(start) + r"([\d.]+) ", finding["message"])
    assert float(said[1]) == pytest.approx(distance, abs=1e-5)
    assert " (0.1 and what chance allows for this many images)" in finding["message"]


def test_equal_distribution_of_test_is_no_drift(shifted: Validated) -> None:
    assert shifted.counts["drift"] == 0


# --- severity ----------------------------------------------------------------------------------


def test_error_stops_with_the_images_named_and_ignored_kinds_hidden(faulty: Path, tmp_path: Path) -> None:
    severity = {"duplicate_with_other_label": "error", "blank": "error", "duplicate_across_splits": "ignore"}
    with pytest.raises(UserError) as caught:
        validate(faulty, tmp_path / "outputs", severity)
    assert str(caught.value) == (
        "the images have errors: duplicate_with_other_label: 2 files have the same bytes (test/x/conflict.png, "
        "train/v/01.png); blank: contrast 0.000 (test/v/black.png); blank: contrast 0.000 (train/v/white.png); "
        "correct the images, or lower the severity of these kinds to see them in the report."
    )
    assert contents(tmp_path / "outputs") == {}


@pytest.mark.parametrize(
    ("severity", "message"),
    [
        ({"blanks": "error"}, "'blanks' is not a kind of finding; the kinds are schema, .*blank"),
        ({"blank": "fatal"}, "'blank' is 'fatal'; it must be error, warning or ignore"),
    ],
)
def test_wrong_severity_is_refused(severity: dict[str, str], message: str, examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        validate(examples, tmp_path, severity)
    assert os.listdir(tmp_path) == []


def test_examples_without_manifest_are_refused(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="examples.json: cannot be read"):
        validate(examples.parent, tmp_path)


# --- the report --------------------------------------------------------------------------------


def test_report_is_one_file_without_outside_addresses(found: Validated) -> None:
    assert (found.folder / "report").is_file()
    Page(found.folder / "report").check_self_contained()


def test_report_escapes_what_comes_from_the_data(found: Validated) -> None:
    page = Page(found.folder / "report")
    assert "<script" not in page.source
    assert f"train/x/{EVIL}" in page.values("alt")
    assert f"train/x/{EVIL}" in page.text


def test_tables_of_the_report_scroll_where_the_window_is_narrow(found: Validated) -> None:
    page = Page(found.folder / "report")
    assert "All of them as text" in page.text
    assert "Left out at ingest (1)" in " ".join(page.text.split())
    assert "train/v/broken.png" in page.text
    assert page.source.count("<table") == page.source.count('<div class="scroll"><table')


def test_report_says_how_images_without_splits_were_divided(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}<b>.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((6, 6, 1), np.uint8))).save(path)
        if number < 12:
            shutil.copy(path, path.with_name(f"copy of {path.name}"))
    examples = ingest(tmp_path / "data", tmp_path)
    made = open_examples(examples).manifest.made_split
    assert made
    page = Page(validate(examples, tmp_path / "out").folder / "report")
    assert ('<th style="text-align:left">why</th>' in page.source) == bool(made.duplicates)
    assert '<th style="min-width:190px;text-align:left">val</th>' in page.source, "as the cells below it"
    text = " ".join(page.text.split())
    assert "with a share of 0.2 for val and the seed 0: it stays on its side when others" in text
    assert ("Left out, because the same picture is in val or test" in text) == bool(made.duplicates)
    for entry in made.duplicates:
        assert f"{entry.path} {entry.reason}" in text
    for name in made.filled:
        assert name in text


def test_report_of_very_many_findings_and_files_left_out_is_bounded_and_counts_them(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "components.validate.report.draw_thumbnails", lambda _, names: dict.fromkeys(names, "data:image/png;base64,")
    )
    names = [f"train/i/{number:06d}.png" for number in range(50_000)]
    findings: list[Finding] = [
        *({"kind": "duplicate_in_split", "message": f"{number} files.", "images": names} for number in (50_000, 2)),
        *({"kind": "blank", "message": "contrast 0.", "images": [name], "severity": "warning"} for name in names),
    ]
    examples = open_examples(faulty)
    left_out = [Quarantined(name, "a broken file") for name in names]
    made = MadeSplit(0, 0.2, 0.0, [Quarantined(name, "the same picture") for name in names], [])
    manifest = replace(examples.manifest, quarantined=left_out, made_split=made)
    path = tmp_path / "report.html"
    write_validation_report(
        str(path),
        examples=ExampleSet(examples.folder, manifest),
        statistics=load_statistics(validate(faulty, tmp_path / "out").folder / "statistics", list(manifest.splits)),
        findings=[{**finding, "severity": "warning"} for finding in findings],
        is_inferred=True,
    )
    assert path.stat().st_size < 1_500_000
    page = Page(path)
    text = " ".join(page.text.split())
    assert len(page.values("alt")) == 60 + 60, "of each kind"
    assert "(blank, 50,000)" in text
    assert "The first 1,000 as text; the output findings lists all" in text
    assert f"{', '.join(names[:20])} and 49,980 more 50000 files." in text
    assert "Left out at ingest (50,000, the first 1,000 of them here)" in text
    assert "Left out, because the same picture is in val or test (50,000, the first 1,000 of them here)" in text
    assert text.count("a broken file") == 1000
    assert text.count(".png the same picture ") == 1000


def test_report_shows_every_finding_with_its_pictures(faulty: Path, found: Validated) -> None:
    page = Page(found.folder / "report")
    shown = [name for images in DUPLICATES.values() for names in images for name in names]
    assert sorted(page.values("alt")) == sorted(shown)
    pictures = page.values("src")
    assert len(pictures) == len(shown)
    assert all(address.startswith("data:image/png;base64,") for address in pictures)
    for finding in found.findings:
        assert finding["message"] in page.text
    for content in open_examples(faulty).manifest.splits.values():
        assert f"{content.images}" in page.text
