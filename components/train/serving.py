"""The SavedModel: encoded images in, probabilities out, with the transform graph inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.examples import ENCODED
from models.preprocessing import IMAGE

if TYPE_CHECKING:
    import keras


def export(model: "keras.Model", transform_graph: str, classes: list[str], folder: Path) -> None:
    """Saves the model with one signature, `serving_default`.

    Input: `image_bytes`, string [batch], PNG or JPEG. Outputs: `probabilities`, float32 [batch, classes]; `label`,
    int64 [batch], the most probable; `class`, string [batch], its name.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    class Classifier(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = tft.TFTransformOutput(transform_graph).transform_features_layer()
            self.model = model
            self.classes = tf.constant(classes)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
        def __call__(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            # Converting the layer with AutoGraph takes seconds and changes nothing.
            transform = tf.autograph.experimental.do_not_convert(self.layer)
            images = transform({ENCODED: image_bytes[:, tf.newaxis]})[IMAGE]
            probabilities = tf.nn.softmax(self.model(images, training=False))
            label = tf.argmax(probabilities, axis=1)
            return {"probabilities": probabilities, "label": label, "class": tf.gather(self.classes, label)}

    classifier = Classifier()
    tf.saved_model.save(classifier, str(folder), signatures=classifier.__call__)
