"""The SavedModel: encoded images in, probabilities out, with the transform graph inside."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import ops

from components.shared.formats import model as model_format
from components.shared.formats.examples import ENCODED
from models.preprocessing import IMAGE


class Classifier(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """The transform graph, the model and the names of the classes, as one function of encoded images."""

    def __init__(self, model: keras.Model, transform_graph: str, classes: list[str]) -> None:
        """Loads the transform graph from its folder.

        Raises:
            UserError: It is missing or damaged.
        """
        super().__init__()
        graph = f"{transform_graph}/transform_fn"
        self.graph = model_format.load_saved_model(graph, "give the output `transform_graph` of transform")
        self.model = model
        self.classes = tf.constant(classes)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None], tf.string, model_format.IMAGE_BYTES)], autograph=False
    )
    def __call__(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs that the format describes, for string [batch]."""
        images = transform_images(self.graph.transform_fn, image_bytes)
        probabilities = tf.nn.softmax(self.model(images, training=False))
        label = tf.argmax(probabilities, axis=1)
        return {
            model_format.PROBABILITIES: probabilities,
            model_format.LABEL: label,
            model_format.CLASS: tf.gather(self.classes, label),
        }


def export_model(model: keras.Model, *, transform_graph: str, classes: list[str], folder: Path) -> None:
    """Saves the model as components/shared/formats/model.py describes it.

    Args:
        model: From images, float32 [batch, height, width, channels], to logits, float32 [batch, classes].
        transform_graph: The folder that transform wrote.
        classes: The names of the classes, by label.
        folder: Where the SavedModel goes.
    """
    _round_up_numbers()
    classifier = Classifier(model, transform_graph, classes)
    tf.saved_model.save(classifier, str(folder), signatures={model_format.SIGNATURE: classifier.__call__})


def _round_up_numbers() -> None:
    """Lets the numbers in the names of functions, which stand in the SavedModel, be the same for the same training.

    TensorFlow counts functions and tensors alike, and how many tensors a training makes depends on how far ahead its
    input was read when an epoch ended: some thousands, far fewer than what this rounds up to.
    """
    while ops.uid() % 2**20:
        pass


def transform_images(transform_fn: Any, image_bytes: tf.Tensor) -> tf.Tensor:
    """Applies a transform graph to encoded images alone.

    The graph asks for every feature of an example. The image does not depend on the others, among them the label, so
    they are filled with zeros and empty strings.

    Args:
        transform_fn: The function of the graph's SavedModel.
        image_bytes: String [batch], PNG or JPEG.

    Returns:
        The images as the model takes them, float32 [batch, height, width, channels].
    """

    def fill(spec: tf.TypeSpec) -> Any:
        if isinstance(spec, tf.SparseTensorSpec):  # a feature that the schema lets be absent
            return tf.sparse.from_dense(fill(tf.TensorSpec([None, 1], spec.dtype)))
        return tf.zeros([tf.size(image_bytes), *spec.shape[1:]], spec.dtype)

    (specs,), _ = transform_fn.structured_input_signature
    features = {
        name: fill(specs[name]) for name in sorted(specs)
    }  # sorted, since TensorFlow's order differs from process to process
    return transform_fn({**features, ENCODED: image_bytes[:, tf.newaxis]})[IMAGE]
