"""The trained model: a SavedModel with one signature, which takes encoded images.

Its input is `image_bytes`, string [batch], PNG or JPEG. Its outputs are `probabilities`, float32 [batch, classes];
`label`, int64 [batch], the most probable class; and `class`, string [batch], the name of that class. What it was
trained on is in training.json beside it (see training.py). Where the same training was repeated with other seeds, the
folder `seeds` in it has such a model for each of these, in a folder that is called like the seed.
"""

from pathlib import Path
from typing import Any

from components.shared.errors import UserError, shorten_to_sentence

SIGNATURE = "serving_default"
IMAGE_BYTES = "image_bytes"
PROBABILITIES = "probabilities"
LABEL = "label"
CLASS = "class"
SEEDS = "seeds"


def list_seed_models(folder: str | Path) -> dict[int, Path]:
    """The folders of the models of other seeds by seed, in their order; empty if the model was trained once.

    Args:
        folder: The folder of the model.

    Returns:
        The folders.
    """
    found = (path for path in Path(folder, SEEDS).glob("*") if path.name.isdecimal())
    return dict(sorted((int(path.name), path) for path in found))


def load_saved_model(folder: str, advice: str, shown: str = "") -> Any:
    """Loads a SavedModel.

    Args:
        folder: Its folder.
        advice: What to do if it is none, as the end of a sentence.
        shown: How messages name the folder; empty for its path.

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
        raise UserError(f"{shown or folder}: cannot be read as a SavedModel ({reason}); {advice}.") from None
