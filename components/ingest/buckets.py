"""A data set in a folder of a Cloud Storage bucket."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from components.ingest.sources import BadImage, Child, File, Part, Reader, Source, join_names
from components.shared import cloud_storage
from components.shared.formats.names import has_passed_over, is_passed_over, lies_in_repository

if TYPE_CHECKING:
    from components.shared.cloud_storage import Client, Object


@dataclass(frozen=True)
class Bucket(Source):
    """A folder of a bucket, or the whole bucket."""

    uri: str  # without a slash at the end
    prefix: str = ""
    version: str = ""

    def join_address(self, *folders: str) -> str:
        """The gs:// address of a folder."""
        return join_names(self.uri, *folders)

    def list_children(self, *folders: str) -> list[Child] | None:
        """As Source.list_children; a folder is there if an object lies below it."""
        objects, names = cloud_storage.list_folder(self.join_address(*folders))
        children = [Child(found.name, is_folder=False) for found in objects]
        children += [Child(name, is_folder=True) for name in names]
        if not children:
            return None
        # An object may stand for the folder itself: its name is empty.
        return sorted(child for child in children if child.name)

    def list_files(self, parts: Sequence[Part]) -> Iterator[File]:
        """As Source.list_files; files have the generation that is listed, so that a replaced object is noticed."""
        for part in parts:
            yield from self._list_class(part) if part.class_name else self._list_beside(part)

    def locate(self, paths: Sequence[str]) -> Iterator[File]:
        """As Source.locate; whether an object is there is known when it is read."""
        return (File(path, self.join_address(path)) for path in paths)

    def open_reader(self) -> AbstractContextManager[Reader]:
        """A reader with one client for all its files."""
        return _open_reader(self.uri)

    def _list_class(self, part: Part) -> Iterator[File]:
        for found in cloud_storage.list_objects(self.join_address(*part.folders)):
            if found.name.endswith("/") or lies_in_repository(found.name):
                continue
            file = self._describe(found, *part.folders)
            if not has_passed_over(found.name):
                file = file._replace(split=part.split, class_name=part.class_name, below=found.name)
            yield file

    def _list_beside(self, part: Part) -> Iterator[File]:
        """Yields what lies around class folders; those that are not passed over are parts of their own."""
        objects, names = cloud_storage.list_folder(self.join_address(*part.folders))
        for found in objects:
            if found.name and not lies_in_repository(found.name):
                yield self._describe(found, *part.folders)
        for name in names:
            if is_passed_over(name, is_folder=True):
                for found in cloud_storage.list_objects(self.join_address(*part.folders, name)):
                    if not found.name.endswith("/") and not lies_in_repository(f"{name}/{found.name}"):
                        yield self._describe(found, *part.folders, name)

    def _describe(self, found: "Object", *folders: str) -> File:
        name = join_names(self.prefix, *folders, found.name)
        return File(name, found.address, md5=found.md5, generation=found.generation)


@contextmanager
def _open_reader(uri: str) -> Iterator[Reader]:
    with cloud_storage.open_client(uri) as client:
        yield _BucketReader(client)


@dataclass(frozen=True)
class _BucketReader(Reader):
    client: "Client"
    threads = cloud_storage.CONNECTIONS

    def read(self, file: File, max_bytes: int) -> bytes:
        buffer = _LimitedBuffer(max_bytes)
        self._download(file, buffer)
        return buffer.getvalue()

    def hash(self, file: File) -> str:
        target = _Hash()
        self._download(file, target)
        return target.md5.hexdigest()

    def open(self, address: str) -> AbstractContextManager[BinaryIO]:
        return cloud_storage.open_object(self.client, address)

    def _download(self, file: File, target: IO[bytes]) -> None:
        cloud_storage.download(
            self.client,
            file.address,
            target,
            generation=file.generation,
            shown=file.shown,
            if_missing="look for it in the bucket, and run again if it was replaced during the run",
        )


class _LimitedBuffer(io.BytesIO):
    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.max_bytes:
            raise BadImage(f"larger than {self.max_bytes:,} bytes")
        return super().write(data)


class _Hash(io.BytesIO):
    """Keeps nothing but the md5 of what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: Any) -> int:
        self.md5.update(data)
        return len(data)
