"""What is known of each image -> the rows of issues.csv, those to look at first on top."""

from collections import defaultdict
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy.stats import rankdata

from components.audit.judge import Verdict
from components.audit.state import PictureState, describe_states, name_states
from components.shared.duplicates import Duplicates
from components.shared.formats.examples import CopyOrder
from components.shared.formats.issues import LABEL_KINDS, Issue

UNLIKE = 0.4  # weight of the distance from images of the same label, relative to the weight of the label's probability
DOUBT = 0.3  # a label with a smaller probability is doubted
SURE = 0.6  # from this probability on, a prediction is suggested as the new label
LOST = 0.4  # a prediction with a smaller probability says nothing: perhaps the image is of no class
STRANGE = 0.1  # share of the images that are farther from their own class than one that gets a new label may be from it
ODD = 0.05  # share of the images that are called outliers, if their label is doubted too
WEAK = 0.2  # what each of WEAK_STATES adds to the doubt of an image
WEAK_STATES = frozenset({"cut", "crowded"})  # many good images are in one of them, too
SURE_KINDS = frozenset({"blank", "fragmented", "faded", "framed", "conflicting_duplicate"})


class Tier(IntEnum):
    """What comes before what."""

    SURE = 0  # of one of SURE_KINDS
    DOUBTED = 1  # its label is, or it is in one of WEAK_STATES
    COPY = 2
    GOOD = 3


class AuditedImage(NamedTuple):
    """What is known of an image before it is judged."""

    sha256: str
    filename: str
    split: str
    label: int  # 0-based position in the classes
    blank: bool
    state: PictureState  # NO_INK if it is no ink on paper
    copy_order: CopyOrder


class JudgedImage(NamedTuple):
    """What is known of an image afterwards."""

    image: AuditedImage
    is_judged: bool  # whether the labels of its class are
    may_be_its_guess: bool  # whether the class that it looks like is judged, and so may be suggested
    probabilities: NDArray[np.float32]  # [classes], that the image is of each class
    label_score: float  # see score_images
    outlier_score: float  # likewise
    duplicate_score: float
    odd: bool  # whether it is unlike those of its label
    states: tuple[str, ...]  # the kinds of its state, see name_states
    strange: bool  # whether it is unlike those of the class that it is taken for
    group: int  # of its duplicates
    twins: list[AuditedImage]  # its duplicates without itself


class Suspicion(NamedTuple):
    """What may be wrong with an image; the fields are those of Issue."""

    kinds: tuple[str, ...]
    action: str
    new_label: str
    confidence: float
    why: str


def rank_images(
    images: list[AuditedImage],
    verdict: Verdict,
    *,
    is_judged: NDArray[np.bool_],
    duplicates: Duplicates,
    classes: list[str],
    ink: bool,
) -> list[Issue]:
    """Makes a row per image: doubted images, the worst first, then other duplicates, then the rest.

    Doubted are a label and the state of a picture. By one rule the two make one order: a state that hardly a good image
    is in, such as faded, comes first, beside blank pages and what stands under two labels. A state that many good
    images are in as well, such as cut, adds WEAK to the doubt about the label, once for each such state. So of two
    labels that are doubted alike the one whose ink is cut comes first, and what is cut alone comes after most doubted
    labels. What a policy may do by itself depends on the label alone.

    Args:
        images: The images.
        verdict: What the judges say about them, in the same order.
        is_judged: Whether the labels of each class are judged, bool [classes]; none of the others is suggested.
        duplicates: Which of them are alike, in the same order.
        classes: The names of the classes.
        ink: Whether the images are ink on paper.

    Returns:
        The rows by rank. Of duplicates that are suspected of nothing else the first is the one to keep.
    """
    judged = _judge(images, verdict, is_judged, duplicates)
    most_doubted: defaultdict[int, float] = defaultdict(float)
    for each in judged:
        most_doubted[each.group] = max(most_doubted[each.group], _doubt(each))
    ordered = []
    for each in judged:
        issue = _make_issue(each, _suspect(each, classes, ink=ink), classes)
        tier = _tier(issue)
        doubt = most_doubted[each.group] if tier is Tier.COPY else _doubt(each)  # copies stay together
        image = each.image
        ordered.append(((tier, -doubt, image.split != "val", image.copy_order, image.filename), issue))
    ordered.sort(key=lambda pair: pair[0])
    return [issue._replace(rank=rank) for rank, (_, issue) in enumerate(ordered, start=1)]


def _judge(
    images: list[AuditedImage], verdict: Verdict, is_judged: NDArray[np.bool_], duplicates: Duplicates
) -> list[JudgedImage]:
    quality, strangeness = score_images(np.array([image.label for image in images]), verdict)
    odd = verdict.distance >= np.nanquantile(verdict.distance, 1 - ODD)
    strange = verdict.guess_distance > np.nanquantile(verdict.distance, 1 - STRANGE)
    states = name_states([image.state for image in images], np.array([image.label for image in images]))
    numbers = [int(number) for number in duplicates.groups]
    groups: defaultdict[int, list[AuditedImage]] = defaultdict(list)
    for image, number in zip(images, numbers, strict=True):
        groups[number].append(image)
    return [
        JudgedImage(
            image=image,
            is_judged=bool(is_judged[image.label]),
            may_be_its_guess=bool(is_judged[verdict.probabilities[place].argmax()]),
            probabilities=verdict.probabilities[place],
            label_score=float(quality[place]),
            outlier_score=float(strangeness[place]),
            duplicate_score=float(duplicates.likeness[place]),
            odd=bool(odd[place]),
            states=states[place],
            strange=bool(strange[place]),
            group=number,
            twins=[other for other in groups[number] if other is not image],
        )
        for place, (image, number) in enumerate(zip(images, numbers, strict=True))
    ]


