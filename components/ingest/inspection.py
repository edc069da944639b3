"""What dividing the images of a data set must know of each, read by many workers."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from components.ingest.division import Inspected
from components.ingest.image import load_picture
from components.ingest.shards import Key, ShardSettings, check_md5, map_in_threads
from components.ingest.sources import BadImage, File, Reader
from components.shared.duplicates import fingerprint
from components.shared.errors import UserError


def inspect_files(
    element: tuple[Key, Iterable[File]], refusal: str, settings: ShardSettings
) -> Iterator[Inspected | str]:
    """Reads images whose split is still to be found.

    Args:
        element: Which of the shards of undivided images it is, and its files.
        refusal: Why the data is refused; empty if it is not.
        settings: The same for all shards.

    Yields:
        What is known of each, except of bad images, which write_shard names; or why a file cannot be read.
    """
    (split, _), files = element
    if refusal:
        return
    inspect = partial(_inspect, settings=settings)
    try:
        with settings.sources[split].open_reader() as reader, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in shards.py
            for inspected in map_in_threads(partial(inspect, reader=reader), sorted(files), reader.threads):
                if inspected:
                    yield inspected
    except UserError as error:  # yielded, because Beam would retry it and end with a stack trace if it were raised
        yield str(error)


def _inspect(file: File, *, reader: Reader, settings: ShardSettings) -> Inspected | None:
    if file.problem:
        return None
    try:
        data = reader.read(file, settings.max_bytes)
        check_md5(file, data)
        picture = load_picture(data, settings.max_pixels)
    except BadImage:
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    return Inspected(file.name, file.class_name, sha256, fingerprint(np.asarray(picture)))
