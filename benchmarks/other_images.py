"""Takes data sets that are no numerals through a turn of the loop, with the project's default settings.

    .venv-stages/bin/python benchmarks/other_images.py
    .venv-stages/bin/python benchmarks/other_images.py --sets shapes digits --out DIR

Draws four sets with known faults (wrong labels, junk, and pictures of val that were saved again into train), runs the
pipeline `improvement` on each through submit.py, and prints a table: which share of the wrong labels and the junk
stands in twice as many rows of issues.csv as there are, which share of the duplicates was found, and what the next
version changed. What is finished is kept in --out; run it again to continue.
"""

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.pictures import (  # noqa: E402
    SHAPES,
    Picture,
    cut_textures,
    draw_digits,
    draw_gradient,
    draw_shape,
    load_photographs,
)
from benchmarks.runs import find_finished  # noqa: E402
from components.shared.formats.examples import read_paths  # noqa: E402

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "yellow": (235, 205, 30),
    "purple": (140, 40, 170),
    "black": (20, 20, 20),
    "grey": (140, 140, 140),
    "orange": (245, 130, 20),
    "pink": (250, 150, 190),
    "light blue": (110, 200, 240),
}
REGIONS = {"building": (0, 80, 90, 330, 390), "leaves": (0, 390, 270, 640, 427), "petals": (1, 190, 100, 430, 340)}
REGIONS |= {"water": (1, 0, 40, 160, 400)}  # photograph, left, top, right, bottom
WRONG, JUNK, COPIED = 0.05, 0.02, 0.02  # shares of the train images


class Labelled(NamedTuple):
    """A picture of a data set."""

    split: str  # empty if the set has no splits
    label: str
    picture: Picture
    fault: str = ""  # wrong label, junk, or copy
    suffix: str = ".png"


class DataSet(NamedTuple):
    """Pictures, and where --data is to find them."""

    draw: Callable[[np.random.Generator], list[Labelled]]
    is_table: bool = False


def draw_shapes(rng: np.random.Generator) -> list[Labelled]:
    colours = list(COLOURS.values())[:3]
    return [
        Labelled(split, shape, draw_shape(rng, shape, colours[rng.integers(3)]))
        for split, count in (("train", 40), ("val", 20), ("test", 20))
        for shape in SHAPES[:3]
        for _ in range(count)
    ]


def choose_digits(rng: np.random.Generator) -> list[Labelled]:
    pictures, labels = draw_digits(1)
    return [Labelled("", labels[place], pictures[place]) for place in rng.permutation(len(pictures))[:500]]


def cut_regions(rng: np.random.Generator) -> list[Labelled]:
    photographs, splits = load_photographs(), ["train"] * 50 + ["valid"] * 20 + ["test"] * 20
    cut = {
        label: cut_textures(rng, photographs[number][top:bottom, left:right], len(splits), 48)
        for label, (number, left, top, right, bottom) in REGIONS.items()
    }
    return [
        Labelled(split, label, crop) for label, crops in cut.items() for split, crop in zip(splits, crops, strict=True)
    ]


def draw_many_classes(rng: np.random.Generator) -> list[Labelled]:
    return [
        Labelled("", f"{colour} {shape}", draw_shape(rng, shape, COLOURS[colour]))
        for colour in COLOURS
        for shape in SHAPES
        for _ in range(12)
    ]


SETS = {
    "shapes": DataSet(draw_shapes),
    "digits": DataSet(choose_digits),
    "textures": DataSet(cut_regions),
    "table": DataSet(draw_many_classes, is_table=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--out", type=Path, default=ROOT / "build/other_images", help="default: build/other_images")
    parser.add_argument("--param", action="append", default=[], help="as submit.py takes it; none for the defaults")
    options = parser.parse_args()
    rows = []
    for name in options.sets:
        folder = options.out / name
        if not folder.exists():
            write_set(folder, SETS[name])
        rows.append(measure(name, folder, run(folder, SETS[name], options.param)))
        print(json.dumps(rows[-1]), flush=True)
    columns = list(rows[0])
    for cells in (columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)):
        print(f"| {' | '.join(cells)} |")


def write_set(folder: Path, data_set: DataSet) -> None:
    """Writes data/ and faults.csv, with the path and the fault of each picture that has one."""
    rng = np.random.default_rng(1)
    images = add_faults(data_set.draw(rng), rng)
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "data").mkdir(parents=True)
    table, faults = [("path", "label")], [("path", "fault")]
    for number, image in enumerate(images):
        inside = () if data_set.is_table else tuple(filter(None, (image.split, image.label)))
        path = Path("data", *inside, f"{number:05d}{image.suffix}")
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.picture).save(draft / path)
        table.append((path.name, image.label))
        if image.fault:
            faults.append((str(path), image.fault))
    for path, rows in ((draft / "data/images.csv", table), (draft / "faults.csv", faults)):
        if rows is faults or data_set.is_table:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
    draft.rename(folder)


