"""A data set in a folder of a disk."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.ingest.image import BadImage
from components.ingest.sources import Child, File, Source, is_class_folder, joined
from components.shared.errors import UserError


@dataclass(frozen=True)
class Folder(Source):
    root: str
    prefix: str = ""
    version: str = ""

    def address(self, *folders: str) -> str:
        return os.path.join(self.root, *folders)

    def children(self, *folders: str) -> list[Child] | None:
        path = self.address(*folders)
        if not os.path.isdir(path):
            return None
        with _readable(path), os.scandir(path) as entries:
            return sorted(
                Child(entry.name, entry.is_dir(), entry.is_symlink())
                for entry in map(_named, entries)
                if not entry.name.startswith(".")
            )

    def files(self, part: tuple[str, ...]) -> Iterator[File]:
        with _readable(self.address(*part)), os.scandir(self.address(*part)) as entries:
            for entry in map(_named, entries):
                name = joined(self.prefix, *part, entry.name)
                hidden = entry.name.startswith(".")
                in_class = is_class_folder(self.prefix, part)
                if in_class and not hidden:
                    yield File(name, entry.path, problem=_problem(entry, self.root))
                elif not entry.is_dir(follow_symlinks=False):
                    yield File(name, entry.path, is_image=False)
                if (in_class or hidden) and entry.is_dir(follow_symlinks=False):
                    yield from _all_files(entry.path, name)


def read(file: File, limit: int) -> bytes:
    """The content of a file on this disk.

    Raises:
        BadImage: it cannot be read, or has more than `limit` bytes.
        UserError: its md5 is known, so it must be there, and it cannot be read.
    """
    try:
        if file.md5 and not os.path.isfile(file.address):  # opening a pipe would wait for ever
            raise FileNotFoundError(errno.ENOENT, "no such file")
        with open(file.address, "rb") as opened:
            data = opened.read(limit + 1)
    except OSError as error:
        if file.md5:
            raise UserError(f"{file.shown}: cannot be read ({error.strerror}); run `dvc push`.") from None
        raise BadImage(f"cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise BadImage(f"larger than {limit:,} bytes")
    return data


def content_md5(file: File) -> str:
    """The md5 of a file, read piece by piece; empty for what is no file, and no part of a data version either."""
    if not os.path.isfile(file.address):
        return ""
    try:
        with open(file.address, "rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise UserError(
            f"{file.shown}: cannot be read ({error.strerror}), so the data has no version;"
            " mend it or give data_version."
        ) from None


def _all_files(folder: str, name: str) -> Iterator[File]:
    with _readable(folder), os.scandir(folder) as entries:
        for entry in map(_named, entries):
            if entry.is_dir(follow_symlinks=False):
                yield from _all_files(entry.path, f"{name}/{entry.name}")
            else:
                yield File(f"{name}/{entry.name}", entry.path, is_image=False)


def _problem(entry: os.DirEntry, root: str) -> str:
    if entry.is_file(follow_symlinks=False):
        return ""
    try:
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(Path(root).resolve()):
            return f"a link that leaves {root}"
        mode = entry.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: Python < 3.13, for links in a circle
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    if stat.S_ISDIR(mode):
        return "a folder; images lie directly in their class folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"  # opening a pipe would wait for ever


def _named(entry: os.DirEntry) -> os.DirEntry:
    if entry.name != entry.name.encode(errors="replace").decode():
        raise UserError(f"{ascii(entry.path)}: the name is not UTF-8; rename it.")
    return entry


@contextmanager
def _readable(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); allow the user of this run to.") from None
