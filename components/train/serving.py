"""The SavedModel: encoded images in, probabilities out, with the transform graph inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.formats.examples import ENCODED
from models.preprocessing import IMAGE

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def export(model: "keras.Model", transform_graph: str, classes: list[str], folder: Path) -> None:
    """Saves the model with one signature, `serving_default`.

    Input: `image_bytes`, string [batch], PNG or JPEG. Outputs: `probabilities`, float32 [batch, classes]; `label`,
    int64 [batch], the most probable; `class`, string [batch], its name.
    """
    import tensorflow as tf

    class Classifier(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph = tf.saved_model.load(f"{transform_graph}/transform_fn")
            self.model = model
            self.classes = tf.constant(classes)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")], autograph=False)
        def __call__(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            images = transform_images(self.graph.transform_fn, image_bytes)
            probabilities = tf.nn.softmax(self.model(images, training=False))
            label = tf.argmax(probabilities, axis=1)
            return {"probabilities": probabilities, "label": label, "class": tf.gather(self.classes, label)}

    classifier = Classifier()
    tf.saved_model.save(classifier, str(folder), signatures=classifier.__call__)


def transform_images(transform_fn: Any, image_bytes: "tf.Tensor") -> "tf.Tensor":
    """Applies a transform graph, read as the SavedModel it is, to encoded images alone.

    The graph asks for every feature of an example. The image does not depend on the others, the label among them:
    they are filled with zeros and empty strings.
    """
    import tensorflow as tf

    def fill(spec: tf.TypeSpec) -> Any:
        if isinstance(spec, tf.SparseTensorSpec):  # a feature that the schema lets be absent
            return tf.sparse.from_dense(fill(tf.TensorSpec([None, 1], spec.dtype)))
        return tf.zeros([tf.size(image_bytes), *spec.shape[1:]], spec.dtype)

    (specs,), _ = transform_fn.structured_input_signature
    features = {name: fill(spec) for name, spec in specs.items()}
    return transform_fn({**features, ENCODED: image_bytes[:, tf.newaxis]})[IMAGE]
