"""Measures how well and how fast duplicates are found.

    .venv-stages/bin/python benchmarks/duplicates.py
    .venv-stages/bin/python benchmarks/duplicates.py --numerals DIR --images 12500 25000 50000 100000

The first table has precision and recall on sets into which copies were put, scaled or compressed: of every fourth
picture one. DIR holds train/<class>/ and val/<class>/ of ink on paper; its own duplicates count as errors, unless they
are the same bytes. The second table has the seconds and the memory of grouping so many fingerprints, mixed from those
of the sets, and their ratio to the line before.
"""

import argparse
import io
import resource
import sys
import time
from pathlib import Path

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
from components.shared.duplicates import Fingerprint, find_duplicates, fingerprint, is_ink_on_paper  # noqa: E402

COLOURS = ((220, 40, 40), (40, 160, 60), (40, 70, 210))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numerals", type=Path, help="a folder of ink on paper")
    parser.add_argument("--images", type=int, nargs="+", default=[12_500, 25_000, 50_000])
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    photographs = load_photographs()
    sets = {
        "shapes": draw_shapes(rng, 1000, filled=True),
        "outlines": draw_shapes(rng, 1000, filled=False),
        "digits, 8 x 8": draw_digits(1)[0],
        "digits, 32 x 32": draw_digits(4)[0],
        "textures, 96 x 96": [crop for photograph in photographs for crop in cut_textures(rng, photograph, 500, 96)],
        "textures, 200 x 200": [crop for photograph in photographs for crop in cut_textures(rng, photograph, 150, 200)],
        "gradients": [draw_gradient(rng) for _ in range(1000)],
    }
    if options.numerals:
        paths = sorted(options.numerals.glob("*/*/*.*"))
        sets["numerals"] = list({path.read_bytes(): np.asarray(Image.open(path)) for path in paths}.values())
    print("| set | pictures | ink | precision | recall |\n|---|---|---|---|---|")
    known = []
    for name, pictures in sets.items():
        known += [fingerprint(picture) for picture in pictures]
        print(f"| {name} | {len(pictures)} | {measure(known[-len(pictures) :], pictures, rng)} |", flush=True)
    print("\n| images | seconds | ratio | recall | peak MiB |\n|---|---|---|---|---|")
    before = 0.0
    for count in options.images:
        seconds, recall = time_grouping(known, count, rng)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"| {count:,} | {seconds:.1f} | {seconds / before if before else 1:.2f} | {recall:.3f} | {peak} |",
            flush=True,
        )
        before = seconds


def measure(originals: list[Fingerprint], pictures: list[Picture], rng: np.random.Generator) -> str:
    """The cells of a row: whether it is ink, precision and recall."""
    sources = rng.choice(len(pictures), len(pictures) // 4, replace=False)
    prints = [*originals, *(fingerprint(save_again(pictures[source], rng)) for source in sources)]
    groups = find_duplicates(prints, is_ink_on_paper(prints)).groups
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    found = {(int(a), int(b)) for group in members for a in group for b in group if a < b}
    known = {(int(source), len(pictures) + number) for number, source in enumerate(sources)}
    hits = len(found & known)
    return f"{is_ink_on_paper(prints)} | {hits / max(len(found), 1):.3f} | {hits / len(known):.3f}"


def save_again(picture: Picture, rng: np.random.Generator) -> Picture:
    """Scales the picture, or saves it as JPEG, or both."""
    image = Image.fromarray(picture)
    how = rng.integers(3)
    if how != 0:
        factor = rng.uniform(0.5 if min(image.size) >= 32 else 1, 2)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    if how != 1:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        image = Image.open(buffer)
    return np.asarray(image)


def draw_shapes(rng: np.random.Generator, count: int, *, filled: bool) -> list[Picture]:
    """Circles, squares and triangles in three colours, none twice."""
    drawn: dict[bytes, Picture] = {}
    while len(drawn) < count:
        picture = draw_shape(rng, SHAPES[len(drawn) % 3], COLOURS[rng.integers(3)], filled=filled)
        drawn[picture.tobytes()] = picture
    return list(drawn.values())


def time_grouping(known: list[Fingerprint], count: int, rng: np.random.Generator) -> tuple[float, float]:
    """The seconds to group so many different fingerprints and copies of every twentieth, and the recall of these."""
    tones = np.array([np.frombuffer(image.pixels, np.uint8) for image in known])
    prints = []
    for number in range(count):
        one, other, share = number % len(known), rng.integers(len(known)), rng.uniform(0.3, 0.7)
        mixed = (tones[one] * share + tones[other] * (1 - share)).astype(np.uint8)
        prints.append(known[one]._replace(pixels=mixed.tobytes()))
    sources = rng.choice(count, count // 20, replace=False)
    for source in sources:
        shaken = np.frombuffer(prints[source].pixels, np.uint8).astype(int) + rng.integers(-1, 2, tones.shape[1])
        prints.append(prints[source]._replace(pixels=np.clip(shaken, 0, 255).astype(np.uint8).tobytes()))
    start = time.perf_counter()
    groups = find_duplicates(prints, ink=False).groups
    return time.perf_counter() - start, float((groups[sources] == groups[count:]).mean())


if __name__ == "__main__":
    main()
