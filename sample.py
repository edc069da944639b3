"""Draw the default data set: handwritten Roman numerals with known faults mixed in.

The drawings stand in for scanned handwriting, so the first run needs no download:

    python sample.py --out build/sample --seed 123

writes OUT/data/train/<class>/NNNN.png, OUT/data/val/<class>/NNNN.png, OUT/test/<class>/NNNN.png
and OUT/faults.csv, the list of every fault put there on purpose. The same seed gives the same
bytes. OUT/sample.json is written last and marks a finished sample.
"""

import argparse
import csv
import json
import math
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from components.shared.errors import (
    UserError,
    command_line,
    exit_on_interrupt,
    explain_missing_packages,
    parse_options,
)
from components.shared.files import lock_folder, new_directory

with exit_on_interrupt(), explain_missing_packages():
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image, ImageDraw, ImageFilter

FORMAT = 1  # raise it when the drawing changes: an older sample is then not "already there"
CLASSES = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
CLEAN = {"data/train": 64, "data/val": 20, "test": 10}  # clean images a class
FAULTS = {  # images over all classes
    "data/train": {
        "wrong_label": 22,
        "scribble": 14,
        "blank": 8,
        "duplicate": 10,
        "conflicting_duplicate": 8,
    },
    "data/val": {"wrong_label": 2, "scribble": 1, "blank": 1, "duplicate": 2},
    "test": {},
}
COLUMNS = ("path", "fault", "given_label", "true_label", "duplicate_of")
WHITE, GRAY, BLACK = 255, 64, 0  # a thresholded scan has no more tones for paper and ink

Stroke = NDArray[np.float64]  # (points, 2): x to the right, y down
Pixels = NDArray[np.uint8]  # (height, width)
Ink = NDArray[np.float32]  # (height, width), 0 (paper) to 1 (covered)
ALONG = np.linspace(0, 1, 18)[:, None]  # where a stroke has its points, from start to end
CUBIC = np.hstack([math.comb(3, k) * ALONG**k * (1 - ALONG) ** (3 - k) for k in range(4)])


@dataclass
class PlannedImage:
    """An image to draw. Its fields in COLUMNS are those of a row of faults.csv."""

    split: str  # a key of FAULTS
    fault: str  # "" if it is clean
    given_label: str
    true_label: str  # "" if it shows no numeral
    path: str = ""  # below the sample's folder
    duplicate_of: str = ""  # the path of another image


# --- data: what is to be drawn ---------------------------------------------------------------


def plan_sample(seed: int) -> list[PlannedImage]:
    """List the images to write, sorted by path."""
    rng = np.random.default_rng([seed, 0])
    images = []
    for split, faults in FAULTS.items():
        wanted = [("", label) for label in CLASSES for _ in range(CLEAN[split])]
        for fault, count in faults.items():
            wanted += [(fault, str(label)) for label in rng.choice(CLASSES, count)]
        for fault, label in wanted:
            true = choose_true_label(rng, fault, label)
            images.append(PlannedImage(split, fault, label, true))
    images = [images[k] for k in rng.permutation(len(images))]  # faults anywhere in a folder
    seen: Counter[str] = Counter()
    for image in images:
        folder = f"{image.split}/{image.given_label}"
        seen[folder] += 1
        image.path = f"{folder}/{seen[folder]:04d}.png"
    pair_duplicates(rng, images)
    return sorted(images, key=lambda image: image.path)


def choose_true_label(rng: Generator, fault: str, label: str) -> str:
    """Return what an image filed under `label` shows: "" if it is no numeral."""
    if fault in ("scribble", "blank"):
        return ""
    if fault in ("wrong_label", "conflicting_duplicate"):
        return str(rng.choice([other for other in CLASSES if other != label]))
    return label


