"""JSON files: what the formats that are documents have in common."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.errors import UserError

Kind = type | tuple[type, ...]


def write_document(path: Path, content: object) -> None:
    """Writes JSON with indents, the same bytes for the same content.

    Args:
        path: The file.
        content: What `json.dumps` takes.
    """
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_document(path: Path, fields: Mapping[str, Kind], advice: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: The file.
        fields: The names that the object must have, each with the type of its value.
        advice: What to do if the file is not such a document, as the end of a sentence.

    Returns:
        The object.

    Raises:
        UserError: The file cannot be read, is not such an object, or lacks a field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # the last for very many brackets
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); {advice}.") from None
    return check_object(str(path), content, fields=fields, advice=advice)


def check_object(place: str, content: object, *, fields: Mapping[str, Kind], advice: str) -> dict[str, Any]:
    """Checks a value of a JSON document.

    Args:
        place: The file, and where in it the value is, for messages.
        content: The value.
        fields: As `read_document` has them.
        advice: Likewise.

    Returns:
        The value.

    Raises:
        UserError: It is not an object, or a field is missing or is of another type.
    """
    if not isinstance(content, dict):
        raise UserError(f"{place}: cannot be read ({reprlib.repr(content)} is not a JSON object); {advice}.")
    for name, kind in fields.items():
        if name not in content:
            raise UserError(f"{place}: has no '{name}'; {advice}.")
        if not isinstance(content[name], kind):
            raise UserError(f"{place}: cannot be read ({name} is {reprlib.repr(content[name])}); {advice}.")
    return content
