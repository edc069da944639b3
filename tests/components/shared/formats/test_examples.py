import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from components.shared.errors import UserError
from components.shared.formats.examples import (
    FEATURES,
    is_augmented,
    open_examples,
    parse_example,
    serialize_example,
)
from tests.shards import edit_record, replace_shard, set_text


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    return shutil.copytree(examples, tmp_path / "examples")


def records(paths: list[str]) -> list[bytes]:
    return list(tf.data.TFRecordDataset(paths).as_numpy_iterator())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (("a.jpg", 20, 9), ("a.png", 10, 99)),  # name, side in pixels, and bytes
        (("a.png", 10, 9), ("a.JPG", 10, 99)),
        (("a.tiff", 10, 9), ("a.webp", 10, 99)),
        (("a.jpeg", 10, 99), ("a.webp", 10, 9)),
    ],
)
def test_of_copies_the_one_that_has_lost_least_comes_first(
    better: tuple[str, int, int], worse: tuple[str, int, int], examples: Path
) -> None:
    """Whatever ingest has made of them: it writes all but plain PNG and JPEG again, as PNG."""
    image = next(open_examples(examples).read("train"))
    first, second = (
        image._replace(filename=f"train/i/{name}", width=side, height=side, bytes=size, format="png")
        for name, side, size in (better, worse)
    )
    assert first.copy_order < second.copy_order


def test_whole_folder_gives_its_manifest(examples: Path) -> None:
    opened = open_examples(examples)
    assert asdict(opened.manifest) == json.loads((examples / "examples.json").read_text())
    listed = {Path(path).name for split in opened.manifest.splits for path in opened.list_shard_paths(split)}
    assert listed == {path.name for path in examples.glob("*.tfrecord")}
    assert listed == {shard.name for shard in opened.manifest.shards}


@pytest.mark.parametrize("manifest", [None, b"", b'{"classes": ['], ids=["missing", "empty", "cut"])
def test_unreadable_manifest_is_named(folder: Path, manifest: bytes | None) -> None:
    (folder / "examples.json").unlink()
    if manifest is not None:
        (folder / "examples.json").write_bytes(manifest)
    with pytest.raises(UserError, match="cannot be read|is not JSON") as caught:
        open_examples(folder)
    assert str(folder / "examples.json") in str(caught.value)


