"""The images in transformed examples, read without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from components.shared.errors import UserError
from components.shared.formats.examples import open_examples
from components.shared.formats.schema import read_schema
from components.shared.formats.tfrecord import Example, read_records
from components.shared.formats.transformed import IMAGE, LABEL

_ADVICE = "rerun transform"
SCHEMA = "transformed_metadata/schema.pbtxt"  # in the graph, as TensorFlow Transform writes it


class TransformedImage(NamedTuple):
    """What the model sees of an image."""

    pixels: NDArray[np.float32]  # [height, width, channels], 0 to 255
    class_name: str


def read_transformed(folder: str | Path, graph: str | Path, split: str) -> Iterator[TransformedImage]:
    """Yields each image of a split as the model sees it, in the order of the examples.

    Args:
        folder: The output `transformed_examples` of transform.
        graph: Its output `transform_graph`, which has their shape.
        split: One that the examples have.

    Raises:
        UserError: A file is not as transform writes it, or there is no such split.
    """
    opened = open_examples(folder)
    if split not in opened.manifest.splits:
        raise UserError(f"{folder}: has no {split}; it has {', '.join(opened.manifest.splits)}.")
    schema = read_schema(Path(graph) / SCHEMA, _ADVICE)
    shapes = [[axis.size for axis in feature.shape.dim] for feature in schema.feature if feature.name == IMAGE]
    if len(shapes) != 1:
        raise UserError(f"{Path(graph) / SCHEMA}: does not say which shape {IMAGE} has; {_ADVICE}.")
    for path in opened.list_shard_paths(split):
        try:
            for record in read_records(path):
                yield _read_image(record, shapes[0], opened.manifest.classes)
        except (OSError, EOFError, ValueError, DecodeError):
            raise UserError(f"{path}: is not as transform writes it; {_ADVICE}.") from None


def _read_image(record: bytes, shape: list[int], classes: list[str]) -> TransformedImage:
    """The image in a record.

    Raises:
        DecodeError, ValueError: it is none of this shape and with one of these classes.
    """
    features = Example.FromString(record).features.feature
    pixels = np.array(features[IMAGE].float_list.value, np.float32).reshape(shape)
    (label,) = features[LABEL].int64_list.value
    if not 0 <= label < len(classes):
        raise ValueError(f"the label {label} is that of no class")
    return TransformedImage(pixels, classes[label])
