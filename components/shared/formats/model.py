"""The trained model: a SavedModel with one signature, which takes encoded images.

Its input is `image_bytes`, string [batch], PNG or JPEG. Its outputs are `probabilities`, float32 [batch, classes];
`label`, int64 [batch], the most probable class; and `class`, string [batch], the name of that class. What it was
trained on is in training.json beside it (see training.py).
"""

from typing import Any

from components.shared.errors import UserError, shorten_to_sentence

SIGNATURE = "serving_default"
IMAGE_BYTES = "image_bytes"
PROBABILITIES = "probabilities"
LABEL = "label"
CLASS = "class"


def load_saved_model(folder: str, advice: str) -> Any:
    """Loads a SavedModel.

    Args:
        folder: Its folder.
        advice: What to do if it is none, as the end of a sentence.

    Returns:
        What TensorFlow makes of it.

    Raises:
        UserError: A file of it is missing or damaged.
    """
    import tensorflow as tf  # here, since the tools have no TensorFlow

    try:
        return tf.saved_model.load(folder)
    except (OSError, IndexError, KeyError, ValueError, tf.errors.OpError) as error:
        reason = shorten_to_sentence(error)
        raise UserError(f"{folder}: cannot be read as a SavedModel ({reason}); {advice}.") from None
