"""What TFDV has counted of the images of each split: `<split>.tfrecord` in the artifact `statistics`.

Each file has one DatasetFeatureStatisticsList of TensorFlow Metadata.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS
from components.shared.formats.tfrecord import read_records

_ADVICE = "give the output `statistics` of validate"


class FeatureStatistics(NamedTuple):
    """A feature in a split; None where its kind has no such figure."""

    split: str
    feature: str  # such as image/contrast
    images: int  # that have it
    missing: int  # images that do not
    unique: int | None  # different texts
    top: str | None  # the most frequent text
    mean: float | None
    standard_deviation: float | None
    minimum: float | None
    median: float | None
    maximum: float | None


def read_statistics(folder: str | Path) -> list[FeatureStatistics]:
    """The figures of each feature in each split, in the order of the splits, by the names of the features.

    Raises:
        UserError: The folder is not as validate writes it.
    """
    paths = {split: Path(folder, f"{split}.tfrecord") for split in SPLITS}
    found = {split: path for split, path in paths.items() if path.is_file()}
    if not found:
        raise UserError(f"{folder}: has no statistics of a split; {_ADVICE}.")
    return [row for split, path in found.items() for row in sorted(_read_split(split, path))]


def _read_split(split: str, path: Path) -> Iterator[FeatureStatistics]:
    from google.protobuf.message import DecodeError
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList  # which the tools do not have

    try:
        (record,) = read_records(path)
        (dataset,) = DatasetFeatureStatisticsList.FromString(record).datasets
    except (OSError, EOFError, ValueError, DecodeError):
        raise UserError(f"{path}: cannot be read as statistics of TFDV; {_ADVICE}.") from None
    for feature in dataset.features:
        yield _describe(split, feature)


def _describe(split: str, feature: Any) -> FeatureStatistics:
    numbers = feature.num_stats if feature.HasField("num_stats") else None
    texts = feature.string_stats if feature.HasField("string_stats") else None
    common = (numbers or texts or feature.bytes_stats).common_stats
    return FeatureStatistics(
        split=split,
        feature=feature.path.step[0] if feature.path.step else feature.name,
        images=common.num_non_missing,
        missing=common.num_missing,
        unique=texts.unique if texts else None,
        top=texts.top_values[0].value if texts and texts.top_values else None,
        mean=numbers.mean if numbers else None,
        standard_deviation=numbers.std_dev if numbers else None,
        minimum=numbers.min if numbers else None,
        median=numbers.median if numbers else None,
        maximum=numbers.max if numbers else None,
    )
