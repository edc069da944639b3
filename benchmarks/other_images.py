"""Takes data sets that are no numerals through a turn of the loop, with the project's default settings.

    .venv-stages/bin/python benchmarks/other_images.py
    .venv-stages/bin/python benchmarks/other_images.py --sets shapes digits --out DIR

Draws four sets with known faults (wrong labels, junk, and pictures of val that were saved again into train), goes
through the README's loop with each, by its commands (train and commit as v1, improve, adopt and commit as v2, `dvc
metrics diff`), and prints a table: which share of the wrong labels and the junk stands in twice as many rows of
issues.csv as there are, which share of the duplicates was found, and what the next version changed. Ends with 1 if less
than nine tenths of either were found. What is finished is kept in --out; run it again to continue.
"""

import argparse
import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv/bin"
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
from components.shared.formats.examples import open_examples, read_paths  # noqa: E402

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
LEAST_FOUND = 0.9  # share of the wrong labels and the junk, and of the duplicates
SHARES = {"found in twice as many rows": "wrong labels and junk", "of them found": "duplicates"}  # columns of the table
COMMITTER = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Labelled(NamedTuple):
    """A picture of a data set."""

    split: str  # empty if the set has no splits
    label: str
    picture: Picture
    fault: str = ""  # wrong label, junk, or copy
    original: int | None = None  # of a copy, its place among the pictures


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
        folder = options.out.resolve() / name
        write_set(folder, SETS[name])
        record = go_round(folder, SETS[name], options.param)
        rows.append(measure(name, folder, record) | {"dvc metrics diff v1 v2": compare_versions(folder)})
        print(json.dumps(rows[-1]), flush=True)
    print(format_table(rows))
    if misses := list_misses(rows):
        sys.exit("\n".join(misses))


def format_table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    texts = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (list(rows[0]), ["---"] * len(rows[0]), *texts))


