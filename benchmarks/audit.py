"""Measures how well the audit finds faults that were put into images on purpose.

    .venv-stages/bin/python benchmarks/audit.py build/sample/data
    .venv-stages/bin/python benchmarks/audit.py DIR --flips 0.04 --junk 0.03 --seed 1

DIR holds train/<class>/ and val/<class>/. If there is a DIR/../faults.csv as sample.py writes it, the audit is to find
the faults that it lists. Otherwise the benchmark makes faults in memory: wrong labels (`--flips`) and pictures that are
no numeral (`--junk`), both as shares of the images. The folder itself is not changed.
"""

import argparse
import csv
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from components.audit.audit import AuditInput, audit_images  # noqa: E402
from components.audit.cross_validation import AuditSettings  # noqa: E402
from components.audit.pictures import count_parts, is_plain, make_views  # noqa: E402
from components.audit.ranking import AuditedImage  # noqa: E402
from components.shared.duplicates import fingerprint, is_ink_on_paper  # noqa: E402
from components.shared.formats.examples import CopyOrder  # noqa: E402
from components.shared.formats.issues import Issue  # noqa: E402
from components.shared.ink import convert_to_gray, find_ink  # noqa: E402
from components.shared.pictures import decode_rgb  # noqa: E402
from sample import draw_page  # noqa: E402

JUNK = "junk"


class Picture(NamedTuple):
    """A file of the folder."""

    filename: str  # split/class/file
    label: str
    encoded: bytes


def main() -> None:
    """Reads the command line, runs the audit and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--flips", type=float, default=0.04, help="share of wrong labels (default: %(default)s)")
    parser.add_argument("--junk", type=float, default=0.03, help="share of junk (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = AuditSettings(options.folds, options.repeats, options.epochs, options.seed)
    pictures = read_pictures(options.data)
    faults = read_faults(options.data.parent / "faults.csv")
    if not faults:
        pictures, faults = add_faults(pictures, flips=options.flips, junk=options.junk, seed=options.seed)
    started = time.perf_counter()
    issues = run_audit(pictures, settings)
    print(format_table(measure(issues, faults), time.perf_counter() - started))


def read_pictures(data: Path) -> list[Picture]:
    """Reads the pictures of train and val."""
    paths = sorted(path for split in ("train", "val") for path in (data / split).glob("*/*"))
    return [Picture(str(path.relative_to(data)), path.parent.name, path.read_bytes()) for path in paths]


def read_faults(path: Path) -> dict[str, str]:
    """Returns JUNK or the true label by file name. Duplicates are left out, since neither of the two is at fault."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("data/") and row["fault"] != "duplicate"]
    return {row["path"].removeprefix("data/"): row["true_label"] or JUNK for row in rows}


def add_faults(
    pictures: list[Picture], *, flips: float, junk: float, seed: int
) -> tuple[list[Picture], dict[str, str]]:
    """Gives some pictures another label and replaces others by junk.

    Args:
        pictures: The pictures as they are.
        flips: The share of wrong labels.
        junk: The share of junk.
        seed: The same seed makes the same faults.

    Returns:
        The pictures, and JUNK or the true label of each that was changed, by file name.
    """
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
            spoiled[number], faults[picture.filename] = picture._replace(encoded=make_junk(rng, *others)), JUNK
    return spoiled, faults


def make_junk(rng: np.random.Generator, one: bytes, other: bytes) -> bytes:
    """Draws a scribble, or puts one picture over the other, or beside it and upside down; returns a PNG."""
    if rng.random() < 0.4:
        page = np.array(draw_page(rng, ""))
    else:
        first, second = (
            cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE) for encoded in (one, other)
        )
        second = cv2.resize(second, first.shape[::-1])
        page = np.minimum(first, second) if rng.random() < 0.5 else np.hstack([first[::-1], second])
    return cv2.imencode(".png", page)[1].tobytes()


def run_audit(pictures: list[Picture], settings: AuditSettings) -> list[Issue]:
    """Audits the pictures in memory; returns a row for each, by rank."""
    classes = sorted({picture.label for picture in pictures})
    decoded = [decode_rgb(picture.encoded, picture.filename) for picture in pictures]
    fingerprints = [fingerprint(picture) for picture in decoded]
    is_ink = is_ink_on_paper(fingerprints)
    inks = [find_ink(convert_to_gray(picture)) if is_ink else None for picture in decoded]
    images = [
        AuditedImage(
            sha256=hashlib.sha256(picture.encoded).hexdigest(),
            filename=picture.filename,
            split=picture.filename.split("/")[0],
            label=classes.index(picture.label),
            blank=not print_.ink_height if is_ink else is_plain(shown),
            parts=0 if ink is None else count_parts(ink),
            copy_order=CopyOrder(0, False, 0),
        )
        for picture, shown, print_, ink in zip(pictures, decoded, fingerprints, inks, strict=True)
    ]
    views = np.stack([make_views(picture, ink) for picture, ink in zip(decoded, inks, strict=True)])
    to_audit = AuditInput(images, views, fingerprints, is_ink)
    with tempfile.TemporaryDirectory() as work:
        return audit_images(to_audit, classes, settings=settings, work=Path(work))[0]


def measure(issues: list[Issue], faults: dict[str, str]) -> dict[str, float]:
    """Returns which share of the faults is in the first rows, and which share of their suggested labels is right."""
    at_fault = [issue.filename in faults for issue in issues]
    flipped = [issue for issue in issues if faults.get(issue.filename, JUNK) != JUNK]
    return {
        "images": len(issues),
        "faults": len(faults),
        "found in as many rows": sum(at_fault[: len(faults)]) / len(faults),
        "in a tenth of the rows": sum(at_fault[: len(issues) // 10]) / len(faults),
        "in twice as many rows": sum(at_fault[: 2 * len(faults)]) / len(faults),
        "right new label": float(np.mean([issue.new_label == faults[issue.filename] for issue in flipped])),
    }


def format_table(measured: dict[str, float], seconds: float) -> str:
    """Formats the figures as a table in Markdown."""
    cells = {**measured, "seconds": seconds}
    texts = [f"{value:.3f}" if 0 < value <= 1 else f"{value:.0f}" for value in cells.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in (list(cells), ["---"] * len(cells), texts))


if __name__ == "__main__":
    main()
