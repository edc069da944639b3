"""Measures how well the audit finds faults that were put into images on purpose.

    .venv-stages/bin/python benchmarks/audit.py build/sample/data
    .venv-stages/bin/python benchmarks/audit.py DIR --flips 0.04 --junk 0.03 --seed 1
    .venv-stages/bin/python benchmarks/audit.py DIR --flips 0 --junk 0 --spoiled 0.03

DIR holds train/<class>/ and val/<class>/. If there is a DIR/../faults.csv as sample.py writes it, the audit is to find
the faults that it lists. Otherwise the benchmark makes faults in memory: wrong labels (`--flips`) and pictures that are
no numeral (`--junk`), both as shares of the images. `--spoiled` makes others besides, in either case: this share of the
images is faded, as many others have broken strokes, and so on through benchmarks/spoiling.py. The folder itself is not
changed.

The first table is of all faults, the second has a row for each kind of them: how many there are, which share stands in
twice as many rows as there are faults of all kinds, and, of those that spoil a picture, which share the audit names by
the kind that it has for them, and how many other images it names so.
"""

import argparse
import csv
import hashlib
import sys
import tempfile
import time
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.spoiling import SPOILERS, has_ink, spoil  # noqa: E402
from components.audit.audit import audit_images  # noqa: E402
from components.audit.cross_validation import AuditSettings  # noqa: E402
from components.audit.pictures import is_plain, make_views  # noqa: E402
from components.audit.ranking import AuditedImage  # noqa: E402
from components.audit.reading import JudgedImages  # noqa: E402
from components.audit.state import NO_INK, measure_state  # noqa: E402
from components.shared.duplicates import fingerprint, is_ink_on_paper  # noqa: E402
from components.shared.formats.examples import CopyOrder  # noqa: E402
from components.shared.formats.issues import Issue  # noqa: E402
from components.shared.ink import convert_to_gray, find_ink  # noqa: E402
from components.shared.pictures import decode_rgb  # noqa: E402
from sample import draw_page  # noqa: E402

WRONG, JUNK = "wrong label", "junk"
NAMES = {"fade": "faded", "break": "fragmented", "crop": "cut", "overlay": "crowded", "frame": "framed"}  # the audit's


class Picture(NamedTuple):
    """A file of the folder."""

    filename: str  # split/class/file
    label: str
    encoded: bytes


class Fault(NamedTuple):
    """What is wrong with a picture."""

    kind: str  # WRONG, JUNK or a key of SPOILERS
    true_label: str = ""  # of a wrong one


def main() -> None:
    """Reads the command line, runs the audit and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--flips", type=float, default=0.04, help="share of wrong labels (default: %(default)s)")
    parser.add_argument("--junk", type=float, default=0.03, help="share of junk (default: %(default)s)")
    parser.add_argument(
        "--spoiled", type=float, default=0.0, help="share of each kind of spoiled picture (default: %(default)s)"
    )
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
    pictures, spoiled = spoil_pictures(pictures, share=options.spoiled, spared=faults.keys(), seed=options.seed)
    faults |= spoiled
    started = time.perf_counter()
    issues = run_audit(pictures, settings)
    print(format_table([{**measure(issues, faults), "seconds": f"{time.perf_counter() - started:.0f}"}]), end="\n\n")
    print(format_table(measure_kinds(issues, faults)))


def read_pictures(data: Path) -> list[Picture]:
    """Reads the pictures of train and val."""
    paths = sorted(path for split in ("train", "val") for path in (data / split).glob("*/*"))
    return [Picture(str(path.relative_to(data)), path.parent.name, path.read_bytes()) for path in paths]


def read_faults(path: Path) -> dict[str, Fault]:
    """Returns wrong labels and junk by file name. Duplicates are left out, since neither of the two is at fault."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("data/") and row["fault"] != "duplicate"]
    return {
        row["path"].removeprefix("data/"): Fault(WRONG, row["true_label"]) if row["true_label"] else Fault(JUNK)
        for row in rows
    }


