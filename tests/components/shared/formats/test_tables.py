import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.predictions import read_predictions
from components.shared.formats.schema import read_schema
from components.shared.formats.tables import quote_formula, read_rows, unquote_formula, write_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def read(path: Path, content: str | bytes, *columns: str) -> list[tuple[int, dict[str, str]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(path, columns or ("a", "b"), "give the right one"))


@given(st.lists(TEXT, min_size=1, max_size=4, unique=True), st.data())
def test_any_text_is_read_as_it_was_written(columns: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(TEXT, min_size=len(columns), max_size=len(columns)), max_size=5))
    with TemporaryDirectory() as folder:
        write_rows(Path(folder) / "x", columns, rows)
        read_back = [row for _, row in read_rows(Path(folder) / "x", columns, "")]
    assert read_back == [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("'=1", "''=1"),
        ("'", "'"),
        ("'i", "'i"),
        ("1=1", "1=1"),
    ],
)
def test_no_text_is_a_formula_for_a_spreadsheet(path: Path, text: str, cell: str) -> None:
    write_rows(path, ("a", "b"), [(text, -1)])
    assert path.read_bytes().decode() == f"a,b\r\n{cell},-1\r\n"
    assert [row for _, row in read_rows(path, ("a", "b"), "")] == [{"a": text, "b": "-1"}]


@given(st.text("'=+-@\t\rx", max_size=5))
def test_a_quoted_formula_is_read_as_the_text_that_it_was(text: str) -> None:
    assert unquote_formula(quote_formula(text)) == text


def test_none_is_an_empty_cell_and_numbers_keep_all_digits(path: Path) -> None:
    write_rows(path, ("a", "b"), [(None, 0.1), (1, 2 / 3)])
    assert path.read_bytes() == b"a,b\r\n,0.1\r\n1,0.6666666666666666\r\n"


def test_rows_come_with_the_line_they_end_on(path: Path) -> None:
    content = 'a,b\n1,"x\ny"\n\n3,4\n'
    assert read(path, content) == [(3, {"a": "1", "b": "x\ny"}), (5, {"a": "3", "b": "4"})]


def test_other_columns_and_their_order_do_not_matter(path: Path) -> None:
    assert read(path, "b,more,a\n2,x,1\n") == [(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", ": no column a, b"),
        ("b,c\n1,2\n", ": no column a"),
        ("a b\n1 2\n", ": no column a, b"),
        ("a,b\n1,2\n3\n", ", line 3: 1 cells below a header of 2"),
        ("a,b\n1,2,3\n", ", line 2: 3 cells below a header of 2"),
        ('a,b\n1,"2', ", line 2: not readable as CSV (unexpected end of data)"),
        ('a,b\n1,"2"x\n', ", line 2: not readable as CSV (',' expected after '\"')"),
        ("a,b\n1," + "x" * 200_000, ", line 2: not readable as CSV (field larger than field limit"),
    ],
    ids=["empty", "column", "separator", "torn row", "long row", "torn cell", "after a quote", "huge cell"],
)
def test_other_files_are_refused(path: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read(path, content)
    assert str(caught.value).startswith(f"{path}{sentence}")
    assert str(caught.value).endswith("; give the right one.")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_that_of_the_header(path: Path, separator: str) -> None:
    rows = [["more", "a", "b"], ["x", "1,5;", "2"], ["", "3", ""]]
    content = "".join(separator.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    assert read(path, content) == [(2, {"a": "1,5;", "b": "2"}), (3, {"a": "3", "b": ""})]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a,b\n1,2\n1,\xff\n", "line 3: not UTF-8; save it as 'CSV UTF-8'."),
        ("a,b\n1,2\n".encode("utf-16"), "line 1: UTF-16, not UTF-8; save it as 'CSV UTF-8'."),
        ("A,b\n1,2\n", "the column 'A' must be called a; rename it."),
        ("a , b\n1,2\n", "the column 'a ' must be called a; rename it."),
    ],
)
def test_what_a_person_saved_otherwise_is_said(path: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read(path, content)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(sentence)


def test_file_that_is_not_there_is_named_as_it_is_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^gs://b/x.csv: cannot be read \(No such file or directory\); try again.$"):
        list(read_rows(tmp_path / "none", ("a",), "try again", shown="gs://b/x.csv"))
    with pytest.raises(UserError, match=r"cannot be read \(not a regular file\); try again"):
        list(read_rows(tmp_path, ("a",), "try again"))


@given(st.one_of(st.binary(max_size=60), st.text('ab,"\r\n\0é', max_size=40).map(str.encode)))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(b"a,b\n" + content)
        try:
            assert all(row.keys() == {"a", "b"} for _, row in read_rows(path, ("a", "b"), "give the right one"))
        except UserError as error:
            assert str(error).startswith(str(path))  # noqa: PT017


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda path: list(read_rows(path, ("a",), "name it")), "read (not a regular file); name it."),
        (lambda path: read_schema(path, "name it"), "read as a schema (not a regular file); name it."),
        (
            lambda path: read_predictions(str(path), []),
            "read as predictions (not a regular file); give the predictions as evaluate writes them.",
        ),
    ],
)
def test_what_is_no_file_is_refused_and_not_waited_for(path: Path, read: Callable[[Path], Any], says: str) -> None:
    os.mkfifo(path)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: cannot be {says}"
