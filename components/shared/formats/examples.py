"""The data between stages: tf.train.Example in TFRecord shards, with `examples.json` beside them.

`examples.json` holds an ExamplesManifest:

    {"data_uri": "...", "test_data_uri": "...",
     "data_version": "<md5>.dir",            # as DVC names it
     "classes": ["i", "ii", ...],            # position = image/class/label
     "splits": {"train": {"images": 700,
                          "classes": {"i": 70, ...},
                          "shards": [{"name": "train-00000-of-00004.tfrecord",
                                      "images": 175, "sha256": "..."}, ...]}, ...},
     "quarantined": [{"path": "train/i/x.png", "reason": "..."}]}
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.shared.errors import UserError
from components.shared.files import hash_file
from components.shared.formats.documents import read_document, write_document

if TYPE_CHECKING:
    import tensorflow as tf

MANIFEST = "examples.json"
SPLITS = ("train", "val", "test")
CURATED_SPLITS = ("train", "val")  # what curation may change; test only measures
AUGMENTED = ".augmented-"  # in the name of a file that curate made of another image: x.augmented-3.png
IS_AUGMENTED = re.compile(rf"{re.escape(AUGMENTED)}[0-9]+\.png$")

ENCODED = "image/encoded"
FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
CHANNELS = "image/channels"
FILENAME = "image/filename"
SHA256 = "image/key/sha256"
LABEL = "image/class/label"
CLASS = "image/class/text"
MEAN_INTENSITY = "image/mean_intensity"
CONTRAST = "image/contrast"
INK_FRACTION = "image/ink_fraction"
ASPECT_RATIO = "image/aspect_ratio"
BYTES = "image/bytes"

SCALARS = (MEAN_INTENSITY, CONTRAST, INK_FRACTION, ASPECT_RATIO, BYTES, HEIGHT, WIDTH)


class ImageExample(NamedTuple):
    """An image with its label and what is known of it."""

    encoded: bytes  # PNG or JPEG, 8 bit, gray or RGB
    format: str  # png or jpeg
    height: int  # pixels
    width: int  # pixels
    channels: int  # 1 or 3
    filename: str  # relative to the data set: train/iv/0012.png
    sha256: str  # of the file as the user has it
    label: int  # 0-based position in the manifest's classes
    class_name: str
    mean_intensity: float  # 0 black .. 1 white
    contrast: float  # standard deviation of the intensity, 0 .. 0.5
    ink_fraction: float  # share of the pixels that are darker than mid-gray
    aspect_ratio: float  # width / height
    bytes: int  # size of the file


# The feature that holds each field; the field of a feature has the same position.
FEATURES = (
    ENCODED,
    FORMAT,
    HEIGHT,
    WIDTH,
    CHANNELS,
    FILENAME,
    SHA256,
    LABEL,
    CLASS,
    MEAN_INTENSITY,
    CONTRAST,
    INK_FRACTION,
    ASPECT_RATIO,
    BYTES,
)


@dataclass(frozen=True)
class Shard:
    """A TFRecord file of a split."""

    name: str
    images: int
    sha256: str


@dataclass(frozen=True)
class SplitInfo:
    """What is in a split."""

    images: int
    classes: dict[str, int]  # images of each class
    shards: list[Shard]


@dataclass(frozen=True)
class Quarantined:
    """A file that ingest left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class ExamplesManifest:
    """What a folder of shards holds."""

    data_uri: str
    test_data_uri: str
    data_version: str
    classes: list[str]
    splits: dict[str, SplitInfo]
    quarantined: list[Quarantined] = field(default_factory=list)

    @property
    def shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    def rehash_shards(self, folder: Path) -> "ExamplesManifest":
        """The manifest of shards with the same images under the same names, but with other bytes."""

        def rehash(shard: Shard) -> Shard:
            return replace(shard, sha256=hash_file(folder / shard.name))

        splits = {
            name: replace(split, shards=[rehash(shard) for shard in split.shards])
            for name, split in self.splits.items()
        }
        return replace(self, splits=splits)


@dataclass(frozen=True)
class ExampleSet:
    """A folder of shards with its manifest."""

    folder: str
    manifest: ExamplesManifest

    def list_shard_paths(self, split: str, folder: str = "") -> list[str]:
        """The addresses of a split's shards, in order; `folder` is where else they are, perhaps a URI."""
        return [f"{folder or self.folder}/{shard.name}" for shard in self.manifest.splits[split].shards]

    def read(self, split: str) -> Iterator[ImageExample]:
        """Yields each image of a split, in order, one in memory at a time."""
        import tensorflow as tf  # here, since the tools read manifests and have no TensorFlow

        for record in tf.data.TFRecordDataset(self.list_shard_paths(split)).as_numpy_iterator():
            yield parse_example(record)


def is_augmented(filename: str) -> bool:
    """Whether curate made the image from another one. It never makes test images, whatever they are called."""
    return IS_AUGMENTED.search(filename) is not None and not filename.startswith("test/")


def name_shard(split: str, index: int, shards: int) -> str:
    """The usual name of a shard: train-00000-of-00004.tfrecord."""
    return f"{split}-{index:05d}-of-{shards:05d}.tfrecord"


def write_manifest(folder: Path, manifest: ExamplesManifest) -> None:
    """Writes `examples.json` beside the shards."""
    write_document(folder / MANIFEST, asdict(manifest))


def open_examples(folder: str | Path) -> ExampleSet:
    """The examples in a folder of shards, each checked to be there and unchanged.

    Raises:
        UserError: the manifest or a shard is missing or differs from its checksum.
    """
    folder = Path(folder)
    advice = "rerun the stage that made it"
    fields = {"data_version": str, "classes": list, "splits": dict, "quarantined": list}
    content = read_document(folder / MANIFEST, fields, advice)
    try:
        manifest = ExamplesManifest(
            content.get("data_uri", ""),
            content.get("test_data_uri", ""),
            content["data_version"],
            content["classes"],
            {name: _parse_split(split) for name, split in content["splits"].items()},
            [Quarantined(**image) for image in content["quarantined"]],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST}: is not a manifest of examples ({error}); {advice}.") from None
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise UserError(f"{path}: the shard is missing; {advice}.")
        if hash_file(path) != shard.sha256:
            raise UserError(f"{path}: the shard differs from its checksum; {advice}.")
    return ExampleSet(str(folder), manifest)


def _parse_split(content: dict[str, object]) -> SplitInfo:
    split = SplitInfo(**content)  # type: ignore[arg-type]  # the wrong fields raise a TypeError
    return SplitInfo(split.images, split.classes, [Shard(**shard) for shard in split.shards])  # type: ignore[arg-type]


def parse_example(record: bytes) -> ImageExample:
    """The image of a serialized tf.train.Example."""
    import tensorflow as tf  # as above

    features = tf.train.Example.FromString(record).features.feature
    return ImageExample(*(_read_value(name, features[name]) for name in FEATURES))


def serialize_example(example: ImageExample) -> bytes:
    """The image as a tf.train.Example; the same bytes for the same image."""
    import tensorflow as tf  # as above

    message = tf.train.Example()
    for name, value in zip(FEATURES, example, strict=True):
        feature = message.features.feature[name]
        if isinstance(value, (bytes, str)):
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return message.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _read_value(name: str, feature: "tf.train.Feature") -> Any:
    if name == ENCODED:
        return feature.bytes_list.value[0]
    if feature.HasField("bytes_list"):
        return feature.bytes_list.value[0].decode()
    return (feature.int64_list.value or feature.float_list.value)[0]
