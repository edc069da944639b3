"""Several devices, which are two logical CPUs here, and computing with 16 bits."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from components.shared.errors import UserError
from components.shared.formats.examples import open_examples
from components.train.images import Feed, load_split
from components.train.settings import TrainingSettings
from models.resnet import CHANNELS, SIZE
from tests.components.train.test_training import Trained, train
from tests.conftest import CLASSES, run_killed, run_python

SETTINGS = TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-3, seed=1)
SHAPE = (*SIZE, CHANNELS)
# A model without batch normalization learns the same on two devices; with it, each device has a mean of its own.
TRAIN = """
import sys
import re
from pathlib import Path
import tensorflow as tf
transformed, folder, network, gpus = sys.argv[1:]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
from components.train import devices, fitting, progress, training
from tests.components.train.test_devices import SETTINGS, build_plain
from tests.conftest import outputs_in
devices.list_gpus = lambda: ["CPU:0", "CPU:1"]
assert devices.choose_strategy(int(gpus)).num_replicas_in_sync == int(gpus)
progress.IMAGES_BETWEEN = 1
if network == "plain":
    fitting.build_checked = build_plain
training.train_model(
    transformed + "/examples",
    transformed + "/graph",
    settings=SETTINGS._replace(gpus=int(gpus)),
    **outputs_in(Path(folder), "model", "history", "event_files", "report"),
)
"""


def build_plain(*_: object) -> keras.Model:
    pictures = keras.Input(SHAPE)
    hidden = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(pictures / 255)
    return keras.Model(pictures, keras.layers.Dense(len(CLASSES))(keras.layers.Flatten()(hidden)))


def train_apart(transformed: Path, folder: Path, network: str, gpus: int) -> Trained:
    ended = run_python("-c", TRAIN, transformed, folder, network, str(gpus))
    assert ended.returncode == 0, ended.stderr
    return Trained(folder)


def test_two_devices_learn_what_one_does(transformed: Path, tmp_path: Path) -> None:
    one, two = (train_apart(transformed, tmp_path / str(gpus), "plain", gpus) for gpus in (1, 2))
    expected = one.weights()
    learned = {name: value for name, value in two.weights().items() if re.match("model/(?!optimizer)", name)}
    assert sum(value.size for value in learned.values()) == two.training["parameters"]
    for name, value in learned.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4)
    assert [row["loss"] for row in two.history] == pytest.approx([row["loss"] for row in one.history], rel=1e-3)
    assert two.training["settings"] == one.training["settings"] | {"gpus": 2}


def test_a_training_on_two_devices_goes_on_and_its_model_runs_on_one(
    transformed: Path, examples: Path, tmp_path: Path
) -> None:
    expected = train_apart(transformed, tmp_path / "whole", "fixed", 2)
    (tmp_path / "killed").mkdir()
    run_killed(TRAIN, "epoch 2/3", transformed, tmp_path / "killed", "fixed", "2")
    assert len(list((tmp_path / "killed").glob("*.progress"))) == 1
    actual = train_apart(transformed, tmp_path / "killed", "fixed", 2)
    assert actual.history == expected.history
    weights = expected.weights()
    assert actual.weights().keys() == weights.keys()
    for name, value in actual.weights().items():
        np.testing.assert_array_equal(value, weights[name])
    usual = train_apart(transformed, tmp_path / "usual", "fixed", 1).history
    assert [row["loss"] for row in usual] != [row["loss"] for row in expected.history], (
        "each device has means of its own"
    )
    outputs, labels = actual.predict(examples, "val")
    assert actual.training["val_accuracy"] == pytest.approx((outputs["label"] == labels).mean())
    loss = -np.log(outputs["probabilities"][np.arange(len(labels)), labels])
    assert actual.training["val_loss"] == pytest.approx(loss.mean(), rel=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_training_with_16_bits_makes_a_model_of_32(
    policy: str, transformed: Path, examples: Path, trained: Path, tmp_path: Path
) -> None:
    mixed, usual = train(transformed, tmp_path, SETTINGS._replace(epochs=2, dtype_policy=policy)), Trained(trained)
    assert mixed.training["settings"] == usual.training["settings"] | {"dtype_policy": policy}
    assert mixed.history != usual.history
    assert mixed.history[0]["loss"] == pytest.approx(usual.history[0]["loss"], rel=0.05)
    outputs, labels = mixed.predict(examples, "val")
    loss = -np.log(outputs["probabilities"][np.arange(len(labels)), labels])
    assert mixed.training["val_loss"] == pytest.approx(loss.mean(), rel=1e-4)
    functions = parse_saved_model(str(tmp_path / "model")).meta_graphs[0].graph_def.library.function
    types = {value.type for function in functions for node in function.node_def for value in node.attr.values()}
    assert tf.float32.as_datatype_enum in types
    assert not {tf.bfloat16.as_datatype_enum, tf.half.as_datatype_enum} & types
    assert keras.config.dtype_policy().name == "float32", "of whoever trains next in this process"


@pytest.mark.parametrize("most", [1e9, 0], ids=["memory", "shards"])
@pytest.mark.parametrize(("gpus", "batch_size", "sizes"), [(5, 5, [5, 5, 5, 5]), (5, 10, [10, 10]), (7, 14, [14, 7])])
def test_each_batch_of_train_can_be_shared_evenly(
    gpus: int, batch_size: int, sizes: list[int], most: float, transformed: Path
) -> None:
    split = load_split(open_examples(transformed / "examples"), "train", SHAPE, most)
    feed = Feed(split, batch_size=batch_size, seed=3, one_hot=0, gpus=gpus)
    seen: set[bytes] = set()
    for epoch in range(3):
        feed.begin_epoch(epoch)
        batches = list(feed.batches.as_numpy_iterator())
        assert [len(labels) for _, labels in batches] == sizes
        seen |= {image.tobytes() for pictures, _ in batches for image in pictures}
    assert int(feed.batches.cardinality()) == len(sizes)
    assert len(seen) == split.size, "other images are left out in each epoch"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"gpus": 0}, "gpus is 0; it must be from 1 to 16, and batch_size, which is 8, a multiple of it."),
        ({"gpus": 3}, "gpus is 3; it must be from 1 to 16, and batch_size, which is 8, a multiple of it."),
        (
            {"gpus": 17, "batch_size": 34},
            "gpus is 17; it must be from 1 to 16, and batch_size, which is 34, a multiple of it.",
        ),
        (
            {"gpus": 2},
            "gpus is 2, but TensorFlow finds 0 here; lower it, or give the stage train an accelerator with so many in "
            "the cluster's config.",
        ),
        ({"dtype_policy": "half"}, "dtype_policy is 'half'; it must be float32 or mixed_bfloat16 or mixed_float16."),
    ],
)
def test_settings_that_cannot_be_are_refused(
    changed: dict[str, int | str], sentence: str, transformed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        train(transformed, tmp_path, SETTINGS._replace(**changed))
    assert str(caught.value) == sentence
    assert list(tmp_path.iterdir()) == []
