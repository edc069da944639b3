"""What is known of each image -> the rows of issues.csv, those to look at first on top."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from components.audit.duplicates import Duplicates
from components.audit.judge import Verdict

if TYPE_CHECKING:
    import numpy as np

COLUMNS = (
    "rank",
    "sha256",
    "filename",
    "split",
    "label",
    "kinds",
    "action",
    "new_label",
    "confidence",
    "prediction",
    "probability",
    "label_probability",
    "label_score",
    "outlier_score",
    "duplicate_score",
    "group",
    "why",
    "decision",
    "decided_label",
)
UNLIKE = 0.4  # weight of the distance from images of the same label, beside that of the label's probability
DOUBT = 0.3  # a label with a smaller probability is doubted
SURE = 0.6  # a prediction with this probability is worth a new label
LOST = 0.4  # a prediction with a smaller one is none: perhaps no image of any class
ODD = 0.05  # share of the images that are called outliers, if their label is doubted too


class Described(NamedTuple):
    sha256: str
    filename: str
    split: str
    label: int  # 0-based position in the classes
    blank: bool


class Finding(NamedTuple):
    kinds: list[str]
    action: str  # relabel, drop, keep_one, look, or "" for an image that is as it should be
    new_label: str
    confidence: float  # that the action is right, 0 to 1
    why: str


def ranked(
    images: list[Described], verdict: Verdict, duplicates: Duplicates, classes: list[str]
) -> list[dict[str, Any]]:
    """A row per image as issues.csv has it: doubted images, the worst first, then other duplicates, then the rest.

    The first row of a group of duplicates is the one to keep.
    """
    import numpy as np

    quality, strangeness = scores(np.array([image.label for image in images]), verdict)
    doubts = 1 - quality + UNLIKE * strangeness
    odd = verdict.distance >= np.quantile(verdict.distance, 1 - ODD)
    members = defaultdict(list)
    for image, group in zip(images, duplicates.groups, strict=True):
        members[group].append(image)
    rows = []
    for number, image in enumerate(images):
        probabilities, group = verdict.probabilities[number], members[duplicates.groups[number]]
        finding = _finding(image, probabilities, bool(odd[number]), group, classes)
        row = _row(image, probabilities, finding, classes)
        row["label_score"] = round(float(quality[number]), 4)
        row["outlier_score"] = round(float(strangeness[number]), 4)
        row["duplicate_score"] = round(float(duplicates.likeness[number]), 4)
        row["group"] = int(duplicates.groups[number]) + 1 if len(group) > 1 else ""
        order = (_tier(finding), -doubts[number], image.split != "val", image.filename)
        rows.append((order, row))
    return [{**row, "rank": rank} for rank, (_, row) in enumerate(sorted(rows, key=lambda pair: pair[0]), start=1)]


def scores(labels: "np.ndarray", verdict: Verdict) -> tuple["np.ndarray", "np.ndarray"]:
    """cleanlab's label quality, the probability of the label adjusted by class, and the rank of the distance from
    images of the same label; each float [images], 0 to 1."""
    from cleanlab.rank import get_label_quality_scores
    from scipy.stats import rankdata

    quality = get_label_quality_scores(labels, verdict.probabilities, adjust_pred_probs=True)
    return quality, rankdata(verdict.distance) / len(labels)


def _tier(finding: Finding) -> int:
    if "blank" in finding.kinds or "conflicting_duplicate" in finding.kinds:
        return 0
    if {"label", "ambiguous", "outlier"} & set(finding.kinds):
        return 1
    return 2 if finding.kinds else 3


def _finding(
    image: Described, probabilities: "np.ndarray", odd: bool, group: list[Described], classes: list[str]
) -> Finding:
    """What is wrong with an image, of a `group` of duplicates that holds itself."""
    label, guess = classes[image.label], classes[int(probabilities.argmax())]
    given, best = float(probabilities[image.label]), float(probabilities.max())
    doubted = given < DOUBT
    twins = [other for other in group if other is not image]
    kinds = _kinds(image, twins, doubted and guess != label, doubted and best < LOST, doubted and odd)
    suggested = guess if guess != label and doubted else ""
    if image.blank:
        return Finding(kinds, "drop", "", 1.0, "There is no ink.")
    if suggested and best >= SURE:
        return Finding(kinds, "relabel", suggested, best, f"It looks like {guess}, not like {label}.")
    if "ambiguous" in kinds and odd:
        return Finding(
            kinds, "drop", suggested, 1 - best, "It looks like no class, and unlike the other images of its own."
        )
    if "conflicting_duplicate" in kinds:
        other = next(twin for twin in twins if twin.label != image.label)
        return Finding(
            kinds, "look", suggested, 1 - given, f"The same picture is {classes[other.label]} in {other.filename}."
        )
    if doubted:
        why = (
            f"It looks like {guess} or something else, hardly like {label}." if suggested else f"It is a poor {label}."
        )
        return Finding(kinds, "look", suggested, 1 - given, why)
    if twins:
        same = "byte for byte" if "exact_duplicate" in kinds else "but for its place on the page"
        return Finding(kinds, "keep_one", "", 1.0, f"It is {twins[0].filename} again, {same}.")
    return Finding(kinds, "", "", given, "")


def _kinds(image: Described, twins: list[Described], mislabelled: bool, lost: bool, odd: bool) -> list[str]:
    found = {
        "blank": image.blank,
        "label": mislabelled and not image.blank,
        "ambiguous": lost and not image.blank,
        "outlier": odd and not image.blank,
        "exact_duplicate": any(twin.sha256 == image.sha256 for twin in twins),
        "near_duplicate": any(twin.sha256 != image.sha256 for twin in twins),
        "conflicting_duplicate": any(twin.label != image.label for twin in twins),
    }
    return [kind for kind, is_so in found.items() if is_so]


def _row(image: Described, probabilities: "np.ndarray", finding: Finding, classes: list[str]) -> dict[str, Any]:
    guess = int(probabilities.argmax())
    return {
        "sha256": image.sha256,
        "filename": image.filename,
        "split": image.split,
        "label": classes[image.label],
        "kinds": ";".join(finding.kinds),
        "action": finding.action,
        "new_label": finding.new_label,
        "confidence": round(finding.confidence, 4),
        "prediction": classes[guess],
        "probability": round(float(probabilities[guess]), 4),
        "label_probability": round(float(probabilities[image.label]), 4),
        "why": finding.why,
        "decision": "",
        "decided_label": "",
    }
