"""Documents as such, and what all formats that are documents have in common."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats import comparison, evaluation, training
from components.shared.formats.documents import check_object, read_document, write_document
from tests.components.shared.formats.test_comparison import COMPARISON
from tests.components.shared.formats.test_evaluation import EVALUATION
from tests.components.shared.formats.test_training import TRAINING

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
Reader = Callable[[Path], Any]
READERS: dict[str, tuple[Reader, Any]] = {
    comparison.FILE: (comparison.read_comparison, COMPARISON),
    evaluation.FILE: (evaluation.read_evaluation, EVALUATION),
    training.FILE: (training.read_training, TRAINING),
}


@given(st.dictionaries(st.text(), JSON))
def test_any_object_is_read_as_it_was_written(content: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_document(path, content)
        assert read_document(path, {}, "") == content
        assert path.read_text() == json.dumps(content, indent=1) + "\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read (Expecting value: line 1 column 1 (char 0))"),
        (b'{"a": 1, "b', "cannot be read (Unterminated string"),
        (b'{"a": 1}}', "cannot be read (Extra data"),
        (b"\xff\xfe{}", "cannot be read ('utf-8' codec"),
        (b"[" * 100_000, "cannot be read (maximum recursion depth exceeded"),
        (b"[1]", "cannot be read ([1] is not a JSON object)"),
        (b"null", "cannot be read (None is not a JSON object)"),
        (b"{}", "has no 'a'"),
        (b'{"a": "1"}', "cannot be read (a is '1')"),
        (b'{"a": null}', "cannot be read (a is None)"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_document(path, {"a": (int, float)}, "give the right one")
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert str(caught.value).endswith("; give the right one.")


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none.json: cannot be read \(No such file or directory\); give the right one.$"
    ):
        read_document(tmp_path / "none.json", {}, "give the right one")


def test_what_is_shown_of_a_wrong_value_is_short() -> None:
    with pytest.raises(UserError) as caught:
        check_object("x.json, val", {"a": list(range(1000))}, fields={"a": dict}, advice="give the right one")
    assert str(caught.value).startswith("x.json, val: cannot be read (a is [0, 1, ")
    assert len(str(caught.value)) < 120


# --- every document ----------------------------------------------------------------------------


def read_or_refuse(file: str, content: bytes) -> Any:
    """What the reader of this file makes of the content; None if it refuses it with a sentence that names the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(content)
        try:
            return READERS[file][0](path.parent)
        except UserError as error:
            sentence = str(error)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return None


@pytest.mark.parametrize("file", READERS)
def test_document_that_is_torn_is_refused(file: str) -> None:
    content = json.dumps(READERS[file][1]).encode()
    assert read_or_refuse(file, content) == READERS[file][1]
    for length in range(0, len(content), 7):
        assert read_or_refuse(file, content[:length]) is None


@given(st.sampled_from(sorted(READERS)), st.data())
def test_document_with_any_other_value_is_read_or_refused(file: str, data: st.DataObject) -> None:
    document = dict(READERS[file][1])
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(JSON)
    assert read_or_refuse(file, json.dumps(document).encode()) in (document, None)
