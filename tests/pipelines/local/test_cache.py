"""The cache for runs on this machine, called the way kfp.local calls it: what it reuses, and what has to run again."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl
from kfp.local import cache as kfp_cache

from pipelines.local import runner
from pipelines.local.cache import FOLDER, OUTPUTS, StageCache, TakenTask, use_cache
from tests.conftest import contents

COMMAND = ["python3", "-m", "kfp.dsl.executor_main", "--function_to_execute", "train", "--executor_input", "{{$}}"]
VERSION = "files/md5/ab/0123456789abcdef0123456789abcd.dir"
OUTPUT = {"type": {"schemaTitle": "system.Model"}, "name": "model", "metadata": {"epochs": 3}}


class Asked(NamedTuple):
    cache: StageCache
    key: str
    taken: list[TakenTask]
    outputs: dict[str, Any] | None


class Workshop:
    """A folder of runs, and what a task takes: a folder of images, a file of decisions, an artifact, parameters."""

    def __init__(self, home: Path) -> None:
        self.runs, self.code = home / "runs", "some code"
        self.data, self.decisions, self.examples = home / "data", home / "decisions.csv", home / "examples"
        (self.data / "train/i").mkdir(parents=True)
        (self.data / "train/i/1.png").write_bytes(b"one")
        (self.data / "train/i/2.png").write_bytes(b"two")
        self.decisions.write_text("name,decision\n")
        self.examples.mkdir()
        (self.examples / "train.tfrecord").write_bytes(b"examples")
        self.metadata: dict[str, Any] = {"data_version": "1.dir"}
        self.parameters: dict[str, Any] = {
            "data_uri": str(self.data),
            "decisions_uris": {"anna": str(self.decisions)},
            "epochs": 3,
            "note": str(home),  # which is a path, but no URI: what lies there does not matter
        }

    def ask(self, run: str, task: str = "comp-train", experiment: str = "default") -> Asked:
        """What a run finds for a task."""
        taken: list[TakenTask] = []
        (folder := self.runs / experiment / run).mkdir(parents=True, exist_ok=True)
        cache = StageCache(
            self.runs / FOLDER,
            experiment,
            folder,
            lambda stage, image: self.code and f"{stage} {image} {self.code}",
            on_hit=taken.append,
        )
        examples = dsl.Dataset("examples", str(self.examples), self.metadata)
        arguments = {**self.parameters, "examples": examples}
        with use_cache(cache):
            asked = kfp_cache.get_local_cache()
            key = asked.compute_key(
                component_name=task,
                image="train:1",
                full_command=COMMAND,
                arguments=arguments,
                env_vars={},
                custom_cache_key=None,
            )
            return Asked(cache, key, taken, asked.get(key))

    def run(self, asked: Asked, run: str, task: str = "train") -> None:
        """Does the task, and lets the cache keep it."""
        folder = self.runs / "default" / run / "artifacts" / "training-2026" / task
        (folder / "model/variables").mkdir(parents=True)
        (folder / "model/variables/weights").write_bytes(b"weights")
        (folder / "model/empty").mkdir()
        model = dsl.Model("model", str(folder / "model"), OUTPUT["metadata"])
        metrics = dsl.Metrics("metrics", str(folder / "metrics"), {"loss": 0.5})  # which has no file
        described = {
            "artifacts": {
                "model": {"artifacts": [{**OUTPUT, "uri": model.uri}]},
                "metrics": {"artifacts": [{"name": "metrics", "uri": metrics.uri, "metadata": metrics.metadata}]},
            }
        }
        (folder / OUTPUTS).write_text(json.dumps(described))
        (folder / "model_uri").write_text(model.uri)  # an output that is a parameter
        asked.cache.put(asked.key, {"model": model, "metrics": metrics, "model_uri": model.uri, "images": 3})


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def ran(workshop: Workshop) -> Workshop:
    """One in which the run `first` has trained."""
    asked = workshop.ask("first")
    assert asked.outputs is None
    workshop.run(asked, "first")
    return workshop


def test_what_was_done_is_taken_as_it_was(ran: Workshop):
    for run, task in (("second", "comp-train"), ("third", "comp-before-train")):
        asked = ran.ask(run, task)
        name = task.removeprefix("comp-")
        folder = ran.runs / "default" / run / "artifacts/taken" / name
        assert asked.outputs is not None
        model = asked.outputs.pop("model")
        assert isinstance(model, dsl.Model)
        metrics = asked.outputs.pop("metrics")
        assert (metrics.uri, metrics.metadata) == (str(folder / "metrics"), {"loss": 0.5})
        assert asked.outputs == {"model_uri": model.uri, "images": 3}
        assert (folder / "model_uri").read_text() == model.uri
        assert (model.name, model.uri, model.metadata) == ("model", str(folder / "model"), OUTPUT["metadata"])
        assert contents(folder / "model") == contents(ran.runs / "default/first/artifacts/training-2026/train/model")
        assert (folder / "model/empty").is_dir()
        described = json.loads((folder / OUTPUTS).read_text())
        assert described["artifacts"]["model"] == {"artifacts": [{**OUTPUT, "uri": model.uri}]}
        assert described["artifacts"]["metrics"]["artifacts"][0]["uri"] == metrics.uri
        (taken,) = asked.taken
        assert taken._replace(seconds=0) == TakenTask(
            name, "first", ran.parameters, {"examples": str(ran.examples)}, seconds=0
        )


def test_a_run_does_not_need_those_before(ran: Workshop):
    assert ran.ask("second").outputs
    shutil.rmtree(ran.runs / "default/first")
    assert [task.made_by for task in ran.ask("third").taken] == ["first"]
    shutil.rmtree(ran.runs / "default")
    assert ran.ask("fourth").outputs is None


def test_the_run_of_another_experiment_is_named_with_it(ran: Workshop):
    assert [task.made_by for task in ran.ask("second", experiment="other").taken] == ["default/first"]
    assert [task.made_by for task in ran.ask("third").taken] == ["first"]


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def link(path: Path) -> None:
    """Puts a link to the same bytes in the place of a file."""
    path.rename(path.parents[3] / "elsewhere.png")
    path.symlink_to(path.parents[3] / "elsewhere.png")


def copy(folder: Path) -> str:
    return str(shutil.copytree(folder, folder.with_name("copy")))


def edit(path: Path, content: bytes = b"others") -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda shop: setattr(shop, "code", "other code"), id="the code"),
        pytest.param(lambda shop: shop.parameters.update(epochs=4), id="a parameter"),
        pytest.param(lambda shop: shop.metadata.update(data_version="2.dir"), id="metadata"),
        pytest.param(lambda shop: edit(shop.examples / "train.tfrecord"), id="an artifact"),
        pytest.param(lambda shop: edit(shop.decisions), id="a file of a person"),
        pytest.param(lambda shop: edit(shop.data / "train/i/1.png"), id="an image"),
        pytest.param(lambda shop: edit(shop.data / "train/i/3.png"), id="one more image"),
        pytest.param(lambda shop: (shop.data / "train/i/1.png").unlink(), id="one image less"),
        pytest.param(lambda shop: (shop.data / "train/i").rename(shop.data / "train/ii"), id="another name"),
        pytest.param(lambda shop: (shop.data / "train/x").mkdir(), id="a class without images"),
        pytest.param(lambda shop: link(shop.data / "train/i/1.png"), id="a link in place of an image"),
        pytest.param(lambda shop: shop.parameters.update(data_uri=copy(shop.data)), id="another place"),
    ],
)
def test_what_goes_in_must_be_what_it_was(ran: Workshop, change: Callable[[Workshop], None]):
    change(ran)
    assert ran.ask("second").outputs is None
    assert list_files(ran.runs / "default/second") == []
    ran.run(asked := ran.ask("second"), "second")
    assert asked.taken == []
    assert [task.made_by for task in ran.ask("third").taken] == ["second"]


def test_what_lies_in_the_folder_of_a_run_counts_by_its_content_alone(workshop: Workshop):
    """So the next turn of the loop need not ingest again what the last one has curated, nor what was taken from it."""
    for run, place in (("first", "turn-1/curate/data"), ("second", "taken/curate/data")):
        shutil.copytree(workshop.data, workshop.runs / "default" / run / "artifacts" / place)
    workshop.parameters["data_uri"] = str(workshop.runs / "default/first/artifacts/turn-1/curate/data")
    workshop.run(workshop.ask("first"), "first")
    assert [task.made_by for task in workshop.ask("second").taken] == ["first"]
    workshop.parameters["data_uri"] = str(workshop.runs / "default/second/artifacts/taken/curate/data")
    assert [task.made_by for task in workshop.ask("third").taken] == ["first"]
    edit(workshop.runs / "default/second/artifacts/taken/curate/data/train/i/1.png")
    assert workshop.ask("fourth").outputs is None


def test_a_whole_number_is_the_same_with_and_without_a_point(workshop: Workshop):
    """kfp hands on the default of a pipeline as 3.0, and what a person gives as 3."""
    workshop.parameters.update(epochs=3, optimizer={"config": {"steps": [1, 2.5]}})
    workshop.run(workshop.ask("first"), "first")
    workshop.parameters.update(epochs=3.0, optimizer={"config": {"steps": [1.0, 2.5]}})
    assert [task.made_by for task in workshop.ask("second").taken] == ["first"]
    workshop.parameters.update(epochs=3.5)
    assert workshop.ask("third").outputs is None


def test_an_edit_that_restores_the_time_and_the_size_is_seen(ran: Workshop):
    image = ran.data / "train/i/1.png"
    status = image.stat()
    edit(image, b"two")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ran.ask("second").outputs is None


def test_files_that_are_only_named_or_touched_change_nothing(ran: Workshop, tmp_path: Path):
    (ran.data / "train/i/1.png").touch()
    edit(tmp_path / "elsewhere")
    assert ran.ask("second").outputs


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: edit(folder / "model/variables/weights"), id="edited"),
        pytest.param(lambda folder: edit(folder / "model/more"), id="added"),
        pytest.param(lambda folder: (folder / "model/variables/weights").unlink(), id="deleted"),
        pytest.param(lambda folder: os.mkfifo(folder / "model/pipe"), id="a pipe"),
        pytest.param(lambda folder: (folder / OUTPUTS).write_text("{}"), id="described otherwise"),
        pytest.param(shutil.rmtree, id="gone"),
    ],
)
def test_outputs_must_be_what_the_stage_wrote(ran: Workshop, change: Callable[[Path], None]):
    change(ran.runs / "default/first/artifacts/training-2026/train")
    assert ran.ask("second").outputs is None
    assert list_files(ran.runs / "default/second") == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 5000,
        "{}",
        '{"made_by": 1}',
        "\xff",
        '{"made_by": "a/b", "folder": "/", "files": {}, "artifacts": []}',
    ],
)
def test_an_entry_that_is_none_is_passed_over(ran: Workshop, content: str):
    (entry,) = (ran.runs / FOLDER).iterdir()
    entry.write_bytes(content.encode("latin-1"))
    assert ran.ask("second").outputs is None
    ran.run(ran.ask("second"), "second")
    assert ran.ask("third").outputs


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda entry: entry["artifacts"]["model"].update(path="/etc"), id="a path elsewhere"),
        pytest.param(lambda entry: entry["artifacts"]["model"].update(path="../../.."), id="a path that leads out"),
        pytest.param(lambda entry: entry["artifacts"].pop("model"), id="an output less"),
        pytest.param(lambda entry: entry.update(folder="\0"), id="a folder that is none"),
        pytest.param(lambda entry: entry["files"].update(more="0" * 64), id="a file more"),
    ],
)
def test_an_entry_that_was_edited_is_passed_over(ran: Workshop, change: Callable[[Any], None]):
    (path,) = (ran.runs / FOLDER).iterdir()
    entry = json.loads(path.read_text())
    change(entry)
    path.write_text(json.dumps(entry))
    assert ran.ask("second").outputs is None


def test_outputs_that_were_protected_are_taken(ran: Workshop):
    for path in (ran.runs / "default/first").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    asked = ran.ask("second")
    for path in (ran.runs / "default/first").rglob("*"):
        path.chmod(0o755)
    assert asked.outputs
    assert ran.ask("third").outputs


def test_what_changed_while_the_stage_ran_is_not_kept(workshop: Workshop):
    asked = workshop.ask("first")
    edit(workshop.data / "train/i/1.png")
    workshop.run(asked, "first")
    assert not (workshop.runs / FOLDER).exists()
    assert workshop.ask("second").outputs is None


@pytest.mark.parametrize(
    ("change", "is_known"),
    [
        pytest.param(lambda shop: shop.parameters.update(data_uri="gs://bucket/data"), False, id="an address"),
        pytest.param(lambda shop: shop.parameters.update(data_uri=f"gs://b/{VERSION}"), True, id="a version"),
        pytest.param(lambda shop: shop.parameters.update(data_uri=f"gs://b/{VERSION}/t.csv"), True, id="its table"),
        pytest.param(lambda shop: shop.parameters.update(data_uri="gs://b/numerals.dir"), False, id="a like name"),
        pytest.param(
            lambda shop: shop.parameters.update(data_uri="gs://b/data", data_version="1.dir"), True, id="with a version"
        ),
        pytest.param(
            lambda shop: shop.parameters.update(test_data_uri="gs://b/test", data_version="1.dir"),
            False,
            id="with another's version",
        ),
        pytest.param(
            lambda shop: shop.parameters.update(test_data_uri="gs://b/test", test_data_version="1.dir"),
            True,
            id="a test split with its version",
        ),
        pytest.param(lambda shop: shop.parameters.update(data_uri="no/such/folder"), False, id="nothing there"),
        pytest.param(lambda shop: shutil.rmtree(shop.examples), False, id="an artifact that is gone"),
        pytest.param(lambda shop: shop.parameters.update(data_uri=str(shop.decisions)), False, id="a table"),
        pytest.param(lambda shop: os.mkfifo(shop.data / "pipe"), False, id="a pipe"),
        pytest.param(lambda shop: (shop.data / "link").symlink_to(shop.examples), False, id="a linked folder"),
        pytest.param(lambda shop: (shop.data / "link").symlink_to(shop.decisions), True, id="a linked file"),
        pytest.param(lambda shop: setattr(shop, "code", ""), False, id="code of others"),
    ],
)
def test_what_cannot_be_known_before_is_made_anew(
    workshop: Workshop, change: Callable[[Workshop], None], is_known: bool
):
    change(workshop)
    workshop.run(workshop.ask("first"), "first")
    assert bool(workshop.ask("second").outputs) == is_known


def test_entries_that_cannot_be_written_cost_no_run(ran: Workshop):
    shutil.rmtree(ran.runs / FOLDER)
    (ran.runs / FOLDER).write_text("in the way")
    asked = ran.ask("second")
    assert asked.outputs is None
    ran.run(asked, "second")
    assert ran.ask("third").outputs is None
    assert (ran.runs / FOLDER).read_text() == "in the way"


def test_a_version_here_is_known_by_its_manifest(workshop: Workshop, tmp_path: Path):
    manifest = tmp_path / "store" / VERSION
    manifest.parent.mkdir(parents=True)
    manifest.write_text("[]")
    workshop.parameters["data_uri"] = f"{manifest}/table.csv"
    workshop.run(workshop.ask("first"), "first")
    assert workshop.ask("second").outputs
    manifest.write_text("[1]")
    assert workshop.ask("third").outputs is None


def test_a_path_from_the_folder_of_the_project_is_looked_at_there(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """As the stages do, which run there."""
    monkeypatch.setattr("pipelines.local.cache.ROOT", tmp_path)
    workshop.parameters["data_uri"] = "data"
    workshop.run(workshop.ask("first"), "first")
    assert workshop.ask("second").outputs
    edit(workshop.data / "train/i/1.png")
    assert workshop.ask("third").outputs is None


def test_where_the_own_outputs_of_a_run_are_makes_no_difference(workshop: Workshop):
    """Such as the images that its curate made, which its ingest takes."""
    for run in ("first", "second"):
        place = workshop.runs / "default" / run / "artifacts" / f"training-{run}" / "curate/data"
        shutil.copytree(workshop.data, place)
        workshop.parameters["data_uri"] = str(place)
        asked = workshop.ask(run)
        if run == "first":
            workshop.run(asked, run)
    assert asked.outputs


def test_kfp_asks_its_own_cache_afterwards(workshop: Workshop):
    own = kfp_cache.get_local_cache
    workshop.ask("first")
    assert kfp_cache.get_local_cache is own


@pytest.mark.parametrize("name", ["environment", "code", "tracking"])
def test_what_runs_a_stage_is_its_code_and_its_packages_with_their_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def identify() -> dict[str, str]:
        identify = runner._identify_code("subprocess")
        return {stage: identify(stage, "any:1") for stage in ("train", "evaluate")}

    monkeypatch.setattr(runner, "find_python", lambda: sys.executable)
    monkeypatch.setattr(runner, "find_tag", lambda stage: f"tag of {stage}")
    before = identify()
    assert identify() == before
    if name == "environment":
        for variable in ("TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS", "PYTHONPATH"):
            monkeypatch.setenv(variable, "0")
            assert all(identify()[stage] != before[stage] for stage in before)
            monkeypatch.delenv(variable)
        (tmp_path / "cleanlab-9.9.dist-info").mkdir()
        (tmp_path / "python").write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(runner, "find_python", lambda: str(tmp_path / "python"))
        assert all(identify()[stage] != before[stage] for stage in before)
        monkeypatch.setattr(runner, "find_python", lambda: "/bin/false")
        assert identify() == dict.fromkeys(before, "")
    elif name == "code":
        monkeypatch.setattr(runner, "find_tag", lambda stage: "tag of evaluate")
        assert identify()["train"] != before["train"]
        assert identify()["evaluate"] == before["evaluate"]
    else:  # which train alone reports to
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
        assert identify()["train"] != before["train"]
        assert identify()["evaluate"] == before["evaluate"]


def test_code_that_is_not_of_the_project_is_not_known():
    assert runner._identify_code("subprocess")("no_stage", "any:1") == ""


def test_of_a_container_the_image_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "identify_image", lambda image: f"id of {image}")
    assert runner._identify_code("docker")("train", "train:1") == "id of train:1"
