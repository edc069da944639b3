"""CSV files with a header: what the formats that are tables have in common."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.shared.errors import UserError


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table; None becomes an empty cell.

    Args:
        path: The file.
        columns: The names of the columns, for the header.
        rows: The cells of each row, in the order of the columns.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(
    path: str | Path, columns: Sequence[str], advice: str, *, shown: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a table; blank lines, and columns that nobody asked for, are left out.

    Args:
        path: The file, UTF-8, with a comma between cells.
        columns: Those that must be there.
        advice: What to do if the file is not such a table, as the end of a sentence.
        shown: How messages name the file; empty for its path.

    Yields:
        Each row below the header, with the number of the line it ends on.

    Raises:
        UserError: The file cannot be read, lacks a column, or has a row with too few or too many cells.
    """
    place = shown or path
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{place}: no column {', '.join(missing)}; {advice}.")
            for cells in reader:
                line, count = reader.line_num, len(cells)
                if count not in (0, len(header)):
                    raise UserError(f"{place}, line {line}: {count} cells below a header of {len(header)}; {advice}.")
                if cells:
                    row = dict(zip(header, cells, strict=True))
                    yield line, {name: row[name] for name in columns}
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{place}: cannot be read ({reason}); {advice}.") from None
