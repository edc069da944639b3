"""A data set, wherever it is: a folder, a folder of a bucket, or a DVC version."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

CLASS_DEPTH = 2  # split/class


class Child(NamedTuple):
    """What lies directly in a folder."""

    name: str
    is_folder: bool
    is_link: bool = False


class File(NamedTuple):
    """A file of a data set."""

    name: str  # split/class/file, the name that every later stage and report uses
    address: str  # a path, or gs://bucket/object
    is_image: bool = True  # if not, it counts for the data version only: it is hidden, or lies beside the images
    problem: str = ""  # why it can be no image, as far as the folder tells
    md5: str = ""  # of the content, in hex, if known
    generation: int | None = None  # of the object in the bucket

    @property
    def shown(self) -> str:
        """How messages name it; the address of a file of a DVC version is its md5."""
        same = self.address.rpartition("/")[2] == self.name.rpartition("/")[2]
        return self.address if same else f"{self.name} ({self.address})"


class Source(ABC):
    """A data set. Its methods raise a UserError that names what cannot be read."""

    prefix: str  # stands before the names of the files, if the data set is one split only: `test`
    version: str  # `<md5>.dir`, if the address tells it

    @abstractmethod
    def address(self, *folders: str) -> str:
        """How messages name a folder."""

    @abstractmethod
    def children(self, *folders: str) -> list[Child] | None:
        """What a folder holds, sorted, without what is hidden; None if there is no such folder."""

    @abstractmethod
    def files(self, part: tuple[str, ...]) -> Iterator[File]:
        """The files of a part: those in its folder, in what is hidden there, and in folders among the images."""

    def parts(self, folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """What is to be listed, many at once, to get the files of these folders."""
        return folders


def open_source(uri: str, prefix: str = "") -> Source:
    """The data set at a path, at gs://bucket/folder, or of a DVC manifest: <remote>/files/md5/<2 hex>/<30 hex>.dir.

    Raises:
        UserError: the address is wrong, or the manifest is missing or not as DVC writes it.
    """
    from components.ingest import buckets, folders, versions

    if versions.ADDRESS.fullmatch(uri):
        return versions.open_version(uri, prefix)
    return buckets.open_bucket(uri, prefix) if uri.startswith("gs://") else folders.Folder(uri, prefix)


def joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


def is_class_folder(prefix: str, folders: tuple[str, ...]) -> bool:
    return len([prefix, *folders] if prefix else folders) == CLASS_DEPTH