@pytest.mark.parametrize("field", ["data_version", "classes", "splits"])
def test_manifest_without_a_field_is_refused(folder: Path, field: str) -> None:
    content = json.loads((folder / "examples.json").read_text())
    del content[field]
    (folder / "examples.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"examples.json: {field}: is missing; rerun the stage that made it"):
        open_examples(folder)


@pytest.mark.parametrize("field", ["images", "classes", "shards"])
def test_split_without_a_field_is_refused(folder: Path, field: str) -> None:
    content = json.loads((folder / "examples.json").read_text())
    del content["splits"]["val"][field]
    (folder / "examples.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"examples.json: splits.val.{field}: is missing; rerun the stage"):
        open_examples(folder)


def test_missing_shard_is_named(folder: Path) -> None:
    for shard in sorted(folder.glob("*.tfrecord")):
        hidden = shard.rename(folder / "hidden")
        with pytest.raises(UserError, match="missing") as caught:
            open_examples(folder)
        assert str(shard) in str(caught.value)
        hidden.rename(shard)
    open_examples(folder)


@pytest.mark.parametrize("position", [0, 0.5, 1], ids=["first byte", "middle", "last byte"])
def test_changed_byte_in_a_shard_is_named(folder: Path, position: float) -> None:
    for shard in sorted(folder.glob("*.tfrecord")):
        whole = shard.read_bytes()
        changed = bytearray(whole)
        changed[int(position * (len(whole) - 1))] ^= 1
        shard.write_bytes(changed)
        with pytest.raises(UserError, match="differs from its checksum") as caught:
            open_examples(folder)
        assert str(shard) in str(caught.value)
        shard.write_bytes(whole)
    open_examples(folder)


def test_examples_come_in_the_order_of_the_shards(examples: Path) -> None:
    opened = open_examples(examples)
    paths = opened.list_shard_paths("train")
    assert len(paths) > 1
    names = [[parse_example(record).filename for record in records([path])] for path in paths]
    assert all(names)
    assert [example.filename for example in opened.read("train")] == sum(names, [])


def test_fields_are_the_features_of_the_same_names(examples: Path) -> None:
    for record in records(open_examples(examples).list_shard_paths("val")):
        example = parse_example(record)
        features = tf.train.Example.FromString(record).features.feature
        assert features.keys() == set(FEATURES)
        for name, value in zip(FEATURES, example, strict=True):
            feature = features[name]
            (stored,) = [*feature.bytes_list.value, *feature.int64_list.value, *feature.float_list.value]
            assert value == (stored.decode() if isinstance(value, str) else stored), name


def test_a_parsed_example_is_written_with_the_same_bytes(examples: Path) -> None:
    for record in records(open_examples(examples).list_shard_paths("val")):
        assert serialize_example(parse_example(record)) == record


def test_a_dataset_has_every_feature_of_every_image(examples: Path) -> None:
    opened = open_examples(examples)
    rows = list(opened.make_dataset("train").as_numpy_iterator())
    for row, example in zip(rows, opened.read("train"), strict=True):
        values = [value.encode() if isinstance(value, str) else value for value in example]
        assert row == dict(zip(FEATURES, values, strict=True))


def test_shards_elsewhere_have_the_same_names(examples: Path) -> None:
    opened = open_examples(examples)
    assert opened.list_shard_paths("val", "gs://bucket/x") == [
        f"gs://bucket/x/{Path(path).name}" for path in opened.list_shard_paths("val")
    ]


# --- what somebody edited ----------------------------------------------------------------------


def refuse(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_examples(folder).check_images()
    sentence = str(caught.value)
    assert sentence.startswith(str(folder))
    assert sentence.endswith("; rerun the stage that made it.")
    return sentence.removeprefix(f"{folder}/").removesuffix("; rerun the stage that made it.")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda manifest: manifest["splits"].update({"../../../escaped": manifest["splits"].pop("train")}),
            "splits.../../../escaped: is no name of a split (train, val, test)",
        ),
        (
            lambda manifest: manifest["classes"].__setitem__(0, "../../../escaped"),
            "classes.0: is '../../../escaped', which is no name of a class (a folder that is not hidden)",
        ),
        (
            lambda manifest: manifest["splits"]["train"]["shards"][0].update(name="../../../escaped"),
            "splits.train.shards.0.name: is '../../../escaped', but should be train-00000-of-00002.tfrecord",
        ),
        (lambda manifest: manifest.update(splits=[]), "splits: is [], but should be an object"),
        (lambda manifest: manifest.update(classes=None), "classes: is None, but should be a valid array"),
        (lambda manifest: manifest.update(classes=["x", "v", "x"]), "classes: has 'x' twice"),
        (
            lambda manifest: manifest.update(classes=["x", "v"]),
            "splits.train.classes: are not the classes of the manifest",
        ),
        (lambda manifest: manifest["splits"].pop("val"), "splits: has no val"),
        (
            lambda manifest: manifest["splits"]["val"].update(images=-1),
            "splits.val.images: is -1, but should be greater than or equal to 0",
        ),
        (
            lambda manifest: manifest["splits"]["val"].update(images=10),
            "splits.val.images: is not the sum over its classes and over its shards",
        ),
        (
            lambda manifest: manifest["splits"]["val"]["shards"][0].update(sha256="../x"),
            "splits.val.shards.0.sha256: is '../x', but should match pattern '^[0-9a-f]{64}$'",
        ),
    ],
)
def test_manifest_that_was_edited_is_refused(folder: Path, edit: Any, sentence: str) -> None:
    manifest = json.loads((folder / "examples.json").read_text())
    edit(manifest)
    (folder / "examples.json").write_text(json.dumps(manifest))
    assert refuse(folder) == f"examples.json: {sentence}"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            set_text("image/class/text", b"../../../escaped"),
            "class_name: is '../../../escaped', which is no name of a class (a folder that is not hidden)",
        ),
        (
            set_text("image/class/text", b"ii"),
            "image/class/label is 1 and image/class/text 'ii', which examples.json denies",
        ),
        (
            set_text("image/filename", b"val/v/../../../escaped.png"),
            "image/filename is 'val/v/../../../escaped.png', which is not a file in val/v",
        ),
        (
            set_text("image/filename", b"train/v/0.png"),
            "image/filename is 'train/v/0.png', which is not a file in val/v",
        ),
        (set_text("image/key/sha256", b"zz"), "sha256: is 'zz', but should match pattern '^[0-9a-f]{64}$'"),
        (set_text("image/format", b"\xff"), "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (lambda features: features.pop("image/height"), "image/height has 0 values, not one"),
        (
            lambda features: features["image/class/label"].int64_list.value.__setitem__(0, -1),
            "label: is -1, but should be greater than or equal to 0",
        ),
        (
            lambda features: features["image/contrast"].float_list.value.__setitem__(0, float("nan")),
            "contrast: is nan, but should be less than or equal to 1",
        ),
        (
            lambda features: features["image/encoded"].CopyFrom(features["image/height"]),
            "encoded: is 219, but should be a valid bytes",
        ),
    ],
)
def test_image_that_was_edited_is_refused(folder: Path, edit: Callable[[Any], None], sentence: str) -> None:
    shard = edit_record(folder, edit)
    assert refuse(folder) == f"{shard}, image 1: {sentence}"


def test_shard_with_other_content_is_refused(folder: Path) -> None:
    path = Path(open_examples(folder).list_shard_paths("val")[0])
    whole, images = path.read_bytes(), records([str(path)])
    assert refuse_shard(folder, b"no TFRecord at all") == "damaged after image 0"
    assert refuse_shard(folder, whole[:-3]) == f"damaged after image {len(images) - 1}"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff")
    assert refuse_shard(folder, path.read_bytes(), image=1) == "it is no tf.train.Example"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(images[0])
    sentence = f"it ends here, but has {len(images)} images by examples.json"
    assert refuse_shard(folder, path.read_bytes(), image=1) == sentence


def refuse_shard(folder: Path, content: bytes, image: int = 0) -> str:
    shard = replace_shard(folder, content)
    return refuse(folder).removeprefix(f"{shard}, image {image}: " if image else f"{shard}: ")


@pytest.mark.parametrize(
    ("filename", "made_by_curate"),
    [
        ("train/i/0.augmented-12.png", True),
        ("val/i/0.1a2b3c4d.augmented-1.png", True),
        ("test/i/0.augmented-12.png", False),  # it never makes test images
        ("train/i/0.augmented-y.png", False),
        ("train/i/0.augmented-1.jpg", False),
        ("train/x.augmented-1.png/0.png", False),
    ],
)
def test_augmented_image_has_the_name_that_curate_gives(filename: str, made_by_curate: bool) -> None:
    assert is_augmented(filename) == made_by_curate
