import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

import models
from components.shared import fixed_models
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS, ExamplesManifest, open_examples
from components.transform.transformation import transform_examples
from models.preprocessing import IMAGE, LABEL
from models.resnet import SIZE
from tests.conftest import BEAM, contents, ends_soon, outputs_in, run_killed
from tests.shards import edit_record, set_text


def transform(
    examples: Path,
    schema: Path,
    folder: Path,
    batch_size: int = 16,
    options: list[str] = BEAM,
    uri: str = "",
    model: str = "resnet",
) -> ExamplesManifest:
    return transform_examples(
        str(examples),
        schema=str(schema),
        model=model,
        batch_size=batch_size,
        beam_options=options,
        examples_uri=uri,
        **outputs_in(folder, "examples", "graph"),
    )


def read_records(*paths: str | Path) -> list[bytes]:
    return list(tf.data.TFRecordDataset(list(map(str, paths))).as_numpy_iterator())


def stored(folder: Path, split: str) -> list[Any]:
    """The features of each transformed example."""
    records = read_records(*open_examples(folder).list_shard_paths(split))
    return [tf.train.Example.FromString(record).features.feature for record in records]


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_decoded_and_resized_in_the_same_order(split: str, examples: Path, transformed: Path) -> None:
    raw, results = list(open_examples(examples).read(split)), stored(transformed / "examples", split)
    assert len(raw) == len(results) > 0
    for before, after in zip(raw, results, strict=True):
        picture = tf.io.decode_image(before.encoded, channels=3)
        assert set(after) == {IMAGE, LABEL}
        actual = np.reshape(after[IMAGE].float_list.value, (*SIZE, 3))
        np.testing.assert_allclose(actual, tf.image.resize(picture, (32, 32)).numpy(), atol=1e-3)
        assert list(after[LABEL].int64_list.value) == [before.label]


def test_manifest_is_that_of_the_examples_with_new_checksums(examples: Path, transformed: Path) -> None:
    opened = open_examples(transformed / "examples")  # which checks each shard
    before, after = asdict(open_examples(examples).manifest), asdict(opened.manifest)
    changed = []
    for split, content in before["splits"].items():
        for old, new in zip(content["shards"], after["splits"][split]["shards"], strict=True):
            changed.append(old.pop("sha256") != new.pop("sha256"))
    assert changed
    assert all(changed)
    assert before == after


@pytest.mark.parametrize("batch_size", [16, 5], ids=["same batches", "other batches"])
def test_bytes_do_not_depend_on_the_run_or_the_batches(
    batch_size: int, examples: Path, validated: Path, transformed: Path, tmp_path: Path
) -> None:
    transform(examples, validated / "schema", tmp_path, batch_size)
    assert contents(tmp_path / "examples") == contents(transformed / "examples")