def pair_duplicates(rng: Generator, images: list[PlannedImage]) -> None:
    """Give each copy a clean original.

    A duplicate in train copies an image of val, and so leaks it; every other copy has its original in train.
    """
    taken: set[str] = set()
    for image in images:
        if "duplicate" in image.fault:
            leaks = (image.fault, image.split) == ("duplicate", "data/train")
            source = ("data/val" if leaks else "data/train", image.true_label, "")
            originals = [
                other.path
                for other in images
                if (other.split, other.given_label, other.fault) == source and other.path not in taken
            ]
            image.duplicate_of = str(rng.choice(originals))
            taken.add(image.duplicate_of)


# --- page: paper, ink, scanner ---------------------------------------------------------------


class Hand(NamedTuple):
    """How one image is written."""

    size: float  # height of the numeral, share of the page height
    pen: float  # width of the stroke, share of the page height
    black: bool  # black ink, else dark gray
    lower: bool  # lower case with dots
    bars: str  # "joined": over and under the whole numeral, "serif": on each stroke, or ""
    slant: float  # shift of the top to the right, share of the letter height
    spread: float  # room between letters, share of the letter height
    dry: float  # how much the ink skips


def pick_hand(rng: Generator) -> Hand:
    """Pick one of four habits (ranges of size and pen, share of lower case) and vary it."""
    habit = rng.choice(["tall", "small", "barred", "marker"], p=[0.4, 0.25, 0.2, 0.15])
    size, pen, lower = {
        "tall": ((0.65, 0.92), (0.036, 0.058), 0.15),
        "small": ((0.45, 0.7), (0.036, 0.054), 0.45),
        "barred": ((0.5, 0.82), (0.036, 0.056), 0),
        "marker": ((0.5, 0.72), (0.058, 0.08), 0.5),
    }[habit]
    is_lower = bool(rng.random() < lower)
    bars = str(rng.choice(["joined", "serif"], p=[0.75, 0.25]))
    return Hand(
        size=rng.uniform(*size),
        pen=rng.uniform(*pen),
        black=bool(habit != "tall" or rng.random() < 0.2),
        lower=is_lower,
        bars=bars if habit in ("barred", "marker") and not is_lower else "",
        slant=rng.normal(0.03, 0.1),
        spread=rng.uniform(0.27, 0.44),
        dry=rng.choice([0.0, 0.15, 0.3], p=[0.6, 0.3, 0.1]),
    )


def draw_page(rng: Generator, label: str) -> Image.Image:
    """Draw one scan of the numeral, or of a scribble if the label is "".

    The page is 8-bit gray, 120 to 480 pixels wide and 110 to 420 high.
    """
    height = int(np.clip(rng.normal(235, 45), 110, 420))
    width = int(np.clip(height * np.clip(rng.lognormal(0.1, 0.18), 0.75, 1.7), 120, 480))
    hand, page = pick_hand(rng), np.array([width, height])
    strokes = place_strokes(rng, hand, strokes=write_numeral(rng, hand, label) if label else scribble(rng), page=page)
    if not hand.black and rng.random() < 0.35:
        strokes += draw_neighbours(rng, page)
    ink = [(stroke, hand.pen * height) for stroke in strokes]
    for spot in rng.uniform(0, 1, (rng.poisson(1.5), 2)) * page:
        ink.append((np.array([spot, spot + 1]), rng.uniform(1.5, 4)))
    scan = scan_ink(rng, spread_ink(ink, width, height), hand)
    if rng.random() < 0.25:
        scan = np.minimum(scan, draw_rules(rng, width, height))
    return Image.fromarray(scan)


def place_strokes(rng: Generator, hand: Hand, *, strokes: list[Stroke], page: NDArray[np.int64]) -> list[Stroke]:
    """Slant, turn and stretch strokes to pixels, near the middle of a page of this (width, height)."""
    turn = rng.normal(0, 0.05)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    turned = [stroke @ np.array([[1, 0], [-hand.slant, 1]]) @ rotation for stroke in strokes]
    points = np.concatenate(turned)
    low, span = points.min(axis=0), np.ptp(points, axis=0) + 0.05
    tall = hand.size * page[1] / max(span[1], 0.5)
    wide = min(tall * rng.uniform(0.95, 1.25), 0.95 * page[0] / span[0])
    scale = np.array([wide, min(tall, 1.6 * wide)])
    corner = (page - span * scale) * (0.5 + rng.uniform(-0.16, 0.16, 2))
    return [(stroke - low) * scale + corner for stroke in turned]


