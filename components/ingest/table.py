"""A data set that a table lists: a CSV or Parquet file with the columns path, label and perhaps split."""

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from components.ingest.buckets import Bucket
from components.ingest.sources import Child, File, Part, Reader, Source, flatten, join_names
from components.shared.cloud_storage import SCHEME, is_address
from components.shared.errors import UserError, cut, quote, shorten
from components.shared.formats.examples import SPLITS
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.image_table import ADVICE, COLUMNS, LIKE_SPLIT, SPLIT
from components.shared.formats.names import NAME_ADVICE, SPLIT_NAMES, is_passed_over, is_plain_name, is_visible_name
from components.shared.formats.tables import check_spelling, read_rows

if int(pa.__version__.partition(".")[0]) < 15:
    import pyarrow_hotfix  # noqa: F401 - else a table of a stranger could run code; see SECURITY.md

# What pyarrow raises at broken files, texts that are not UTF-8, dates and time zones that Python lacks, and types
# that run code.
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, RuntimeError, KeyError)


class Row(NamedTuple):
    """An image of the table."""

    path: str  # relative to the folder of the table, or gs://bucket/object
    label: str
    split: str  # as the table calls it; empty if the table has no such column

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the image, if the table's columns were folders."""
        return (self.split, self.label) if self.split else (self.label,)


@dataclass(frozen=True)
class Table(Source):
    """A table of images; splits and classes are what its columns hold, as if these were folders."""

    name: str  # of its file, in `root`
    root: Source  # the folder to which paths are relative
    prefix: str
    version: str
    folders: dict[tuple[str, ...], list[Child]]
    is_elsewhere: bool  # whether some of its images have addresses of their own in Cloud Storage

    def join_address(self, *folders: str) -> str:
        """The address of the table, and the split and the class."""
        address = _name_table(self.root, self.name)
        return f"{address}: {join_names(*folders)}" if folders else address

    def list_children(self, *folders: str) -> list[Child] | None:
        """As Source.list_children."""
        return self.folders.get(folders)

    def has_file(self, name: str) -> bool:
        """As Source.has_file."""
        beside = self.root.list_children(*filter(None, posixpath.dirname(self.name).split("/"))) or []
        return any(child.name == name and not child.is_folder for child in beside)

    def group_parts(self, parts: list[Part]) -> list[list[Part]]:
        """All at once, because the table is one file."""
        return [parts]

    def locate(self, paths: Sequence[str]) -> Iterator[File]:
        """As Source.locate; a path may be an address in Cloud Storage."""
        own = [path for path in paths if not is_address(path)]
        beside = posixpath.dirname(self.name)  # of a DVC version, the root is above the table
        found = dict(zip(own, self.root.locate([posixpath.join(beside, path) for path in own]), strict=True))
        for path in paths:
            yield found.get(path) or File(path, path)

    def list_files(self, parts: Sequence[Part]) -> Iterator[File]:
        """The images of the table; if what lies around class folders is asked for, the table and the guideline too."""
        classes = {part.folders: part for part in parts if part.class_name}
        if len(classes) < len(parts):
            yield from self.root.locate([self.name])
            yield from self.locate([GUIDELINE] if self.has_file(GUIDELINE) else [])
        rows = list(read_table(self.root, self.name))
        for row, file in zip(rows, self.locate([row.path for row in rows]), strict=True):
            part = classes[row.folders]
            yield file._replace(
                name=join_names(self.prefix, file.name),
                split=part.split,
                class_name=part.class_name,
                below=row.path.removeprefix(SCHEME),
            )

    def open_reader(self) -> AbstractContextManager[Reader]:
        """The reader of the folder, and one of Cloud Storage for images that have addresses there."""
        return _open_reader(self.root) if self.is_elsewhere else self.root.open_reader()


def open_table(root: Source, name: str, prefix: str) -> Table:
    """Reads a table once, to know the splits and classes that it has.

    Args:
        root: The folder in which it lies.
        name: Its path in this folder.
        prefix: As in open_source.

    Returns:
        The table.

    Raises:
        UserError: It is missing, is no such table, or a row of it is wrong.
    """
    folders: dict[tuple[str, ...], set[str]] = {(): set()}
    is_elsewhere = False
    for row in read_table(root, name):
        is_elsewhere = is_elsewhere or is_address(row.path)
        for level, folder in enumerate(row.folders):
            folders.setdefault(row.folders[:level], set()).add(folder)
    listed = {path: [Child(child, is_folder=True) for child in sorted(names)] for path, names in folders.items()}
    return Table(name, root, prefix, root.version, listed, is_elsewhere)


