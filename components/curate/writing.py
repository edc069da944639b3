"""The files of the new data version."""

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2

from components.curate.augmentation import Augmentation, Operation, apply_operations, draw_operations
from components.curate.cleaning import Picture, clean
from components.curate.planning import Outcome
from components.curate.reading import SourceImage
from components.shared.beam import (
    call_for_each,
    choose_address,
    choose_target,
    make_work_folder,
    open_local_copy,
    open_local_target,
    read_parcel,
    take,
    write_parcel,
)
from components.shared.formats.examples import AUGMENTED, CURATED_SPLITS, ExampleSet, Shard
from components.shared.formats.manifest import CuratedImage, write_manifest
from components.shared.formats.names import LONGEST_NAME
from components.shared.pictures import decode

# In the work folder: what becomes of the images of a shard, what was written of it, and the images themselves.
TARGETS, ROWS, IMAGES = ".targets", ".rows", "images"


class ImageTarget(NamedTuple):
    """The files that are written for an image that is not dropped."""

    outcome: Outcome
    filename: str  # split/class/file in the new version
    copies: list[str]  # the file names of its augmented images
    cleaning: list[str]  # the operations on its picture


def name_targets(outcomes: Iterable[Outcome], copies: dict[str, int], cleaning: list[str]) -> dict[str, ImageTarget]:
    """Names the files of the new version. Images that stay where they are keep their names.

    Args:
        outcomes: What becomes of each image.
        copies: The number of augmented images to make from each image, by file name.
        cleaning: The operations on each picture of train and val.

    Returns:
        The target of each image that is not dropped, by the file name before.
    """
    taken: set[str] = set()
    targets = {}
    left = [outcome for outcome in outcomes if outcome.split]
    for outcome in sorted(left, key=lambda outcome: (outcome.action != "kept", outcome.image.filename)):
        image = outcome.image
        steps = cleaning if outcome.split in CURATED_SPLITS else []
        folder = f"{outcome.split}/{outcome.label}"
        source = PurePosixPath(image.filename)
        end = ".png" if steps else image.suffix
        filename = _take_name(folder, source.stem, end, longest=LONGEST_NAME, sha256=image.sha256, taken=taken)
        names = []
        if number_of_copies := copies.get(image.filename):
            longest = LONGEST_NAME - len(f"{number_of_copies}.png")
            stem = PurePosixPath(filename).stem
            start = _take_name(folder, stem, AUGMENTED, longest=longest, sha256=image.sha256, taken=taken)
            names = [f"{start}{number}.png" for number in range(1, number_of_copies + 1)]
        targets[image.filename] = ImageTarget(outcome, filename, names, steps)
    return targets


def _take_name(folder: str, stem: str, end: str, *, longest: int, sha256: str, taken: set[str]) -> str:
    """Takes a name of at most `longest` bytes that is still free; if need be with the hash and a number in it."""
    ends = chain([end, f".{sha256[:8]}{end}"], (f".{sha256[:8]}-{number}{end}" for number in count(1)))
    names = (f"{folder}/{stem.encode()[: longest - len(end.encode())].decode(errors='ignore')}{end}" for end in ends)
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def write_images(
    folder: Path,
    examples: ExampleSet,
    *,
    targets: dict[str, ImageTarget],
    augmentation: Augmentation,
    beam_options: list[str],
    examples_uri: str = "",
) -> list[CuratedImage]:
    """Writes every image, shard by shard, and manifest.csv.

    Args:
        folder: The folder of the new version.
        examples: The examples of the previous version.
        targets: What to write for each image that is not dropped, by the file name before.
        augmentation: How images are augmented.
        beam_options: Options of Apache Beam, each as --name=value.
        examples_uri: Where workers on other machines find the examples.

    Returns:
        The rows of manifest.csv.
    """
    of_shards = defaultdict(list)
    for target in targets.values():
        of_shards[target.outcome.image.shard].append(target)
    shards = examples.manifest.list_shards()
    rows: list[CuratedImage] = []
    with make_work_folder(beam_options, folder) as work:
        for _, shard in shards:
            write_parcel(f"{work}/{shard.name}{TARGETS}", of_shards.pop(shard.name, []))
        address = choose_target(str(folder), f"{work}/{IMAGES}", beam_options)
        source = choose_address(examples.folder, examples_uri, beam_options)
        write = partial(
            _write_shard, examples=examples, source=source, target=address, augmentation=augmentation, work=work
        )
        call_for_each(shards, write, options=beam_options, work=work)
        for _, shard in shards:
            rows += read_parcel(f"{work}/{shard.name}{ROWS}")
        if address != str(folder):
            take(address, folder)
    rows.sort(key=lambda row: row.filename)
    write_manifest(folder, rows)
    return rows


def _write_shard(
    element: tuple[str, Shard],
    *,
    examples: ExampleSet,
    source: str,
    target: str,
    augmentation: Augmentation,
    work: str,
) -> None:
    """Writes what becomes of the images of a shard, of which a few per core are in memory at a time."""
    split, shard = element
    cv2.setNumThreads(1)  # images, and not the parts of one, are worked on side by side
    targets = {each.outcome.image.filename: each for each in read_parcel(f"{work}/{shard.name}{TARGETS}")}
    rows: list[CuratedImage] = []
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, open_local_copy(f"{source}/{shard.name}") as path:
        waiting: deque[Future[list[CuratedImage]]] = deque()
        for image in examples.read_shard(split, shard, path):
            if image.filename in targets:
                written = targets[image.filename]
                waiting.append(pool.submit(_write_target, target, written, image.encoded, augmentation=augmentation))
            if len(waiting) > 2 * workers:
                rows += waiting.popleft().result()
        for future in waiting:
            rows += future.result()
    write_parcel(f"{work}/{shard.name}{ROWS}", rows)
    print(f"curate: {shard.name}, {len(rows):,} images written", flush=True)


def _write_target(
    folder: str, target: ImageTarget, encoded: bytes, *, augmentation: Augmentation
) -> list[CuratedImage]:
    """Writes an image and its augmented ones, and returns their rows."""
    image, label = target.outcome.image, target.outcome.label
    steps: list[Operation] = [{"operation": name} for name in target.cleaning]
    picture = clean(decode(encoded, image.filename), target.cleaning)
    content = _encode_png(picture) if steps else encoded
    rows = [_write_file(folder, target.filename, content, source=image, label=label, operations=steps, seed=None)]
    directions = augmentation.flips.get(label, [])
    for number, filename in enumerate(target.copies, start=1):
        drawn = draw_operations([augmentation.seed, int(image.sha256, 16), number], directions, augmentation)
        content, operations = _encode_png(apply_operations(picture, drawn)), [*steps, *drawn]
        row = _write_file(
            folder, filename, content, source=image, label=label, operations=operations, seed=augmentation.seed
        )
        rows.append(row)
    return rows


def _write_file(
    folder: str,
    filename: str,
    content: bytes,
    *,
    source: SourceImage,
    label: str,
    operations: list[Operation],
    seed: int | None,
) -> CuratedImage:
    with open_local_target(f"{folder}/{filename}") as path:
        path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return CuratedImage(filename, sha256, source.filename, source.sha256, source.path, label, operations, seed)


def _encode_png(picture: Picture) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()
