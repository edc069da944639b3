"""A data set that DVC pushed to a remote: a manifest that names its files by their md5, and the files themselves.

A manifest comes from elsewhere, so everything in it is checked before it is used, and a file is only looked for below
the remote, by its md5.
"""

import hashlib
import re
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson

from components.ingest.sources import DEPTH, Child, File, Part, Reader, Source, join_names
from components.shared.errors import UserError
from components.shared.formats.dvc_manifest import read_version
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.manifest import FILE
from components.shared.formats.names import has_passed_over, is_passed_over

MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Version(Source):
    """A DVC version: its manifest says which files it has, and `store` reads them."""

    manifest: str  # its address
    prefix: str
    version: str
    folders: dict[tuple[str, ...], list[Child]]
    store: Source  # the folder of the remote in which DVC keeps files under their md5s

    def join_address(self, *folders: str) -> str:
        """The address of the manifest, and the folder as the manifest names it."""
        return f"{self.manifest}: {join_names(*folders)}" if folders else self.manifest

    def list_children(self, *folders: str) -> list[Child] | None:
        """As Source.list_children."""
        return self.folders.get(folders)

    def group_parts(self, parts: list[Part]) -> list[list[Part]]:
        """All at once, because the manifest is one file."""
        return [parts]

    def list_files(self, parts: Sequence[Part]) -> Iterator[File]:
        """The images that the manifest names; each lies in the store under its md5."""
        classes = {part.folders: part for part in parts if part.class_name}
        depths = {len(folders) for folders in classes}
        for relpath, md5 in read_manifest(self.manifest, self.store):
            folders = relpath.split("/")
            part = next((found for depth in depths if (found := classes.get(tuple(folders[:depth])))), None)
            if part and not has_passed_over(relpath):
                below = "/".join(folders[len(part.folders) :])
                name, address = join_names(self.prefix, relpath), self.store.join_address(md5[:2], md5[2:])
                yield File(name, address, part.split, part.class_name, below, md5=md5)

    def locate(self, paths: Sequence[str]) -> Iterator[File]:
        """As Source.locate."""
        wanted = set(paths)
        md5s = {relpath: md5 for relpath, md5 in read_manifest(self.manifest, self.store) if relpath in wanted}
        for path in paths:
            if md5 := md5s.get(path):
                yield File(path, self.store.join_address(md5[:2], md5[2:]), md5=md5)
            else:
                yield File(path, self.join_address(path), problem="not in this data version")

    def open_reader(self) -> AbstractContextManager[Reader]:
        """The reader of the store."""
        return self.store.open_reader()


def _has_no_stray(children: dict[str, Child]) -> bool:
    return all(child.is_folder or child.name == GUIDELINE for child in children.values())


def open_version(uri: str, prefix: str, store: Source) -> Version:
    """Reads a manifest once, to know the folders of the version.

    Args:
        uri: The address of the manifest.
        prefix: As in open_source.
        store: The folder of the remote in which DVC keeps files under their md5s: <remote>/files/md5, or <remote> if
            DVC 2 made it.

    Returns:
        The version.

    Raises:
        UserError: The manifest is missing, is not as DVC writes it, or differs from the md5 in its address.
    """
    folders: dict[tuple[str, ...], dict[str, Child]] = {(): {}}
    for relpath, _ in read_manifest(uri, store):
        parts = relpath.split("/")
        for level in range(min(DEPTH, len(parts))):
            children = folders.setdefault(tuple(parts[:level]), {})
            name, is_folder = parts[level], len(parts) > level + 1
            is_hidden = is_passed_over(name, is_folder=is_folder)
            is_wanted = is_folder or relpath == FILE or name == GUIDELINE
            if is_wanted or (not is_hidden and _has_no_stray(children)):  # of which one is enough
                children.setdefault(name, Child(name, is_folder))
            if is_hidden:
                break
    listed = {path: sorted(children.values()) for path, children in folders.items()}
    return Version(uri, prefix, read_version(uri), listed, store)


def read_manifest(uri: str, store: Source) -> Iterator[tuple[str, str]]:
    """Reads a manifest, one entry in memory at a time.

    Args:
        uri: Its address.
        store: The folder of the remote that holds it.

    Yields:
        The path below the data set and the md5, in hex, of each file; both are checked.

    Raises:
        UserError: As open_version.
    """
    with store.open_reader() as reader, reader.open(uri) as file:
        hashed = _Hashed(file)
        previous = ""
        try:
            # With numbers as floats and 64-bit integers; a longer one would end the process in ijson's part in C.
            for entry in _parse_entries(ijson.basic_parse(hashed, use_float=True)):
                reason = _find_fault(entry, previous)
                if reason:
                    raise UserError(
                        f"{uri}: the entry {_shorten(entry)} {reason}; DVC did not write it, so push the data again."
                    )
                previous = entry["relpath"]
                yield previous, entry["md5"]
        except ijson.JSONError as error:
            raise UserError(f"{uri}: not a DVC manifest ({' '.join(str(error).split())}).") from None
    if not previous:
        raise UserError(f"{uri}: not a DVC manifest, or one without files.")
    if f"{hashed.digest.hexdigest()}.dir" != read_version(uri):
        raise UserError(f"{uri}: differs from the md5 in its name; push the data again.")


def _parse_entries(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """Yields the flat objects of a list from the events of ijson.

    ijson's own `items` takes memory that grows with the square of the depth.
    """
    nested = ijson.JSONError("not a list of flat objects")
    if next(events)[0] != "start_array":
        raise nested
    for event, value in events:
        if event == "end_array":
            continue  # ijson raises if anything follows
        if event != "start_map":
            raise nested
        entry, key = {}, ""
        for event, value in events:
            if event == "end_map":
                break
            if event in ("start_map", "start_array"):
                raise nested
            if event == "map_key":
                key = value
            else:
                entry[key] = value
        yield entry


def _find_fault(entry: dict[str, Any], previous: str) -> str:
    """What is wrong with an entry, if anything. DVC sorts entries, so those with the same path are neighbors."""
    if not all(isinstance(entry.get(key), str) for key in ("md5", "relpath")):
        return "has no md5 and relpath"
    relpath = entry["relpath"]
    if not MD5.fullmatch(entry["md5"]):
        return "has no md5 of 32 hexadecimal digits"
    if "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
        return "has a path that is not a plain one below the data set"
    if relpath != relpath.encode(errors="replace").decode():
        return "has a path that is not UTF-8"
    if relpath <= previous:
        return "is listed twice" if relpath == previous else "is out of order"
    return ""


def _shorten(entry: dict[str, Any]) -> str:
    short = reprlib.Repr()
    short.maxstring = 200
    return short.repr(entry)


class _Hashed:
    """A file, and the md5 of what was read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.md5(usedforsecurity=False)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data
