"""Cross-validation: each image is judged by networks that have seen neither it nor a duplicate of it."""

from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import tensorflow as tf
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from components.audit.finished_folds import keep_verdict, read_verdict
from components.audit.judge import Verdict, judge_unseen
from components.shared.errors import UserError

BELIEF = 0.2  # the least score at which the next repeat trains on an image with its label


class AuditSettings(NamedTuple):
    """The parameters of audit that its verdict depends on."""

    folds: int
    repeats: int  # of the whole cross-validation, each with other folds
    epochs: int
    seed: int


def judge_images(
    views: NDArray[np.uint8],
    labels: NDArray[np.int64],
    groups: NDArray[np.int32],
    *,
    classes: int,
    settings: AuditSettings,
    work: Path,
) -> Verdict:
    """Judges every image in each repeat; later repeats train only on images whose labels the earlier found plausible.

    Args:
        views: The images, uint8 [images, views, side, side], 255 where there is ink.
        labels: The class that each was given, int64 [images].
        groups: The number that duplicates share, int32 [images].
        classes: The number of classes.
        settings: How long and how often to judge.
        work: A folder. A fold that is finished is kept there, and the next call with the same arguments reads it.

    Returns:
        The mean verdict of all repeats.

    Raises:
        UserError: `work` cannot be created.
    """
    _create_folder(work)
    believed = np.ones(len(labels), bool)
    verdicts: list[Verdict] = []
    for repeat in range(settings.repeats):
        numbers = assign_folds(labels, groups, folds=settings.folds, seed=settings.seed + repeat)
        first_seed = settings.seed + repeat * settings.folds
        verdict = _judge_folds(
            views,
            labels,
            numbers,
            believed=believed,
            classes=classes,
            settings=settings._replace(seed=first_seed),
            work=work,
        )
        verdicts.append(verdict)
        mean = Verdict(*(np.mean(parts, axis=0) for parts in zip(*verdicts, strict=True)))
        believed = get_label_quality_scores(labels, mean.probabilities) >= BELIEF
        print(f"audit: repeat {repeat + 1}/{settings.repeats}, {(~believed).sum()} labels doubted", flush=True)
    return mean


def _create_folder(work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{work}: {error.strerror}; set HOME to a folder where the audit may keep its finished folds."
        ) from None


def assign_folds(labels: NDArray[np.int64], groups: NDArray[np.int32], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Divides the images into folds: a group is in one fold, and the classes are spread evenly.

    Args:
        labels: int64 [images].
        groups: The number that duplicates share, int32 [images].
        folds: The number of folds.
        seed: The same seed gives the same folds.

    Returns:
        The number of each image's fold, from 0, int64 [images].
    """
    numbers = np.zeros(len(labels), int)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    for number, (_, unseen) in enumerate(split):
        numbers[unseen] = number
    return numbers


def _judge_folds(
    views: NDArray[np.uint8],
    labels: NDArray[np.int64],
    numbers: NDArray[np.int64],
    *,
    believed: NDArray[np.bool_],
    classes: int,
    settings: AuditSettings,
    work: Path,
) -> Verdict:
    """Judges each fold by a network trained on the others. Folds run in parallel, one per core; on a GPU one by one."""
    verdict = Verdict(np.zeros((len(labels), classes), np.float32), np.zeros(len(labels), np.float32))
    calls = []
    for fold in range(settings.folds):
        unseen = numbers == fold
        arguments = {
            "unseen": unseen,
            "believed": believed,
            "classes": classes,
            "epochs": settings.epochs,
            "seed": settings.seed + fold,
        }
        kept = work / f"{joblib.hash([views, labels, arguments])}.verdict"
        if finished := read_verdict(kept, pictures=int(unseen.sum()), classes=classes):
            verdict.probabilities[unseen], verdict.distance[unseen] = finished
        else:
            calls.append((unseen, joblib.delayed(judge_fold)(views, labels, **arguments, kept=kept)))
    if len(calls) < settings.folds:
        print(f"audit: {settings.folds - len(calls)} of {settings.folds} folds were finished before", flush=True)
    # On CPUs at least two: with one, joblib would run the folds in this process, where TensorFlow has begun already and
    # the number of its threads can no longer be set.
    workers = 1 if tf.config.list_physical_devices("GPU") else min(max(joblib.cpu_count(), 2), settings.folds)
    verdicts = joblib.Parallel(workers, max_nbytes=None)(call for _, call in calls)
    for (unseen, _), judged in zip(calls, verdicts, strict=True):
        verdict.probabilities[unseen], verdict.distance[unseen] = judged
    return verdict


def judge_fold(
    views: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    unseen: NDArray[np.bool_],
    believed: NDArray[np.bool_],
    classes: int,
    epochs: int,
    seed: int,
    kept: Path,
) -> Verdict:
    """Judges the images of one fold, in a process of its own.

    Args:
        views: All images, uint8 [images, views, side, side].
        labels: Their classes, int64 [images].
        unseen: Which images to judge, bool [images].
        believed: Which of the others the judge learns from, bool [images].
        classes: The number of classes.
        epochs: How long the judge is trained.
        seed: The same seed gives the same verdict.
        kept: The file to keep the verdict in, for an audit that continues this one.

    Returns:
        The verdict on the unseen images.
    """
    if not tf.config.list_physical_devices("GPU"):
        tf.config.threading.set_intra_op_parallelism_threads(1)  # gives the same sums on any number of cores
    learned = ~unseen & believed
    verdict = judge_unseen(
        views[learned],
        labels[learned],
        unseen=views[unseen],
        unseen_labels=labels[unseen],
        classes=classes,
        epochs=epochs,
        seed=seed,
    )
    keep_verdict(kept, verdict)
    print(f"audit: a fold is finished, {unseen.sum()} images judged", flush=True)
    return verdict
