"""Cross-validation: each image is judged by networks that have seen neither it nor a duplicate of it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.audit.judge import Verdict, learn_and_judge
from components.shared.errors import UserError

if TYPE_CHECKING:
    import numpy as np


BELIEF = 0.2  # least probability of a label that the next repeat learns from


class Settings(NamedTuple):
    folds: int
    repeats: int  # of the whole cross-validation, each with other folds
    epochs: int
    seed: int


def judged(
    views: "np.ndarray", labels: "np.ndarray", groups: "np.ndarray", classes: int, settings: Settings, work: Path
) -> Verdict:
    """The mean verdict of all repeats; each learns only from images whose label those before it believed.

    `views` is uint8 [images, views, side, side], `labels` and `groups` are int [images]. A fold that is finished is
    kept in `work`, and taken over by the next call. Folds run side by side, one per core; on a GPU one at a time.

    Raises:
        UserError: `work` cannot be made.
    """
    import joblib
    import numpy as np
    import tensorflow as tf
    from cleanlab.rank import get_label_quality_scores

    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{work}: {error.strerror}; set HOME to a folder where the audit may keep its finished folds."
        ) from None
    # On CPUs at least two: with one, joblib would run the folds in this process, where TensorFlow has begun already and
    # the number of its threads cannot be set any more.
    workers = 1 if tf.config.list_physical_devices("GPU") else max(joblib.cpu_count(), 2)
    kept_fold = joblib.Memory(work, verbose=0).cache(judge_fold)
    believed = np.ones(len(labels), bool)
    verdicts: list[Verdict] = []
    for repeat in range(settings.repeats):
        numbers = fold_numbers(labels, groups, settings.folds, settings.seed + repeat)
        first_seed = settings.seed + repeat * settings.folds
        tasks = [
            (views, labels, numbers == fold, believed, classes, settings.epochs, first_seed + fold)
            for fold in range(settings.folds)
        ]
        if finished := sum(kept_fold.check_call_in_cache(*task) for task in tasks):
            print(f"audit: {finished} of {settings.folds} folds were finished before", flush=True)
        # Without memory maps, which would be other arguments to the memory than the arrays that they map.
        parallel = joblib.Parallel(min(workers, settings.folds), max_nbytes=None)
        found = parallel(joblib.delayed(kept_fold)(*task) for task in tasks)
        verdict = Verdict(np.zeros((len(labels), classes), np.float32), np.zeros(len(labels), np.float32))
        for fold, (probabilities, distance) in enumerate(found):
            verdict.probabilities[numbers == fold], verdict.distance[numbers == fold] = probabilities, distance
        verdicts.append(verdict)
        mean = Verdict(*(np.mean(parts, axis=0) for parts in zip(*verdicts, strict=True)))
        believed = get_label_quality_scores(labels, mean.probabilities) >= BELIEF
        print(f"audit: repeat {repeat + 1}/{settings.repeats}, {(~believed).sum()} labels doubted", flush=True)
    return mean


def judge_fold(
    views: "np.ndarray",
    labels: "np.ndarray",
    unseen: "np.ndarray",
    believed: "np.ndarray",
    classes: int,
    epochs: int,
    seed: int,
) -> Verdict:
    """The verdict on the `unseen` images, bool [images], of a judge that learns those of the others it may believe."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        tf.config.threading.set_intra_op_parallelism_threads(1)  # the same sums on any number of cores
    learned = ~unseen & believed
    verdict = learn_and_judge(views[learned], labels[learned], views[unseen], labels[unseen], classes, epochs, seed)
    print(f"audit: a fold is finished, {unseen.sum()} images judged", flush=True)
    return verdict


def fold_numbers(labels: "np.ndarray", groups: "np.ndarray", folds: int, seed: int) -> "np.ndarray":
    """The fold of each image, int [images]: a group is in one fold, the classes are spread evenly."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.zeros(len(labels), int)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for number, (_, unseen) in enumerate(split):
        numbers[unseen] = number
    return numbers
