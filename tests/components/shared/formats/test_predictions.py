from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from components.shared.errors import UserError
from components.shared.formats import predictions as columns
from components.shared.formats.examples import ImageExample
from components.shared.formats.predictions import (
    PredictedImage,
    describe_image,
    list_rows,
    name_probability,
    read_predictions,
    write_predictions,
)
from tests.rows import make_prediction

CLASSES = ["NA", "1", "nan", "i", "=1+1", "'-v"]  # classes that a table reader could take for something else
TEXTS = (columns.SPLIT, columns.FILENAME, columns.SHA256, columns.LABEL, columns.PREDICTION)
NUMBERS = (*columns.SCALARS, columns.CONFIDENCE, columns.LOSS)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    write_predictions(pd.DataFrame(rows), path)
    return path


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1, max_size=5, unique=True))
    rows = [
        make_prediction(
            split=draw(st.sampled_from(["train", "val", "test"])),
            filename=f"val/i/{name}",
            sha256=draw(st.sampled_from(["1e5", "0" * 64, "007"])),
            label=draw(st.sampled_from(CLASSES)),
            prediction=draw(st.sampled_from(CLASSES)),
            **{name: draw(st.floats(0, 1e6)) for name in NUMBERS},
        )
        for name in names
    ]
    return pd.DataFrame(rows).assign(**{name_probability(name): 0.25 for name in CLASSES})


@pytest.mark.parametrize("most_cells", [columns.MOST_CELLS_AS_CSV, 0])
@given(table=tables())
@settings(deadline=None)
def test_what_is_written_is_read_by_file_name_with_six_digits(most_cells: int, table: pd.DataFrame) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MOST_CELLS_AS_CSV", most_cells)
        path = Path(folder) / "predictions"
        write_predictions(table, path)
        found = read_predictions(str(path), CLASSES)
    expected = table.sort_values(columns.FILENAME, ignore_index=True)
    assert set(found.columns) == {*TEXTS, *NUMBERS}
    for name in TEXTS:
        assert found[name].tolist() == expected[name].tolist()
    for name in NUMBERS:
        assert found[name].dtype == float
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-5)


def test_many_rows_are_parquet_with_the_probabilities_and_read_without(tmp_path: Path) -> None:
    rows = 400_000
    table = pd.concat([pd.DataFrame([make_prediction(label="=1+1")])] * rows, ignore_index=True)
    table[columns.FILENAME] = [f"val/i/{number}.png" for number in range(rows)]
    table[columns.LOSS] = 1 / 3
    table = table.assign(prediction_seed_2="i", probability_i=np.float32(0.1))
    path = tmp_path / "predictions"
    write_predictions(table, path)
    found = read_predictions(path, CLASSES)
    assert "probability_i" not in found
    expected = table.drop(columns="probability_i").sort_values(columns.FILENAME, ignore_index=True)
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)


