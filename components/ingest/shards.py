"""Images into TFRecord shards, each shard by one worker of a Beam pipeline."""

import contextlib
import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from components.ingest import buckets, folders
from components.ingest.image import BadImage, read_image
from components.ingest.md5s import write_md5s
from components.ingest.sources import File
from components.shared.beam import exists, local_target
from components.shared.cloud_storage import new_client
from components.shared.errors import UserError
from components.shared.formats.examples import hash_file, serialize_example

Key = tuple[str, int]  # of a shard: its split and number
OTHERS = "others"  # in the place of the split: files that count for the data version only
FAILED = "failed"  # a file in the work folder: a shard could not be written, so that the others are not needed


class Settings(NamedTuple):
    labels: dict[str, int]  # by class name
    max_pixels: int
    shards: int  # per split
    versioned: tuple[str, ...]  # the splits whose files count for the data version
    work: str  # the folder to write to

    @property
    def max_bytes(self) -> int:
        return 8 * self.max_pixels  # no picture of that size needs more


class Prepared(NamedTuple):
    file: File
    md5: str
    record: bytes  # a serialized tf.train.Example; empty for a bad image
    problem: str  # why it is bad


def shard_of(file: File, shards: int) -> Key:
    """By the hash of the name, so that it is the same on every runner and the classes are mixed."""
    split = file.name.partition("/")[0] if file.is_image else OTHERS
    return split, int.from_bytes(_hash(file), "big") * shards >> 256


def write_shard(element: tuple[Key, Iterable[File]], refusal: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """Writes the images of a shard to `<split>-<number>` in the work folder, in the order of the names' hashes.

    For the data version it writes `<split>-<number>.md5` as well (see md5s.py).

    Yields:
        What was written, or the failure; nothing if the data is refused or another shard failed.
    """
    (split, number), files = element
    failed = f"{settings.work}/{FAILED}"
    if refusal or exists(failed):
        return
    write = _write_md5s if split == OTHERS else _write_images
    try:
        yield {"split": split, "number": number, **write(sorted(files, key=_hash), split, number, settings)}
    except UserError as error:  # as data: raised here it would be a stack trace in the end, after some retries
        with local_target(failed) as path:
            path.touch()
        yield {"failure": str(error)}


def _write_images(files: list[File], split: str, number: int, settings: Settings) -> dict[str, Any]:
    import tensorflow as tf

    address = f"{settings.work}/{split}-{number}"
    versioned = split in settings.versioned
    classes: Counter[str] = Counter()
    bad, md5s = [], []
    with local_target(address) as path:
        with tf.io.TFRecordWriter(str(path)) as writer, _reading(files) as (read, threads):
            prepare = partial(_prepare, read=read, versioned=versioned, settings=settings)
            for prepared in _many_at_once(prepare, files, threads):
                name = prepared.file.name
                md5s.append((name, prepared.md5))
                if prepared.record:
                    writer.write(prepared.record)
                    classes[name.split("/")[1]] += 1
                else:
                    bad.append((name, prepared.file.shown, prepared.problem))
        sha256 = hash_file(path)
    print(f"ingest: {split} shard {number + 1} of {settings.shards}, {classes.total():,} images", flush=True)
    return {
        "address": address,
        "sha256": sha256,
        "classes": classes,
        "bad": bad,
        "md5s": _with_md5s(md5s, f"{address}.md5") if versioned else "",
    }


def _write_md5s(files: list[File], split: str, number: int, settings: Settings) -> dict[str, Any]:
    md5s = [(file.name, file.md5 or _content_md5(file)) for file in files]
    return {"md5s": _with_md5s(md5s, f"{settings.work}/{split}-{number}.md5")}


def _with_md5s(md5s: list[tuple[str, str]], address: str) -> str:
    with local_target(address) as path:
        write_md5s(md5s, path)
    return address


@contextlib.contextmanager
def _reading(files: list[File]) -> Iterator[tuple[Callable[[File, int], bytes], int]]:
    """How to read these files, and how many at once."""
    if files[0].address.startswith("gs://"):
        with new_client(files[0].shown) as client:
            yield partial(buckets.read, client=client), buckets.CONNECTIONS
    else:
        yield folders.read, os.cpu_count() or 1


def _many_at_once(function: Callable[[File], Prepared], files: list[File], threads: int) -> Iterator[Prepared]:
    """The results in the order of the files, with few of them in memory."""
    pending: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for file in files:
            pending.append(pool.submit(function, file))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(file: File, read: Callable[[File, int], bytes], versioned: bool, settings: Settings) -> Prepared:
    md5, record, problem = file.md5, b"", file.problem
    try:
        if not problem:
            data = read(file, settings.max_bytes)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if file.md5 not in ("", md5):
                raise UserError(f"{file.shown}: differs from its md5, {file.md5}; upload or push it again.")
            record = _record(file.name, data, settings)
    except BadImage as reason:
        problem = str(reason)
    return Prepared(file, md5 or (_content_md5(file) if versioned else ""), record, problem)


def _record(name: str, data: bytes, settings: Settings) -> bytes:
    label = settings.labels[name.split("/")[1]]
    return serialize_example(read_image(name, data, label=label, max_pixels=settings.max_pixels))


def _content_md5(file: File) -> str:
    return buckets.content_md5(file) if file.address.startswith("gs://") else folders.content_md5(file)


def _hash(file: File) -> bytes:
    return hashlib.sha256(file.name.encode()).digest()