def read_table(root: Source, name: str) -> Iterator[Row]:
    """Reads the rows of a table.

    Args:
        root: The folder in which it lies.
        name: Its path in this folder.

    Yields:
        Each row, checked.

    Raises:
        UserError: As open_table.
    """
    place, seen, likenesses = _name_table(root, name), dict[str, str](), defaultdict[str, set[str]](set)
    with root.open_copy(name) as path:
        cells = _read_csv(path, place) if name.lower().endswith(".csv") else _read_parquet(path, place)
        for line, row in cells:
            for column in [name for name in row if name not in (*COLUMNS, SPLIT)]:
                likenesses[column].add(str(row.pop(column) or "").strip().lower())
            checked = _check_row(row, f"{place}, {line}")
            if earlier := seen.get(checked.path):
                raise UserError(f"{place}, {line}: {checked.path} is in {earlier} already; leave one of them.")
            seen[checked.path] = line
            yield checked
        if seen and not checked.split:
            _check_likenesses(likenesses, place)
    if not seen:
        raise UserError(f"{place}: lists no images; {ADVICE}.")


def _check_likenesses(likenesses: Mapping[str, set[str]], place: str) -> None:
    """Refuses a table that keeps its splits in a column of another name, since ingest would divide its images again.

    Args:
        likenesses: The values in each column with such a name, in lower case.
        place: The table, for messages.
    """
    for column, values in likenesses.items():
        if (named := values - {""}) and named <= SPLIT_NAMES.keys():
            raise UserError(f"{place}: the column {quote(column)} has splits; call it split, or leave it out.")


def _name_table(root: Source, name: str) -> str:
    return root.join_address(*name.split("/"))


def _read_csv(path: Path, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for line, row in read_rows(path, COLUMNS, ADVICE, shown=place, optional=(SPLIT,), alike=LIKE_SPLIT):
        yield f"line {line}", dict(row)


def _read_parquet(path: Path, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_spelling(names, [*COLUMNS, SPLIT], place)
            if missing := [name for name in COLUMNS if name not in names]:
                raise UserError(f"{place}: no column {', '.join(missing)}; {ADVICE}.")
            wanted = [name for name in names if name in (*COLUMNS, SPLIT) or name.strip().lower() in LIKE_SPLIT]
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except UNREADABLE as error:
        raise UserError(f"{place}: cannot be read as Parquet ({cut(shorten(error))}); {ADVICE}.") from None


def _check_row(row: dict[str, Any], place: str) -> Row:
    texts = {}
    for name, value in row.items():
        if name == SPLIT and (value is None or not str(value).strip()):
            raise UserError(f"{place}: split is empty; write train, val or test, or leave the column out.")
        if isinstance(value, bool) or not isinstance(value, str | int) or not (text := str(value).strip()):
            raise UserError(f"{place}: {name} is {quote(value)}; fill in text or a whole number.")
        texts[name] = text
    path, label, split = texts["path"], texts["label"], texts.get(SPLIT, "")
    if not is_visible_name(label) or is_passed_over(label, is_folder=True):
        raise UserError(f"{place}: {quote(label)} is no name of a class; no folder can have it visibly.")
    if split and split.lower() not in SPLIT_NAMES:
        raise UserError(f"{place}: split is {quote(split)}; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}.")
    if "://" in path and not is_address(path):
        raise UserError(f"{place}: {cut(path)} is an address that ingest cannot read; give paths or gs:// addresses.")
    if not is_address(path):
        path = posixpath.normpath(path)
        if path.startswith(("/", "../")) or path in (".", ".."):
            raise UserError(
                f"{place}: {cut(path)} leaves the folder of the table; give paths below it, or gs:// addresses."
            )
    if not is_plain_name(path):
        raise UserError(f"{place}: {cut(ascii(path))} {NAME_ADVICE}.")
    if flatten(path.removeprefix(SCHEME)).startswith("."):
        raise UserError(f"{place}: {cut(path)} is hidden, since its name begins with a dot; rename it.")
    return Row(path, label, split)


@contextmanager
def _open_reader(root: Source) -> Iterator[Reader]:
    with root.open_reader() as own, Bucket(SCHEME).open_reader() as cloud:
        yield _TableReader(own, cloud)


class _TableReader(Reader):
    def __init__(self, own: Reader, cloud: Reader) -> None:
        self.own, self.cloud, self.threads = own, cloud, max(own.threads, cloud.threads)

    def read(self, file: File, max_bytes: int) -> bytes:
        return self._choose(file.address).read(file, max_bytes)

    def hash(self, file: File) -> str:
        return self._choose(file.address).hash(file)

    def open(self, address: str) -> AbstractContextManager[BinaryIO]:
        return self._choose(address).open(address)

    def _choose(self, address: str) -> Reader:
        return self.cloud if is_address(address) else self.own
