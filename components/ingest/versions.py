"""A data set that DVC pushed to a remote: a manifest that names its files by their md5, and the files themselves.

A manifest comes from elsewhere: nothing in it is believed before it is checked, and a file is only ever looked for by
its md5, below the remote.
"""

import hashlib
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from components.ingest.sources import CLASS_DEPTH, Child, File, Source, joined
from components.shared.cloud_storage import explained, new_client
from components.shared.errors import UserError

ADDRESS = re.compile(r".+/files/md5/[0-9a-f]{2}/[0-9a-f]{30}\.dir", re.DOTALL)
MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Version(Source):
    manifest: str  # its address
    prefix: str
    version: str
    folders: dict[tuple[str, ...], list[Child]]

    def address(self, *folders: str) -> str:
        return f"{self.manifest}: {joined(*folders)}" if folders else self.manifest

    def children(self, *folders: str) -> list[Child] | None:
        return self.folders.get(folders)

    def parts(self, folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        return [()]  # the manifest is one file

    def files(self, part: tuple[str, ...]) -> Iterator[File]:
        files = self.manifest.rsplit("/", 2)[0]
        seen = ""
        for relpath, md5 in read_manifest(self.manifest):
            name = joined(self.prefix, relpath)
            folders = name.split("/")
            image = "/".join(folders[: CLASS_DEPTH + 1])
            if len(folders) <= CLASS_DEPTH or any(folder.startswith(".") for folder in folders[: CLASS_DEPTH + 1]):
                continue
            if image == name:
                yield File(name, f"{files}/{md5[:2]}/{md5[2:]}", md5=md5)
            elif image != seen:
                seen = image
                problem = "a folder; images lie directly in their class folder"
                yield File(image, self.address(image), problem=problem)


def open_version(uri: str, prefix: str = "") -> Version:
    """The data set of the manifest at that address, read once to know its folders.

    Raises:
        UserError: the manifest is missing, is not as DVC writes it, or differs from the md5 in its address.
    """
    folders: dict[tuple[str, ...], dict[str, Child]] = {(): {}}
    depth = CLASS_DEPTH - len(prefix.split("/")) if prefix else CLASS_DEPTH
    for relpath, _ in read_manifest(uri):
        parts = relpath.split("/")
        if any(part.startswith(".") for part in parts[:depth]):
            continue
        for level in range(min(depth, len(parts))):
            children = folders.setdefault(tuple(parts[:level]), {})
            is_folder = len(parts) > level + 1
            if is_folder or all(child.is_folder for child in children.values()):  # one file is enough to refuse it
                children.setdefault(parts[level], Child(parts[level], is_folder))
    return Version(uri, prefix, _md5_in(uri), {path: sorted(children.values()) for path, children in folders.items()})


def read_manifest(uri: str) -> Iterator[tuple[str, str]]:
    """Yields (relpath, md5) of each entry, checked, one in memory at a time.

    Raises:
        UserError: as open_version.
    """
    import ijson

    with _opened(uri) as file:
        hashed = _Hashed(file)
        previous = ""
        try:
            for entry in _entries(ijson.basic_parse(hashed)):
                reason = _fault(entry, previous)
                if reason:
                    raise UserError(f"{uri}: the entry {_shown(entry)} {reason}; no DVC wrote it: push the data again.")
                previous = entry["relpath"]
                yield previous, entry["md5"]
        except ijson.JSONError as error:
            raise UserError(f"{uri}: not a DVC manifest ({' '.join(str(error).split())}).") from None
    if not previous:
        raise UserError(f"{uri}: not a DVC manifest, or one without files.")
    if f"{hashed.digest.hexdigest()}.dir" != _md5_in(uri):
        raise UserError(f"{uri}: differs from the md5 in its name; push the data again.")


def _md5_in(uri: str) -> str:
    return "".join(uri.split("/")[-2:])


def _entries(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The flat objects of a list, from the events of ijson. Its own `items` needs memory by the square of the depth."""
    import ijson

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


def _fault(entry: dict[str, Any], previous: str) -> str:
    """What is wrong with an entry, if anything. DVC sorts them, so that two of one path are neighbours."""
    if not all(isinstance(entry.get(key), str) for key in ("md5", "relpath")):
        return "has no md5 and relpath"
    relpath = entry["relpath"]
    if not MD5.fullmatch(entry["md5"]):
        return "has no md5 of 32 hexadecimal digits"
    if "\\" in relpath or "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
        return "has a path that is not a plain one below the data set"
    if relpath != relpath.encode(errors="replace").decode():
        return "has a path that is not UTF-8"
    if relpath <= previous:
        return "is there twice" if relpath == previous else "is out of order"
    return ""


def _shown(entry: dict[str, Any]) -> str:
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


@contextmanager
def _opened(uri: str) -> Iterator[BinaryIO]:
    from components.ingest import buckets

    if not uri.startswith("gs://"):
        try:
            file = open(uri, "rb")  # noqa: SIM115 (only opening it may fail in this way)
        except OSError as error:
            raise UserError(f"{uri}: cannot be read ({error.strerror}); run `dvc push`.") from None
        with file:
            yield file
        return
    bucket, name = buckets.ADDRESS.fullmatch(uri).groups()  # type: ignore[union-attr]
    with (
        new_client(uri) as client,
        explained(uri),
        client.bucket(bucket).blob(name).open("rb", chunk_size=2**20) as file,
    ):
        yield file
