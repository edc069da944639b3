"""How many images a run on this machine trains on, and about how long that takes, to be said before it starts."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from components.shared.formats.examples import is_augmented
from components.shared.formats.image_table import ADVICE, COLUMNS, SPLIT
from components.shared.formats.names import SPLIT_NAMES, has_image_suffix, is_passed_over
from components.shared.formats.tables import read_rows
from pipelines.compiler.spec import list_tasks
from pipelines.submission.preparation import PreparedRun


class Cost(NamedTuple):
    """Seconds of the training of a model."""

    step: float  # of each step
    image: float  # of each image in it


# Seconds on two cores, from the section "What a run says before it starts" of benchmarks/README.md.
COSTS = {"resnet": Cost(0.007, 0.0022), "mobilenet": Cost(0.012, 0.0045)}  # of other models the time is not known
TASK_START = 10.0
TRAINING_START = 15.0  # TensorFlow builds the graph of the model
OTHER_STAGES = 0.0018  # of an image in the stages of a training pipeline besides train
AUDIT_START = 8.0  # its worker processes start
FOLD_START = 5.5  # TensorFlow builds the graph of one of its networks
AUDITED_IMAGE = 0.0011  # of an image in an epoch of one of them
WORKLOADS = ("training", "improvement")  # the pipelines that train on images


class Counts(NamedTuple):
    """Images of a data set, by what is to become of them."""

    train: int
    val: int
    test: int
    undivided: int  # those that ingest divides into train, val and test
    augmented: int  # images in train that an earlier curate made; the next one discards and remakes them


class Forecast(NamedTuple):
    """What the trainings of a run have to do."""

    trainings: list[int]  # train images of each
    epochs: int
    audited: int  # images; 0 if there is no audit
    seconds: float | None  # of the whole run, on two cores; None if that is not known


def make_forecast(prepared: PreparedRun, data: Path) -> Forecast | None:
    """Estimates the trainings of a run.

    Args:
        prepared: The run.
        data: The folder or table of its images on this machine.

    Returns:
        The estimate, or None if the run trains on nothing new, or its images are not in a folder or a CSV table.
    """
    counts = _count_images(data) if prepared.name in WORKLOADS else None
    if counts is None or not sum(counts):
        return None

    def get(stage: str, name: str) -> Any:
        return prepared.arguments.get(name, prepared.stages.parameters[stage][name])

    test_share = 0.0 if counts.test or prepared.arguments.get("test_data_uri") else get("ingest", "test_share")
    val = counts.val + round(counts.undivided * get("ingest", "val_share"))
    train = counts.train + counts.undivided - round(counts.undivided * test_share) - (val - counts.val)
    if train < 0:  # ingest refuses such shares
        return None
    trainings = [train + counts.augmented]
    if prepared.name == "improvement":
        times, total = get("curate", "augment_times"), get("curate", "augment_to")
        wanted = times * train if total < 0 else total - val
        most = min(get("curate", "max_images"), get("ingest", "max_images"))
        trainings.append(max(round(min(wanted, most - val)), train))
    epochs, audited = get("train", "epochs"), train + val if prepared.name == "improvement" else 0
    seconds = None
    if cost := COSTS.get(get("transform", "model")):
        each = (cost.step / get("train", "batch_size") + cost.image) * epochs + OTHER_STAGES
        seconds = TASK_START * len(list_tasks(MessageToDict(prepared.pipeline.pipeline_spec)))
        seconds += sum(TRAINING_START + each * images for images in trainings)
        seconds += _estimate_audit(audited, **prepared.stages.parameters["audit"]) if audited else 0
    return Forecast(trainings, epochs, audited, seconds)


def _estimate_audit(images: int, *, folds: int, repeats: int, epochs: int, **_: object) -> float:
    """The seconds of the audit: in each repeat, each of its networks learns from the images of the other folds."""
    return AUDIT_START + repeats * (FOLD_START * folds + AUDITED_IMAGE * images * (folds - 1) * epochs)


def describe_forecast(forecast: Forecast) -> str:
    """The forecast as a sentence."""
    first, *others = (f"{count:,}" for count in forecast.trainings)
    epochs = "1 epoch" if forecast.epochs == 1 else f"{forecast.epochs:,} epochs"
    each = " each" if others else ""
    again = "".join(f" and again on about {count}" for count in others)
    audit = f", and audits {forecast.audited:,}" if forecast.audited else ""
    time = ""
    if forecast.seconds is not None:
        minutes = round(forecast.seconds / 60)
        time = f": about {f'{minutes:,} minutes' if minutes > 1 else 'a minute'} on two cores"
    return f"Trains on about {first} images{again}, {epochs}{each}{audit}{time}."


def _count_images(data: Path) -> Counts | None:
    if data.is_dir():
        images = [path.relative_to(data) for path in _list_images(data)]
        made = [path for path in images if is_augmented(path.as_posix())]
        tops = Counter(path.parts[0] for path in set(images).difference(made))
    elif data.is_file() and data.name.lower().endswith(".csv"):
        rows = read_rows(data, COLUMNS, ADVICE, optional=(SPLIT,))
        made, tops = [], Counter(row.get(SPLIT, "").strip() for _, row in rows)
    else:
        return None
    splits: Counter[str] = Counter()
    is_divided = {name.lower() for name in tops} <= SPLIT_NAMES.keys()
    for name, count in tops.items():
        splits[SPLIT_NAMES[name.lower()] if is_divided else ""] += count
    if is_divided and not splits["val"]:
        return Counts(0, 0, splits["test"], splits["train"], len(made))
    return Counts(splits["train"], splits["val"], splits["test"], splits[""], len(made))


def _list_images(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_passed_over(name, is_folder=True)]
        for name in files:
            if parent != str(folder) and has_image_suffix(name) and not is_passed_over(name, is_folder=False):
                yield Path(parent, name)