def add_faults(images: list[Labelled], rng: np.random.Generator) -> list[Labelled]:
    """Mislabels some pictures of train, replaces others by junk, and saves some of val into train again as JPEG."""
    labels = sorted({image.label for image in images})
    train = [number for number, image in enumerate(images) if image.split in ("", "train")]
    val = [number for number, image in enumerate(images) if image.split not in ("train", "test")]
    wrong, junk, copied = (max(round(share * len(train)), 3) for share in (WRONG, JUNK, COPIED))
    chosen = rng.choice(train, wrong + junk, replace=False)
    spoiled = list(images)
    for number in chosen[:wrong]:
        others = [label for label in labels if label != images[number].label]
        spoiled[number] = images[number]._replace(label=str(rng.choice(others)), fault="wrong label")
    for place, number in enumerate(chosen[wrong:]):
        picture = make_junk(place % 3, images[number].picture.shape, rng)
        spoiled[number] = images[number]._replace(picture=picture, fault="junk")
    sources = rng.choice(sorted(set(val) - set(chosen)), copied, replace=False)
    for number in sources:
        copy = io.BytesIO()
        Image.fromarray(images[number].picture).save(copy, "JPEG", quality=90)
        split = "train" if images[number].split else ""
        spoiled.append(Labelled(split, images[number].label, np.asarray(Image.open(copy)), "copy"))
    return spoiled


def make_junk(kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    """One plain colour, noise, or a gradient."""
    if kind == 0:
        return np.full(shape, rng.integers(256), np.uint8)
    if kind == 1:
        return rng.integers(0, 256, shape, np.uint8)
    gradient = Image.fromarray(draw_gradient(rng)).resize(shape[1::-1])
    return np.asarray(gradient if len(shape) == 3 else gradient.convert("L"))


def run(folder: Path, data_set: DataSet, params: list[str]) -> dict[str, Any]:
    """The record of the finished run of a set, which is run if there is none."""
    if not (found := find_finished(folder / "runs/default")):
        data = folder / "data/images.csv" if data_set.is_table else folder / "data"
        command = [ROOT / ".venv/bin/python", ROOT / "submit.py", "--local", "--pipeline", "improvement"]
        command += ["--data", data.resolve(), "--runs", (folder / "runs").resolve()]
        subprocess.run([*map(str, command), *(f"--param={param}" for param in params)], cwd=folder, check=False)
        found = find_finished(folder / "runs/default")
    return found or sys.exit(f"{folder}: the run has failed; it has said why.")


def measure(name: str, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The row of a set."""
    faults = {row["path"].removeprefix("data/"): row["fault"] for row in read_table(folder / "faults.csv")}
    examples = Path(record["stages"]["before-ingest"]["artifacts"]["examples"]["uri"])
    places = read_paths(examples)
    issues = read_table(record["folder"] / "issues.csv")
    names = [places.get(row["filename"], row["filename"]) for row in issues]
    left_out = {row["path"] for row in json.loads((examples / "examples.json").read_text("utf-8"))["quarantined"]}
    to_find = {path for path, fault in faults.items() if fault != "copy"} - left_out
    copies = {path for path, fault in faults.items() if fault == "copy"}
    alike = {place for place, row in zip(names, issues, strict=True) if "duplicate" in row["kinds"]} | left_out
    comparison = json.loads((record["folder"] / "comparison.json").read_text(encoding="utf-8"))["splits"]
    accuracies = {
        split: f"{figures['accuracy']['before']:.3f} to {figures['accuracy']['after']:.3f} "
        f"(p {figures['mcnemar_p']:.2g}, {figures['images']})"
        for split, figures in comparison.items()
    }
    return {
        "set": name,
        "images": len(issues) + len(left_out),
        "wrong labels and junk": len(to_find),
        "found in twice as many rows": f"{len(to_find & {*names[: 2 * len(to_find)]}) / len(to_find):.2f}",
        "duplicates": len(copies),
        "found": f"{len(copies & alike) / len(copies):.2f}",
        "val": accuracies["val"],
        "test": accuracies.get("test", ""),
        "seconds": round(record["seconds"]),
    }


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
