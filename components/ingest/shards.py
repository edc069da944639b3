"""Images into TFRecord shards, many at once."""

import hashlib
import multiprocessing
import os
import stat
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from components import examples
from components.ingest.folders import ImageFile, md5
from components.ingest.image import BadImage, image_features


class Shard(NamedTuple):
    name: str
    split: str
    images: list[ImageFile]


class Written(NamedTuple):
    shard: Shard
    sha256: str
    images: list[ImageFile]
    bad: list[tuple[ImageFile, str]]  # the file and what is wrong with it
    md5s: dict[str, str]  # of every file that could be read, by filename


def plan_shards(images: list[ImageFile], shards: int) -> list[Shard]:
    """At most `shards` per split, of equal size, in an order that mixes the classes and depends on the names alone."""
    plan = []
    for split in dict.fromkeys(image.split for image in images):
        members = [image for image in images if image.split == split]
        members.sort(key=lambda image: hashlib.sha256(image.filename.encode()).digest())
        count = min(shards, len(members))
        bounds = [len(members) * i // count for i in range(count + 1)]
        for i in range(count):
            plan.append(Shard(examples.shard_name(split, i, count), split, members[bounds[i] : bounds[i + 1]]))
    return plan


def write_shards(
    folder: Path, plan: list[Shard], labels: dict[str, int], max_pixels: int, workers: int
) -> list[Written]:
    """Writes each shard into `folder` with `workers` processes (0: one per core), each holding one image at a time."""
    # A fork server imports TensorFlow once for all workers; forking after TensorFlow has started threads would hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kfp.dsl", "tensorflow", "components.ingest.image"])
    written = []
    processes = min(workers or os.cpu_count() or 1, len(plan))
    with ProcessPoolExecutor(processes, context, initializer=_end_with_parent) as pool:
        for result in pool.map(partial(_write_shard, folder=folder, labels=labels, max_pixels=max_pixels), plan):
            written.append(result)
            print(f"ingest: {len(written)} of {len(plan)} shards, {result.shard.name}", flush=True)
    return written


def _end_with_parent() -> None:
    """Ends this worker when its parent was killed, so that no later attempt finds it still writing."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_shard(shard: Shard, folder: Path, labels: dict[str, int], max_pixels: int) -> Written:
    import tensorflow as tf

    path = folder / shard.name
    good, bad, md5s = [], [], {}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in shard.images:
            try:
                data = _read(image, max_pixels)
                md5s[image.filename] = md5(data)
                features = image_features(data, max_pixels)
            except BadImage as reason:
                bad.append((image, str(reason)))
                continue
            features[examples.FILENAME] = image.filename.encode()
            features[examples.SHA256] = hashlib.sha256(data).hexdigest().encode()
            features[examples.CLASS] = image.class_name.encode()
            features[examples.LABEL] = labels[image.class_name]
            writer.write(_serialized(features))
            good.append(image)
    return Written(shard, examples.file_sha256(path), good, bad, md5s)


def _read(image: ImageFile, max_pixels: int) -> bytes:
    try:
        if image.path.is_symlink() and not image.path.resolve().is_relative_to(image.root.resolve()):
            raise BadImage(f"a link that leaves {image.root}")
        mode = image.path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadImage("a folder; images lie directly in their class folder")
        if not stat.S_ISREG(mode):
            raise BadImage("not a regular file")  # opening a pipe would wait for ever
        with image.path.open("rb") as file:
            data = file.read(8 * max_pixels + 1)  # no picture of that size needs more
    except (OSError, RuntimeError) as error:  # RuntimeError: Python < 3.13, for links in a circle
        raise BadImage(f"cannot be read ({getattr(error, 'strerror', error)})") from None
    if len(data) > 8 * max_pixels:
        raise BadImage(f"larger than {8 * max_pixels:,} bytes")
    return data


def _serialized(features: dict[str, Any]) -> bytes:
    """A tf.train.Example; the same bytes for the same features."""
    import tensorflow as tf

    example = tf.train.Example()
    for name, value in sorted(features.items()):
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example.SerializeToString(deterministic=True)