def draw_neighbours(rng: Generator, page: NDArray[np.int64]) -> list[Stroke]:
    """Return ends of the strokes of other numerals, in pixels, at the left or right edge."""
    bits = []
    for _ in range(rng.integers(1, 3)):
        start = np.array([rng.choice([0, page[0]]), rng.uniform(0, page[1])])
        bits.append(pull_pen(rng, start, start + rng.uniform([-0.07, 0.05], [0.07, 0.2]) * page))
    return bits


def spread_ink(ink: list[tuple[Stroke, float]], width: int, height: int) -> Ink:
    """Return how much of each pixel is inked, 0 to 1, for strokes and their pen widths."""
    canvas = Image.new("L", (2 * width, 2 * height), 0)  # twice the size, for smooth edges
    draw = ImageDraw.Draw(canvas)
    for stroke, pen in ink:
        draw.line((2 * stroke).ravel().tolist(), 255, round(2 * pen))
        for x, y in (2 * stroke).tolist():
            draw.ellipse((x - pen, y - pen, x + pen, y + pen), 255)
    return np.asarray(canvas.reduce(2).filter(ImageFilter.BoxBlur(1.6)), np.float32) / np.float32(255)


def scan_ink(rng: Generator, inked: Ink, hand: Hand) -> Pixels:
    """Bring the ink down to the tones of a scan; noise makes rough edges and, if dry, gaps."""
    inked = inked + 0.16 * make_noise(rng, inked, 3) * (inked > 0.02)
    if hand.dry:
        inked *= 1 + hand.dry * make_noise(rng, inked, 14)
    scan = np.full(inked.shape, WHITE, np.uint8)
    scan[inked > 0.45] = GRAY
    scan[inked > 0.72] = BLACK if hand.black else GRAY
    return scan


