"""What the models' preprocessing shares: encoded images -> pixels, as TensorFlow Transform runs it."""

import tensorflow as tf

from components.shared.formats import examples
from components.shared.formats.transformed import IMAGE as IMAGE
from components.shared.formats.transformed import LABEL as LABEL


def decode(inputs: dict[str, tf.Tensor], size: tuple[int, int], channels: int) -> dict[str, tf.Tensor]:
    """Decodes the images and resizes them (bilinear).

    The aspect ratio is not kept, as in `tf.keras.utils.image_dataset_from_directory`.

    Args:
        inputs: `image/encoded`, string [batch, 1], PNG or JPEG; `image/class/label`, int64 [batch, 1].
        size: Height and width in pixels.
        channels: 1 for gray, 3 for RGB; images that have others are converted.

    Returns:
        `image`, float32 [batch, *size, channels], 0 to 255; `label`, int64 [batch].
    """

    def decode_one(encoded: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
        return tf.image.resize(image, size)

    images = tf.map_fn(decode_one, tf.squeeze(inputs[examples.ENCODED], 1), fn_output_signature=tf.float32)
    return {IMAGE: tf.ensure_shape(images, (None, *size, channels)), LABEL: tf.squeeze(inputs[examples.LABEL], 1)}
