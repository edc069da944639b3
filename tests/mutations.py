"""Documents with one mistake somewhere, to see that a reader refuses it, or reads what is there."""

import copy
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from components.shared.errors import UserError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ODD = st.sampled_from(
    [
        float("nan"),
        float("inf"),
        -1,
        1.5,
        10**400,
        "",
        "..",
        "../../../escaped",
        "/etc/passwd",
        "a\nb\0c",
        "\ud800",
        "x" * 100_000,
        [],
        {},
        None,
    ]
)
ODD_TEXTS = st.sampled_from(
    [b"", b"null", b"[1]", b"[" * 3_000, b'{"a":' * 3_000, b"\xff", b"\xef\xbb\xbf{}", b"1" * 5_000, b"\0" * 100]
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with another value in one place, without one of its values, or under another key."""
    document = copy.deepcopy(document)
    places = list(_list_places(document))
    holder, key = draw(st.sampled_from(places))
    change = draw(st.sampled_from(["replace", "delete", "rename"]))
    if change == "replace" or (change == "rename" and isinstance(holder, list)):
        holder[key] = draw(JSON | ODD)
    elif change == "delete":
        del holder[key]
    else:
        holder[draw(st.text(max_size=8) | st.just("../../../escaped"))] = holder.pop(key)
    return document


def _list_places(value: Any) -> Any:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _list_places(inner)


@st.composite
def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes lost, replaced or added, or something else altogether."""
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    return draw(st.just(content[:start] + draw(st.binary(max_size=4)) + content[end:]) | ODD_TEXTS)


def read_or_refuse(read: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """What the reader makes of the file; None if it refuses it with one sentence that begins with the file."""
    path.write_bytes(content)
    try:
        return read(path)
    except UserError as error:
        sentence = str(error)
    assert sentence.startswith(str(path)), sentence
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence, sentence
    assert len(sentence) < len(str(path)) + 500, sentence
    sentence.encode()
    return None


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def is_same(read: Any, document: Any) -> bool:
    """Whether what was read is the document; NaN equals NaN here, and what the format does not name may be missing."""
    if isinstance(document, dict) and isinstance(read, dict):
        return all(key in document and is_same(value, document[key]) for key, value in read.items())
    if isinstance(document, list) and isinstance(read, list):
        return len(read) == len(document) and all(map(is_same, read, document))
    return bool(read == document) or (read != read and document != document)


ODD_CELLS = st.sampled_from(
    ["", "nan", "inf", "-1", "1e999", "1" * 5_000, "../../../escaped", "=1+1", "'", "\0", "a\nb", '"', "[" * 3_000, "é"]
)


@st.composite
def mutated_table(draw: st.DrawFn, content: str) -> bytes:
    """The CSV file with another text in one cell, header included, without a row or with one of them twice."""
    rows = list(csv.reader(io.StringIO(content, newline="")))
    row = draw(st.sampled_from(rows))
    change = draw(st.sampled_from(["cell", "cell", "cell", "lose", "repeat", "shorten"]))
    if change == "cell":
        row[draw(st.integers(0, len(row) - 1))] = draw(ODD_CELLS | st.text(max_size=8))
    elif change == "shorten":
        row.pop()
    elif change == "lose":
        rows.remove(row)
    else:
        rows.append(row)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="replace")