def make_noise(rng: Generator, like: Ink, grain: int) -> Ink:
    """Return smooth noise of about unit deviation with blobs `grain` pixels wide."""
    height, width = like.shape
    small = rng.standard_normal((height // grain + 1, width // grain + 1), np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def draw_rules(rng: Generator, width: int, height: int) -> Pixels:
    """Return the print of lined or gridded paper: plain, dashed or dotted lines."""
    page = Image.new("L", (width, height), WHITE)
    draw = ImageDraw.Draw(page)
    tone = int(rng.choice([GRAY, GRAY, 120, 190]))
    step = rng.uniform(0.35, 0.9) * height
    dash, gap = [(9, 0), (12, 6), (4, 14), (2, 5)][rng.integers(4)]
    for upright in [(False,), (True,), (False, True)][rng.integers(3)]:
        length, across = (height, width) if upright else (width, height)
        for at in np.arange(rng.uniform(0, step), across, step).tolist():
            for start in range(0, length, dash + gap):
                line = [(start, at), (start + dash, at + rng.uniform(-1, 1))]
                if rng.random() < 0.88:  # the scanner lost the others
                    draw.line([(y, x) if upright else (x, y) for x, y in line], tone, 2)
    return np.array(page)


# --- strokes: how a hand moves the pen -------------------------------------------------------


def pull_pen(rng: Generator, start: ArrayLike, end: ArrayLike) -> Stroke:
    """Return one pull of the pen: a cubic Bezier curve that misses start and end a little."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    way = end - start
    side = np.array([-way[1], way[0]])
    first, last = rng.normal(0, [[0.03, 0.02], [0.03, 0.02]]) @ np.array([way, side])
    bends = rng.normal(0, 0.035) + rng.normal(0, 0.018, (2, 1))
    middle = np.array([start + way / 3, start + way * 2 / 3]) + side * bends
    curve: Stroke = CUBIC @ np.array([start + first, *middle, end + last])
    return curve


# --- glyphs: letters of height 1, top at 0, bottom at 1 --------------------------------------


def write_numeral(rng: Generator, hand: Hand, label: str) -> list[Stroke]:
    """Return the strokes of a numeral such as "viii", letter after letter."""
    small = 0.58 if hand.lower else 1.0  # height of a lower case letter
    strokes, left, right = [], 0.0, 0.0
    for letter in label:
        wide = 0.0 if letter == "i" else rng.uniform(0.45, 0.7) * small**0.6
        top, bottom = rng.normal([1 - small, 1], 0.03)
        shape = write_glyph(rng, letter, wide=wide, top=top, bottom=bottom)
        if hand.bars == "serif":
            shape += [write_bar(rng, left=end[0], right=end[0], y=end[1]) for s in shape for end in s[[0, -1]]]
        if hand.lower and letter == "i":
            dot = rng.normal([0, 0.14], 0.035)
            shape.append(pull_pen(rng, dot, dot + [0.01, rng.uniform(0.01, 0.07)]))
        strokes += [stroke + [left, 0] for stroke in shape]
        right = left + wide
        left = right + hand.spread * small**0.3 * rng.uniform(0.8, 1.2)
    if hand.bars == "joined":
        over, under = (write_bar(rng, left=0, right=right, y=y, over=0.18) for y in (0, 1))
        strokes += [[over, under], [over], [under]][rng.choice(3, p=[0.86, 0.07, 0.07])]
    return strokes


def write_glyph(rng: Generator, letter: str, *, wide: float, top: float, bottom: float) -> list[Stroke]:
    """Return the strokes of i, v or x without dot and serifs."""
    left, right = np.array([0, top]), np.array([wide, top + rng.normal(0, 0.04)])
    if letter == "x":
        return [pull_pen(rng, left, [wide, bottom]), pull_pen(rng, right, [0, bottom])]
    if letter == "v":
        foot = np.array([wide * rng.uniform(0.4, 0.6), bottom])
        return [np.concatenate([pull_pen(rng, left, foot), pull_pen(rng, foot, right)])]
    landing, leaving = (rng.random(2) < 0.1) * rng.uniform(0.05, 0.12, 2)  # flicks of the pen
    flick = leaving * ALONG**6 - landing * (1 - ALONG) ** 6
    return [pull_pen(rng, left, [0, bottom]) + flick * [1, 0]]


def write_bar(rng: Generator, *, left: float, right: float, y: float, over: float = 0.11) -> Stroke:
    """Return a level stroke that reaches about `over` beyond both ends."""
    ends = rng.normal([[left - over, y], [right + over, y]], [[0.04, 0.02], [0.04, 0.03]])
    return pull_pen(rng, ends[0], ends[1])


# --- faults ----------------------------------------------------------------------------------


def scribble(rng: Generator) -> list[Stroke]:
    """Return a zigzag or loops: a pen being tried out, or a word struck through."""
    turns = int(rng.integers(5, 9))
    if rng.random() < 0.5:
        ends = np.stack([np.linspace(0, 1.5, 2 * turns), np.tile([0.0, 1.0], turns)], axis=1)
        return [ends + rng.normal(0, 0.1, ends.shape)]
    t, knots = np.linspace(0, 1, 150), np.linspace(0, 1, turns + 1)
    angle = 2 * math.pi * turns * np.interp(t, knots, knots + rng.normal(0, 0.02, turns + 1))
    wide, tall, sway = (np.interp(t, knots, rng.normal(0, 0.3, turns + 1)) for _ in range(3))
    x, y = 1.5 * t + (0.3 + wide) * np.cos(angle), sway + (0.4 + tall) * np.sin(angle)
    return [np.stack([x, y], axis=1)]


def draw_blank_page(number: int) -> Image.Image:
    """Return a white page; no two numbers give the same size, so blanks are no duplicates."""
    return Image.new("L", (200 + 7 * number, 240), WHITE)


# --- write -----------------------------------------------------------------------------------


def draw_sample(out: Path, seed: int) -> list[PlannedImage]:
    """Write a sample.

    Everything is drawn beside `out` and moved there at the end, so `out` is whole or absent.

    Args:
        out: the folder, absent or empty.
        seed: 0 or more; the same seed gives the same bytes.

    Returns:
        The images, sorted by path.
    """
    out = out.resolve()
    with new_directory(out) as draft:
        images = plan_sample(seed)
        write_images(draft, images, seed)
        with (draft / "faults.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(image) for image in images if image.fault)
        (draft / "sample.json").write_text(json.dumps(describe_sample(seed)) + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()  # fails, as it should, if somebody filled it meanwhile
    return images


def write_images(root: Path, images: list[PlannedImage], seed: int) -> None:
    """Draw every image of the plan below `root`, then make the copies."""
    blanks = 0
    for number, image in enumerate(images):
        path = root / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if image.fault == "blank":
            draw_blank_page(blanks).save(path)
            blanks += 1
        elif not image.duplicate_of:
            rng = np.random.default_rng([seed, 1, number])  # each image has its own, so that none depends on another
            draw_page(rng, image.true_label).save(path, compress_level=3)  # higher levels are slow
    for image in images:
        if image.duplicate_of:
            shutil.copyfile(root / image.duplicate_of, root / image.path)


def describe_sample(seed: int) -> dict[str, int]:
    """Return what sample.json holds: it tells one sample from another."""
    return {"format": FORMAT, "seed": seed}


def is_drawn(out: Path, seed: int) -> bool:
    """Tell whether `out` holds the sample of this seed already.

    Raises:
        UserError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder; give another --out.")
    if not out.exists() or not any(out.iterdir()):
        return False
    try:
        content = json.loads((out / "sample.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        content = None
    if content != describe_sample(seed):
        raise UserError(f"{out} is not empty and is not the sample of seed {seed}; give another --out.")
    return True


def describe_missing(out: Path, seed: int) -> str:
    """Say which images of the sample somebody has removed from `out`; empty if none."""
    missing = [image.path for image in plan_sample(seed) if not (out / image.path).is_file()]
    if not missing:
        return ""
    more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    return f", but without {missing[0]}{more}; remove the folder to have all drawn again"


def main() -> None:
    """Run the command line."""
    with command_line():
        _draw(_parse_options())


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the default data set.")
    parser.add_argument("--out", type=Path, default=Path("build/sample"), help="folder to write")
    parser.add_argument("--seed", type=int, default=123, help="0 or more; same seed, same bytes")
    return parse_options(parser)


def _draw(args: argparse.Namespace) -> None:
    from rich.markup import escape  # here, so that --help and mistakes are quick

    from pipelines.output.console import link_to, print_line

    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}; it must be 0 or more.")
    try:
        shown, following = link_to(args.out, str(args.out)), escape(_say_what_is_next(args.out))
        with lock_folder(args.out.resolve().parent):
            is_there = is_drawn(args.out, args.seed)
            images = [] if is_there else draw_sample(args.out, args.seed)
    except OSError as error:
        raise UserError(f"Cannot write {args.out}: {error.strerror or error}.") from None
    if is_there:
        state = escape(describe_missing(args.out, args.seed)) or "; nothing to do"
        print_line(f"{shown} already holds the sample of seed {args.seed}{state}. {following}", markup=True)
        return
    faulty = sum(image.fault != "" for image in images)
    print_line(f"Wrote {len(images)} images, {faulty} of them faulty on purpose, to {shown}. {following}", markup=True)


def _say_what_is_next(out: Path) -> str:
    from pipelines.output.project import write_command  # as above

    words = ["--config", "sample", "--data", str(out / "data"), "--test-data", str(out / "test")]
    return f"Next: {write_command('submit.py', '--local', *words)}"


if __name__ == "__main__":
    main()
