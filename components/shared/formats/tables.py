"""CSV files with a header: what the formats that are tables have in common."""

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ValidationError

from components.shared.errors import UserError, describe_validation, quote
from components.shared.files import open_regular
from components.shared.formats.documents import make_adapter

Row = TypeVar("Row")
OptionalInt = Annotated[int | None, BeforeValidator(lambda cell: cell or None)]  # None is an empty cell

SEPARATORS = ",;\t"  # a spreadsheet writes the one of its user's language
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what a spreadsheet would run, and what quote_formula makes of it


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table; None becomes an empty cell, and no text is a formula for a spreadsheet.

    Args:
        path: The file.
        columns: The names of the columns, for the header.
        rows: The cells of each row, in the order of the columns.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([quote_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def quote_formula(cell: str) -> str:
    """The text with an apostrophe before it, if a spreadsheet would take it for a formula."""
    return f"'{cell}" if FORMULA.match(cell) else cell


def unquote_formula(cell: str) -> str:
    """Reverses quote_formula."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read_rows(
    path: str | Path,
    columns: Sequence[str],
    advice: str,
    *,
    shown: str = "",
    optional: Sequence[str] = (),
    may_end_early: bool = False,
    alike: Collection[str] = (),
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a table; blank lines, and columns that nobody asked for, are left out.

    Args:
        path: The file, UTF-8, with a comma, semicolon or tab between cells.
        columns: Those that must be there.
        advice: What to do if the file is not such a table, as the end of a sentence.
        shown: How messages name the file; empty for its path.
        optional: Columns that are read as well if they are there.
        may_end_early: Whether cells at the end of a row may be missing, as where Excel leaves out empty ones.
        alike: Names in lower case; columns that are called so, in any case, are read as well, under their own names.

    Yields:
        Each row below the header, with the number of the line it ends on.

    Raises:
        UserError: The file cannot be read, lacks a column, or has a row with too few or too many cells.
    """
    place, line = shown or path, 0  # on which the last row ended
    try:
        # Spreadsheets write a byte order mark.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = find_separator(first, columns)
            reader = csv.reader(itertools.chain([first], file), delimiter=separator, strict=True)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing and not any(cell.strip().lower() in missing for cell in header):
                raise UserError(f"{place}: no column {', '.join(missing)}; {advice}.")
            check_spelling(header, [*columns, *optional], str(place))
            line = reader.line_num
            wanted = [*columns, *(name for name in header if name in optional or name.strip().lower() in alike)]
            for cells in reader:
                if cells and may_end_early:
                    cells += [""] * (len(header) - len(cells))
                line, count = reader.line_num, len(cells)
                if count not in (0, len(header)):
                    raise UserError(f"{place}, line {line}: {count} cells below a header of {len(header)}; {advice}.")
                if cells:
                    row = dict(zip(header, cells, strict=True))
                    yield line, {name: unquote_formula(row[name]) for name in wanted}
    except csv.Error as error:
        raise UserError(f"{place}, line {line + 1}: not readable as CSV ({error}); {advice}.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            with open_regular(path) as data:
                decode_text(data.read(), str(place))  # raises what is wrong, and in which line
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read ({reason}); {advice}.") from None


def find_separator(header: str, columns: Collection[str]) -> str:
    """What stands between the cells of a table: with it, most of these columns are in its first line."""

    def count_columns(separator: str) -> int:
        names = {cell.strip().lower() for cell in next(csv.reader([header], delimiter=separator), [])}
        return len(names.intersection(columns))

    return max(SEPARATORS, key=count_columns)


def decode_text(data: bytes, place: str) -> str:
    """The text of a file that a person may have saved, without a byte order mark.

    Args:
        data: What is in the file.
        place: The file, for messages.

    Raises:
        UserError: It is not UTF-8.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{place}, line 1: UTF-16, not UTF-8; save it as 'CSV UTF-8'.")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise UserError(f"{place}, line {line}: not a text file; save the spreadsheet as 'CSV UTF-8'.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{place}, line {line}: not UTF-8; save it as 'CSV UTF-8'.") from None


def check_spelling(header: Sequence[str], names: Sequence[str], place: str) -> None:
    """Checks that no column is nearly one that is wanted, and would be left out without a word, or is one twice.

    Raises:
        UserError: One is.
    """
    for name in names:
        if header.count(name) > 1:
            raise UserError(f"{place}: the column {name} appears twice; leave one.")
        near = [column for column in header if column != name and column.strip().lower() == name]
        if near:
            raise UserError(f"{place}: the column {quote(near[0])} must be called {name}; rename it.")


def parse_row(kind: type[Row], cells: dict[str, str], *, place: str, advice: str) -> Row:
    """Checks the cells of a row.

    Args:
        kind: What the row must be, as pydantic takes it: a NamedTuple or TypedDict with a field for each column.
        cells: The texts of the cells by column.
        place: The file and the line, for messages.
        advice: What to do if the row is another, as the end of a sentence.

    Returns:
        The row.

    Raises:
        UserError: A cell is not what its column holds; the first such one is named.
    """
    try:
        return make_adapter(kind).validate_python(cells)
    except ValidationError as error:
        raise UserError(f"{place}: {describe_validation(error)}; {advice}.") from None
