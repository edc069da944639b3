"""CSV files with a header: what the formats that are tables have in common."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.shared.errors import UserError


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes the header and a line per row; None becomes an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(path: str | Path, columns: Sequence[str], advice: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields each row below the header with the number of the line it ends on; other columns are left out.

    Args:
        path: the file, UTF-8, with a comma between cells.
        columns: those that must be there.
        advice: what to do if the file is not such a table, as the end of a sentence.

    Raises:
        UserError: the file cannot be read, has no such column, or has a row with too few or too many cells.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{path}: no column {', '.join(missing)}; {advice}.")
            for cells in reader:
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells below a header of {len(header)}; {advice}."
                    )
                row = dict(zip(header, cells, strict=True))
                yield reader.line_num, {name: row[name] for name in columns}
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); {advice}.") from None
