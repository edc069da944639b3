"""The state of a picture of ink on paper, whatever it shows: faded, broken, cut off, crowded, framed."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from components.shared.ink import SPECKS, crop_ink, measure_stroke

# What is no drawing has no state. Measured: of handwriting, also faded, broken, cropped and overlaid, at least 0.93 of
# the tones' variance is between ink and paper, of noise and gradients at most 0.8; the dustiest page has 0.017 outlines
# for each pixel, noise of two tones 0.038 and more.
CALM = 0.85  # of that variance; with less, what is not ink is no paper
NOISY = 0.03  # outlines for each pixel, of the parts of the ink and of its holes; ink with more is noise
PARTS = 6.0  # ink in fewer parts, as count_parts counts them, is whole: a viii whose dots stand apart has about five
FRAGMENTED = 1.5  # times as many parts as the usual image of its label has make an image fragmented
FADED = 0.5  # of the usual contrast between ink and paper; what is left is faded
OWN = 0.15  # share of the ink from which a part of it is no neighbour or ruled line that the edge cuts
NIB = 0.6  # of the strokes' width; ink that meets the edge in less is a thin line, or a stroke that ends there
CUT = 1.0  # widths of a stroke that meet one edge: one that ends there is rounded, and so meets it in less
FENCE = 2.0  # interquartile ranges above the upper quartile; Tukey's fences are at 1.5 and 3
FRAME_HOLE = 0.6  # share of a frame's area that one of its holes has; that of a numeral's bars is smaller
FRAMED_INK = 0.2  # of the frame's longer side that ink in that hole measures; a speck is smaller
BOX_AREA = 0.85  # share of the least rectangle around it that a box fills; bars over and under a numeral stand out
BOX_HOLES = 0.5  # share of a box's area that its holes have together
BOX_EDGES = 1.25  # times the length of its outline that the edges of its holes have, if ink divides the box
LEAST_RANGE = 0.1  # of the upper quartile; the interquartile range of images that are all alike says nothing
COMMON = 0.2  # share of the images; a state that more are in is how they are made, and no fault
COMMON_IN_LABEL = 0.5  # likewise of the images of a label, such as circled digits beside plain ones
LEAST_COMMON = 5  # images of a label; fewer in a state do not say that the label is made so
MOST_OUTLINES = 2000  # to look for a frame among them; to follow those of a dustier page takes too long
SIDES = ("top", "bottom", "left", "right")


class PictureState(NamedTuple):
    """What is measured of the ink of one picture; all of it stays the same if the picture is enlarged or inverted."""

    parts: float  # see count_parts
    contrast: float  # tones between the ink and its paper
    cut: float  # widths of a stroke in which its own ink meets the edge, where that is most
    side: str  # of SIDES, that edge; "" if there is none
    strokes: float  # those side by side on the usual row, times the ink's width by its height
    framed: bool  # whether an outline encloses other ink


NO_INK = PictureState(parts=0.0, contrast=0.0, cut=0.0, side="", strokes=0.0, framed=False)


def measure_state(gray: NDArray[np.uint8], ink: NDArray[np.bool_]) -> PictureState:
    """Measures the state of a picture.

    Args:
        gray: uint8 [height, width], its tones.
        ink: bool [height, width], its ink as `find_ink` finds it.

    Returns:
        The measures; NO_INK of what is no drawing on calm paper, such as a blank page, noise or a gradient.
    """
    mask = ink.view(np.uint8)
    if not ink.any() or _measure_two_tones(gray, mask) < CALM:
        return NO_INK
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = np.asarray(stats[1:, cv2.CC_STAT_AREA], np.int32)  # the first is the paper
    outlines = len(areas) + cv2.connectedComponents(1 - mask, connectivity=4)[0] - 1
    if outlines > NOISY * mask.size:
        return NO_INK
    cut, side = _measure_cut(np.asarray(numbers, np.int32), areas, measure_stroke(ink))
    return PictureState(
        parts=count_parts(areas),
        contrast=abs(cv2.mean(gray, mask)[0] - cv2.mean(gray, 1 - mask)[0]),
        cut=cut,
        side=side,
        strokes=_measure_strokes(crop_ink(ink, SPECKS)),
        framed=outlines <= MOST_OUTLINES and _is_framed(mask),
    )


def _measure_two_tones(gray: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Measures the share of the tones' variance that is between ink and paper, as ink.is_line_drawing does.

    Args:
        gray: uint8 [height, width].
        mask: uint8 [height, width], 1 where there is ink.
    """
    share, (mean, deviation) = cv2.countNonZero(mask) / mask.size, cv2.meanStdDev(gray)
    return float(share / (1 - share) * ((cv2.mean(gray, mask)[0] - mean[0, 0]) / deviation[0, 0]) ** 2)