def score_images(labels: NDArray[np.int64], verdict: Verdict) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores the label of each image, and how unlike the other images of its label it is.

    Args:
        labels: int64 [images].
        verdict: What the judges say about the images.

    Returns:
        cleanlab's label quality, the probability of the label adjusted by class (Northcutt et al., "Confident
        Learning", 2021), and the rank of the distance from images of the same label, 0 where that was not measured;
        each float64 [images], 0 to 1.
    """
    quality = get_label_quality_scores(labels, verdict.probabilities, adjust_pred_probs=True)
    is_measured = np.isfinite(verdict.distance)
    ranks = np.zeros(len(labels))
    ranks[is_measured] = rankdata(verdict.distance[is_measured]) / is_measured.sum()
    return quality, ranks


def _doubt(judged: JudgedImage) -> float:
    weak = len(WEAK_STATES.intersection(judged.states))
    return 1 - judged.label_score + UNLIKE * judged.outlier_score + WEAK * weak


def _tier(issue: Issue) -> Tier:
    if SURE_KINDS.intersection(issue.kinds):
        return Tier.SURE
    if (LABEL_KINDS | WEAK_STATES).intersection(issue.kinds):
        return Tier.DOUBTED
    return Tier.COPY if issue.kinds else Tier.GOOD


def _suspect(judged: JudgedImage, classes: list[str], *, ink: bool) -> Suspicion:
    """Says what may be wrong with an image."""
    label, guess = classes[judged.image.label], classes[int(judged.probabilities.argmax())]
    given, best = float(judged.probabilities[judged.image.label]), float(judged.probabilities.max())
    doubted = given < DOUBT
    kinds = _list_kinds(judged, doubted=doubted, taken_for_another=guess != label, lost=best < LOST)
    suggested = guess if guess != label and doubted and judged.may_be_its_guess and not judged.strange else ""
    state = describe_states(judged.states, judged.image.state)
    and_state = f" {state}" if state else ""
    if "blank" in kinds:
        return Suspicion(kinds, "drop", "", 1.0, "There is no ink." if ink else "It is of one plain colour.")
    if suggested and best >= SURE:
        return Suspicion(kinds, "relabel", suggested, best, f"It looks like {guess}, not like {label}.{and_state}")
    if "ambiguous" in kinds and judged.odd:
        why = "It looks like no class, and unlike the other images of its own."
        return Suspicion(kinds, "drop", suggested, 1 - best, why + and_state)
    if "conflicting_duplicate" in kinds:
        other = next(twin for twin in judged.twins if twin.label != judged.image.label)
        why = f"The same picture is {classes[other.label]} in {other.filename}.{and_state}"
        return Suspicion(kinds, "look", suggested, 1 - given, why)
    if doubted:
        why = f"It looks like {guess} or something else, hardly like {label}."
        if guess == label:
            why = f"It hardly looks like {label}."
        elif judged.strange:
            why = f"It hardly looks like {label}, and is unlike the images of {guess}, too."
        return Suspicion(kinds, "look", suggested, 1 - given, why + and_state)
    again = _describe_twin(judged, kinds, ink=ink) if judged.twins else ""
    if judged.states:
        return Suspicion(kinds, "look", "", 1 - given, f"{state} {again}".strip())
    if judged.twins:
        return Suspicion(kinds, "keep_one", "", 1.0, again)
    return Suspicion(kinds, "", "", given, "")


def _describe_twin(judged: JudgedImage, kinds: tuple[str, ...], *, ink: bool) -> str:
    same = ", apart from its place on the page" if ink else ""
    if "exact_duplicate" in kinds:
        same = ", byte for byte"
    return f"It is {judged.twins[0].filename} again{same}."


def _list_kinds(judged: JudgedImage, *, doubted: bool, taken_for_another: bool, lost: bool) -> tuple[str, ...]:
    image, twins = judged.image, judged.twins
    doubted = doubted and not image.blank
    applies = {
        "blank": image.blank,
        **dict.fromkeys(judged.states, True),
        "label": doubted and taken_for_another,
        "ambiguous": doubted and lost,
        "outlier": doubted and judged.odd,
        "exact_duplicate": any(twin.sha256 == image.sha256 for twin in twins),
        "near_duplicate": any(twin.sha256 != image.sha256 for twin in twins),
        "conflicting_duplicate": any(twin.label != image.label for twin in twins),
    }
    return tuple(kind for kind, is_so in applies.items() if is_so)


def _make_issue(judged: JudgedImage, suspicion: Suspicion, classes: list[str]) -> Issue:
    """Makes the row of an image but for its rank, which depends on the others."""
    image, probabilities = judged.image, judged.probabilities
    guess = int(probabilities.argmax())
    return Issue(
        rank=0,
        sha256=image.sha256,
        filename=image.filename,
        split=image.split,
        label=classes[image.label],
        kinds=suspicion.kinds,
        action=suspicion.action,
        new_label=suspicion.new_label,
        confidence=round(suspicion.confidence, 4),
        prediction=classes[guess] if judged.is_judged else "",
        probability=round(float(probabilities[guess]), 4) if judged.is_judged else None,
        label_probability=round(float(probabilities[image.label]), 4) if judged.is_judged else None,
        label_score=round(judged.label_score, 4),
        outlier_score=round(judged.outlier_score, 4),
        duplicate_score=round(judged.duplicate_score, 4),
        group=judged.group + 1 if judged.twins else None,
        why=suspicion.why,
    )
