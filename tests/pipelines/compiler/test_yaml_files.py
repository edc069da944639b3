"""YAML files that people write: what is read, and what is refused, in which words."""

from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.compiler.yaml_files import read_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_yaml(path)
    return str(raised.value).replace(str(path), "mine.yaml")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        ("rate: 1e-3", {"rate": 0.001}),
        ("[1e3, -2E+1, .5e1, 1.e2, 1.5, 7, 1e, e1, 1e3x]", [1000.0, -20.0, 5.0, 100.0, 1.5, 7, "1e", "e1", "1e3x"]),
        ("'1e-3'", "1e-3"),
        ("[010, 0o10, 0x1F, -3, +7, 1_000, 1:30, 0b1]", [10, 8, 31, -3, 7, "1_000", "1:30", "0b1"]),
        ("[1:30.5, 1_0.5, .inf, -.5, 1.]", ["1:30.5", "1_0.5", float("inf"), -0.5, 1.0]),
        ("\ufeffa: größer", {"a": "größer"}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("{yes: 1, 'yes': 2}", {True: 1, "yes": 2}),
    ],
)
def test_reads_what_is_meant(tmp_path: Path, text: str, content: object):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "mine.yaml") == content


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            "train:\n  epochs: 3\naudit: {}\ntrain:\n  seed: 1\n",
            "mine.yaml, line 4: train is there twice, first in line 1; correct it.",
            id="key twice",
        ),
        pytest.param(
            "a:\n- b:\n    c: 1\n    c: 1\n",
            "mine.yaml, line 4: c is there twice, first in line 3; correct it.",
            id="deep",
        ),
        pytest.param(
            "1: a\n01: b\n", "mine.yaml, line 2: 01 is there twice, first in line 1; correct it.", id="same number"
        ),
        pytest.param(
            "a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n",
            "mine.yaml, line 4: << is there twice, first in line 3; correct it.",
            id="merged twice",
        ),
        pytest.param(
            "{a: 1, b: {a: 1}, [1]: 2}",
            "mine.yaml, line 1: while constructing a mapping, found unhashable key; correct it.",
            id="list as key",
        ),
        pytest.param(
            BOMB, "mine.yaml, line 1: more than 100,000 values, with those of aliases; correct it.", id="bomb"
        ),
        pytest.param(
            "a: &a\n  b: *a\n", "mine.yaml, line 1: the alias stands for what it is part of; correct it.", id="circle"
        ),
        pytest.param(
            f"a: {'[' * 31}{']' * 31}", "mine.yaml: nested more than 30 levels deep; write it flatter.", id="nested"
        ),
        pytest.param(
            f"a: {'[' * 3000}{']' * 3000}", "mine.yaml: nested more than 30 levels deep; write it flatter.", id="abyss"
        ),
        pytest.param(
            f"a:\n  b: {'1' * 5000}", "mine.yaml, line 2: a number of 5,000 digits; correct it.", id="long number"
        ),
        pytest.param(
            "day: 2024-13-45", "mine.yaml, line 1: 2024-13-45: month must be in 1..12; correct it.", id="no such day"
        ),
        pytest.param("a: b: c", "mine.yaml, line 1: mapping values are not allowed here; correct it.", id="syntax"),
        pytest.param("a: \x01", "mine.yaml: cannot be read as YAML (unacceptable character #x0001:", id="control"),
        pytest.param(
            "a: 1\n---\nb: 1\n",
            "mine.yaml, line 2: expected a single document in the stream, but found another document; correct it.",
            id="documents",
        ),
    ],
)
def test_refuses_in_a_sentence_with_the_line(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert refused(tmp_path / "mine.yaml").startswith(sentence)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a: 1\nb: gr\xf6\xdfer\n", "mine.yaml, line 2: not UTF-8; save it as UTF-8."),
        ("a: größer\n".encode("utf-16"), "mine.yaml: not UTF-8; save it as UTF-8."),
        ("a: größer\n".encode("utf-16-le"), "mine.yaml: not UTF-8; save it as UTF-8."),
    ],
)
def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path, data: bytes, sentence: str):
    (tmp_path / "mine.yaml").write_bytes(data)
    assert refused(tmp_path / "mine.yaml") == sentence


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    reason = "cannot be read (No such file or directory); check that it is there and may be read"
    assert refused(tmp_path / "mine.yaml") == f"mine.yaml: {reason}."
