"""What a run says of its trainings before it starts."""

import csv
import json
from pathlib import Path

import pytest

from components.shared.formats.examples import ExamplesManifest, Shard, SplitInfo, write_manifest
from components.shared.formats.transformed import write_model_name
from pipelines.compiler.config import load_config
from pipelines.compiler.packages import build
from pipelines.compiler.stages import Stages
from pipelines.submission.forecast import Forecast, describe_forecast, make_forecast
from pipelines.submission.preparation import PreparedRun
from pipelines.submission.request import RunRequest


def prepare(name: str, **arguments: object) -> PreparedRun:
    stages = Stages(load_config("local"))
    return PreparedRun(name, stages, build(name, stages), arguments, [], {})


def ask(data: Path | str, rev: str | None = None) -> RunRequest:
    return RunRequest("default", "local", data=str(data), rev=rev)


def write_images(folder: Path, counts: dict[str, int]) -> Path:
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        for number in range(count):
            (folder / place / f"{number}.png").write_bytes(b"")
    return folder


def test_a_training_on_splits(tmp_path: Path):
    data = write_images(tmp_path, {"Train/a": 30, "Train/b/below": 10, "valid/a": 5, "valid/b": 5, "test/a": 2})
    (data / "README.md").write_text("")
    (data / "Train/a/Thumbs.db").write_text("")
    found = make_forecast(prepare("training", model="of mine", epochs=3), ask(data))
    assert found == Forecast([40], 3, 1, 0, None)
    assert describe_forecast(found) == "Trains on about 40 images, 3 epochs."


@pytest.mark.parametrize(
    ("arguments", "trainings", "audited"),
    [
        ({}, [80, 400], 100),
        ({"augment_times": 2}, [80, 160], 100),
        ({"augment_times": 1000}, [80, 9980], 100),  # max_images is for train and val together
        ({"augment_to": 220}, [80, 200], 100),
        ({"augment_to": 0}, [80, 80], 100),
        ({"val_share": 0.4, "test_share": 0.1, "augment_to": 0}, [50, 50], 90),
        ({"test_share": 0.1, "test_data_uri": "/test", "augment_to": 0}, [80, 80], 100),  # the share is not for it
    ],
)
def test_an_improvement_on_images_that_are_to_be_divided(
    tmp_path: Path, arguments: dict[str, object], trainings: list[int], audited: int
):
    data = write_images(tmp_path, {"a": 60, "b": 40})
    found = make_forecast(prepare("improvement", **arguments), ask(data))
    assert found
    assert (found.trainings, found.epochs, found.audited) == (trainings, 100, audited)
    assert found.seconds


def test_test_images_are_neither_audited_nor_counted_against_the_limit(tmp_path: Path):
    data = write_images(tmp_path, {"train/a": 20, "val/a": 5, "test/a": 7})
    found = make_forecast(prepare("improvement", augment_to=50), ask(data))
    assert found
    assert (found.trainings, found.audited) == ([20, 45], 25)


def test_the_time_grows_with_images_and_epochs_beside_that_of_starting(tmp_path: Path):
    few = write_images(tmp_path / "few", {"train/a": 1000, "val/a": 5})
    many = write_images(tmp_path / "many", {"train/a": 2000, "val/a": 5})

    def estimate(data: Path, name: str = "training", **arguments: object) -> float:
        found = make_forecast(prepare(name, **arguments), ask(data))
        assert found
        assert found.seconds
        return found.seconds

    start = estimate(few, epochs=1)
    assert 60 < start < 90  # a training without much to do takes five stages
    assert estimate(few, epochs=11) - start == pytest.approx(10 * (estimate(few, epochs=2) - start))
    assert estimate(many, epochs=11) - start == pytest.approx(2 * (estimate(few, epochs=11) - start), rel=0.2)
    assert estimate(few, "improvement", epochs=1, augment_to=0) > 2 * start + 60  # the audit, and seven more stages


def test_what_curate_made_is_trained_on_once_and_made_anew(tmp_path: Path):
    data = write_images(tmp_path, {"train/a": 10, "val/a": 5})
    for number in range(40):
        (data / "train/a" / f"0.augmented-{number}.png").write_bytes(b"")
    found = make_forecast(prepare("improvement"), ask(data))
    assert found
    assert (found.trainings, found.audited) == ([50, 50], 15)


def test_a_table(tmp_path: Path):
    table = tmp_path / "images.csv"
    splits = ["training"] * 8 + ["dev"] * 2
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *((f"{n}.png", "a", s) for n, s in enumerate(splits))])
    found = make_forecast(prepare("improvement"), ask(table))
    assert found
    assert (found.trainings, found.audited) == ([8, 40], 10)


@pytest.mark.parametrize("place", ["remote", "no/such/remote"])
def test_a_version_of_dvc_by_the_names_in_its_manifest(tmp_path: Path, place: str):
    """Whatever is in the folder now."""
    data = write_images(tmp_path / "data", {"train/a": 3})
    names = ["train/a/0.png", "train/b/deep/1.JPG", "val/a/2.png", "README.md", "train/a/notes.txt", ".git/a/3.png"]
    (tmp_path / "remote").write_text(json.dumps([{"md5": "0", "relpath": name} for name in [*names, "0.png"]]))
    found = make_forecast(prepare("training", data_uri=str(tmp_path / place)), ask(data, rev="v1"))
    assert (found and found.trainings) == ([2] if place == "remote" else None)


def test_a_training_alone_on_what_an_earlier_run_has_transformed(tmp_path: Path):
    shard = Shard("train-00000-of-00001.tfrecord", 1000, "0" * 64)
    splits = {name: SplitInfo(1000, {"a": 1000}, [shard]) for name in ("train", "val")}
    write_manifest(tmp_path, ExamplesManifest("/data", "", "0.dir", ["a"], splits, []))
    repeated = prepare("train", transformed_examples_uri=str(tmp_path), epochs=4.0)  # as protobuf holds integers
    assert make_forecast(repeated, RunRequest("default", "local", component="train")) is None  # for which model?
    write_model_name(tmp_path, "of mine")
    found = make_forecast(repeated, RunRequest("default", "local", component="train"))
    assert found == Forecast([1000], 4, 1, 0, None)
    assert describe_forecast(found) == "Trains on about 1,000 images, 4 epochs."
    write_model_name(tmp_path, "resnet")
    found = make_forecast(repeated, RunRequest("default", "local", component="train"))
    assert found
    assert found.seconds == pytest.approx(25 + 4000 * (0.0022 + 0.007 / 8))


@pytest.mark.parametrize("name", ["evaluate", "comparison"])
def test_what_trains_on_no_images_has_no_forecast(tmp_path: Path, name: str):
    assert make_forecast(prepare(name), ask(write_images(tmp_path, {"a": 6}))) is None


def test_images_that_are_not_here_have_no_forecast(tmp_path: Path):
    for address in ("gs://bucket/images", "gs://bucket/images.csv"):
        assert make_forecast(prepare("training"), ask(address)) is None
    assert make_forecast(prepare("training"), ask(tmp_path)) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (
            20.0,
            "Trains on about 1,000 images and again on about 5,000, 10 epochs each, and audits 1,200: about a minute",
        ),
        (4132.0, "about 69 minutes on two cores."),
    ],
)
def test_the_sentence(seconds: float, said: str):
    assert said in describe_forecast(Forecast([1000, 5000], 10, 1, 1200, seconds))
