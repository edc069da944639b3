"""A data set in a folder of a Cloud Storage bucket."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.ingest.image import BadImage
from components.ingest.sources import Child, File, Source, is_class_folder, joined
from components.shared.cloud_storage import explained, new_client
from components.shared.errors import UserError

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

CONNECTIONS = 10  # that a client keeps open: as many objects are read at once
ADDRESS = re.compile(r"gs://([^/]+)/*(.*?)/*", re.DOTALL)


@dataclass(frozen=True)
class Bucket(Source):
    name: str
    folder: str  # without a slash at either end; may be empty
    prefix: str = ""
    version: str = ""

    def address(self, *folders: str) -> str:
        return "gs://" + joined(self.name, self.folder, *folders)

    def children(self, *folders: str) -> list[Child] | None:
        with new_client(self.address(*folders)) as client, explained(self.address(*folders)):
            blobs = self._list(client, *folders, delimiter="/")
            children = [Child(_last(blob.name), is_folder=False) for blob in blobs]
            children += [Child(_last(name.removesuffix("/")), is_folder=True) for name in blobs.prefixes]
        if not children:
            return None
        # An object may stand for the folder itself: its name ends with a slash.
        return sorted(child for child in children if child.name and not child.name.startswith("."))

    def files(self, part: tuple[str, ...]) -> Iterator[File]:
        if is_class_folder(self.prefix, part):
            yield from self._class_files(part)
        else:
            yield from self._hidden_files(part)

    def _class_files(self, part: tuple[str, ...]) -> Iterator[File]:
        seen = ""
        for blob, name in self._files_below(*part):
            child, slash, _ = name.partition("/")
            is_image = not child.startswith(".")
            if not slash:
                yield self._file(blob, is_image, *part, name)
                continue
            if is_image and child != seen:
                seen = child
                problem = "a folder; images lie directly in their class folder"
                yield File(joined(self.prefix, *part, child), self.address(*part, child), problem=problem)
            if not name.endswith("/"):
                yield self._file(blob, False, *part, name)

    def _hidden_files(self, part: tuple[str, ...]) -> Iterator[File]:
        """And those beside the folders; not those in the folders, which are parts themselves."""
        with new_client(self.address(*part)) as client, explained(self.address(*part)):
            blobs = self._list(client, *part, delimiter="/")
            for blob in blobs:
                if not blob.name.endswith("/"):
                    yield self._file(blob, False, *part, _last(blob.name))
        for child in sorted(_last(name.removesuffix("/")) for name in blobs.prefixes):
            if child.startswith("."):
                for blob, name in self._files_below(*part, child):
                    if not name.endswith("/"):
                        yield self._file(blob, False, *part, child, name)

    def _files_below(self, *folders: str) -> "Iterator[tuple[Blob, str]]":
        """Each object with its name relative to the folder, sorted."""
        with new_client(self.address(*folders)) as client, explained(self.address(*folders)):
            start = len(joined(self.folder, *folders)) + 1
            for blob in self._list(client, *folders):
                if blob.name[start:]:
                    yield blob, blob.name[start:]

    def _list(self, client: "Client", *folders: str, delimiter: str | None = None):  # -> HTTPIterator
        folder = joined(self.folder, *folders)
        fields = "items(name,generation,md5Hash),prefixes,nextPageToken"
        return client.list_blobs(
            self.name, prefix=folder and f"{folder}/", delimiter=delimiter, fields=fields, page_size=5000
        )

    def _file(self, blob: "Blob", is_image: bool, *name: str) -> File:
        md5 = base64.b64decode(blob.md5_hash).hex() if blob.md5_hash else ""  # composed objects have none
        address = f"gs://{self.name}/{blob.name}"
        return File(joined(self.prefix, *name), address, is_image, md5=md5, generation=blob.generation)


def open_bucket(uri: str, prefix: str = "") -> Bucket:
    matched = ADDRESS.fullmatch(uri)
    if not matched:
        raise UserError(f"{uri}: names no bucket; write gs://BUCKET/FOLDER.")
    return Bucket(matched[1], matched[2], prefix)


def read(file: File, limit: int, client: "Client") -> bytes:
    """The content of an object, with the checksums of Cloud Storage verified.

    Raises:
        BadImage: it has more than `limit` bytes.
        UserError: it cannot be read, or is no longer the one that was listed.
    """
    buffer = _Limited(limit)
    _download(file, buffer, client)
    return buffer.getvalue()


def content_md5(file: File) -> str:
    """The md5 of an object that has none in its metadata, read piece by piece."""
    if file.generation is None:  # a folder
        return ""
    hashed = _Hashed()
    with new_client(file.shown) as client:
        _download(file, hashed, client)
    return hashed.md5.hexdigest()


def _download(file: File, target: io.RawIOBase | io.BytesIO, client: "Client") -> None:
    bucket, name = ADDRESS.fullmatch(file.address).groups()  # type: ignore[union-attr]
    with explained(file.shown):
        client.bucket(bucket).blob(name, generation=file.generation).download_to_file(target, checksum="crc32c")


class _Limited(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data) -> int:  # type: ignore[no-untyped-def,override]
        if self.tell() + len(data) > self.limit:
            raise BadImage(f"larger than {self.limit:,} bytes")
        return super().write(data)


class _Hashed(io.RawIOBase):
    def __init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data) -> int:  # type: ignore[no-untyped-def,override]
        self.md5.update(data)
        return len(data)


def _last(name: str) -> str:
    return name.rpartition("/")[2]
