"""Spoils pictures of ink on paper as pens, scanners and people do: what benchmarks/audit.py puts into a data set."""

import cv2
import numpy as np
from numpy.typing import NDArray

from components.shared.ink import SPECKS, crop_ink, find_ink, find_ink_spans, measure_stroke

Picture = NDArray[np.uint8]  # [height, width], tones

FADED = (0.15, 0.45)  # share of the contrast that is left
CUT = (0.15, 0.35)  # share of the ink's box that is cut off at one side


def fade(rng: np.random.Generator, page: Picture, _: Picture) -> Picture:
    """Blends the ink towards its paper."""
    paper = np.median(page[~find_ink(page)])
    return np.asarray(np.rint(paper + rng.uniform(*FADED) * (page - paper)), np.uint8)


def break_strokes(rng: np.random.Generator, page: Picture, _: Picture) -> Picture:
    """Leaves gaps in the strokes, as a dry pen does: bands of bare paper across the page, at any angle to the lines."""
    ink = find_ink(page)
    (left, right), (top, bottom) = find_ink_spans(ink, SPECKS)
    side = max(right - left, bottom - top)
    rows, columns = np.indices(page.shape)
    turn = rng.uniform(-0.6, 0.6)
    along = (rows * np.cos(turn) + columns * np.sin(turn)) / side + rng.uniform()
    period = rng.uniform(0.08, 0.16)
    gaps = along % period < rng.uniform(0.25, 0.45) * period
    return np.where(ink & gaps, _find_paper(page, ink), page)


def crop(rng: np.random.Generator, page: Picture, _: Picture) -> Picture:
    """Cuts off a part of the ink at one side of the page, through strokes."""
    for _attempt in range(50):
        turns = int(rng.integers(4))
        turned = np.rot90(page, turns)
        ink = find_ink(turned)
        (left, right), _rows = find_ink_spans(ink, SPECKS)
        edge = left + round(rng.uniform(*CUT) * (right - left))
        if np.count_nonzero(ink[:, edge] & ink[:, edge - 1]) >= measure_stroke(ink) / 2:
            break
    return np.ascontiguousarray(np.rot90(turned[:, edge:], -turns))


def overlay(rng: np.random.Generator, page: Picture, other: Picture) -> Picture:
    """Puts a second drawing on the page: over the first, somewhat shifted, or beside it."""
    paper = _find_paper(page, find_ink(page))
    scale = page.shape[0] / other.shape[0]
    other = cv2.resize(other, (max(1, round(scale * other.shape[1])), page.shape[0]), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        return np.hstack([page, other])
    ink = find_ink(other)
    both = np.full((page.shape[0], max(page.shape[1], other.shape[1])), paper, np.uint8)
    both[:, : page.shape[1]] = page
    both[:, : other.shape[1]][ink] = other[ink]
    return both


def frame(rng: np.random.Generator, page: Picture, _: Picture) -> Picture:
    """Draws a box around the ink by hand."""
    ink = find_ink(page)
    tone, paper = int(np.median(page[ink])), _find_paper(page, ink)
    (left, right), (top, bottom) = find_ink_spans(ink, SPECKS)
    side = max(right - left, bottom - top)
    room = side // 2
    page = cv2.copyMakeBorder(page, room, room, room, room, cv2.BORDER_CONSTANT, value=paper)
    margin = rng.uniform(0.08, 0.3, 2) * side
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) + room
    outwards = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * margin
    corners = np.rint(corners + outwards + rng.normal(0, 0.02 * side, (4, 2))).astype(np.int32)
    cv2.polylines(page, [corners], isClosed=True, color=tone, thickness=max(2, round(rng.uniform(0.02, 0.06) * side)))
    return page


SPOILERS = {"fade": fade, "break": break_strokes, "crop": crop, "overlay": overlay, "frame": frame}


def spoil(rng: np.random.Generator, kind: str, one: bytes, other: bytes) -> bytes:
    """Spoils a picture in one way.

    Args:
        rng: Where chance comes from.
        kind: A key of SPOILERS.
        one: The encoded picture.
        other: Another one; an overlay takes its ink.

    Returns:
        A PNG.
    """
    page, second = (cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_GRAYSCALE) for each in (one, other))
    return cv2.imencode(".png", SPOILERS[kind](rng, page, second))[1].tobytes()


def has_ink(encoded: bytes) -> bool:
    """Whether there is something to spoil."""
    page = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    return bool(crop_ink(find_ink(page), SPECKS).size)


def _find_paper(page: Picture, ink: NDArray[np.bool_]) -> int:
    return int(np.median(page[~ink]))
