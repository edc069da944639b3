"""What examples must look like: a Schema of TensorFlow Metadata as protobuf text.

It is `schema.pbtxt` in the artifact `schema`; people keep a copy of it with their images, curate it, and give it back.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import UserError, shorten
from components.shared.files import open_regular

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

FILE = "schema.pbtxt"


def write_schema(path: Path, schema: "Schema") -> None:
    """Writes the schema as text, the same bytes for the same schema."""
    from google.protobuf import text_format  # here, since the tools have no TensorFlow Metadata

    path.write_text(text_format.MessageToString(schema), encoding="utf-8")


def read_schema(path: Path, advice: str, *, shown: str = "") -> "Schema":
    """Reads a schema.

    Args:
        path: The file.
        advice: What to do if the file is not a schema, as the end of a sentence.
        shown: What messages call the file, if not by its path.

    Returns:
        The schema.

    Raises:
        UserError: The file is missing, is not a schema, or has a share of examples that is not from 0 to 1.
    """
    from google.protobuf import text_format  # as above
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

    try:
        with open_regular(path) as file:
            schema = text_format.Parse(file.read().decode("utf-8"), Schema())
    except (OSError, ValueError, text_format.ParseError, RecursionError) as error:  # the last for very deep messages
        reason = getattr(error, "strerror", None) or shorten(error)[:200]
        raise UserError(f"{shown or path}: cannot be read as a schema ({reason}); {advice}.") from None
    for feature in schema.feature:  # TFDV would call the examples wrong without saying why
        if not 0 <= (share := feature.presence.min_fraction) <= 1:
            raise UserError(f"{shown or path}: {feature.name}: min_fraction is {share:g}, not from 0 to 1; {advice}.")
    return schema
