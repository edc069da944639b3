"""Examples as transform has made them for a model, which `model.json` names, beside their shards and in the graph.

Each record of a shard is a tf.train.Example with `image`, float32 [height * width * channels], and `label`, int64.
"""

from pathlib import Path

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.formats.documents import read_document, write_document

FILE = "model.json"
IMAGE = "image"  # float32 [height, width, channels], 0 .. 255
LABEL = "label"  # int64 scalar


class TransformedFor(TypedDict):
    """The document."""

    model: str  # its name, that of a module in models/


def write_model_name(folder: Path, model: str) -> None:
    """Writes the document into a folder."""
    write_document(folder / FILE, TransformedFor(model=model))


def read_model_name(folder: str | Path) -> str:
    """The name of the model for which transform made a folder.

    Raises:
        UserError: The document is missing, or is not as transform writes it.
    """
    return read_document(Path(folder) / FILE, TransformedFor, "rerun transform")["model"]
