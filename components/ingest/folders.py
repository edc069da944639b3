"""A data set in a folder of a disk."""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.ingest.sources import (
    FOLDER_AMONG_IMAGES,
    BadImage,
    Child,
    File,
    Reader,
    Source,
    is_class_folder,
    join_names,
)
from components.shared.errors import UserError

NOT_REGULAR = "not a regular file"
# Of what is no file, or a link to none, DVC has no md5; what cannot be read for another reason does have one.
NO_FILE = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Folder(Source):
    """A folder of a disk that every worker sees."""

    root: str
    prefix: str = ""
    version: str = ""

    def join_address(self, *folders: str) -> str:
        """The path of a folder."""
        return os.path.join(self.root, *folders)

    def list_children(self, *folders: str) -> list[Child] | None:
        """As Source.list_children; a link to a folder is a folder."""
        path = self.join_address(*folders)
        if not os.path.isdir(path):
            return None
        with _explain_errors(path), os.scandir(path) as entries:
            return sorted(Child(entry.name, entry.is_dir(), entry.is_symlink()) for entry in map(_check_name, entries))

    def list_files(self, part: tuple[str, ...]) -> Iterator[File]:
        """As Source.list_files; no image is opened."""
        with _explain_errors(self.join_address(*part)), os.scandir(self.join_address(*part)) as entries:
            for entry in map(_check_name, entries):
                name = join_names(self.prefix, *part, entry.name)
                hidden = entry.name.startswith(".")
                in_class = is_class_folder(self.prefix, part)
                if in_class and not hidden:
                    yield File(name, entry.path, problem=_find_problem(entry, self.root))
                elif not entry.is_dir(follow_symlinks=False):
                    yield File(name, entry.path, is_image=False)
                if (in_class or hidden) and entry.is_dir(follow_symlinks=False):
                    yield from _list_all(entry.path, name)

    def open_reader(self) -> AbstractContextManager[Reader]:
        """A reader of paths, which has nothing to connect to."""
        return nullcontext(_DiskReader())


class _DiskReader(Reader):
    threads = os.cpu_count() or 1

    def read(self, file: File, max_bytes: int) -> bytes:
        try:
            with _open_regular(file.address) as opened:
                data = opened.read(max_bytes + 1)
        except OSError as error:
            if file.md5:  # a file of a DVC version, which must be there
                raise UserError(f"{file.shown}: cannot be read ({error.strerror}); run `dvc push`.") from None
            raise BadImage(f"cannot be read ({error.strerror})") from None
        if len(data) > max_bytes:
            raise BadImage(f"larger than {max_bytes:,} bytes")
        return data

    def hash(self, file: File) -> str:
        try:
            with _open_regular(file.address) as opened:
                return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            if error.errno in NO_FILE:
                return ""
            raise UserError(
                f"{file.shown}: cannot be read ({error.strerror}), so the data has no version;"
                " make it readable or give data_version."
            ) from None

    @contextmanager
    def open(self, address: str) -> Iterator[BinaryIO]:
        try:
            file = _open_regular(address)  # only opening it may fail in this way
        except OSError as error:
            raise UserError(f"{address}: cannot be read ({error.strerror}); run `dvc push`.") from None
        with file:
            yield file


def _open_regular(path: str) -> io.BufferedReader:
    """Opens a file that is one: reading a pipe, a socket or a device would block forever, or change it.

    Raises:
        OSError: It is something else, or cannot be opened; with an errno of NO_FILE if there is no file to read.
    """
    if stat.S_ISREG(os.stat(path).st_mode):
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it may have been replaced in the meantime
            return file
        file.close()
    raise OSError(errno.EINVAL, NOT_REGULAR)


def _list_all(folder: str, name: str) -> Iterator[File]:
    with _explain_errors(folder), os.scandir(folder) as entries:
        for entry in map(_check_name, entries):
            if entry.is_dir(follow_symlinks=False):
                yield from _list_all(entry.path, f"{name}/{entry.name}")
            else:
                yield File(f"{name}/{entry.name}", entry.path, is_image=False)


def _find_problem(entry: os.DirEntry[str], root: str) -> str:
    if entry.is_file(follow_symlinks=False):
        return ""
    try:
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(Path(root).resolve()):
            return f"a link that leaves {root}"
        mode = entry.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: Python < 3.13, for links in a circle
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    if stat.S_ISDIR(mode):
        return FOLDER_AMONG_IMAGES
    return "" if stat.S_ISREG(mode) else NOT_REGULAR


def _check_name(entry: os.DirEntry[str]) -> os.DirEntry[str]:
    if entry.name != entry.name.encode(errors="replace").decode():
        raise UserError(f"{ascii(entry.path)}: the name is not UTF-8; rename it.")
    return entry


@contextmanager
def _explain_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}); allow the user of this run to read it."
        ) from None
