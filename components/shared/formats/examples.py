"""The data between stages: tf.train.Example in TFRecord shards, with `examples.json` beside them.

`examples.json` is the manifest of the folder:

    {"classes": ["i", "ii", ...],            # position = image/class/label
     "data_version": "<md5>.dir",            # as DVC names it
     "splits": {"train": {"images": 700,
                          "classes": {"i": 70, ...},
                          "shards": [{"name": "train-00000-of-00004.tfrecord",
                                      "images": 175, "sha256": "..."}, ...]}, ...},
     "quarantined": [{"path": "train/i/x.png", "reason": "..."}]}
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared.errors import UserError

MANIFEST = "examples.json"
SPLITS = ("train", "val", "test")
AUGMENTED = ".augmented-"  # in the name of a file that curate made of another image: x.augmented-3.png

ENCODED = "image/encoded"  # PNG or JPEG bytes, 8 bit, gray or RGB
FORMAT = "image/format"
HEIGHT = "image/height"  # pixels
WIDTH = "image/width"  # pixels
CHANNELS = "image/channels"  # 1 or 3
FILENAME = "image/filename"  # relative to the data set: train/iv/0012.png
SHA256 = "image/key/sha256"  # of the file as the user has it
LABEL = "image/class/label"  # 0-based position in `classes`
CLASS = "image/class/text"
MEAN_INTENSITY = "image/mean_intensity"  # 0 black .. 1 white
CONTRAST = "image/contrast"  # standard deviation of the intensity, 0 .. 0.5
INK_FRACTION = "image/ink_fraction"  # share of pixels darker than mid-gray
ASPECT_RATIO = "image/aspect_ratio"  # width / height
BYTES = "image/bytes"  # size of the file

SCALARS = (MEAN_INTENSITY, CONTRAST, INK_FRACTION, ASPECT_RATIO, BYTES, HEIGHT, WIDTH)


def is_augmented(filename: str) -> bool:
    """Whether curate made the image of another one; images of test are never its, whatever they are called."""
    return AUGMENTED in filename and not filename.startswith("test/")


def shard_name(split: str, index: int, shards: int) -> str:
    return f"{split}-{index:05d}-of-{shards:05d}.tfrecord"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a folder of shards, each checked to be there and unchanged.

    Raises:
        UserError: the manifest or a shard is missing or differs from its checksum.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read ({error}); rerun the stage that made it.") from None
    for shard in (shard for split in manifest["splits"].values() for shard in split["shards"]):
        path = folder / shard["name"]
        if not path.is_file():
            raise UserError(f"{path}: the shard is missing; rerun the stage that made it.")
        if file_sha256(path) != shard["sha256"]:
            raise UserError(f"{path}: the shard differs from its checksum; rerun the stage that made it.")
    return manifest


def shard_paths(folder: str | Path, manifest: dict[str, Any], split: str) -> list[str]:
    """The addresses of a split's shards; `folder` may be a URI."""
    return [f"{folder}/{shard['name']}" for shard in manifest["splits"][split]["shards"]]


def read_examples(paths: list[str]) -> Iterator[Any]:
    """Yields each tf.train.Example of the shards, in order, one in memory at a time."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(paths).as_numpy_iterator():
        yield tf.train.Example.FromString(record)


def text(example: Any, feature: str) -> str:
    return example.features.feature[feature].bytes_list.value[0].decode()
