import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from models.preprocessing import IMAGE, LABEL, decode
from models.resnet import preprocessing_fn


def encoded(pixels: np.ndarray, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def preprocess(*images: bytes) -> dict[str, np.ndarray]:
    inputs = {
        "image/encoded": tf.constant(images)[:, tf.newaxis],
        "image/class/label": tf.range(len(images), dtype=tf.int64)[:, tf.newaxis],
    }
    return {name: tensor.numpy() for name, tensor in preprocessing_fn(inputs).items()}


def test_shapes_types_and_labels() -> None:
    sizes = [(32, 32), (7, 50), (90, 33)]
    result = preprocess(*(encoded(np.zeros(size, np.uint8)) for size in sizes))
    assert result[IMAGE].shape == (len(sizes), 32, 32, 3)
    assert result[IMAGE].dtype == np.float32
    assert result[LABEL].tolist() == list(range(len(sizes)))
    assert result[LABEL].dtype == np.int64


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3)], ids=["gray", "color"])
def test_image_of_the_right_size_keeps_its_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    expected = np.stack([pixels] * 3, axis=-1) if len(shape) == 2 else pixels
    np.testing.assert_array_equal(preprocess(encoded(pixels))[IMAGE][0], expected)


def test_resizing_is_bilinear_and_stretches_to_both_sides() -> None:
    pixels = np.zeros((64, 16), np.uint8)
    pixels[:, 8:] = 200
    columns = preprocess(encoded(pixels))[IMAGE][0, 0, :, 0]
    # Twice as wide: output column x looks at (x + 0.5) / 2 - 0.5, which only columns 15 and 16 have between the halves.
    place = (np.arange(32) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(columns, 200 * np.clip(place - 7, 0, 1), atol=1e-3)


def test_jpeg_is_decoded() -> None:
    result = preprocess(encoded(np.full((20, 30), 120, np.uint8), "JPEG"))
    np.testing.assert_allclose(result[IMAGE], 120, atol=1)


def test_training_images_are_those_of_the_competition(tmp_path) -> None:
    """The competition read its folders with Keras; the pixels are the same."""
    pixels = np.random.default_rng(2).integers(0, 256, (45, 61), np.uint8)
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "0.png").write_bytes(encoded(pixels))
    dataset = keras.utils.image_dataset_from_directory(tmp_path, image_size=(32, 32), batch_size=1, verbose=False)
    ((expected, _),) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(preprocess(encoded(pixels))[IMAGE], expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)], ids=["gray", "color"])
def test_size_and_channels_are_those_that_are_asked_for(shape: tuple[int, ...]) -> None:
    inputs = {
        "image/encoded": tf.constant([[encoded(np.full(shape, 120, np.uint8))]]),
        "image/class/label": tf.constant([[2]], tf.int64),
    }
    images = decode(inputs, (24, 28), 1)[IMAGE].numpy()
    assert images.shape == (1, 24, 28, 1)
    np.testing.assert_allclose(images, 120, atol=1)
