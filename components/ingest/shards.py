"""Images into TFRecord shards, each shard by one worker of a Beam pipeline."""

import hashlib
import math
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from components.ingest.augmented import AugmentedImages
from components.ingest.image import read_image
from components.ingest.pairs import write_pairs
from components.ingest.sources import BadImage, File, Reader, Source
from components.shared.beam import exists, open_local_target
from components.shared.errors import UserError
from components.shared.files import hash_file
from components.shared.formats.examples import serialize_example
from components.shared.formats.tfrecord import write_record

Result = TypeVar("Result")
Key = tuple[str, int]  # of a shard: its split and number
UNDIVIDED = ""  # in the place of the split: images whose split is still to be found
OTHERS = "others"  # in the place of the split: files that count for the data version only
OTHERS_OF_TEST = "others-of-test"  # likewise for the version of the test data
LEAST_SHARDS = 4  # per split, if their number is not given
MOST_IMAGES = 100_000  # of all splits for each of these; with more, more workers write at once
MOST_BYTES = 2**27  # of a shard, if the number of shards is not given
FAILED = "failed"  # a file in the work folder that tells other workers that a shard failed, so theirs are not needed


class ShardSettings(NamedTuple):
    """What the writers of all shards go by."""

    labels: dict[str, int]  # by class name
    max_pixels: int
    shards: int  # per split; 0 if their size decides
    versioned: tuple[str, ...]  # the splits whose files count for a version that is computed, and OTHERS like these
    work: str  # the folder to write to
    sources: dict[str, Source]  # by split; OTHERS, perhaps OTHERS_OF_TEST, and UNDIVIDED are among them
    augmented: AugmentedImages

    @property
    def max_bytes(self) -> int:
        """The largest file that is read: no picture of `max_pixels` needs more."""
        return 8 * self.max_pixels


class BadFile(NamedTuple):
    """A file that cannot be used as an image."""

    name: str  # its path in the data set
    filename: str  # split/class/file
    address: str  # as messages name it
    reason: str


