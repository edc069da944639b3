"""The statistics of TFDV, read without TFDV: each figure beside what NumPy makes of the same numbers."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from components.shared.errors import UserError
from components.shared.formats.statistics import FeatureStatistics, read_statistics

VALUES = np.array([0.1, 0.2, 0.9])


def leave(folder: Path, **splits: Any) -> None:
    for split, message in splits.items():
        record = message if isinstance(message, bytes) else message.SerializeToString()
        content = struct.pack("<Q", len(record)) + bytes(4) + record + bytes(4)
        (folder / f"{split}.tfrecord").write_bytes(content)


def count() -> DatasetFeatureStatisticsList:
    """What TFDV counts of VALUES and of three class names."""
    message = DatasetFeatureStatisticsList()
    dataset = message.datasets.add()
    numbers = dataset.features.add().num_stats
    dataset.features[0].path.step.append("image/contrast")
    numbers.mean, numbers.std_dev, numbers.min = VALUES.mean(), VALUES.std(), VALUES.min()
    numbers.median, numbers.max = np.median(VALUES), VALUES.max()
    numbers.common_stats.num_non_missing = 3
    texts = dataset.features.add(name="image/class/text").string_stats
    texts.unique, texts.common_stats.num_non_missing, texts.common_stats.num_missing = 2, 2, 1
    texts.top_values.add(value="v", frequency=2)
    dataset.features.add(name="image/bytes").bytes_stats.common_stats.num_non_missing = 3
    return message


def test_each_figure_is_that_of_its_name(tmp_path: Path) -> None:
    leave(tmp_path, val=count(), train=count())
    rows = read_statistics(tmp_path)
    assert [(row.split, row.feature) for row in rows] == [
        (split, feature)
        for split in ("train", "val")
        for feature in ("image/bytes", "image/class/text", "image/contrast")
    ]
    nothing = dict.fromkeys(("unique", "top", "mean", "standard_deviation", "minimum", "median", "maximum"))
    assert rows[0] == FeatureStatistics("train", "image/bytes", 3, 0, **nothing)  # type: ignore[arg-type]
    assert rows[1] == FeatureStatistics("train", "image/class/text", 2, 1, 2, "v", None, None, None, None, None)
    figures = (VALUES.mean(), VALUES.std(), 0.1, 0.2, 0.9)
    assert rows[2] == FeatureStatistics("train", "image/contrast", 3, 0, None, None, *figures)


@pytest.mark.parametrize("content", [b"\xff\xff", b""])
def test_a_file_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    leave(tmp_path, train=content)
    with pytest.raises(UserError) as refused:
        read_statistics(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/train.tfrecord: cannot be read as statistics of TFDV; give the output `statistics` of validate."
    )


def test_a_folder_without_any_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_statistics(tmp_path)
    assert str(refused.value) == f"{tmp_path}: has no statistics of a split; give the output `statistics` of validate."
