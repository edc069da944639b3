"""Cross-validation: each image is judged by networks that have seen neither it nor a duplicate of it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
from components.audit.workers import start_workers

BELIEVED = 2 / 3  # stands for the probability of a label that is not judged, which issues.csv leaves out: no doubt
BELIEF = 0.2  # the least score at which the next repeat trains on an image with its label


class AuditSettings(NamedTuple):
    """The parameters of audit that its verdict depends on."""

    folds: int
    repeats: int  # of the whole cross-validation, each with other folds
    epochs: int
    seed: int


class Fold(NamedTuple):
    """A part of the images, which is judged by a network that has seen none of it."""

    unseen: NDArray[np.bool_]  # [images], the part
    believed: NDArray[np.bool_]  # [images], which of the others the network learns from
    seed: int  # the same seed gives the same verdict
    name: str  # for messages: "3/5"


# Judges folds, each given with the file in which its verdict is kept.
JudgeFolds = Callable[[list[tuple[Fold, Path]]], list[Verdict]]


def judge_images(
    views: Path,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    is_judged: NDArray[np.bool_],
    settings: AuditSettings,
    work: Path,
) -> Verdict:
    """Judges every image in each repeat; later repeats train only on images whose labels the earlier found plausible.

    Args:
        views: The images, a file of NumPy, uint8 [images, views, side, side, channels].
        labels: The class that each was given, int64 [images].
        groups: The number that duplicates share, int64 [images].
        is_judged: Whether the labels of each class are judged, bool [classes]; the others are believed.
        settings: How long and how often to judge.
        work: A folder. A fold that is finished is kept there, and the next call with the same arguments reads it.

    Returns:
        The mean verdict of all repeats.

    Raises:
        UserError: A process was killed, as when memory runs out.
    """
    classes = len(is_judged)
    identity = joblib.hash([np.load(views, mmap_mode="r"), labels, classes, settings.epochs], coerce_mmap=True)
    judge = partial(judge_fold, views, labels, classes=classes, epochs=settings.epochs)
    believed = np.ones(len(labels), bool)
    verdicts: list[Verdict] = []
    with _start_judges(judge, settings.folds) as judge_folds:
        for repeat in range(settings.repeats):
            numbers = assign_folds(labels, groups, folds=settings.folds, seed=settings.seed + repeat)
            first_seed = settings.seed + repeat * settings.folds
            folds = [
                Fold(numbers == number, believed, first_seed + number, f"{number + 1}/{settings.folds}")
                for number in range(settings.folds)
            ]
            judged = _judge_all(folds, judge_folds, classes, kept=work / identity)
            verdicts.append(_believe(judged, labels, ~is_judged[labels]))
            mean = Verdict(*(np.mean(parts, axis=0) for parts in zip(*verdicts, strict=True)))
            believed = get_label_quality_scores(labels, mean.probabilities) >= BELIEF
            print(f"audit: repeat {repeat + 1}/{settings.repeats}, {(~believed).sum()} labels doubted", flush=True)
    return mean


def _believe(verdict: Verdict, labels: NDArray[np.int64], believed: NDArray[np.bool_]) -> Verdict:
    """The verdict without one on the images that are `believed`, bool [images]: their label is merely likely."""
    classes = verdict.probabilities.shape[1]
    likely = np.full((len(labels), classes), (1 - BELIEVED) / max(classes - 1, 1), np.float32)
    likely[np.arange(len(labels)), labels] = BELIEVED
    return Verdict(
        np.where(believed[:, np.newaxis], likely, verdict.probabilities),
        np.where(believed, np.float32(np.nan), verdict.distance),
        np.where(believed, np.float32(np.nan), verdict.guess_distance),
    )


@contextmanager
def _start_judges(judge: Callable[[Fold, Path], Verdict], folds: int) -> Iterator[JudgeFolds]:
    """Yields what judges folds: in processes, one per core, or on a GPU one by one in this process."""
    if tf.config.list_physical_devices("GPU"):
        yield lambda tasks: [judge(*task) for task in tasks]
        return
    with start_workers(judge, min(joblib.cpu_count(), folds)) as workers:
        yield workers.map


def assign_folds(labels: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Divides the images into folds: a group is in one fold, and the classes are spread evenly.

    Args:
        labels: int64 [images].
        groups: The number that duplicates share, int64 [images].
        folds: The number of folds.
        seed: The same seed gives the same folds.

    Returns:
        The number of each image's fold, from 0, int64 [images].
    """
    numbers = np.zeros(len(labels), int)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer images than folds
        for number, (_, unseen) in enumerate(split):
            numbers[unseen] = number
    return numbers


def _judge_all(folds: list[Fold], judge_folds: JudgeFolds, classes: int, kept: Path) -> Verdict:
    """The verdict on all images, each from the fold in which it is unseen; what is kept already is read."""
    files = [kept / f"{joblib.hash(fold)}.verdict" for fold in folds]
    finished = [
        read_verdict(file, pictures=int(fold.unseen.sum()), classes=classes)
        for fold, file in zip(folds, files, strict=True)
    ]
    if count := len(folds) - finished.count(None):
        print(f"audit: {count} of {len(folds)} folds were finished before", flush=True)
    tasks = [(fold, file) for fold, file, verdict in zip(folds, files, finished, strict=True) if verdict is None]
    judged = iter(judge_folds(tasks))
    images = len(folds[0].unseen)
    whole = Verdict(np.zeros((images, classes), np.float32), *np.zeros((2, images), np.float32))
    for fold, verdict in zip(folds, finished, strict=True):
        for values, part in zip(whole, verdict or next(judged), strict=True):
            values[fold.unseen] = part
    return whole


def judge_fold(views: Path, labels: NDArray[np.int64], fold: Fold, kept: Path, *, classes: int, epochs: int) -> Verdict:
    """Judges the images of one fold.

    Args:
        views: All images, a file of NumPy, uint8 [images, views, side, side, channels].
        labels: Their classes, int64 [images].
        fold: Which to learn from and which to judge.
        kept: The file to keep the verdict in, for an audit that continues this one.
        classes: The number of classes.
        epochs: How long the judge is trained.

    Returns:
        The verdict on the unseen images.
    """
    if not tf.config.list_physical_devices("GPU"):
        tf.config.threading.set_intra_op_parallelism_threads(1)  # gives the same sums on any number of cores
    verdict = judge_unseen(
        np.load(views, mmap_mode="r"),
        labels,
        learned=np.flatnonzero(~fold.unseen & fold.believed),
        unseen=np.flatnonzero(fold.unseen),
        classes=classes,
        epochs=epochs,
        seed=fold.seed,
    )
    keep_verdict(kept, verdict)
    print(f"audit: fold {fold.name} is finished, {fold.unseen.sum():,} images judged", flush=True)
    return verdict
