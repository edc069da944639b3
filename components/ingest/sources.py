"""What a data set is, wherever it is stored: folders with files, and a way to read them.

The kinds are in modules of their own: folders.py, buckets.py, versions.py and table.py; opening.py
chooses one.
"""

import hashlib
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from components.shared.errors import UserError
from components.shared.formats.names import LONGEST_NAME, is_plain_name

DEPTH = 2  # of split/class; where there are no splits, class folders lie higher


class BadImage(Exception):
    """A file cannot be used as an image; the text says why."""


class Child(NamedTuple):
    """What lies directly in a folder."""

    name: str
    is_folder: bool
    is_link: bool = False


class Part(NamedTuple):
    """A folder whose files are listed: of a class with all that is below it, or one around class folders."""

    folders: tuple[str, ...]
    split: str = ""  # of its images; empty if they are still to be divided
    class_name: str = ""  # empty if no images lie there


class File(NamedTuple):
    """A file of a data set. It travels to the worker that reads it."""

    name: str  # its path in the data set
    address: str  # a path, or gs://bucket/object
    split: str = ""  # empty if that is still to be found, or if it is no image, unless it is one of the test data
    class_name: str = ""  # empty if it counts for the version only: it is hidden, or lies beside the images
    below: str = ""  # of an image: its path below the class folder
    problem: str = ""  # why it cannot be an image, if that is known before it is read
    md5: str = ""  # of the content, in hex, if known
    generation: int | None = None  # of the object in the bucket

    @property
    def is_image(self) -> bool:
        """Whether it is in a class, and so meant to be an image."""
        return bool(self.class_name)

    @property
    def filename(self) -> str:
        """Of an image: split/class/file, the name that every later stage and report uses."""
        return f"{self.split}/{self.class_name}/{flatten(self.below)}"

    @property
    def shown(self) -> str:
        """How messages name it; the address of a file of a DVC version is its md5."""
        same = self.address.rpartition("/")[2] == self.name.rpartition("/")[2]
        shown = self.address if same else f"{self.name} ({self.address})"
        return shown if is_plain_name(shown) else ascii(shown)


class Reader(ABC):
    """Reads the files of a source, in the process that opened it; several threads may use it at once."""

    threads: int  # how many files are worth reading at once

    @abstractmethod
    def read(self, file: File, max_bytes: int) -> bytes:
        """Reads the content of a file.

        Raises:
            BadImage: The file has more than `max_bytes`, or cannot be read and only this image is concerned.
            UserError: The file must be there and cannot be read, or is no longer the one that was listed.
        """

    @abstractmethod
    def hash(self, file: File) -> str:
        """Computes the md5 of a file, piece by piece; empty for what is no file, and so not part of a data version.

        Raises:
            UserError: The file cannot be read.
        """

    @abstractmethod
    def open(self, address: str) -> AbstractContextManager[BinaryIO]:
        """Opens a file to be read piece by piece.

        Raises:
            UserError: The file cannot be read.
        """


class Source(ABC):
    """A data set. It travels to workers, which list and read its files.

    Its methods raise a UserError that names what cannot be read.
    """

    prefix: str  # stands before the names of the files, if the data set is one split only: `test`
    version: str  # `<md5>.dir`, if the address tells it

    @abstractmethod
    def join_address(self, *folders: str) -> str:
        """The address of a folder, as messages name it."""

    @abstractmethod
    def list_children(self, *folders: str) -> list[Child] | None:
        """What a folder holds, sorted; None if there is no such folder."""

    def has_file(self, name: str) -> bool:
        """Whether a file of this name lies in the root, or beside the table."""
        return any(child.name == name and not child.is_folder for child in self.list_children() or [])

    @abstractmethod
    def list_files(self, parts: Sequence[Part]) -> Iterator[File]:
        """The files of some parts, including those in hidden folders."""

    @abstractmethod
    def locate(self, paths: Sequence[str]) -> Iterator[File]:
        """The file at each path of the data set; one that is not there is named when it is read, or by its problem."""

    @abstractmethod
    def open_reader(self) -> AbstractContextManager[Reader]:
        """Connects to where the files are; a worker does so once for each shard."""

    @contextmanager
    def open_copy(self, path: str) -> Iterator[Path]:
        """The path of a copy of a file of the data set, which has its name and is gone afterwards."""
        (file,) = self.locate([path])
        if file.problem:
            raise UserError(f"{self.join_address(*path.split('/'))}: {file.problem}.")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, path.rpartition("/")[2])
            with self.open_reader() as reader, reader.open(file.address) as opened, copy.open("wb") as target:
                shutil.copyfileobj(opened, target, 2**20)
            yield copy

    def group_parts(self, parts: list[Part]) -> list[list[Part]]:
        """The parts that are listed at once; the groups are listed side by side."""
        return [[part] for part in parts]


def join_names(*parts: str) -> str:
    """Joins names with slashes, without those that are empty."""
    return "/".join(filter(None, parts))


def flatten(path: str) -> str:
    """The name of a file for a path of several folders; one that has none keeps its name."""
    name = path.replace("/", "__")
    if "/" not in path or len(name.encode()) <= LONGEST_NAME:
        return name
    end = path.rpartition("/")[2]
    return f"{hashlib.sha256(path.encode()).hexdigest()[:16]}__{end}"
