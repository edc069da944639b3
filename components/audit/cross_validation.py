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
from components.audit.reading import JudgedImages
from components.audit.workers import start_workers
from components.shared.errors import UserError

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


def check_settings(settings: AuditSettings) -> None:
    """Checks how long and how often images are to be judged.

    Raises:
        UserError: A setting is out of range.
    """
    for name, least in (("folds", 2), ("repeats", 1), ("epochs", 1)):
        check_least(name, getattr(settings, name), least)
    if not 0 <= settings.seed < 2**31:
        raise UserError(f"seed is {settings.seed}; it must be from 0 to 2147483647.")


def check_least(name: str, value: int, least: int) -> None:
    """Checks a parameter that has a least value.

    Raises:
        UserError: It is smaller.
    """
    if value < least:
        raise UserError(f"{name} is {value}; it must be {least} or more.")


def find_judged_classes(
    labels: NDArray[np.int64], groups: NDArray[np.int64], *, classes: int, folds: int
) -> NDArray[np.bool_]:
    """Finds the classes that each fold can have an image of; judges know too little of the others.

    Args:
        labels: int64 [images].
        groups: The number that duplicates share, int64 [images].
        classes: The number of classes.
        folds: The number of folds.

    Returns:
        Whether each class is one of them, bool [classes].

    Raises:
        UserError: None is.
    """
    different = np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0], minlength=classes)
    if different.max() < folds:
        raise UserError(
            f"no class has more than {different.max()} different images in train and val, fewer than the {folds} folds;"
            " add images, or audit with fewer folds."
        )
    return different >= folds


def judge_images(
    read: JudgedImages, groups: NDArray[np.int64], *, is_judged: NDArray[np.bool_], settings: AuditSettings, work: Path
) -> Verdict:
    """Judges every image in each repeat; later repeats train only on images whose labels the earlier found plausible.

    Args:
        read: The images.
        groups: The number that duplicates share, int64 [images].
        is_judged: Whether the labels of each class are judged, bool [classes]; the others are believed.
        settings: How long and how often to judge.
        work: A folder. A fold that is finished is kept there, and the next call with the same arguments reads it.

    Returns:
        The mean verdict of all repeats.

    Raises:
        UserError: A process was killed, as when memory runs out.
    """
    kept = _choose_folder(read, len(is_judged), settings, work)
    return _judge_repeats(read, groups, is_judged=is_judged, settings=settings, kept=kept)


def _judge_repeats(
    read: JudgedImages, groups: NDArray[np.int64], *, is_judged: NDArray[np.bool_], settings: AuditSettings, kept: Path
) -> Verdict:
    """As `judge_images`, with the folder in which finished folds of these images are kept."""
    labels, classes = read.labels, len(is_judged)
    judge = partial(judge_fold, read.views, labels, classes=classes, epochs=settings.epochs)
    believed = np.ones(len(labels), bool)
    verdicts: list[Verdict] = []
    with _start_judges(judge, settings.folds) as judge_folds:
        for repeat in range(settings.repeats):
            folds = _plan_folds(labels, groups, believed, settings=settings, repeat=repeat)
            judged = _judge_all(folds, judge_folds, classes, kept=kept)
            verdicts.append(_believe(judged, labels, ~is_judged[labels]))
            mean = Verdict(*(np.mean(parts, axis=0) for parts in zip(*verdicts, strict=True)))
            believed = _find_plausible(labels, mean)
            print(f"audit: repeat {repeat + 1}/{settings.repeats}, {(~believed).sum()} labels doubted", flush=True)
    return mean


def judge_one_fold(
    read: JudgedImages,
    groups: NDArray[np.int64],
    *,
    is_judged: NDArray[np.bool_],
    settings: AuditSettings,
    work: Path,
    repeat: int,
    fold: int,
) -> Path:
    """Judges the images of one fold, as `judge_images` with the same other arguments would.

    Args:
        read: The images; this and the next four as for `judge_images`.
        groups: Likewise.
        is_judged: Likewise.
        settings: Likewise.
        work: Likewise. The folds of the repeats before are read there; what is missing is judged, too.
        repeat: The number of the repeat, from 0.
        fold: The number of the fold, from 0.

    Returns:
        The file in the work folder with the verdict.

    Raises:
        UserError: As `judge_images`.
    """
    labels, classes = read.labels, len(is_judged)
    kept = _choose_folder(read, classes, settings, work)
    believed = np.ones(len(labels), bool)
    if repeat:
        before = settings._replace(repeats=repeat)
        verdict = _judge_repeats(read, groups, is_judged=is_judged, settings=before, kept=kept)
        believed = _find_plausible(labels, verdict)
    planned = _plan_folds(labels, groups, believed, settings=settings, repeat=repeat)[fold]
    file = _name_file(kept, planned)
    if read_verdict(file, pictures=int(planned.unseen.sum()), classes=classes) is None:
        judge_fold(read.views, labels, planned, file, classes=classes, epochs=settings.epochs)
    return file


def _choose_folder(read: JudgedImages, classes: int, settings: AuditSettings, work: Path) -> Path:
    """The folder of the finished folds of these images."""
    views = np.load(read.views, mmap_mode="r")
    return work / str(joblib.hash([views, read.labels, classes, settings.epochs], coerce_mmap=True))


def _name_file(folder: Path, fold: Fold) -> Path:
    return folder / f"{joblib.hash(fold)}.verdict"


def _plan_folds(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    believed: NDArray[np.bool_],
    *,
    settings: AuditSettings,
    repeat: int,
) -> list[Fold]:
    numbers = assign_folds(labels, groups, folds=settings.folds, seed=settings.seed + repeat)
    first_seed = settings.seed + repeat * settings.folds
    return [
        Fold(numbers == number, believed, first_seed + number, f"{number + 1}/{settings.folds}")
        for number in range(settings.folds)
    ]


def _find_plausible(labels: NDArray[np.int64], verdict: Verdict) -> NDArray[np.bool_]:
    """Whether the next repeat learns from each image, bool [images]."""
    return np.asarray(get_label_quality_scores(labels, verdict.probabilities) >= BELIEF)


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
    files = [_name_file(kept, fold) for fold in folds]
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