def list_misses(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each set and kind of fault of which too few were found."""
    return [
        f"{row['set']}: {row[share]:.3f} of the {row[count]} {count} were found, but at least {LEAST_FOUND} are to be."
        for row in rows
        for share, count in SHARES.items()
        if row[share] < LEAST_FOUND
    ]


def write_set(folder: Path, data_set: DataSet) -> None:
    """Writes data/, if it is not there yet, and faults.csv: a row per fault, which of a copy names the original."""
    rng = np.random.default_rng(1)
    images = add_faults(data_set.draw(rng), rng)
    places = [
        Path("data", *(() if data_set.is_table else filter(None, (image.split, image.label))), f"{number:05d}.png")
        for number, image in enumerate(images)
    ]
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(draft, ignore_errors=True)
        for image, place in zip(images, places, strict=True):
            (draft / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.picture).save(draft / place)
        if data_set.is_table:
            labels = [(place.name, image.label) for image, place in zip(images, places, strict=True)]
            write_table(draft / "data/images.csv", [("path", "label"), *labels])
        draft.rename(folder)
    faults = [
        (str(place), image.fault, "" if image.original is None else str(places[image.original]))
        for image, place in zip(images, places, strict=True)
        if image.fault
    ]
    write_table(folder / "faults.csv", [("path", "fault", "original"), *faults])


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
        spoiled.append(Labelled(split, images[number].label, np.asarray(Image.open(copy)), "copy", int(number)))
    return spoiled


def make_junk(kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    """One plain colour, noise, or a gradient."""
    if kind == 0:
        return np.full(shape, rng.integers(256), np.uint8)
    if kind == 1:
        return rng.integers(0, 256, shape, np.uint8)
    gradient = Image.fromarray(draw_gradient(rng)).resize(shape[1::-1])
    return np.asarray(gradient if len(shape) == 3 else gradient.convert("L"))


def go_round(folder: Path, data_set: DataSet, params: list[str]) -> dict[str, Any]:
    """The record of the improvement, after the README's loop from the first version to the second."""
    if not (folder / "data.dvc").exists():
        track(folder)
    if not has_tag(folder, "v1"):
        run(folder, data_set, "training", params)
        commit(folder, "v1")
    record = run(folder, data_set, "improvement", params)
    if not has_tag(folder, "v2"):
        adopt = [BIN / "python", ROOT / "adopt.py", "--data", "data", "--from-run", record["run"]]
        call(folder, *adopt, "--yes", "--commit", "--tag", "v2")
    return record


def track(folder: Path) -> None:
    """Makes the folder a repository of git and DVC that compares what the project's own does, and tracks data/."""
    call(folder, "git", "init", "--quiet")
    call(folder, BIN / "dvc", "init", "--quiet", "--force")  # it may have been stopped here before
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    (folder / ".gitignore").write_text("/runs\n", encoding="utf-8")
    call(folder, BIN / "dvc", "add", "--quiet", "data")


def commit(folder: Path, tag: str) -> None:
    """Commits the data version with the figures in results/."""
    call(folder, "git", "add", ".")
    call(folder, "git", "commit", "--quiet", "--allow-empty", "--message", f"Version {tag}")
    call(folder, "git", "tag", tag)


def has_tag(folder: Path, tag: str) -> bool:
    return bool(call(folder, "git", "tag", "--list", tag))


def compare_versions(folder: Path) -> str:
    """The accuracy of both versions on their own images, by split."""
    changes = json.loads(call(folder, BIN / "dvc", "metrics", "diff", "v1", "v2", "--all", "--json"))
    figures = changes["results/metrics.json"]
    accuracies = {split: figures.get(f"{split}.accuracy") for split in ("val", "test")}
    return ", ".join(f"{split} {each['old']:.3f} to {each['new']:.3f}" for split, each in accuracies.items() if each)


def call(folder: Path, *command: str | Path) -> str:
    """What a command prints that is run in the folder; if it fails, so does the benchmark."""
    environment = {"DVC_NO_ANALYTICS": "1", **COMMITTER, **os.environ}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{folder}: {shlex.join(map(str, command))} has failed; it has said why.")
    return done.stdout


def run(folder: Path, data_set: DataSet, pipeline: str, params: list[str]) -> dict[str, Any]:
    """The record of the finished run of a pipeline, which is run if there is none."""
    if not (found := find_finished(folder / "runs/default", pipeline)):
        command = [BIN / "python", ROOT / "submit.py", "--local", "--pipeline", pipeline]
        command += ["--data", "data/images.csv" if data_set.is_table else "data"]
        subprocess.run([*map(str, command), *(f"--param={param}" for param in params)], cwd=folder, check=False)
        found = find_finished(folder / "runs/default", pipeline)
    return found or sys.exit(f"{folder}: the run has failed; it has said why.")


def measure(name: str, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The row of a set."""
    faults = [
        {column: cell.removeprefix("data/") for column, cell in row.items()}
        for row in read_table(folder / "faults.csv")
    ]
    artifacts = record["stages"]["before-ingest"]["artifacts"]
    examples = Path(artifacts["examples"]["uri"])
    manifest, places = open_examples(examples).manifest, read_paths(examples)
    issues = read_table(record["folder"] / "issues.csv")
    names = [places.get(row["filename"], row["filename"]) for row in issues]
    duplicates = {entry.path for entry in manifest.made_split.duplicates} if manifest.made_split else set()
    left_out = {entry.path for entry in manifest.quarantined} | duplicates
    to_find = {row["path"] for row in faults if row["fault"] != "copy"} - left_out
    alike = {place for place, row in zip(names, issues, strict=True) if "duplicate" in row["kinds"]} | left_out
    # Of a picture and its copy, one may have been left out where the data were divided: either.
    copies = [{row["path"], row["original"]} for row in faults if row["fault"] == "copy"]
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
        "found in twice as many rows": len(to_find & {*names[: 2 * len(to_find)]}) / len(to_find),
        "duplicates": len(copies),
        "of them found": sum(not pair.isdisjoint(alike) for pair in copies) / len(copies),
        "val": accuracies["val"],
        "test": accuracies.get("test", ""),
        "seconds": round(record["seconds"]),
    }


def write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
