"""The fixed preprocessing, as a TensorFlow Transform `preprocessing_fn`."""

import tensorflow as tf

from components.shared.formats import examples

IMAGE = "image"  # float32 [32, 32, 3], 0 .. 255
LABEL = "label"  # int64 scalar
SIZE = (32, 32)  # height, width in pixels


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What the 2021 Data-Centric AI Competition fixed: three channels, resized (bilinear) to 32 x 32 pixels.

    The aspect ratio is not kept, as in `tf.keras.utils.image_dataset_from_directory`.

    Args:
        inputs: `image/encoded`, string [batch, 1], PNG or JPEG; `image/class/label`, int64 [batch, 1].

    Returns:
        `image`, float32 [batch, 32, 32, 3]; `label`, int64 [batch].
    """
    images = tf.map_fn(_decode, tf.squeeze(inputs[examples.ENCODED], 1), fn_output_signature=tf.float32)
    return {IMAGE: tf.ensure_shape(images, (None, *SIZE, 3)), LABEL: tf.squeeze(inputs[examples.LABEL], 1)}


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.image.resize(image, SIZE)
