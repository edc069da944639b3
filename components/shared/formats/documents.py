"""JSON files: what the formats that are documents have in common.

A format declares its document as types (dataclasses, TypedDicts, numbers with bounds), and pydantic checks a file
against them where it is read: nothing in it is believed before.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, WrapValidator

from components.shared.errors import UserError, describe_validation, quote
from components.shared.files import open_regular

Document = TypeVar("Document")

LONGEST = 2**28  # bytes; the evaluation of thousands of classes is smaller
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}  # by the type that each checks


def _keep_integer(number: float, check: Callable[[float], float]) -> float:
    check(number)
    return number


Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[Finite, WrapValidator(_keep_integer)]  # an integer stays one
NotNegative = Annotated[Finite, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def write_document(path: Path, content: object) -> None:
    """Writes JSON with indents, the same bytes for the same content.

    Args:
        path: The file.
        content: What `json.dumps` takes.

    Raises:
        ValueError: A number is not finite, which JSON cannot hold.
    """
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_document(
    path: Path, kind: type[Document], advice: str, *, check: Callable[[Document], None] | None = None, shown: str = ""
) -> Document:
    """Reads a JSON document.

    Args:
        path: The file.
        kind: What the document must be, as pydantic takes it. Keys that it does not name are left out.
        advice: What to do if the file is not such a document, as the end of a sentence.
        check: Raises a ValueError if the parts of the document contradict each other.
        shown: How messages name the file; empty for its path.

    Returns:
        The document.

    Raises:
        UserError: The file cannot be read, is not JSON, or is not such a document; its first mistake is named.
    """
    place = shown or path
    try:
        text = _read_text(path)
        document = make_adapter(kind).validate_json(text, strict=True)
        json.loads(text, object_pairs_hook=_refuse_twice)  # pydantic takes the last of two equal keys
        if check:
            check(document)
    except ValidationError as error:
        raise UserError(f"{place}: {describe_validation(error)}; {advice}.") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror}); {advice}.") from None
    except RecursionError:
        raise UserError(f"{place}: is nested too deeply; {advice}.") from None
    except ValueError as error:
        raise UserError(f"{place}: {error}; {advice}.") from None
    return document


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if (key := find_repeated_key(pairs)) is not None:
        raise ValueError(f"has the key {quote(key)} twice")


def find_repeated_key(pairs: list[tuple[str, Any]]) -> str | None:
    """The first key that a JSON object has again, given its pairs; None if each is there once."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def make_adapter(kind: type[Document]) -> TypeAdapter[Document]:
    """What checks values of a type; made once, since that takes milliseconds."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _read_text(path: Path) -> str:
    with open_regular(path) as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"cannot be read (it has more than {LONGEST:,} bytes)")
    try:
        return content.decode("utf-8-sig")  # some tools write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot be read (it is not UTF-8: {error.reason} at byte {error.start:,})") from None
