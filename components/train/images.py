"""The images that a model learns from and is measured on: held in memory, or read from the shards in each epoch.

The memory that there is decides which. In memory they have the smallest type that holds their values exactly, so that
the model is the same whichever that is. Read from the shards, train has another order: the shards are shuffled, and
then the images within a buffer.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.shared.datasets import without_tuning
from components.shared.errors import UserError
from components.shared.formats.examples import ExampleSet
from components.shared.formats.training import HeldAs
from models.preprocessing import IMAGE, LABEL

TYPES = (np.uint8, np.float16, np.float32)  # in memory, from small to large; transform writes the last
SHARDS: Literal["shards"] = "shards"  # in place of a type
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container

_AT_ONCE = 256  # images
_BUFFER = 2**28  # bytes of the images among which the next one is drawn; not of the memory that there is, so that the
# order is the same on each machine
_FILES = 8  # shards that are read in turn
_BLOCK = 16  # images from each
_AHEAD = 2  # batches that are ready before they are needed
_KERAS_ITERATORS = 2  # that Keras 3.15 makes in each epoch; each makes Dataset.shuffle go on to its next order


class Split(NamedTuple):
    """A split that was checked."""

    size: int  # images
    shape: tuple[int, int, int]  # of an image: height, width, channels
    paths: list[str]  # of the shards
    images: NDArray[Any] | None  # [size, *shape], of one of TYPES; None if they stay in the shards
    labels: NDArray[np.int64]  # [size]

    @property
    def held_as(self) -> HeldAs:
        """The type of the images in memory, or SHARDS."""
        return SHARDS if self.images is None else cast(HeldAs, str(self.images.dtype))


def measure_memory() -> int:
    """The bytes of memory that this process may take: those of the container, or of the machine."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUP_LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdecimal():  # or `max`
            sizes.append(int(text))
    return min(sizes)


def load_splits(examples: ExampleSet, shape: tuple[int, int, int], memory_share: float) -> tuple[Split, Split]:
    """Reads train and val, each image of this shape.

    Args:
        examples: As transform writes them.
        shape: Height, width and channels.
        memory_share: Of the memory, what the images of both may take.

    Raises:
        UserError: A shard is damaged, or is not as transform writes it.
    """
    images = sum(examples.manifest.splits[split].images for split in ("train", "val"))
    most = memory_share * measure_memory() / images
    return load_split(examples, "train", shape, most), load_split(examples, "val", shape, most)


def load_split(examples: ExampleSet, split: str, shape: tuple[int, int, int], most: float = math.inf) -> Split:
    """Reads and checks all images of a split, each of this shape.

    Args:
        examples: As transform writes them.
        split: Its name.
        shape: Height, width and channels.
        most: Bytes that an image may take in memory; if it takes more, all stay in the shards.

    Raises:
        UserError: A shard is damaged, or is not as transform writes it.
    """
    place, advice = f"{examples.folder}, {split}", "rerun transform"
    expected, paths = examples.manifest.splits[split].images, examples.list_shard_paths(split)
    images = _allocate((expected, *shape), TYPES[0], most)
    labels = np.empty(expected, np.int64)
    count = 0
    try:
        batches = tf.data.TFRecordDataset(paths).batch(_AT_ONCE).map(_make_parser(shape))
        for batch in without_tuning(batches).as_numpy_iterator():
            begin, count = count, count + len(batch[LABEL])
            if not np.isfinite(batch[IMAGE]).all():
                raise UserError(f"{place}: an image has a value that is no number; {advice}.")
            if not ((batch[LABEL] >= 0) & (batch[LABEL] < len(examples.manifest.classes))).all():
                raise UserError(f"{place}: an image has a label that is none of the classes; {advice}.")
            if count <= expected:
                labels[begin:count] = batch[LABEL]
                images = _add(images, begin, batch[IMAGE], most)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        raise UserError(f"{place}: a shard is not as transform writes it; {advice}.") from None
    if count != expected:
        raise UserError(f"{place}: has {count:,} images, but {expected:,} by its manifest; {advice}.")
    return Split(count, shape, paths, images, labels)


def _make_parser(shape: tuple[int, int, int]) -> Any:
    spec = {IMAGE: tf.io.FixedLenFeature(shape, tf.float32), LABEL: tf.io.FixedLenFeature((), tf.int64)}
    return lambda records: tf.io.parse_example(records, spec)


def _allocate(shape: tuple[int, ...], kind: Any, most: float) -> NDArray[Any] | None:
    """An array whose memory is taken as it is filled; None if its images would be larger than they may be."""
    return np.empty(shape, kind) if math.prod(shape[1:]) * np.dtype(kind).itemsize <= most else None


def _add(images: NDArray[Any] | None, begin: int, batch: NDArray[np.float32], most: float) -> NDArray[Any] | None:
    """Puts a batch into the array, or into a wider one if this one cannot hold its values exactly."""
    if images is None:
        return None
    kind = next(kind for kind in TYPES[TYPES.index(images.dtype.type) :] if _holds(kind, batch))
    if kind != images.dtype:
        wider = _allocate(images.shape, kind, most)
        if wider is None:
            return None
        wider[:begin] = images[:begin]
        images = wider
    images[begin : begin + len(batch)] = batch
    return images