def count_parts(areas: NDArray[np.int32]) -> float:
    """Counts the separate parts of the ink, small ones less: the dashes of a ruled line beside a numeral hardly count.

    That is the inverse of Simpson's index (Measurement of Diversity, Nature 163, 1949): N for N parts of one size.

    Args:
        areas: Their pixels, int [parts], at least one.

    Returns:
        1 or more.
    """
    return float(areas.sum(dtype=float) ** 2 / (areas.astype(float) ** 2).sum())


def _measure_cut(numbers: NDArray[np.int32], areas: NDArray[np.int32], stroke: float) -> tuple[float, str]:
    """Measures in which edge most of the larger parts of the ink end, and how much.

    Args:
        numbers: int [height, width], the part that each pixel belongs to; 0 is paper.
        areas: int [parts], their pixels.
        stroke: The strokes' width in pixels.

    Returns:
        In how many widths of a stroke, and the edge, of SIDES.
    """
    own = np.concatenate([[False], areas >= OWN * areas.sum()])
    edges = (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1])
    met = [_measure_runs(own[edge], NIB * stroke) / stroke for edge in edges]
    most = max(met)
    return most, SIDES[met.index(most)] if most else ""


def _measure_runs(line: NDArray[np.bool_], least: float) -> int:
    """Adds up the lengths of the runs of true values that have at least a certain length."""
    ends = np.flatnonzero(np.diff(line, prepend=False, append=False))
    lengths = ends[1::2] - ends[::2]
    return int(lengths[lengths >= least].sum())


def _measure_strokes(box: NDArray[np.bool_]) -> float:
    """Measures how much stands side by side: the strokes on the usual row of the ink's box, times its aspect."""
    if not box.size:
        return 0.0
    begun = np.count_nonzero(box[:, 1:] & ~box[:, :-1]) + np.count_nonzero(box[:, 0])
    return begun / box.shape[0] * box.shape[1] / box.shape[0]


def _is_framed(mask: NDArray[np.uint8]) -> bool:
    """Whether an outline encloses other ink, or is a box with ink in it that touches the box.

    Args:
        mask: uint8 [height, width], 1 where there is ink.
    """
    contours, links = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)

    def list_inside(number: int) -> list[int]:
        """The contours directly within one: the holes of an outline, or the outlines of the ink in a hole."""
        inside, number = [], links[0][number][2]
        while number >= 0:
            inside.append(number)
            number = links[0][number][0]
        return inside

    for number in np.flatnonzero((links[0][:, 3] < 0) & (links[0][:, 2] >= 0)):  # outermost, with holes
        holes = list_inside(number)
        ink = [[contours[part] for part in list_inside(hole)] for hole in holes]
        parts = [contours[hole] for hole in holes]
        if _is_around_ink(contours[number], parts, ink) or _is_divided_box(contours[number], parts):
            return True
    return False


def _is_around_ink(outline: MatLike, holes: list[MatLike], ink: list[list[MatLike]]) -> bool:
    """Whether an outline has a large hole with ink in it that does not touch the outline.

    Args:
        outline: The contour of a part of the ink.
        holes: The contours of its holes.
        ink: The contours of the ink in each hole.
    """
    area, side = cv2.contourArea(outline), _measure_side(outline)
    return any(
        cv2.contourArea(hole) >= FRAME_HOLE * area and any(_measure_side(part) >= FRAMED_INK * side for part in parts)
        for hole, parts in zip(holes, ink, strict=True)
    )


