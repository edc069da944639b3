import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.shared.errors import UserError
from components.shared.formats.examples import open_examples
from components.train import images
from components.train.images import Feed, load_split, make_batches, measure_memory
from components.train.settings import TrainingSettings
from components.train.training import train_model
from models.resnet import CHANNELS, SIZE
from tests.conftest import outputs_in

SHAPE = (*SIZE, CHANNELS)
Batches = list[tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(254.0, "uint8"), (0.25, "float16"), (-1.0, "float16"), (-0.0, "float16"), (256.0, "float16"), (0.1, "float32")],
)
def test_images_have_the_smallest_type_that_holds_them_exactly(value: float, kind: str) -> None:
    whole = np.full((2, *SHAPE), 7, np.float32)
    held = images._add(images._add(np.empty((4, *SHAPE), np.uint8), 0, whole, 1e9), 2, np.full_like(whole, value), 1e9)
    assert held is not None
    assert str(held.dtype) == kind
    expected = np.concatenate([whole, np.full_like(whole, value)])
    assert held.astype(np.float32).tobytes() == expected.tobytes()


def read_epoch(batches: tf.data.Dataset) -> Batches:
    return list(batches.as_numpy_iterator())


def sort_images(batches: Batches) -> list[bytes]:
    return sorted(image.tobytes() + bytes([label]) for pair in batches for image, label in zip(*pair, strict=True))


@pytest.mark.parametrize("most", [1e9, 0], ids=["memory", "shards"])
def test_an_epoch_has_its_order_whatever_came_before(most: float, transformed: Path) -> None:
    split = load_split(open_examples(transformed / "examples"), "train", SHAPE, most)
    assert (split.held_as == "shards") == (most == 0)

    def make_feed() -> Feed:
        keras.utils.set_random_seed(3)
        return Feed(split, batch_size=5, seed=3, one_hot=0)

    one, epochs = make_feed(), []
    for epoch in range(3):
        one.begin_epoch(epoch)
        epochs.append(read_epoch(one.batches))
    other = make_feed()
    other.begin_epoch(2)
    for (image, label), (expected, expected_label) in zip(read_epoch(other.batches), epochs[2], strict=True):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(label, expected_label)
    assert [len(label) for _, label in epochs[0]] == [5, 5, 5, 5, 4]
    assert sort_images(epochs[0]) == sort_images(epochs[1])
    assert any((one[0] != two[0]).any() for one, two in zip(epochs[0], epochs[1], strict=True))


def test_images_from_the_shards_are_those_in_memory(transformed: Path) -> None:
    examples = open_examples(transformed / "examples")
    held, streamed = (load_split(examples, "val", SHAPE, most) for most in (1e9, 0))
    epochs = [read_epoch(make_batches(split, one_hot=3)) for split in (held, streamed)]
    for one, other in zip(*epochs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[1].shape == (len(one[0]), 3)


def test_a_training_from_the_shards_says_so_and_is_the_same_again(transformed: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, seed=1)
    for name in ("one", "two"):
        train_model(
            str(transformed / "examples"),
            str(transformed / "graph"),
            settings=settings,
            memory_share=0,
            **outputs_in(tmp_path / name, "model", "history", "event_files", "report"),
        )
    assert json.loads((tmp_path / "one/model/training.json").read_text())["held_as"] == {
        "train": "shards",
        "val": "shards",
    }
    assert (tmp_path / "one/history").read_bytes() == (tmp_path / "two/history").read_bytes()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float, transformed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train_model(
            str(transformed / "examples"),
            str(transformed / "graph"),
            settings=TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, seed=1),
            memory_share=share,
            **outputs_in(tmp_path, "model", "history", "event_files", "report"),
        )
    assert str(caught.value) == f"memory_share is {share}; it must be from 0 to 1."
    assert os.listdir(tmp_path) == []


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "limit"
    monkeypatch.setattr(images, "CGROUP_LIMITS", (str(limit),))
    limit.write_text("max\n")
    assert measure_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("1048576\n")
    assert measure_memory() == 1048576