def test_workers_elsewhere_write_the_same(
    elsewhere: list[str], examples: Path, validated: Path, transformed: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    transform(examples, validated / "schema", outputs, options=elsewhere, uri=str(examples))
    assert contents(outputs / "examples") == contents(transformed / "examples")
    assert contents(outputs / "graph").keys() == contents(transformed / "graph").keys()
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_workers_elsewhere_read_the_examples_by_their_uri(examples: Path, validated: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(examples, tmp_path / "elsewhere")
    shard = sorted(elsewhere.glob("val-*"))[0]
    shard.write_bytes(2 * shard.read_bytes())  # which shows where they read
    options = [*BEAM, f"--temp_location={tmp_path / 'shared'}"]
    transform(examples, validated / "schema", tmp_path / "outputs", options=options, uri=str(elsewhere))
    before, after = (len(read_records(f / shard.name)) for f in (examples, tmp_path / "outputs/examples"))
    assert after == 2 * before > 0


def test_wrong_beam_option_is_refused(examples: Path, validated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="beam_options: --direct_num_worker is not an option of Beam; did you mean"):
        transform(examples, validated / "schema", tmp_path, options=[*BEAM, "--direct_num_worker=2"])
    assert os.listdir(tmp_path) == []


def test_graph_gives_the_transformed_examples(examples: Path, transformed: Path) -> None:
    output = tft.TFTransformOutput(str(transformed / "graph"))
    records = read_records(*open_examples(examples).list_shard_paths("val"))
    features = output.transform_features_layer()(tf.io.parse_example(records, output.raw_feature_spec()))
    expected = stored(transformed / "examples", "val")
    assert features[IMAGE].shape == (len(records), *SIZE, 3)
    np.testing.assert_array_equal(
        np.reshape(features[IMAGE], (len(records), -1)), [feature[IMAGE].float_list.value for feature in expected]
    )
    np.testing.assert_array_equal(features[LABEL], [feature[LABEL].int64_list.value[0] for feature in expected])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_refused(batch_size: int, examples: Path, validated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"batch_size is {batch_size}; it must be 1 or more"):
        transform(examples, validated / "schema", tmp_path, batch_size)
    assert os.listdir(tmp_path) == []


def test_examples_with_a_changed_shard_are_refused(examples: Path, validated: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(examples, tmp_path / "spoilt")
    shard = sorted(spoilt.glob("train-*"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="differs from its checksum") as caught:
        transform(spoilt, validated / "schema", tmp_path / "outputs")
    assert str(shard) in str(caught.value)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("schema", [None, "feature {"], ids=["missing", "cut"])
def test_unreadable_schema_is_refused(schema: str | None, examples: Path, tmp_path: Path) -> None:
    if schema:
        (tmp_path / "schema.pbtxt").write_text(schema)
    with pytest.raises(UserError, match="schema.pbtxt: cannot be read as a schema .*; give the output `schema`"):
        transform(examples, tmp_path, tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


TRANSFORM = """
from components.transform.transformation import transform_examples
examples, schema, output, graph = sys.argv[1:]
transform_examples(
    examples,
    schema=schema,
    model="resnet",
    batch_size=16,
    beam_options=["--runner=FnApiRunner"],
    examples_output=output,
    graph_output=graph,
)
"""


def test_killed_transform_runs_again(examples: Path, validated: Path, transformed: Path, tmp_path: Path) -> None:
    group = run_killed(
        TRANSFORM, "transforming all", examples, validated / "schema", tmp_path / "examples", tmp_path / "graph"
    )
    left = sorted(name.rpartition(".")[2] for name in os.listdir(tmp_path) if name.startswith(".partial."))
    assert left == ["examples", "graph"], "it was killed in mid-write"
    assert ends_soon(group)
    transform(examples, validated / "schema", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["examples", "graph"]
    assert contents(tmp_path / "examples") == contents(transformed / "examples")
    assert contents(tmp_path / "graph").keys() == contents(transformed / "graph").keys()


def test_picture_that_cannot_be_decoded_is_named(examples: Path, validated: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(examples, tmp_path / "examples")
    shard = edit_record(folder, set_text("image/encoded", b"no picture"))
    with pytest.raises(UserError) as caught:
        transform(folder, validated / "schema", tmp_path / "out")
    sentence = f"{folder}/{shard}: an image of it cannot be decoded; rerun the stage that made it."
    assert str(caught.value) == sentence
    assert not contents(tmp_path / "out")


def test_shard_that_was_edited_is_refused_before_beam_reads_it(examples: Path, validated: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(examples, tmp_path / "examples")
    edit_record(folder, set_text("image/class/text", b"../../../escaped"))
    with pytest.raises(UserError, match="image 1: class_name: is '../../../escaped', which is no name of a class"):
        transform(folder, validated / "schema", tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"image/encoded"', '"image/code"', "images have no feature image/code of the type string"),
        ("type: INT", "type: FLOAT", "images have no feature image/bytes of the type float32"),
        ("size: 1", "size: 2", "does not say that each image has one image/encoded"),
        ("min_fraction: 1.0", "", "is not a schema of examples (Feature image/aspect_ratio had shape"),
        (
            "feature {",
            "feature { struct_domain { " * 2_000,
            "cannot be read as a schema (maximum recursion",
        ),
        ("feature {", "feature [", "cannot be read as a schema (2:3 : "),
    ],
)
def test_schema_of_something_else_is_refused(
    examples: Path, validated: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = shutil.copytree(validated / "schema", tmp_path / "schema") / "schema.pbtxt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        transform(examples, tmp_path / "schema", tmp_path / "out")
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert str(caught.value).endswith("; give the output `schema` of validate.")


# --- models ------------------------------------------------------------------------------------


def test_examples_and_graph_name_their_model(transformed: Path) -> None:
    for name in ("examples", "graph"):
        assert (transformed / name / "model.json").read_text() == '{\n "model": "resnet"\n}\n'


def test_unknown_model_is_refused(examples: Path, validated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        transform(examples, validated / "schema", tmp_path / "out", model="resnest")
    sentence = "model is 'resnest'; it must be mobilenet or resnet, the files of models/."
    assert str(caught.value) == sentence
    assert not (tmp_path / "out").exists()


GOOD = """
from models.preprocessing import decode
SIZE, CHANNELS = (8, 9), 1
def build_model(classes): ...
def preprocessing_fn(inputs): return decode(inputs, SIZE, CHANNELS)
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("SIZE, CHANNELS = (8, 9), 1", "SIZE = (8, 9)", "has no CHANNELS; docs/models.md says what a model has."),
        ("(8, 9), 1", "28, 1", "SIZE is 28; it must be (HEIGHT, WIDTH) in pixels."),
        ("(8, 9), 1", "(8, 9), 2", "CHANNELS is 2; it must be 1 (gray) or 3 (RGB)."),
        ("def build_model(classes): ...", "def build_model(classes: ...", "models/faulty.py, line 4: is not Python"),
        (
            "return decode(inputs, SIZE, CHANNELS)",
            "return {'image': decode(inputs, SIZE, CHANNELS)['image']}",
            "preprocessing_fn returns image; it must be image and label.",
        ),
        (
            "return decode(inputs, SIZE, CHANNELS)",
            "return decode(inputs, SIZE, 3)",
            "preprocessing_fn returns image as float32 (None, 8, 9, 3), not float32 [batch, 8, 9, 1]; "
            "docs/models.md says what a model has.",
        ),
    ],
)
def test_model_that_is_not_as_the_guide_says_is_refused(
    old: str,
    new: str,
    sentence: str,
    examples: Path,
    validated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "faulty.py").write_text(GOOD.replace(old, new))
    monkeypatch.setattr(fixed_models, "MODELS", tmp_path)
    monkeypatch.setattr(models, "__path__", [str(tmp_path), *models.__path__])
    monkeypatch.delitem(sys.modules, "models.faulty", raising=False)
    with pytest.raises(UserError) as caught:
        transform(examples, validated / "schema", tmp_path / "out", model="faulty")
    assert str(caught.value).removeprefix("models/faulty.py: ").startswith(sentence)
    assert not contents(tmp_path / "out")
