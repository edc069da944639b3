"""The data between stages: tf.train.Example in TFRecord shards, with `examples.json` beside them.

`examples.json` holds an ExamplesManifest:

    {"data_uri": "...", "test_data_uri": "...",
     "data_version": "<md5>.dir",            # as DVC names it
     "classes": ["i", "ii", ...],            # position = image/class/label
     "splits": {"train": {"images": 700,
                          "classes": {"i": 70, ...},
                          "shards": [{"name": "train-00000-of-00004.tfrecord",
                                      "images": 175, "sha256": "..."}, ...]}, ...},
     "quarantined": [{"path": "train/i/x.png", "reason": "..."}],
     "made_split": null}                    # or how images that had no split were divided

`images.csv` lies beside it if the images have other names here than in the data set: `train/i/x.png` may be `i/x.png`
there. It has a row for each such image. `labels.md` lies there too if the data set has a guideline (guideline.py).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

from google.protobuf.message import DecodeError
from pydantic import AfterValidator, Field, ValidationError

from components.shared.errors import UserError, describe_validation, quote
from components.shared.files import hash_file
from components.shared.formats.documents import (
    Count,
    Finite,
    Sha256,
    Share,
    make_adapter,
    read_document,
    write_document,
)
from components.shared.formats.names import LOSSY_SUFFIXES, is_visible_name
from components.shared.formats.tables import read_rows, write_rows
from components.shared.formats.tfrecord import Example, read_records

if TYPE_CHECKING:
    import tensorflow as tf

MANIFEST = "examples.json"
PATHS = "images.csv"
SPLITS = ("train", "val", "test")
REQUIRED_SPLITS = ("train", "val")
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


def check_split_name(name: str) -> str:
    """The name, if it is one of SPLITS.

    Raises:
        ValueError: It is not.
    """
    if name not in SPLITS:
        raise ValueError(f"is no name of a split ({', '.join(SPLITS)})")
    return name


def check_class_name(name: str) -> str:
    """The name, if a folder can have it.

    Raises:
        ValueError: It cannot, or would be hidden.
    """
    if not is_visible_name(name):
        raise ValueError(f"is {quote(name)}, which is no name of a class (a folder that is not hidden)")
    return name


def check_class_names(names: list[str]) -> list[str]:
    """The names, if each is there once.

    Raises:
        ValueError: One is there twice.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"has {quote(twice)} twice")
    return names


SplitName = Annotated[str, AfterValidator(check_split_name)]
ClassName = Annotated[str, AfterValidator(check_class_name)]
ClassNames = Annotated[list[ClassName], Field(min_length=1), AfterValidator(check_class_names)]


class CopyOrder(NamedTuple):
    """Sorts the copies of a picture, that to keep first."""

    pixels: int  # negated, as the largest is to come first
    is_lossy: bool
    bytes: int  # negated likewise


class ImageExample(NamedTuple):
    """An image with its label and what is known of it."""

    encoded: Annotated[bytes, Field(min_length=1)]  # PNG or JPEG, 8 bit, gray or RGB
    format: Annotated[str, Field(pattern="^(png|jpeg)$")]
    height: Annotated[int, Field(gt=0)]  # pixels
    width: Annotated[int, Field(gt=0)]  # pixels
    channels: Annotated[int, Field(ge=1, le=3)]  # 1 or 3
    filename: str  # relative to the data set: train/iv/0012.png
    sha256: Sha256  # of the file as the user has it
    label: Count  # 0-based position in the manifest's classes
    class_name: ClassName
    mean_intensity: Share  # 0 black .. 1 white
    contrast: Share  # standard deviation of the intensity, 0 .. 0.5
    ink_fraction: Share  # of the pixels, those that are darker than mid-gray
    aspect_ratio: Annotated[Finite, Field(gt=0)]  # width / height
    bytes: Count  # size of the file

    @property
    def copy_order(self) -> CopyOrder:
        """The image's place among copies of the same picture. The file's suffix says whether its format is lossy."""
        is_lossy = PurePosixPath(self.filename).suffix.lower() in LOSSY_SUFFIXES
        return CopyOrder(-self.width * self.height, is_lossy, -self.bytes)


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
_FIELDS = tuple(zip(ImageExample._fields, FEATURES, strict=True))
_ADVICE = "rerun the stage that made it"