def _measure_side(contour: MatLike) -> int:
    """The longer side of the upright rectangle around a contour."""
    return max(cv2.boundingRect(contour)[2:])


def _is_divided_box(outline: MatLike, holes: list[MatLike]) -> bool:
    """Whether an outline is a box, turned or not, that ink which touches it divides: the edges of its holes are long.

    Args:
        outline: The contour of a part of the ink.
        holes: The contours of its holes.
    """
    area, rectangle = cv2.contourArea(outline), np.prod(cv2.minAreaRect(outline)[1])
    edges = sum(cv2.arcLength(hole, closed=True) for hole in holes)
    return bool(
        area >= BOX_AREA * rectangle
        and sum(map(cv2.contourArea, holes)) >= BOX_HOLES * area
        and edges >= BOX_EDGES * cv2.arcLength(outline, closed=True)
    )


def name_states(states: Sequence[PictureState], labels: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """Names the states in which pictures are and the usual one of the data set, or of its label, is not.

    People discard such pictures even where they can be read. A state that is common among all pictures, or among those
    of a label, is none: then it is how they were made. Only pictures that have ink say what is usual.

    Args:
        states: What is measured of each picture; NO_INK of one that is blank, or no drawing.
        labels: Their labels, int64 [pictures].

    Returns:
        Of each the kinds, as issues.csv has them.
    """
    named: list[tuple[str, ...]] = [()] * len(states)
    inked = [place for place, state in enumerate(states) if state.parts]
    if not inked:
        return named
    labels = labels[inked]
    measured = {field: np.array([getattr(states[place], field) for place in inked]) for field in PictureState._fields}
    found = {
        "fragmented": _find_fragmented(measured["parts"], labels),
        "faded": measured["contrast"] < FADED * np.median(measured["contrast"]),
        "framed": measured["framed"],
        "cut": measured["cut"] >= CUT,
        "crowded": _find_crowded(measured["strokes"], labels),
    }
    rare = {kind: _leave_out_common(is_so, labels) for kind, is_so in found.items()}
    for number, place in enumerate(inked):
        named[place] = tuple(kind for kind, is_so in rare.items() if is_so[number])
    return named


def _leave_out_common(is_so: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Leaves out a state that is common, and of a label one that is common in it.

    Args:
        is_so: Whether each picture is in the state, bool [pictures].
        labels: Their labels, int64 [pictures].
    """
    if is_so.sum() > COMMON * len(is_so):
        return np.zeros_like(is_so)
    rare = is_so.copy()
    for label in np.unique(labels[is_so]):
        own = labels == label
        if is_so[own].sum() >= LEAST_COMMON and is_so[own].mean() > COMMON_IN_LABEL:
            rare[own] = False
    return rare


def _find_fragmented(parts: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Finds ink in many parts, and in far more than is usual for its label: broken strokes, dust, several drawings."""
    usual = {label: np.median(parts[labels == label]) for label in np.unique(labels)}
    return parts >= np.maximum(PARTS, FRAGMENTED * np.array([usual[label] for label in labels]))


def _find_crowded(strokes: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Finds far more strokes side by side than the other pictures of the label have, after Tukey's rule of outliers."""
    crowded = np.zeros(len(strokes), bool)
    for label in np.unique(labels):
        own = labels == label
        lower, upper = np.percentile(strokes[own], [25, 75])
        crowded[own] = strokes[own] > upper + FENCE * max(upper - lower, LEAST_RANGE * upper)
    return crowded


def describe_states(kinds: tuple[str, ...], state: PictureState) -> str:
    """Says in a sentence each in which of its states a picture is.

    Args:
        kinds: The kinds of the picture.
        state: What is measured of it.
    """
    sentences = {
        "fragmented": f"Its ink is in about {state.parts:.0f} parts.",
        "faded": "Its ink hardly stands out from its paper.",
        "framed": "It has a frame around its ink.",
        "cut": f"Its ink runs into the {state.side} edge.",
        "crowded": "It has far more strokes side by side than the others of its label.",
    }
    return " ".join(sentence for kind, sentence in sentences.items() if kind in kinds)