def test_no_class_is_a_formula_for_a_spreadsheet(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions", make_prediction(label="=1+1", prediction="@v"))
    cells = pd.read_csv(path, dtype=str).iloc[0]
    assert (cells[columns.LABEL], cells[columns.PREDICTION]) == ("'=1+1", "'@v")


def test_rows_are_described_by_the_example_and_listed_for_reports() -> None:
    example = ImageExample(b"", "png", 30, 20, 1, "val/i/a.png", "0a", 2, "i", 0.9, 0.3, 0.1, 2 / 3, 77)
    row = describe_image("val", example)
    assert row == {
        "split": "val",
        "filename": "val/i/a.png",
        "sha256": "0a",
        "label": "i",
        "mean_intensity": 0.9,
        "contrast": 0.3,
        "ink_fraction": 0.1,
        "aspect_ratio": 2 / 3,
        "bytes": 77,
        "height": 30,
        "width": 20,
    }
    table = pd.DataFrame([{**row, "prediction": "v", "loss": 1.5, "confidence": 0.8}])
    assert list_rows(table) == [PredictedImage("val/i/a.png", "i", "v", 0.8, 1.5)]
    assert {*row, "prediction", "confidence", "loss"} == set(make_prediction())


def refuse(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_predictions(str(path), CLASSES)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("column", [*TEXTS, *NUMBERS])
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "predictions"
    pd.DataFrame([make_prediction()]).drop(columns=column).to_csv(path, index=False)
    assert f"cannot be read as predictions (no column {column}); give" in refuse(path)


@pytest.mark.parametrize("column", ["label", "loss", "probability_i"])
def test_column_that_stands_twice_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "predictions"
    table = pd.DataFrame([{**make_prediction(), "probability_i": 0.9}])
    pd.concat([table, table[[column]]], axis=1).to_csv(path, index=False)
    assert f"cannot be read as predictions (the column '{column}' twice); give" in refuse(path)


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("cell", ["high", "", "nan", "inf", "-inf", "0x10", "1,5"])
def test_cell_without_a_number_is_refused(tmp_path: Path, column: str, cell: str) -> None:
    rows = [make_prediction(), make_prediction(filename="val/i/1.png", **{column: cell})]
    assert "cannot be read as predictions" in refuse(write(tmp_path / "predictions", *rows))


@pytest.mark.parametrize(
    ("column", "cell", "sentence"),
    [
        (
            columns.SPLIT,
            "extra",
            "has the split 'extra', which is none of train, val, test; give predictions of the same",
        ),
        (columns.LABEL, "viii", "has the label 'viii', which is none of NA, 1, nan, i"),
        (columns.LABEL, "", "has the label '', which is none of NA"),
        (columns.PREDICTION, "", "has the prediction '', which is none of NA"),
        (columns.FILENAME, "val/i/0.png", "has val/i/0.png twice; give the predictions as evaluate writes them"),
    ],
)
def test_cell_that_names_something_unknown_is_refused(tmp_path: Path, column: str, cell: str, sentence: str) -> None:
    rows = [make_prediction(), make_prediction(**{columns.FILENAME: "val/i/1.png", column: cell})]
    assert sentence in refuse(write(tmp_path / "predictions", *rows))


def write_parquet(path: Path, **cells: Any) -> Path:
    rows = [make_prediction(), make_prediction(filename="val/i/1.png")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MOST_CELLS_AS_CSV", 0)
        write_predictions(pd.DataFrame(rows).assign(**cells), path)
    return path


@pytest.mark.parametrize("column", [*TEXTS, *NUMBERS])
def test_missing_column_of_a_parquet_file_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "predictions"
    pd.DataFrame([make_prediction()]).drop(columns=column).to_parquet(path, index=False)
    assert f"cannot be read as predictions (no column {column}); give" in refuse(path)


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("cell", ["high", None, float("nan"), float("inf"), [1.0]])
def test_cell_of_a_parquet_file_without_a_number_is_refused(tmp_path: Path, column: str, cell: Any) -> None:
    refuse(write_parquet(tmp_path / "predictions", **{column: [cell, cell]}))


def test_missing_text_of_a_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "predictions", label=["i", None])
    assert "a cell of val/i/1.png is missing or is not a number" in refuse(path)


def test_parquet_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions"
    rows = pa.Table.from_pandas(pd.DataFrame([make_prediction()]), preserve_index=False)
    parquet.write_table(rows.append_column("label", [["v"]]), path)
    assert "cannot be read as predictions (the column 'label' twice); give" in refuse(path)


def test_torn_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "predictions")
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        refuse(path)


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(deadline=None)
def test_damaged_parquet_file_is_read_or_refused(position: float, value: int) -> None:
    with TemporaryDirectory() as folder:
        path = write_parquet(Path(folder) / "predictions")
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] = value
        path.write_bytes(content)
        try:
            table = read_predictions(path, CLASSES)
        except UserError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            assert len(table) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_row_with_too_many_cells_is_refused(tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "predictions", make_prediction(), make_prediction(filename="val/i/1.png"))
    lines = path.read_text().splitlines()
    lines[1 + number] += ",1,2"
    path.write_text("\n".join(lines) + "\n")
    refuse(path)


def test_torn_file_is_refused_or_ends_between_cells(tmp_path: Path) -> None:
    """Cut within the last cell, a number may be shorter and still one: that cannot be seen."""
    path = write(tmp_path / "predictions", make_prediction(), make_prediction(filename="val/i/1.png"))
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    last_cell = len(lines[1].split(b",")[-1])
    ends = [len(b"\n".join(lines[:count])) for count in (1, 2, 3)]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if any(end - last_cell < length <= end + 1 for end in ends[1:]) or length in (ends[0], ends[0] + 1):
            continue
        refuse(path)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"{}", b"\x89PNG\r\n\x1a\n\0", b"\xff\xfe", b"\0\1"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions"
    if content is not None:
        path.write_bytes(content)
    assert "give the predictions as evaluate writes them" in refuse(path)


HEADER = ",".join(make_prediction()).encode() + b"\n"


@given(st.booleans(), st.one_of(st.binary(max_size=60), st.text('val,"\r\n\0é1.', max_size=60).map(str.encode)))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(has_header: bool, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "predictions"
        path.write_bytes((HEADER if has_header else b"") + content)
        try:
            table = read_predictions(str(path), CLASSES)
        except UserError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
        else:
            assert not table.isna().any(axis=None)
