"""Measures how well the audit finds faults that were put into images on purpose.

    .venv-stages/bin/python benchmarks/audit.py build/sample/data
    .venv-stages/bin/python benchmarks/audit.py DIR --flips 0.04 --junk 0.03 --seed 1

DIR holds train/<class>/ and val/<class>/. If DIR/../faults.csv lists the faults, as sample.py writes it, they are
looked for; else wrong labels (`flips`) and things that are no numeral (`junk`), as shares of the images, are put in.
The folder itself is not changed.
"""

import argparse
import csv
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from components.audit.audit import Images, audit_images  # noqa: E402
from components.audit.duplicates import fingerprint  # noqa: E402
from components.audit.judging import Settings  # noqa: E402
from components.audit.pictures import ink, views  # noqa: E402
from components.audit.ranking import Described  # noqa: E402

JUNK = "junk"


class Picture(NamedTuple):
    filename: str
    label: str
    encoded: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--flips", type=float, default=0.04, help="share of wrong labels (default: %(default)s)")
    parser.add_argument("--junk", type=float, default=0.03, help="share of junk (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.folds, options.repeats, options.epochs, options.seed)
    pictures = read(options.data)
    faults = listed(options.data.parent / "faults.csv")
    if not faults:
        pictures, faults = spoiled(pictures, options.flips, options.junk, options.seed)
    started = time.perf_counter()
    rows = audited(pictures, settings)
    print(table(figures(rows, faults), time.perf_counter() - started))


def read(data: Path) -> list[Picture]:
    paths = sorted(path for split in ("train", "val") for path in (data / split).glob("*/*"))
    return [Picture(str(path.relative_to(data)), path.parent.name, path.read_bytes()) for path in paths]


def listed(path: Path) -> dict[str, str]:
    """The faults of the sample: JUNK or the true label by file name; copies are no fault of the one picture."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("data/") and row["fault"] != "duplicate"]
    return {row["path"].removeprefix("data/"): row["true_label"] or JUNK for row in rows}


def spoiled(pictures: list[Picture], flips: float, junk: float, seed: int) -> tuple[list[Picture], dict[str, str]]:
    """Other labels for some pictures, and junk instead of others; and what was done, by file name."""
    rng = np.random.default_rng(seed)
    classes = sorted({picture.label for picture in pictures})
    flipped, replaced = round(flips * len(pictures)), round(junk * len(pictures))
    chosen = rng.permutation(len(pictures))[: flipped + replaced]
    spoiled, faults = list(pictures), {}
    for place, number in enumerate(chosen):
        picture = pictures[number]
        if place < flipped:
            wrong = str(rng.choice([name for name in classes if name != picture.label]))
            spoiled[number], faults[picture.filename] = picture._replace(label=wrong), picture.label
        else:
            others = [pictures[other].encoded for other in rng.integers(len(pictures), size=2)]
            spoiled[number], faults[picture.filename] = picture._replace(encoded=no_numeral(rng, *others)), JUNK
    return spoiled, faults


def no_numeral(rng: np.random.Generator, one: bytes, other: bytes) -> bytes:
    """A scribble, or two pictures over each other, side by side or upside down."""
    import cv2

    from sample import draw_page

    if rng.random() < 0.4:
        page = np.array(draw_page(rng, ""))
    else:
        first, second = (
            cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE) for encoded in (one, other)
        )
        second = cv2.resize(second, first.shape[::-1])
        page = np.minimum(first, second) if rng.random() < 0.5 else np.hstack([first[::-1], second])
    return cv2.imencode(".png", page)[1].tobytes()


def audited(pictures: list[Picture], settings: Settings) -> list[dict[str, Any]]:
    classes = sorted({picture.label for picture in pictures})
    inks = [ink(picture.encoded) for picture in pictures]
    described = [
        Described(
            hashlib.sha256(picture.encoded).hexdigest(),
            picture.filename,
            picture.filename.split("/")[0],
            classes.index(picture.label),
            not found.any(),
        )
        for picture, found in zip(pictures, inks, strict=True)
    ]
    images = Images(described, np.stack([views(found) for found in inks]), [fingerprint(found) for found in inks])
    with tempfile.TemporaryDirectory() as work:
        return audit_images(images, classes, settings, Path(work))


def figures(rows: list[dict[str, Any]], faults: dict[str, str]) -> dict[str, float]:
    """Shares of the faults found, by how many rows a person looks at; and of their suggestions that are right."""
    found = [row["filename"] in faults for row in rows]
    flipped = [row for row in rows if faults.get(row["filename"], JUNK) != JUNK]
    return {
        "images": len(rows),
        "faults": len(faults),
        "found in as many rows": sum(found[: len(faults)]) / len(faults),
        "in a tenth of the rows": sum(found[: len(rows) // 10]) / len(faults),
        "in twice as many rows": sum(found[: 2 * len(faults)]) / len(faults),
        "right new label": float(np.mean([row["new_label"] == faults[row["filename"]] for row in flipped])),
    }


def table(measured: dict[str, float], seconds: float) -> str:
    cells = {**measured, "seconds": seconds}
    texts = [f"{value:.3f}" if 0 < value <= 1 else f"{value:.0f}" for value in cells.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in (list(cells), ["---"] * len(cells), texts))


if __name__ == "__main__":
    main()
