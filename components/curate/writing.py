"""The files of the new data version."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from components.curate.augmentation import Augmentation, Operation, apply_operations, draw_operations
from components.curate.cleaning import Picture, clean
from components.curate.planning import Outcome
from components.shared.formats.examples import AUGMENTED, CURATED_SPLITS, ExampleSet
from components.shared.formats.manifest import CuratedImage, write_manifest

LONGEST_NAME = 255  # bytes, on most file systems


class Target(NamedTuple):
    """What becomes of an image that is not dropped."""

    outcome: Outcome
    filename: str  # split/class/file in the new version
    copies: list[str]  # file names of its augmented images
    cleaning: list[str]


def name_targets(outcomes: Iterable[Outcome], copies: dict[str, int], cleaning: list[str]) -> dict[str, Target]:
    """The target of each image that is not dropped, by file name; images that stay where they are keep their names.

    Args:
        outcomes: what becomes of each image.
        copies: the number of augmented images to make from each image, by file name.
        cleaning: the operations on each picture of train and val.
    """
    taken: set[str] = set()
    targets = {}
    left = [outcome for outcome in outcomes if outcome.split]
    for outcome in sorted(left, key=lambda outcome: (outcome.action != "kept", outcome.image.filename)):
        image = outcome.image
        steps = cleaning if outcome.split in CURATED_SPLITS else []
        folder = f"{outcome.split}/{outcome.label}"
        source = PurePosixPath(image.filename)
        filename = _take_name(folder, source.stem, ".png" if steps else image.suffix, LONGEST_NAME, image.sha256, taken)
        names = []
        if number_of_copies := copies.get(image.filename):
            longest = LONGEST_NAME - len(f"{number_of_copies}.png")
            start = _take_name(folder, PurePosixPath(filename).stem, AUGMENTED, longest, image.sha256, taken)
            names = [f"{start}{number}.png" for number in range(1, number_of_copies + 1)]
        targets[image.filename] = Target(outcome, filename, names, steps)
    return targets


def _take_name(folder: str, stem: str, end: str, longest: int, sha256: str, taken: set[str]) -> str:
    """Takes a name of at most `longest` bytes that is not taken yet; if need be with the hash and a number in it."""
    ends = chain([end, f".{sha256[:8]}{end}"], (f".{sha256[:8]}-{number}{end}" for number in count(1)))
    names = (f"{folder}/{stem.encode()[: longest - len(end.encode())].decode(errors='ignore')}{end}" for end in ends)
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def write_images(
    folder: Path, examples: ExampleSet, targets: dict[str, Target], augmentation: Augmentation
) -> list[CuratedImage]:
    """Writes every image and manifest.csv below `folder`.

    Images come from the shards one by one; as many as there are workers are worked on at once.

    Returns:
        The rows of manifest.csv.
    """
    cv2.setNumThreads(1)  # the images are what runs side by side
    for target in targets.values():
        (folder / target.filename).parent.mkdir(parents=True, exist_ok=True)
    rows: list[CuratedImage] = []
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[CuratedImage]]] = deque()
        for target, encoded in _match(examples, targets):
            waiting.append(pool.submit(_write, folder, target, encoded, augmentation))
            if len(waiting) > 2 * workers:
                rows += waiting.popleft().result()
        for future in waiting:
            rows += future.result()
    rows.sort(key=lambda row: row.filename)
    write_manifest(folder, rows)
    return rows


def _match(examples: ExampleSet, targets: dict[str, Target]) -> Iterator[tuple[Target, bytes]]:
    """Yields each target with the encoded picture of its image."""
    for split in examples.manifest.splits:
        print(f"curate: writing the images of {split}", flush=True)
        for example in examples.read(split):
            if example.filename in targets:
                yield targets[example.filename], example.encoded


def _write(folder: Path, target: Target, encoded: bytes, augmentation: Augmentation) -> list[CuratedImage]:
    """Writes the image and its augmented ones; returns their rows."""
    image, label = target.outcome.image, target.outcome.label
    steps: list[Operation] = [{"operation": name} for name in target.cleaning]
    picture = clean(_decode(encoded), target.cleaning)
    rows = [_write_file(folder, target.filename, _encode_png(picture) if steps else encoded, target, steps, None)]
    directions = augmentation.flips.get(label, [])
    for number, filename in enumerate(target.copies, start=1):
        operations = draw_operations([augmentation.seed, int(image.sha256, 16), number], directions)
        content = _encode_png(apply_operations(picture, operations))
        rows.append(_write_file(folder, filename, content, target, [*steps, *operations], augmentation.seed))
    return rows


def _write_file(
    folder: Path, filename: str, content: bytes, target: Target, operations: list[Operation], seed: int | None
) -> CuratedImage:
    (folder / filename).write_bytes(content)
    outcome = target.outcome
    sha256 = hashlib.sha256(content).hexdigest()
    return CuratedImage(filename, sha256, outcome.image.filename, outcome.image.sha256, outcome.label, operations, seed)


def _decode(encoded: bytes) -> Picture:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_ANYCOLOR)


def _encode_png(picture: Picture) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()
