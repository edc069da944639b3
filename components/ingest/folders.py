"""A data set in a folder of a disk."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.ingest.sources import BadImage, Child, File, Part, Reader, Source, join_names
from components.shared.errors import UserError
from components.shared.files import NOT_REGULAR, open_regular
from components.shared.formats.names import belongs_to_repository, is_passed_over

# Where DVC keeps a file under its md5: <cache>/files/md5/ab/cdef..., or <cache>/ab/cdef... if DVC 2 put it there.
CACHED = re.compile(r".+/([0-9a-f]{2})/([0-9a-f]{30})", re.DOTALL)

NO_FILE = "no such file"  # what a table names


@dataclass(frozen=True)
class Folder(Source):
    """A folder of a disk that every worker sees."""

    root: str
    prefix: str = ""
    version: str = ""
    ignored: frozenset[str] = frozenset()  # names of files and folders that are no part of the data set

    def join_address(self, *folders: str) -> str:
        """The path of a folder."""
        return os.path.join(self.root, *folders)

    def list_children(self, *folders: str) -> list[Child] | None:
        """As Source.list_children; a link to a folder is a folder."""
        path = self.join_address(*folders)
        if not os.path.isdir(path):
            return None
        with _explain_errors(path), os.scandir(path) as entries:
            names = join_names(self.prefix, *folders)
            return sorted(
                Child(entry.name, entry.is_dir(), entry.is_symlink()) for entry in self._leave_out(entries, names)
            )

    def list_files(self, parts: Sequence[Part]) -> Iterator[File]:
        """As Source.list_files; no image is opened."""
        for part in parts:
            folder, name = self.join_address(*part.folders), join_names(self.prefix, *part.folders)
            yield from self._list_images(folder, name, "", part) if part.class_name else self._list_beside(folder, name)

    def locate(self, paths: Sequence[str]) -> Iterator[File]:
        """As Source.locate; a link must not lead out of the folder, unless to DVC's cache."""
        root = Path(self.root).resolve()
        for path in paths:
            address = self.join_address(path)
            target = os.path.realpath(address)
            cached = None if Path(target).is_relative_to(root) else CACHED.fullmatch(target)
            is_inside = cached or Path(target).is_relative_to(root)
            problem = "" if os.path.lexists(address) else NO_FILE
            problem = problem if is_inside else f"a link that leaves {self.root}"
            yield File(path, address, problem=problem, md5="".join(cached.groups()) if cached else "")

    def _list_images(self, folder: str, name_of_folder: str, below: str, part: Part) -> Iterator[File]:
        """Yields what lies in a class folder or below it."""
        for entry in self._scan(folder, name_of_folder):
            name, is_folder = join_names(name_of_folder, entry.name), entry.is_dir(follow_symlinks=False)
            if is_passed_over(entry.name, is_folder=is_folder):
                yield from self._list_others(entry, name)
            elif is_folder:
                yield from self._list_images(entry.path, name, join_names(below, entry.name), part)
            else:
                file = _describe_image(entry, name, self.root)
                yield file._replace(split=part.split, class_name=part.class_name, below=join_names(below, entry.name))

    def _list_beside(self, folder: str, name_of_folder: str) -> Iterator[File]:
        """Yields what lies around class folders; those that are not passed over are parts of their own."""
        for entry in self._scan(folder, name_of_folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder or is_passed_over(entry.name, is_folder=True):
                yield from self._list_others(entry, join_names(name_of_folder, entry.name))

    def _list_others(self, entry: os.DirEntry[str], name: str) -> Iterator[File]:
        if not entry.is_dir(follow_symlinks=False):
            yield File(name, entry.path)
            return
        for below in self._scan(entry.path, name):
            yield from self._list_others(below, join_names(name, below.name))

    def _scan(self, folder: str, name_of_folder: str) -> Iterator[os.DirEntry[str]]:
        with _explain_errors(folder), os.scandir(folder) as entries:
            yield from self._leave_out(entries, name_of_folder)

    def _leave_out(self, entries: Iterable[os.DirEntry[str]], name_of_folder: str) -> Iterator[os.DirEntry[str]]:
        """Yields the entries of a folder that are part of the data set, with names that are checked."""
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if belongs_to_repository(entry.name, is_folder=is_folder):
                continue
            if join_names(name_of_folder, entry.name) not in self.ignored:
                yield _check_name(entry)

    def open_reader(self) -> AbstractContextManager[Reader]:
        """A reader of paths, which has nothing to connect to."""
        return nullcontext(_DiskReader())


class _DiskReader(Reader):
    threads = os.cpu_count() or 1

    def read(self, file: File, max_bytes: int) -> bytes:
        try:
            with open_regular(file.address) as opened:
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
            with open_regular(file.address) as opened:
                return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            leads_nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and os.path.islink(file.address)
            # What is no file is in no version of DVC.
            if error.errno == errno.EINVAL or leads_nowhere or file.problem == NO_FILE:
                return ""
            raise UserError(
                f"{file.shown}: cannot be read ({error.strerror}), so the data has no version;"
                " make it readable or give data_version."
            ) from None

    @contextmanager
    def open(self, address: str) -> Iterator[BinaryIO]:
        try:
            file = open_regular(address)  # only opening it may fail in this way
        except OSError as error:
            raise UserError(f"{address}: cannot be read ({error.strerror}); run `dvc push`.") from None
        with file:
            yield file


def _describe_image(entry: os.DirEntry[str], name: str, root: str) -> File:
    """The file of an image, with what is wrong about it as far as no look into it tells."""
    if entry.is_file(follow_symlinks=False):
        return File(name, entry.path)
    md5 = ""
    try:
        if entry.is_symlink() and not (target := Path(entry.path).resolve()).is_relative_to(Path(root).resolve()):
            if not (cached := CACHED.fullmatch(str(target))):
                return File(name, entry.path, problem=f"a link that leaves {root}")
            md5 = "".join(cached.groups())  # a link that DVC made; the content must be that of its name
        mode = entry.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: Python < 3.13, for links in a circle
        return File(name, entry.path, problem=f"cannot be read ({getattr(error, 'strerror', error)})")
    if stat.S_ISDIR(mode):
        return File(name, entry.path, problem="a link to a folder; put the images themselves there")
    if not stat.S_ISREG(mode):
        return File(name, entry.path, problem=NOT_REGULAR)
    return File(name, entry.path, md5=md5)


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
