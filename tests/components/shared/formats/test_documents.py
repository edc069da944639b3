"""Documents as such, and what all formats that are documents have in common."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from components.shared.errors import UserError
from components.shared.formats import comparison, documents, evaluation, examples, training
from components.shared.formats.documents import Count, Finite, Share, read_document, write_document
from tests.components.shared.formats.test_comparison import COMPARISON
from tests.components.shared.formats.test_evaluation import EVALUATION
from tests.components.shared.formats.test_training import TRAINING
from tests.mutations import JSON, encode, is_same, mutated, read_or_refuse, torn

EMPTY = hashlib.sha256().hexdigest()
MANIFEST: dict[str, Any] = {
    "data_uri": "data",
    "test_data_uri": "",
    "data_version": "a.dir",
    "classes": ["i", "v"],
    "splits": {
        split: {
            "images": 3,
            "classes": {"i": 1, "v": 2},
            "shards": [
                {"name": f"{split}-0000{number}-of-00002.tfrecord", "images": number + 1, "sha256": EMPTY}
                for number in range(2)
            ],
        }
        for split in ("train", "val")
    },
    "quarantined": [{"path": "train/i/x.png", "reason": "damaged"}],
    "made_split": None,
}


def read_manifest(folder: Path) -> dict[str, Any]:
    for split in MANIFEST["splits"].values():
        for shard in split["shards"]:
            (folder / shard["name"]).touch()
    manifest = asdict(examples.open_examples(folder).manifest)
    if "made_split" not in json.loads((folder / examples.MANIFEST).read_text()):  # as in what earlier versions wrote
        assert manifest.pop("made_split") is None
    return manifest


Reader = Callable[[Path], Any]
READERS: dict[str, tuple[Reader, Any]] = {
    comparison.FILE: (comparison.read_comparison, COMPARISON),
    evaluation.FILE: (evaluation.read_evaluation, EVALUATION),
    examples.MANIFEST: (read_manifest, MANIFEST),
    training.FILE: (training.read_training, TRAINING),
}


class Sample(TypedDict):
    a: Count
    b: NotRequired[list[Share]]
    c: NotRequired[dict[str, Finite]]


@given(st.dictionaries(st.text(), JSON))
def test_any_object_is_read_as_it_was_written(content: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_document(path, content)
        assert is_same(read_document(path, dict[str, Any], ""), content)
        assert path.read_text() == json.dumps(content, indent=1) + "\n"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_document_is_written_with_a_number_that_json_lacks(number: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(tmp_path / "x.json", {"a": [number]})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON (EOF while parsing a value at line 1 column 0)"),
        (b'{"a": 1, "b', "is not JSON (EOF while parsing a string at line 1 column 11)"),
        (b'{"a": 1}}', "is not JSON (trailing characters at line 1 column 9)"),
        (b"\xff\xfe{}", "cannot be read (it is not UTF-8: invalid start byte at byte 0)"),
        ('{"a": 1}'.encode("utf-16"), "cannot be read (it is not UTF-8: invalid start byte at byte 0)"),
        (b"[" * 3_000 + b"]" * 3_000, "is not JSON (recursion limit exceeded at line 1 column 202)"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "is not JSON (number out of range at line 1 column 4308)"),
        (b'{"a": 1, "b": ["\\ud800"]}', "is not JSON (unexpected end of hex escape at line 1 column 23)"),
        (b"[1]", "is [1], but should be an object"),
        (b"null", "is None, but should be an object"),
        (b"{}", "a: is missing"),
        (b'{"a": "1"}', "a: is '1', but should be a valid integer"),
        (b'{"a": null}', "a: is None, but should be a valid integer"),
        (b'{"a": true}', "a: is True, but should be a valid integer"),
        (b'{"a": -1}', "a: is -1, but should be greater than or equal to 0"),
        (b'{"a": 1, "b": [1, NaN]}', "b.1: is nan, but should be less than or equal to 1"),
        (b'{"a": 1, "a": 2}', "has the key 'a' twice"),
        (b'{"a": 1, "more": [{"d": 1, "d": 1}]}', "has the key 'd' twice"),
        (b'{"a": 1, "b": [1.5]}', "b.0: is 1.5, but should be less than or equal to 1"),
        (b'{"a": 1, "c": {"d": Infinity}}', "c.d: is inf, which is no finite number"),
        (b'{"a": 1, "c": {"d\\n": []}}', "c.'d\\n': is [], but should be a valid number"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_document(path, Sample, "give the right one")
    assert str(caught.value) == f"{path}: {reason}; give the right one."


def refuse(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_document(path, Sample, "give the right one")
    return str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert refuse(path) == f"{path}: cannot be read (No such file or directory); give the right one."
    assert refuse(tmp_path) == f"{tmp_path}: cannot be read (not a regular file); give the right one."
    os.mkfifo(path)  # reading it would block forever
    assert refuse(path) == f"{path}: cannot be read (not a regular file); give the right one."


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    monkeypatch.setattr(documents, "LONGEST", 7)
    assert refuse(path) == f"{path}: cannot be read (it has more than 7 bytes); give the right one."


def test_what_is_shown_of_a_wrong_value_is_short(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": list(range(1000))}))
    assert refuse(path).startswith(f"{path}: a: is [0, 1, 2, 3, 4, 5, ...], but should be a valid integer")
    path.write_text(json.dumps({"a": 1, "c": {"x" * 1000: "x" * 1000}}))
    assert len(refuse(path)) < len(str(path)) + 200


# --- every document ----------------------------------------------------------------------------


def try_reader(file: str, content: bytes) -> Any:
    read, _ = READERS[file]
    with TemporaryDirectory() as folder:
        return read_or_refuse(lambda path: read(path.parent), Path(folder) / file, content)


@pytest.mark.parametrize("file", READERS)
def test_document_that_is_cut_is_refused(file: str) -> None:
    content = encode(READERS[file][1])
    assert try_reader(file, content) == READERS[file][1]
    for length in range(0, len(content), 7):
        assert try_reader(file, content[:length]) is None


@pytest.mark.parametrize("file", READERS)
@given(data=st.data())
def test_document_with_a_mistake_anywhere_is_read_as_it_is_or_refused(file: str, data: st.DataObject) -> None:
    document = data.draw(mutated(READERS[file][1]))
    read = try_reader(file, encode(document))
    assert read is None or is_same(read, document)


@pytest.mark.parametrize("file", READERS)
@given(data=st.data())
def test_document_that_is_torn_is_read_or_refused(file: str, data: st.DataObject) -> None:
    try_reader(file, data.draw(torn(encode(READERS[file][1]))))