@dataclass(frozen=True)
class WrittenShard:
    """What write_shard wrote; the addresses are those of files in the work folder."""

    split: str
    number: int
    piece: int = 0  # of what would have been a larger shard
    address: str = ""  # of the TFRecord file; empty for OTHERS
    sha256: str = ""  # of that file, in hex
    classes: dict[str, int] = field(default_factory=dict)  # images of each class in it
    bad: list[BadFile] = field(default_factory=list)  # left out
    md5s: str = ""  # address of the file for the data version; empty if the split does not count for it
    paths: str = ""  # likewise of the file names that differ from the paths in the data set

    def to_json(self) -> dict[str, Any]:
        """The shard as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "WrittenShard":
        """Reverses to_json."""
        return cls(**{**content, "bad": [BadFile(*bad) for bad in content["bad"]]})


class _Prepared(NamedTuple):
    file: File
    md5: str
    record: bytes  # a serialized tf.train.Example; empty for a bad image
    problem: str  # why it is bad


def count_shards(given: int, images: int) -> int:
    """The number of shards per split, of which the larger ones are written in pieces if it is not given.

    Args:
        given: The number, or 0.
        images: Those of all splits.
    """
    return given or max(LEAST_SHARDS, -(-images // MOST_IMAGES))


def assign_shard(file: File, shards: int) -> Key:
    """Chooses the shard by the hash of the name: it is the same on every runner, and the classes are mixed."""
    others = OTHERS_OF_TEST if file.split else OTHERS
    return file.split if file.is_image else others, int.from_bytes(_hash_name(file), "big") * shards >> 256


def write_shard(
    element: tuple[Key, Iterable[File]], refusal: str, shards: int, settings: ShardSettings
) -> Iterator[WrittenShard | str]:
    """Writes the images of a shard to `<split>-<number>` in the work folder, in the order of the names' hashes.

    If size decides about shards, what would have more than MOST_BYTES is written in pieces, each a shard of its own,
    from the second on to `<split>-<number>-<piece>`. For the data version it writes `<split>-<number>.md5` as well,
    and for file names that differ from the paths in the data set `<split>-<number>.paths` (see pairs.py).

    Args:
        element: The shard and its files.
        refusal: Why the data is refused; empty if it is not.
        shards: How many there are in each split, not counting pieces.
        settings: The same for all shards.

    Yields:
        What was written, or why it failed; nothing more if the data is refused or another shard failed.
    """
    key, files = element
    failed = f"{settings.work}/{FAILED}"
    if refusal or exists(failed):
        return
    try:
        with settings.sources[key[0]].open_reader() as reader:
            if key[0] in (OTHERS, OTHERS_OF_TEST):
                yield _write_hashes(key, sorted(files, key=_hash_name), reader, settings)
                return
            for written in _write_images(key, sorted(files, key=_hash_name), reader, settings):
                images = sum(written.classes.values())
                piece = f", piece {written.piece + 1}" if written.piece else ""
                print(f"ingest: {key[0]} shard {key[1] + 1} of {shards}{piece}, {images:,} images", flush=True)
                yield written
    except UserError as error:  # yielded, because Beam would retry it and end with a stack trace if it were raised
        with open_local_target(failed) as path:
            path.touch()
        yield str(error)


def _write_images(key: Key, files: list[File], reader: Reader, settings: ShardSettings) -> Iterator[WrittenShard]:
    _check_names(files)
    prepare = partial(_prepare, reader=reader, versioned=key[0] in settings.versioned, settings=settings)
    # Around the threads and not in them, where Python cannot switch warnings off.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, softer limits of size; max_pixels decides here
        images = map_in_threads(prepare, files, reader.threads)
        numbered = _number_pieces(images, math.inf if settings.shards else MOST_BYTES)
        for piece, of_piece in groupby(numbered, key=itemgetter(0)):
            yield _write_piece(key, piece, map(itemgetter(1), of_piece), settings)


def _number_pieces(images: Iterable[_Prepared], most_bytes: float) -> Iterator[tuple[int, _Prepared]]:
    """Yields each image with the piece that it goes to, none of which has more bytes, unless it is of one image."""
    piece, size = 0, 0
    for prepared in images:
        if size and size + len(prepared.record) > most_bytes:
            piece, size = piece + 1, 0
        size += len(prepared.record)
        yield piece, prepared


def _write_piece(key: Key, piece: int, images: Iterable[_Prepared], settings: ShardSettings) -> WrittenShard:
    split, number = key
    address = f"{settings.work}/{split}-{number}" + (f"-{piece}" if piece else "")
    classes: Counter[str] = Counter()
    bad, md5s, paths = [], [], []
    with open_local_target(address) as path:
        with path.open("wb") as file:
            for prepared in images:
                name = prepared.file.name
                md5s.append((name, prepared.md5))
                if prepared.record:
                    write_record(file, prepared.record)
                    classes[prepared.file.class_name] += 1
                    paths.append((prepared.file.filename, name))
                else:
                    bad.append(BadFile(name, prepared.file.filename, prepared.file.shown, prepared.problem))
        sha256 = hash_file(path)
    md5s_address = _write_pairs(md5s, f"{address}.md5") if split in settings.versioned else ""
    renamed = [pair for pair in paths if pair[0] != pair[1]]
    paths_address = _write_pairs(renamed, f"{address}.paths") if renamed else ""
    return WrittenShard(split, number, piece, address, sha256, dict(classes), bad, md5s_address, paths_address)


def _check_names(files: list[File]) -> None:
    """Checks that no two images, sorted by their names' hashes, have one name when folders have become part of it."""
    for one, other in pairwise(files):
        if one.filename == other.filename:
            raise UserError(
                f"{one.shown} and {other.shown}: both are {one.filename} when folders become part of a file's name; "
                "rename one."
            )


def _write_hashes(key: Key, files: list[File], reader: Reader, settings: ShardSettings) -> WrittenShard:
    split, number = key
    md5s = [(file.name, file.md5 or reader.hash(file)) for file in files]
    return WrittenShard(split, number, md5s=_write_pairs(md5s, f"{settings.work}/{split}-{number}.md5"))


def _write_pairs(pairs: list[tuple[str, str]], address: str) -> str:
    with open_local_target(address) as path:
        write_pairs(pairs, path)
    return address


def map_in_threads(function: Callable[[File], Result], files: list[File], threads: int) -> Iterator[Result]:
    """Calls the function for each file, several at once; yields the results in order, with few of them in memory."""
    pending: deque[Future[Result]] = deque()
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


def _prepare(file: File, *, reader: Reader, versioned: bool, settings: ShardSettings) -> _Prepared:
    md5, record, problem = file.md5, b"", file.problem
    try:
        if not problem:
            data = reader.read(file, settings.max_bytes)
            md5 = check_md5(file, data)
            settings.augmented.check(file, data)
            label = settings.labels[file.class_name]
            record = serialize_example(read_image(file.filename, data, label=label, max_pixels=settings.max_pixels))
    except BadImage as reason:
        problem = str(reason)
    return _Prepared(file, md5 or (reader.hash(file) if versioned else ""), record, problem)


def check_md5(file: File, data: bytes) -> str:
    """The md5 of what was read of a file.

    Raises:
        UserError: It is known to be another one.
    """
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if file.md5 not in ("", md5):
        raise UserError(
            f"{file.shown}: differs from its md5, {file.md5}; upload or push it again, or run `dvc checkout` "
            "if it is a link to DVC's cache."
        )
    return md5


def _hash_name(file: File) -> bytes:
    return hashlib.sha256((file.filename if file.is_image else file.name).encode()).digest()
