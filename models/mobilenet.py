"""A small MobileNet for pictures in colour: depthwise separable convolutions, a quarter of the usual channels."""

import keras
import tensorflow as tf

from models.preprocessing import decode

SIZE = (96, 96)  # height, width in pixels
CHANNELS = 3  # RGB
ALPHA = 0.25  # of the channels that the MobileNet of Howard et al., 2017 (arXiv:1704.04861), has


def build_model(classes: int) -> keras.Model:
    """Builds the model with untrained weights, 221,114 of them for 10 classes.

    Args:
        classes: The number of classes.

    Returns:
        A model from images, float32 [batch, *SIZE, CHANNELS] from 0 to 255, to logits, float32 [batch, classes].
    """
    features = keras.applications.MobileNet((*SIZE, CHANNELS), alpha=ALPHA, include_top=False, weights=None)
    images = keras.Input((*SIZE, CHANNELS))
    hidden = features(keras.applications.mobilenet.preprocess_input(images))
    logits = keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(images, logits)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Three channels, resized (bilinear) to SIZE without keeping the aspect ratio.

    Args:
        inputs: A batch of examples, by the names of their features.

    Returns:
        What models/preprocessing.py describes.
    """
    return decode(inputs, SIZE, CHANNELS)