def _holds(kind: Any, batch: NDArray[np.float32]) -> bool:
    """Whether values of this type are the same when they are float32 again, to the bit: -0.0 is not 0.0."""
    with np.errstate(invalid="ignore", over="ignore"):
        back = batch.astype(kind).astype(np.float32)
    return np.array_equal(back.view(np.uint32), batch.view(np.uint32))


class Feed:
    """The batches of train, in an order of their own in each epoch, which is the same however the training got there.

    Attributes:
        batches: A dataset of images, float32 [batch, *shape], and labels, for each epoch after `begin_epoch`.
    """

    def __init__(self, split: Split, *, batch_size: int, seed: int, one_hot: int, gpus: int = 1) -> None:
        """Makes the datasets; begin_epoch comes before each epoch. The global seed must be set already.

        Args:
            split: The images.
            batch_size: How many of them are in a batch.
            seed: Of the orders.
            one_hot: The number of the classes if labels are to be one-hot, else 0.
            gpus: How many share a batch, whose size is a multiple of it. In each epoch some images are left out if
                the last batch could not be shared evenly.
        """
        self._split = split
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._shuffled = tf.data.Dataset.range(split.size).shuffle(split.size, seed=seed)
        self._shuffles = 0
        self._order = np.empty(0, np.int64)
        self._seen = split.size - split.size % gpus
        steps = math.ceil(self._seen / batch_size)
        if split.images is None:
            seeds = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(self._draw_seeds, [], tf.int64))
            records = seeds.flat_map(self._shuffle_records).take(self._seen).batch(batch_size)
            batches = _parse(records, split, one_hot).apply(tf.data.experimental.assert_cardinality(steps))
        else:
            batches = _gather(tf.data.Dataset.range(steps), split, one_hot, self._list_batch)
        self.batches = _read_ahead(batches)

    def begin_epoch(self, epoch: int) -> None:
        """Prepares the order of an epoch, the first of which is 0; none may come before one that was prepared."""
        self._epoch = epoch
        if self._split.images is not None:
            while self._shuffles < _KERAS_ITERATORS * epoch:
                iter(self._shuffled)
                self._shuffles += 1
            self._order = next(iter(self._shuffled.batch(self._split.size))).numpy()[: self._seen]
            self._shuffles += 1

    def _list_batch(self, step: int) -> NDArray[np.int64]:
        return self._order[step * self._batch_size : (step + 1) * self._batch_size]

    def _draw_seeds(self) -> NDArray[np.int64]:
        """Two seeds, of the shards and of the images in the buffer."""
        return np.random.SeedSequence((self._seed, self._epoch)).generate_state(2).astype(np.int64)

    def _shuffle_records(self, seeds: tf.Tensor) -> tf.data.Dataset:
        paths = self._split.paths
        buffer = max(1, _BUFFER // (4 * math.prod(self._split.shape)))
        return (
            tf.data.Dataset.from_tensor_slices(paths)
            .shuffle(len(paths), seed=seeds[0])
            .interleave(
                tf.data.TFRecordDataset,
                cycle_length=_FILES,
                block_length=_BLOCK,
                num_parallel_calls=1,
                deterministic=True,
            )
            .shuffle(buffer, seed=seeds[1])
        )


def make_batches(split: Split, *, one_hot: int) -> tf.data.Dataset:
    """The batches of val, in the order of its shards; the arguments are those of Feed."""
    if split.images is None:
        return _read_ahead(_parse(tf.data.TFRecordDataset(split.paths).batch(_AT_ONCE), split, one_hot))
    steps = tf.data.Dataset.range(math.ceil(split.size / _AT_ONCE))
    batches = _gather(
        steps, split, one_hot, lambda step: np.arange(step * _AT_ONCE, min((step + 1) * _AT_ONCE, split.size))
    )
    return _read_ahead(batches)


def _parse(records: tf.data.Dataset, split: Split, one_hot: int) -> tf.data.Dataset:
    """The images and labels in batches of records."""

    def parse(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = _make_parser(split.shape)(batch)
        return parsed[IMAGE], _encode(parsed[LABEL], one_hot)

    return records.map(parse)


def _gather(
    steps: tf.data.Dataset, split: Split, one_hot: int, list_batch: Callable[[int], NDArray[np.int64]]
) -> tf.data.Dataset:
    """The images and labels at the positions of each step. TensorFlow gets no whole array, since it would copy that."""

    def take(step: np.int64) -> tuple[NDArray[Any], NDArray[np.int64]]:
        assert split.images is not None
        positions = list_batch(int(step))
        return split.images[positions], split.labels[positions]

    def gather(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.numpy_function(take, [step], (tf.as_dtype(split.held_as), tf.int64))
        images = tf.cast(tf.ensure_shape(images, (None, *split.shape)), tf.float32)
        return images, _encode(tf.ensure_shape(labels, (None,)), one_hot)

    return steps.map(gather)


def _read_ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    return without_tuning(batches.prefetch(_AHEAD))


def _encode(labels: tf.Tensor, one_hot: int) -> tf.Tensor:
    return tf.one_hot(labels, one_hot) if one_hot else labels
