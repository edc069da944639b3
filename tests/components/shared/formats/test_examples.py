import json
import shutil
from dataclasses import asdict
from pathlib import Path

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


@pytest.fixture
def folder(examples: Path, tmp_path: Path) -> Path:
    return shutil.copytree(examples, tmp_path / "examples")


def records(paths: list[str]) -> list[bytes]:
    return list(tf.data.TFRecordDataset(paths).as_numpy_iterator())


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
    with pytest.raises(UserError, match="cannot be read") as caught:
        open_examples(folder)
    assert str(folder / "examples.json") in str(caught.value)


@pytest.mark.parametrize("field", ["data_version", "classes", "splits", "quarantined"])
def test_manifest_without_a_field_is_refused(folder: Path, field: str) -> None:
    content = json.loads((folder / "examples.json").read_text())
    del content[field]
    (folder / "examples.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"examples.json: has no '{field}'; rerun the stage that made it"):
        open_examples(folder)


@pytest.mark.parametrize("field", ["images", "classes", "shards"])
def test_split_without_a_field_is_refused(folder: Path, field: str) -> None:
    content = json.loads((folder / "examples.json").read_text())
    del content["splits"]["val"][field]
    (folder / "examples.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"examples.json: is not a manifest of examples .*'{field}'"):
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


def test_shards_elsewhere_have_the_same_names(examples: Path) -> None:
    opened = open_examples(examples)
    assert opened.list_shard_paths("val", "gs://bucket/x") == [
        f"gs://bucket/x/{Path(path).name}" for path in opened.list_shard_paths("val")
    ]


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
