"""Cross-validation: each image is judged by networks that have seen neither it nor a duplicate of it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.audit.judge import Verdict, learn_and_judge
from components.files import new_file

if TYPE_CHECKING:
    import numpy as np


TRUST = 0.2  # least probability of a label that the next repeat learns from


class Settings(NamedTuple):
    folds: int
    repeats: int  # of the whole cross-validation, each with other folds
    epochs: int
    seed: int


def judged(
    views: "np.ndarray", labels: "np.ndarray", groups: "np.ndarray", classes: int, settings: Settings, work: Path
) -> Verdict:
    """The mean verdict of all repeats; each learns only from images whose label those before it did not doubt.

    `views` is uint8 [images, views, side, side], `labels` and `groups` are int [images]. A fold that is finished is
    kept in `work`, and taken over by the next call.
    """
    import numpy as np
    from cleanlab.rank import get_label_quality_scores

    trusted = np.ones(len(labels), bool)
    verdicts: list[Verdict] = []
    for repeat in range(settings.repeats):
        numbers = fold_numbers(labels, groups, settings.folds, settings.seed + repeat)
        verdict = Verdict(np.zeros((len(labels), classes), np.float32), np.zeros(len(labels), np.float32))
        for fold in range(settings.folds):
            print(f"audit: repeat {repeat + 1}/{settings.repeats}, fold {fold + 1}/{settings.folds}", flush=True)
            unseen, learned = numbers == fold, (numbers != fold) & trusted
            kept = work / f"{repeat}-{fold}.npz"
            if not kept.exists():
                seed = settings.seed + repeat * settings.folds + fold
                found = learn_and_judge(views[learned], labels[learned], views[unseen], classes, settings.epochs, seed)
                with new_file(kept) as path, path.open("wb") as file:
                    np.savez(file, **found._asdict())
            with np.load(kept) as parts:
                verdict.probabilities[unseen], verdict.typicality[unseen] = parts["probabilities"], parts["typicality"]
        verdicts.append(verdict)
        mean = Verdict(*(np.mean(parts, axis=0) for parts in zip(*verdicts, strict=True)))
        trusted = get_label_quality_scores(labels, mean.probabilities) >= TRUST
    return mean


def fold_numbers(labels: "np.ndarray", groups: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold of each image, int [images]: a group is in one fold, the classes are spread evenly."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.zeros(len(labels), int)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for number, (_, unseen) in enumerate(split):
        numbers[unseen] = number
    return numbers
