"""JSON files: what the formats that are documents have in common."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.errors import UserError


def write_document(path: Path, content: object) -> None:
    """Writes JSON as people like to read it, the same bytes for the same content."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def read_document(path: Path, fields: Mapping[str, type | tuple[type, ...]], advice: str) -> dict[str, Any]:
    """The JSON object in the file.

    Args:
        path: the file.
        fields: the names that the object must have, each with the type of its value.
        advice: what to do if the file is not such a document, as the end of a sentence.

    Raises:
        UserError: the file cannot be read, is not such an object, or lacks a field.
    """
    try:
        content = json.loads(path.read_text())
        for name, kind in fields.items():
            if not isinstance(content[name], kind):
                raise ValueError(f"{name} is {content[name]!r}")
    except KeyError as error:
        raise UserError(f"{path}: has no {error}; {advice}.") from None
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); {advice}.") from None
    return content  # type: ignore[no-any-return]
