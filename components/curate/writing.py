"""The files of the new data version."""

import csv
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from components.curate.augmentation import Augmentation, augmented, drawn
from components.curate.cleaning import cleaned
from components.curate.planning import Outcome
from components.curate.reading import CURATED
from components.shared.formats import examples as ex

if TYPE_CHECKING:
    import numpy as np

MANIFEST = "manifest.csv"
COLUMNS = ("filename", "sha256", "source_filename", "source_sha256", "label", "operations", "seed")
LONGEST_NAME = 255  # bytes, on most file systems


class Target(NamedTuple):
    """What becomes of an image that is not dropped."""

    outcome: Outcome
    filename: str  # split/class/file in the new version
    copies: list[str]  # file names of its augmented images
    cleaning: list[str]


def targets(outcomes: Iterable[Outcome], copies: dict[str, int], cleaning: list[str]) -> dict[str, Target]:
    """The target of each image, by file name; images that stay where they are keep their names.

    `copies` is the number of augmented images, by file name.
    """
    taken: set[str] = set()
    found = {}
    left = [outcome for outcome in outcomes if outcome.split]
    for outcome in sorted(left, key=lambda outcome: (outcome.action != "kept", outcome.image.filename)):
        image = outcome.image
        steps = cleaning if outcome.split in CURATED else []
        folder = f"{outcome.split}/{outcome.label}"
        source = PurePosixPath(image.filename)
        filename = _free(folder, source.stem, ".png" if steps else image.suffix, LONGEST_NAME, image.sha256, taken)
        names = []
        if number_of_copies := copies.get(image.filename):
            longest = LONGEST_NAME - len(f"{number_of_copies}.png")
            start = _free(folder, PurePosixPath(filename).stem, ex.AUGMENTED, longest, image.sha256, taken)
            names = [f"{start}{number}.png" for number in range(1, number_of_copies + 1)]
        found[image.filename] = Target(outcome, filename, names, steps)
    return found


def _free(folder: str, stem: str, end: str, longest: int, sha256: str, taken: set[str]) -> str:
    """A name of at most `longest` bytes that is not taken yet, and takes it: if need be with the hash and a number."""
    ends = chain([end, f".{sha256[:8]}{end}"], (f".{sha256[:8]}-{number}{end}" for number in count(1)))
    names = (f"{folder}/{stem.encode()[: longest - len(end.encode())].decode(errors='ignore')}{end}" for end in ends)
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def write_images(
    folder: Path, examples: str, manifest: dict[str, Any], found: dict[str, Target], augmentation: Augmentation
) -> list[dict[str, Any]]:
    """Writes every image and manifest.csv below `folder`; returns the rows of the latter.

    Images come from the shards one by one; as many as there are workers are worked on at once.
    """
    import cv2

    cv2.setNumThreads(1)  # the images are what runs side by side
    for target in found.values():
        (folder / target.filename).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[dict[str, Any]]]] = deque()
        for target, encoded in _encoded(examples, manifest, found):
            waiting.append(pool.submit(_write, folder, target, encoded, augmentation))
            if len(waiting) > 2 * workers:
                rows += waiting.popleft().result()
        for future in waiting:
            rows += future.result()
    rows.sort(key=lambda row: row["filename"])
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _encoded(examples: str, manifest: dict[str, Any], found: dict[str, Target]) -> Iterator[tuple[Target, bytes]]:
    for split in manifest["splits"]:
        print(f"curate: writing the images of {split}", flush=True)
        for example in ex.read_examples(ex.shard_paths(examples, manifest, split)):
            filename = ex.text(example, ex.FILENAME)
            if filename in found:
                yield found[filename], example.features.feature[ex.ENCODED].bytes_list.value[0]


def _write(folder: Path, target: Target, encoded: bytes, augmentation: Augmentation) -> list[dict[str, Any]]:
    """Writes the image and its augmented ones; returns their rows."""
    image, label = target.outcome.image, target.outcome.label
    steps: list[dict[str, Any]] = [{"operation": name} for name in target.cleaning]
    picture = cleaned(_decoded(encoded), target.cleaning)
    rows = [_row(folder, target.filename, _png(picture) if steps else encoded, target, steps, "")]
    directions = augmentation.flips.get(label, [])
    for number, filename in enumerate(target.copies, start=1):
        operations = drawn([augmentation.seed, int(image.sha256, 16), number], directions)
        content = _png(augmented(picture, operations))
        rows.append(_row(folder, filename, content, target, [*steps, *operations], augmentation.seed))
    return rows


def _row(
    folder: Path, filename: str, content: bytes, target: Target, operations: list[dict[str, Any]], seed: Any
) -> dict[str, Any]:
    (folder / filename).write_bytes(content)
    return {
        "filename": filename,
        "sha256": hashlib.sha256(content).hexdigest(),
        "source_filename": target.outcome.image.filename,
        "source_sha256": target.outcome.image.sha256,
        "label": target.outcome.label,
        "operations": json.dumps(operations),
        "seed": seed,
    }


def _decoded(encoded: bytes) -> "np.ndarray":
    """uint8 [height, width] of a gray picture, [height, width, 3] of a coloured one."""
    import cv2
    import numpy as np

    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_ANYCOLOR)


def _png(picture: "np.ndarray") -> bytes:
    import cv2

    return cv2.imencode(".png", picture)[1].tobytes()