@dataclass(frozen=True)
class Shard:
    """A TFRecord file of a split."""

    name: str
    images: Count
    sha256: Sha256


@dataclass(frozen=True)
class SplitInfo:
    """What is in a split."""

    images: Annotated[Count, Field(gt=0)]
    classes: dict[ClassName, Count]  # images of each class
    shards: list[Shard]


@dataclass(frozen=True)
class Quarantined:
    """A file that ingest left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class MadeSplit:
    """How images that had no split were divided."""

    seed: int
    val_share: Share
    test_share: Share
    duplicates: list[Quarantined]  # images that were left out, since the same picture is in val or test
    filled: list[str]  # split/class of which chance alone would have left no image


class ImagePath(NamedTuple):
    """A row of images.csv."""

    filename: str  # split/class/file
    path: str  # in the data set, or gs://bucket/object


@dataclass(frozen=True)
class ExamplesManifest:
    """What a folder of shards holds."""

    data_uri: str
    test_data_uri: str
    data_version: str
    classes: ClassNames
    splits: dict[SplitName, SplitInfo]
    quarantined: list[Quarantined]
    made_split: MadeSplit | None = None

    @property
    def shards(self) -> list[Shard]:
        """The shards of all splits."""
        return [shard for split in self.splits.values() for shard in split.shards]

    def list_shards(self, splits: Collection[str] = SPLITS) -> list[tuple[str, Shard]]:
        """The shards of those of these splits that are there, each with its split."""
        return [(name, shard) for name, split in self.splits.items() if name in splits for shard in split.shards]

    @property
    def left_out(self) -> list[Quarantined]:
        """The images of the data that are in no split."""
        return [*self.quarantined, *(self.made_split.duplicates if self.made_split else [])]

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
        """Yields each image of a split, in order, one in memory at a time.

        Raises:
            UserError: A shard is not as ingest writes it, or says something else than the manifest.
        """
        for shard in self.manifest.splits[split].shards:
            yield from self.read_shard(split, shard)

    def read_shard(self, split: str, shard: Shard, path: str | Path = "") -> Iterator[ImageExample]:
        """Yields each image of a shard of the split, as `read` does; `path` is where else the shard is."""
        shown, number = f"{self.folder}/{shard.name}", 0
        try:
            for record in read_records(path or shown):
                number += 1
                example = parse_example(record)
                self._check_example(example, split)
                yield example
            if number != shard.images:
                raise ValueError(f"it ends here, but has {shard.images} images by {MANIFEST}")
        except EOFError:
            raise UserError(f"{shown}: damaged after image {number}; rerun the stage that made it.") from None
        except ValueError as error:
            raise UserError(f"{shown}, image {number}: {error}; rerun the stage that made it.") from None

    def make_dataset(self, split: str) -> "tf.data.Dataset":
        """The images of a split for TensorFlow, where that is installed.

        Returns:
            A dictionary for each image, with its features by their names: `image/encoded`, string (PNG or JPEG),
            `image/class/label`, int64, and so on, each a scalar.

        Raises:
            UserError: TensorFlow is not installed.
        """
        try:
            import tensorflow as tf  # here, since the tools have none
        except ModuleNotFoundError:
            raise UserError(
                "TensorFlow is not installed here; the stages' environment, .venv-stages, has it."
            ) from None
        kinds = {bytes: tf.string, str: tf.string, int: tf.int64, float: tf.float32}
        types = zip(FEATURES, get_type_hints(ImageExample).values(), strict=True)
        spec = {name: tf.io.FixedLenFeature((), kinds[kind]) for name, kind in types}
        records = tf.data.TFRecordDataset(self.list_shard_paths(split))
        return records.map(lambda record: tf.io.parse_single_example(record, spec))

    def check_images(self) -> None:
        """Checks every image, for a stage whose workers read the shards in their own way.

        Raises:
            UserError: As read.
        """
        for split in self.manifest.splits:
            for _ in self.read(split):
                pass

    def _check_example(self, example: ImageExample, split: str) -> None:
        if example.label >= len(self.manifest.classes) or self.manifest.classes[example.label] != example.class_name:
            raise ValueError(
                f"{LABEL} is {example.label} and {CLASS} {quote(example.class_name)}, which {MANIFEST} denies"
            )
        folder, _, name = example.filename.rpartition("/")
        if folder != f"{split}/{example.class_name}" or not is_visible_name(name):
            raise ValueError(
                f"{FILENAME} is {quote(example.filename)}, which is not a file in {split}/{example.class_name}"
            )


def is_augmented(filename: str) -> bool:
    """Whether curate made the image from another one. It never makes test images, whatever they are called."""
    return IS_AUGMENTED.search(filename) is not None and not filename.startswith("test/")


def name_shard(split: str, index: int, shards: int) -> str:
    """The usual name of a shard: train-00000-of-00004.tfrecord."""
    return f"{split}-{index:05d}-of-{shards:05d}.tfrecord"


def write_manifest(folder: Path, manifest: ExamplesManifest) -> None:
    """Writes `examples.json` beside the shards."""
    write_document(folder / MANIFEST, asdict(manifest))


def write_paths(folder: Path, pairs: Iterable[Sequence[str]]) -> None:
    """Writes images.csv: the file name of each image and its path in the data set, as ImagePath has them."""
    write_rows(folder / PATHS, ImagePath._fields, pairs)


def read_paths(folder: str | Path) -> dict[str, str]:
    """The path in the data set of each image that has another file name in the examples, by that name.

    Raises:
        UserError: images.csv is there and broken.
    """
    path = Path(folder) / PATHS
    if not path.exists():
        return {}
    rows = read_rows(path, ImagePath._fields, "rerun ingest on the data")
    return {row["filename"]: row["path"] for _, row in rows}


def open_examples(folder: str | Path) -> ExampleSet:
    """The examples in a folder of shards, each checked to be there and unchanged.

    Raises:
        UserError: the manifest or a shard is missing or differs from its checksum.
    """
    folder = Path(folder)
    manifest = read_examples_manifest(folder)
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise UserError(f"{path}: the shard is missing; {_ADVICE}.")
        if hash_file(path) != shard.sha256:
            raise UserError(f"{path}: the shard differs from its checksum; {_ADVICE}.")
    return ExampleSet(str(folder), manifest)


def read_examples_manifest(folder: Path) -> ExamplesManifest:
    """The manifest of a folder of shards, whether they are still there or not.

    Raises:
        UserError: It is missing or damaged.
    """
    return read_document(folder / MANIFEST, ExamplesManifest, _ADVICE, check=_check_agreement)


def _check_agreement(manifest: ExamplesManifest) -> None:
    for split in REQUIRED_SPLITS:
        if split not in manifest.splits:
            raise ValueError(f"splits: has no {split}")
    for name, content in manifest.splits.items():
        if list(content.classes) != manifest.classes:
            raise ValueError(f"splits.{name}.classes: are not the classes of the manifest")
        if not content.images == sum(content.classes.values()) == sum(shard.images for shard in content.shards):
            raise ValueError(f"splits.{name}.images: is not the sum over its classes and over its shards")
        for index, shard in enumerate(content.shards):
            if shard.name != (right := name_shard(name, index, len(content.shards))):
                raise ValueError(f"splits.{name}.shards.{index}.name: is {quote(shard.name)}, but should be {right}")


def parse_example(record: bytes) -> ImageExample:
    """The image of a serialized tf.train.Example.

    Raises:
        ValueError: It is not one, or a feature is missing or out of range.
    """
    try:
        features = Example.FromString(record).features.feature
    except DecodeError:
        raise ValueError("it is no tf.train.Example") from None
    values = {field: _read_value(name, features[name]) for field, name in _FIELDS}
    try:
        return make_adapter(ImageExample).validate_python(values, strict=True)
    except ValidationError as error:
        raise ValueError(describe_validation(error)) from None


def serialize_example(example: ImageExample) -> bytes:
    """The image as a tf.train.Example; the same bytes for the same image."""
    message = Example()
    for name, value in zip(FEATURES, example, strict=True):
        feature = message.features.feature[name]
        if isinstance(value, (bytes, str)):
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return message.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _read_value(name: str, feature: Any) -> Any:
    values = feature.bytes_list.value or feature.int64_list.value or feature.float_list.value
    if len(values) != 1:
        raise ValueError(f"{name} has {len(values)} values, not one")
    return values[0].decode() if isinstance(values[0], bytes) and name != ENCODED else values[0]
