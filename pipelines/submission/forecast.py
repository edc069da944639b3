"""How many images a run trains on, and about how long that takes, to be said before it starts."""

from collections import Counter
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from components.shared.cloud_storage import is_address, open_local_copy
from components.shared.errors import UserError
from components.shared.formats.documents import read_document
from components.shared.formats.examples import MANIFEST, ExamplesManifest
from components.shared.formats.transformed import read_model_name
from pipelines.compiler.contracts import name_uri
from pipelines.compiler.spec import list_tasks
from pipelines.submission.images import list_images
from pipelines.submission.preparation import PreparedRun
from pipelines.submission.request import RunRequest


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
    seeds: int  # trainings of each, which differ in their seed alone
    audited: int  # images; 0 if there is no audit
    seconds: float | None  # of the whole run, on two cores; None if that is not known


def make_forecast(prepared: PreparedRun, request: RunRequest) -> Forecast | None:
    """Estimates the trainings of a run, as far as that takes no more than a moment.

    Args:
        prepared: The run.
        request: What was asked for.

    Returns:
        The estimate, or None if the run trains on nothing new, or its images are neither in a folder or a CSV table of
        this machine nor in a version of DVC.
    """
    if prepared.name == "train":
        return _forecast_repeated_training(prepared)
    counts = _count_images(prepared, request) if prepared.name in WORKLOADS else None
    return _forecast_workload(prepared, counts) if counts and sum(counts) else None


def _forecast_repeated_training(prepared: PreparedRun) -> Forecast | None:
    """Estimates a training on what an earlier run has transformed; in Cloud Storage, without the time."""
    folder = prepared.arguments[name_uri("transformed_examples")]
    try:
        with open_local_copy(f"{folder}/{MANIFEST}") as path:
            images = read_document(path, ExamplesManifest, "rerun transform").splits["train"].images
        model = "" if is_address(folder) else read_model_name(folder)
    except (UserError, KeyError):
        return None
    epochs = int(_get(prepared, "train", "epochs"))
    cost = COSTS.get(model)
    seconds = TASK_START + _estimate_training(cost, prepared, images) if cost else None
    return Forecast([images], epochs, _get(prepared, "train", "seeds"), 0, seconds)


def _forecast_workload(prepared: PreparedRun, counts: Counts) -> Forecast | None:
    """Estimates a whole pipeline; None if ingest will refuse its shares."""

    def get(stage: str, name: str) -> Any:
        return _get(prepared, stage, name)

    test_share = 0.0 if counts.test or prepared.arguments.get("test_data_uri") else get("ingest", "test_share")
    val = counts.val + round(counts.undivided * get("ingest", "val_share"))
    train = counts.train + counts.undivided - round(counts.undivided * test_share) - (val - counts.val)
    if train < 0:
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
        seconds = TASK_START * len(list_tasks(MessageToDict(prepared.pipeline.pipeline_spec)))
        seconds += sum(_estimate_training(cost, prepared, images) + OTHER_STAGES * images for images in trainings)
        seconds += _estimate_audit(audited, **prepared.stages.parameters["audit"]) if audited else 0
    return Forecast(trainings, epochs, get("train", "seeds"), audited, seconds)


def _get(prepared: PreparedRun, stage: str, name: str) -> Any:
    """The value of a stage's parameter in the run."""
    return prepared.arguments.get(name, prepared.stages.parameters[stage][name])


def _estimate_training(cost: Cost, prepared: PreparedRun, images: int) -> float:
    epochs, batch_size, seeds = (_get(prepared, "train", name) for name in ("epochs", "batch_size", "seeds"))
    seconds: float = TRAINING_START + seeds * epochs * images * (cost.step / batch_size + cost.image)
    return seconds


def _estimate_audit(images: int, *, folds: int, repeats: int, epochs: int, **_: object) -> float:
    """The seconds of the audit: in each repeat, each of its networks learns from the images of the other folds."""
    return AUDIT_START + repeats * (FOLD_START * folds + AUDITED_IMAGE * images * (folds - 1) * epochs)


def describe_forecast(forecast: Forecast) -> str:
    """The forecast as a sentence."""
    first, *others = (f"{count:,}" for count in forecast.trainings)
    epochs = "1 epoch" if forecast.epochs == 1 else f"{forecast.epochs:,} epochs"
    each = " each" if others else ""
    each += f" with each of {forecast.seeds:,} seeds" if forecast.seeds > 1 else ""
    again = "".join(f" and again on about {count}" for count in others)
    audit = f", and audits {forecast.audited:,}" if forecast.audited else ""
    time = ""
    if forecast.seconds is not None:
        minutes = round(forecast.seconds / 60)
        time = f": about {f'{minutes:,} minutes' if minutes > 1 else 'a minute'} on two cores"
    return f"Trains on about {first} images{again}, {epochs}{each}{audit}{time}."


def _count_images(prepared: PreparedRun, request: RunRequest) -> Counts | None:
    images = list_images(request.data or "", prepared.arguments.get("data_uri", ""), rev=request.rev)
    if images is None:
        return None
    made = sum(image.is_augmented for image in images)
    splits = Counter(image.split for image in images if not image.is_augmented)
    if not splits[""] and not splits["val"]:
        return Counts(0, 0, splits["test"], splits["train"], made)
    return Counts(splits["train"], splits["val"], splits["test"], splits[""], made)
