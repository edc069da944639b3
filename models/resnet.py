"""The fixed model of the 2021 Data-Centric AI Competition: a ResNet50 cut after its first stage of blocks."""

import keras
import tensorflow as tf

from models.preprocessing import decode

SIZE = (32, 32)  # height, width in pixels
CHANNELS = 3  # RGB


def build_model(classes: int) -> keras.Model:
    """Builds the model with untrained weights, 232,330 of them for 10 classes.

    Args:
        classes: The number of classes.

    Returns:
        A model from images, float32 [batch, *SIZE, CHANNELS] from 0 to 255, to logits, float32 [batch, classes].
    """
    backbone = keras.applications.ResNet50(input_shape=(*SIZE, CHANNELS), include_top=False, weights=None)
    features = keras.Model(backbone.input, backbone.get_layer("conv2_block3_out").output)
    images = keras.Input((*SIZE, CHANNELS))
    hidden = features(keras.applications.resnet.preprocess_input(images))
    logits = keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(images, logits)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What the competition fixed: three channels, resized (bilinear) to SIZE without keeping the aspect ratio.

    Args:
        inputs: A batch of examples, by the names of their features.

    Returns:
        What models/preprocessing.py describes.
    """
    return decode(inputs, SIZE, CHANNELS)