def add_faults(
    pictures: list[Picture], *, flips: float, junk: float, seed: int
) -> tuple[list[Picture], dict[str, Fault]]:
    """Gives some pictures another label and replaces others by junk.

    Args:
        pictures: The pictures as they are.
        flips: The share of wrong labels.
        junk: The share of junk.
        seed: The same seed makes the same faults.

    Returns:
        The pictures, and what is wrong with each that was changed, by file name.
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
            spoiled[number], faults[picture.filename] = picture._replace(label=wrong), Fault(WRONG, picture.label)
        else:
            others = [pictures[other].encoded for other in rng.integers(len(pictures), size=2)]
            spoiled[number], faults[picture.filename] = picture._replace(encoded=make_junk(rng, *others)), Fault(JUNK)
    return spoiled, faults


def spoil_pictures(
    pictures: list[Picture], *, share: float, spared: Collection[str], seed: int
) -> tuple[list[Picture], dict[str, Fault]]:
    """Spoils some pictures, as many in each way.

    Args:
        pictures: The pictures as they are.
        share: The share that is spoiled in each way.
        spared: The file names of those that are not to be spoiled; neither are those without ink.
        seed: The same seed spoils the same pictures.

    Returns:
        The pictures, and what is wrong with each that was changed, by file name.
    """
    rng = np.random.default_rng([seed, 1])
    count = round(share * len(pictures))
    usable = [number for number, each in enumerate(pictures) if each.filename not in spared and has_ink(each.encoded)]
    chosen = iter(rng.permutation(usable).tolist())
    spoiled, faults = list(pictures), {}
    for kind in SPOILERS:
        for number in islice(chosen, count):
            picture, other = pictures[number], pictures[rng.choice(usable)]
            spoiled[number] = picture._replace(encoded=spoil(rng, kind, picture.encoded, other.encoded))
            faults[picture.filename] = Fault(kind)
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
            state=NO_INK if ink is None else measure_state(convert_to_gray(shown), ink),
            copy_order=CopyOrder(0, False, 0),
        )
        for picture, shown, print_, ink in zip(pictures, decoded, fingerprints, inks, strict=True)
    ]
    views = np.stack([make_views(picture, ink) for picture, ink in zip(decoded, inks, strict=True)])
    with tempfile.TemporaryDirectory() as work:
        file = Path(work, "views.npy")
        np.save(file, views)
        labels = np.array([image.label for image in images])
        read = JudgedImages(images, labels, file, fingerprints, is_ink)
        return audit_images(read, classes, settings=settings, work=Path(work))[0]


def measure(issues: list[Issue], faults: dict[str, Fault]) -> dict[str, str]:
    """Returns which share of the faults is in the first rows, and which share of their suggested labels is right."""
    at_fault = [issue.filename in faults for issue in issues]
    right = [issue.new_label == faults[issue.filename].true_label for issue in issues if is_wrong(issue, faults)]
    rows = {"as many": len(faults), "a tenth of the": len(issues) // 10, "twice as many": 2 * len(faults)}
    found = {f"in {name} rows": format_share(sum(at_fault[:count]), len(faults)) for name, count in rows.items()}
    return {
        "images": str(len(issues)),
        "faults": str(len(faults)),
        **found,
        "right new label": format_share(sum(right), len(right)),
    }


def is_wrong(issue: Issue, faults: dict[str, Fault]) -> bool:
    """Whether the label of an image is one of the wrong ones."""
    return issue.filename in faults and faults[issue.filename].kind == WRONG


def measure_kinds(issues: list[Issue], faults: dict[str, Fault]) -> list[dict[str, str]]:
    """Returns of each kind of fault how much of it is found; see the top of this file."""
    first = {issue.filename for issue in issues[: 2 * len(faults)]}
    rows = []
    for kind in dict.fromkeys(fault.kind for fault in faults.values()):
        own = {filename for filename, fault in faults.items() if fault.kind == kind}
        named = {issue.filename for issue in issues if NAMES.get(kind) in issue.kinds}
        rows.append(
            {
                "fault": kind,
                "images": str(len(own)),
                "in twice as many rows": format_share(len(own & first), len(own)),
                "named": format_share(len(own & named), len(own)) if kind in NAMES else "",
                "others named so": str(len(named - own)) if kind in NAMES else "",
            }
        )
    return rows


def format_share(count: int, of_all: int) -> str:
    """Formats a share; nothing if there is nothing to share."""
    return f"{count / of_all:.3f}" if of_all else ""


def format_table(rows: list[dict[str, str]]) -> str:
    """Formats rows, which have the same keys, as a table in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(row.values()) for row in rows]] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
