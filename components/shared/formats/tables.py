"""CSV files with a header: what the formats that are tables have in common."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ValidationError

from components.shared.errors import UserError, describe_validation, quote
from components.shared.files import open_regular
from components.shared.formats.documents import make_adapter

Row = TypeVar("Row")
OptionalInt = Annotated[int | None, BeforeValidator(lambda cell: cell or None)]  # None is an empty cell

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
    path: str | Path, columns: Sequence[str], advice: str, *, shown: str = "", optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a table; blank lines, and columns that nobody asked for, are left out.

    Args:
        path: The file, UTF-8, with a comma between cells.
        columns: Those that must be there.
        advice: What to do if the file is not such a table, as the end of a sentence.
        shown: How messages name the file; empty for its path.
        optional: Columns that are read as well if they are there.

    Yields:
        Each row below the header, with the number of the line it ends on.

    Raises:
        UserError: The file cannot be read, lacks a column, or has a row with too few or too many cells.
    """
    place = shown or path
    try:
        # Spreadsheets write a byte order mark.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{place}: no column {', '.join(missing)}; {advice}.")
            wanted = [*columns, *(name for name in optional if name in header)]
            check_spelling(header, [*columns, *optional], str(place))
            for cells in reader:
                line, count = reader.line_num, len(cells)
                if count not in (0, len(header)):
                    raise UserError(f"{place}, line {line}: {count} cells below a header of {len(header)}; {advice}.")
                if cells:
                    row = dict(zip(header, cells, strict=True))
                    yield line, {name: unquote_formula(row[name]) for name in wanted}
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read ({reason}); {advice}.") from None


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
