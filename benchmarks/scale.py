"""How each stage grows with the number of images: seconds, memory and bytes, over decades, of the same small pictures.

    python benchmarks/scale.py --images 10000 100000 1000000 --out build/scale

The smaller set is the beginning of the larger one, so the outputs of both must agree about the images that both have;
they are compared image by image, and the benchmark ends with 1 where they do not. One stage runs at a time. What is
finished is kept in --out: run it again to go on. The table is printed and drawn as scale.svg in --out.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.watching import watch_run  # noqa: E402
from components.shared.errors import command_line  # noqa: E402
from components.shared.files import new_directory  # noqa: E402
from components.shared.formats.changes import read_changes  # noqa: E402
from components.shared.formats.examples import open_examples, parse_example  # noqa: E402
from components.shared.formats.issues import read_issues  # noqa: E402
from components.shared.formats.manifest import read_manifest  # noqa: E402
from components.shared.formats.predictions import FILENAME, SHA256, read_predictions  # noqa: E402
from components.shared.formats.tfrecord import read_records  # noqa: E402
from pipelines.local.stages_environment import find_python  # noqa: E402

CLASSES = 100
SIDE = 32  # pixels
BLOCK = 1000  # images that are drawn with one generator of random numbers
POINTS = 6  # of the line that a class is
SHAKE = 1.2  # pixels by which each point of it moves, standard deviation
# Of each ten consecutive images of a class one is of val, and of each twenty one is of test.
VAL_OF, TEST_OF = 10, 20

MOST = 100_000_000
COPY_OF = 10  # images for which curation makes one copy
NEVER = {"relabel_confidence": 2, "drop_confidence": 2, "doubt_confidence": 2, "duplicates": "keep"}
# The parameters of each stage: one epoch, and what the defaults would refuse at this size. Curation keeps every image,
# so that the sets stay comparable, and makes some copies.
STAGES: dict[str, dict[str, Any]] = {
    "ingest": {"max_images": MOST},
    "validate": {},
    "transform": {},
    "train": {"epochs": 1, "batch_size": 64},
    "evaluate": {"batch_size": 256},
    "audit": {"folds": 2, "repeats": 1, "epochs": 1},
    "curate": {**NEVER, "most_dropped": 1, "max_images": MOST},
}
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=ROOT / "build/scale", help="default: build/scale")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="beside ingest; default: all")
    options = parser.parse_args()
    out = options.out.resolve()
    stages = [stage for stage in STAGES if stage in {"ingest", *options.stages}]
    figures = {size: measure(out / str(size), size, stages) for size in sorted(set(options.images))}
    (out / "scale.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))
    subprocess.run(
        [find_python(), ROOT / "benchmarks/scale_plot.py", out / "scale.json", out / "scale.svg"], check=True
    )
    check(figures)


def measure(folder: Path, images: int, stages: list[str]) -> dict[str, Figures]:
    """The figures of each stage on so many images; what was measured before is read."""
    data = folder / "data"
    if not data.exists():
        print(f"{images:,} images: drawing", flush=True)
        draw(data, images)
    figures: dict[str, Figures] = {}
    for stage in stages:
        kept = folder / f"{stage}.json"
        if not kept.exists():
            print(f"{images:,} images: {stage}", flush=True)
            source = ["--from-run", list(figures.values())[-1]["folder"]] if figures else ["--data", str(data)]
            kept.write_text(json.dumps(run(folder / "runs", stage, source, images)) + "\n", encoding="utf-8")
        figures[stage] = json.loads(kept.read_text(encoding="utf-8"))
    return figures


def run(runs: Path, stage: str, source: list[str], images: int) -> Figures:
    """Runs a stage, and describes what it cost and what it made."""
    runs.mkdir(exist_ok=True)
    given = STAGES[stage] | ({"augment_to": images + images // COPY_OF} if stage == "curate" else {})
    params = [word for name, value in given.items() for word in ("--param", f"{name}={value}")]
    watched = watch_run(runs, "--component", stage, *source, *params, "--no-cache")
    task = watched.record["stages"][stage]
    outputs = {name: artifact["uri"] for name, artifact in task["artifacts"].items()}
    return {
        "folder": str(watched.folder),
        "seconds": round(task["seconds"] or 0, 1),
        "cpu_seconds": round(watched.cpu_seconds.get(stage, 0), 1),
        "peak_mib": round(watched.peaks.get(stage, 0) / 2**20),
        "anonymous_mib": round(watched.anonymous_peaks.get(stage, 0) / 2**20),
        "written_mib": round(sum(measure_size(Path(path)) for path in outputs.values()) / 2**20, 1),
        "outputs": outputs,
    }


def measure_size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


# --- the pictures ----------------------------------------------------------------------------


def draw(data: Path, images: int) -> None:
    """Draws so many pictures, PNG in gray, to split/class/number.png; the first ones are the same for any number."""
    lines = np.random.default_rng(0).uniform(4, SIDE - 4, (CLASSES, POINTS, 2))
    with new_directory(data) as folder:
        for split in ("train", "val", "test"):
            for label in range(CLASSES):
                (folder / split / name_class(label)).mkdir(parents=True)
        for first in range(0, images, BLOCK):
            shakes = np.random.default_rng([1, first]).normal(0, SHAKE, (BLOCK, POINTS, 2))
            for number in range(first, min(first + BLOCK, images)):
                label = number % CLASSES
                picture = Image.new("L", (SIDE, SIDE), 255)
                points = (lines[label] + shakes[number - first]).ravel().tolist()
                ImageDraw.Draw(picture).line(points, fill=0, width=2)
                path = folder / choose_split(number) / name_class(label) / f"{number:08}.png"
                picture.save(path, compress_level=1)


def choose_split(number: int) -> str:
    """The split of a picture."""
    of_class = number // CLASSES
    if of_class % TEST_OF == TEST_OF - 1:
        return "test"
    return "val" if of_class % VAL_OF == 0 else "train"


def name_class(label: int) -> str:
    return f"class-{label:02}"


def count_splits(images: int) -> dict[str, int]:
    """How many pictures of each split there are."""
    return dict(Counter(choose_split(number) for number in range(images)))


# --- the table -------------------------------------------------------------------------------


def table(figures: dict[int, dict[str, Figures]]) -> str:
    """A row for each stage: what it takes at each size, and the power of the images by which its CPU seconds grow."""
    sizes = list(figures)
    heads = [f"{size:,}" for size in sizes] + [f"power, {a:,} to {b:,}" for a, b in pairwise(sizes)]
    rows = [["stage: s, CPU s, peak MiB, without pages of files, MiB written", *heads], ["---"] * (len(heads) + 1)]
    for stage in figures[sizes[0]]:
        own = [figures[size][stage] for size in sizes]
        names = ("seconds", "cpu_seconds", "peak_mib", "anonymous_mib", "written_mib")
        cells = [", ".join(f"{each[name]:,.0f}" for name in names) for each in own]
        powers = [
            f"{math.log(after['cpu_seconds'] / before['cpu_seconds'], larger / smaller):.2f}"
            for (smaller, before), (larger, after) in pairwise(zip(sizes, own, strict=True))
        ]
        rows.append([stage, *cells, *powers])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# --- what the outputs must agree about -------------------------------------------------------


def check(figures: dict[int, dict[str, Figures]]) -> None:
    """Ends the benchmark if an image is missing somewhere, or if two sizes disagree about one."""
    for stage in STAGES:
        smaller: dict[str, str] = {}
        for size, stages in figures.items():
            if stage not in stages:
                continue
            contents = dict(list_contents(stage, stages[stage]["outputs"], stages["ingest"]["outputs"]["examples"]))
            splits = count_splits(size)
            expected = size - (splits.get("test", 0) if stage == "audit" else 0)
            if contents and len(contents) != expected:
                sys.exit(f"{stage}, {size:,} images: has {len(contents):,} and not {expected:,} of them.")
            for name, content in smaller.items():
                if name not in contents:
                    sys.exit(f"{stage}, {size:,} images: {name} is not there, but is in the smaller set.")
                if contents[name] != content:
                    sys.exit(f"{stage}, {size:,} images: {name} is not the same as in the smaller set.")
            smaller = contents


def list_contents(stage: str, outputs: dict[str, str], examples: str) -> Iterator[tuple[str, str]]:
    """Yields each image that the output of a stage is about, with the checksum of what must be the same at any size.

    What a model or a judge that was trained on more images says of an image may differ, so there is no checksum of it.
    """
    match stage:
        case "ingest":
            for record in read_in_order(examples, examples):
                yield parse_example(record).filename, checksum(record)
        case "transform":
            names = (parse_example(record).filename for record in read_in_order(examples, examples))
            records = read_in_order(examples, outputs["transformed_examples"])
            yield from zip(names, map(checksum, records), strict=True)
        case "evaluate":
            table = read_predictions(outputs["predictions"])
            yield from zip(table[FILENAME], table[SHA256], strict=True)
        case "audit":
            for _, issue in read_issues(outputs["issues"]):
                yield issue.filename, issue.sha256
        case "curate":
            images = read_manifest(Path(outputs["data"]))
            kept = {image.filename: image.sha256 for image in images if image.seed is None}  # no copies
            for change in read_changes(Path(outputs["changes"])):
                # Of more images, more are dropped from train because the same picture is in val.
                is_kept = change.action != "dropped"
                yield change.filename, kept.get(change.new_filename, "missing") if is_kept else change.sha256


def read_in_order(examples: str, folder: str) -> Iterator[bytes]:
    """Yields the records of a folder whose shards are named as those of the examples."""
    for shard in open_examples(examples).manifest.shards:
        yield from read_records(Path(folder, shard.name))


def checksum(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    with command_line():
        main()
