"""What the model sees, read without TensorFlow; the shards are those of transform, or broken ones."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from components.shared.errors import UserError
from components.shared.formats.tfrecord import Example
from components.shared.formats.transformed_images import SCHEMA, TransformedImage, read_transformed

SHAPE = (2, 3, 1)
SHARD = "val-00000-of-00001.tfrecord"
PIXELS = np.arange(6, dtype=np.float32).reshape(SHAPE)


def make_record(label: int | None = 1, pixels: int = 6) -> bytes:
    example = Example()
    example.features.feature["image"].float_list.value.extend(range(pixels))
    if label is not None:
        example.features.feature["label"].int64_list.value.append(label)
    return bytes(example.SerializeToString())


def leave(
    folder: Path, records: list[bytes], *, shape: tuple[int, ...] | None = SHAPE, cut: int = 0
) -> tuple[Path, Path]:
    """The two outputs of transform, with these records in each split, of which the last bytes are cut off."""
    examples, graph = folder / "examples", folder / "graph"
    examples.mkdir()
    content = b"".join(struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4) for record in records)
    content = content[: len(content) - cut]
    for name in ("train", "val"):
        (examples / f"{name}-00000-of-00001.tfrecord").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    splits = {
        name: {
            "images": 1,
            "classes": {"i": 0, "v": 1},
            "shards": [{"name": f"{name}-00000-of-00001.tfrecord", "images": 1, "sha256": sha256}],
        }
        for name in ("train", "val")
    }
    manifest = {
        "data_uri": "data",
        "test_data_uri": "",
        "data_version": "1.dir",
        "classes": ["i", "v"],
        "splits": splits,
        "quarantined": [],
        "made_split": None,
    }
    (examples / "examples.json").write_text(json.dumps(manifest))
    schema = Schema()
    if shape:
        feature = schema.feature.add(name="image")
        for size in shape:
            feature.shape.dim.add(size=size)
    (graph / SCHEMA).parent.mkdir(parents=True)
    (graph / SCHEMA).write_text(text_format.MessageToString(schema))
    return examples, graph


def test_an_image_has_its_shape_and_the_name_of_its_class(tmp_path: Path) -> None:
    (image,) = read_transformed(*leave(tmp_path, [make_record()]), "val")
    assert isinstance(image, TransformedImage)
    assert image.class_name == "v"
    np.testing.assert_array_equal(image.pixels, PIXELS)


BROKEN: dict[str, Callable[[], list[bytes]]] = {
    "label of no class": lambda: [make_record(label=2)],
    "negative label": lambda: [make_record(label=-1)],
    "no label": lambda: [make_record(label=None)],
    "few pixels": lambda: [make_record(pixels=5)],
    "no message": lambda: [b"\xff\xff\xff"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_shard_that_transform_did_not_write_is_named(name: str, tmp_path: Path) -> None:
    examples, graph = leave(tmp_path, BROKEN[name]())
    with pytest.raises(UserError) as refused:
        list(read_transformed(examples, graph, "val"))
    assert (
        str(refused.value) == f"{examples}/val-00000-of-00001.tfrecord: is not as transform writes it; rerun transform."
    )


def test_a_shard_that_ends_early_is_named(tmp_path: Path) -> None:
    examples, graph = leave(tmp_path, [make_record()], cut=5)
    with pytest.raises(
        UserError, match="val-00000-of-00001.tfrecord: is not as transform writes it; rerun transform.$"
    ):
        list(read_transformed(examples, graph, "val"))


def test_a_graph_without_a_shape_and_an_unknown_split_are_named(tmp_path: Path) -> None:
    examples, graph = leave(tmp_path, [make_record()], shape=None)
    found: list[Any] = []
    for split, sentence in (
        ("val", f"{graph / SCHEMA}: does not say which shape image has; rerun transform."),
        ("test", f"{examples}: has no test; it has train, val."),
    ):
        with pytest.raises(UserError) as refused:
            found += read_transformed(examples, graph, split)
        assert str(refused.value) == sentence
    assert found == []
