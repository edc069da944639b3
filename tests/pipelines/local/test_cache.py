"""The cache of the runs on this machine, asked as kfp.local asks it: what is taken, and what is made anew."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl
from kfp.local import cache as kfp_cache

from pipelines.local.cache import FOLDER, OUTPUTS, StageCache, TakenTask, use_cache
from pipelines.output.project import ROOT
from tests.conftest import contents

COMMAND = ["python3", "-m", "kfp.dsl.executor_main", "--function_to_execute", "train", "--executor_input", "{{$}}"]
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
        cache = StageCache(folder, lambda stage, image: self.code and f"{stage} {image} {self.code}", taken.append)
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
        described = {"artifacts": {"model": {"artifacts": [{**OUTPUT, "uri": model.uri}]}}}
        (folder / OUTPUTS).write_text(json.dumps(described))
        asked.cache.put(asked.key, {"model": model})


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
        (model,) = asked.outputs.values()
        assert isinstance(model, dsl.Model)
        assert (model.name, model.uri, model.metadata) == ("model", str(folder / "model"), OUTPUT["metadata"])
        assert contents(folder / "model") == contents(ran.runs / "default/first/artifacts/training-2026/train/model")
        assert (folder / "model/empty").is_dir()
        described = json.loads((folder / OUTPUTS).read_text())
        assert described == {"artifacts": {"model": {"artifacts": [{**OUTPUT, "uri": model.uri}]}}}
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
    ],
)
def test_what_goes_in_must_be_what_it_was(ran: Workshop, change: Callable[[Workshop], None]):
    change(ran)
    assert ran.ask("second").outputs is None
    assert list_files(ran.runs / "default/second") == []
    ran.run(asked := ran.ask("second"), "second")
    assert asked.taken == []
    assert [task.made_by for task in ran.ask("third").taken] == ["second"]


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
    ["", "{", "[]", "{}", '{"made_by": 1}', "\xff", '{"made_by": "a/b", "folder": "/", "files": {}, "artifacts": []}'],
)
def test_an_entry_that_is_none_is_passed_over(ran: Workshop, content: str):
    (entry,) = (ran.runs / FOLDER).iterdir()
    entry.write_bytes(content.encode("latin-1"))
    assert ran.ask("second").outputs is None
    ran.run(ran.ask("second"), "second")
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
        pytest.param(lambda shop: shop.parameters.update(data_uri="gs://b/files/md5/ab/c.dir"), True, id="a version"),
        pytest.param(lambda shop: shop.parameters.update(data_uri="/a/ab/c.dir/t.csv"), True, id="a versioned table"),
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


def test_a_full_disk_costs_only_the_entry(ran: Workshop):
    """The stage meets it as well, and says so."""
    shutil.rmtree(ran.runs / FOLDER)
    (ran.runs / FOLDER).write_text("in the way")
    asked = ran.ask("second")
    assert asked.outputs is None
    ran.run(asked, "second")


def test_kfp_asks_its_own_cache_afterwards(workshop: Workshop):
    own = kfp_cache.get_local_cache
    workshop.ask("first")
    assert kfp_cache.get_local_cache is own


def test_the_code_of_a_stage_is_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("components", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.setattr("pipelines.local.cache.ROOT", tmp_path)
    from pipelines.local.cache import hash_code

    stages = sorted(path.parent.name for path in tmp_path.glob("components/*/component.yaml"))

    def changed_by(name: str) -> list[str]:
        before = {stage: hash_code(stage) for stage in stages}
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("# more\n")
        return [stage for stage in stages if hash_code(stage) != before[stage]]

    assert changed_by("components/audit/ranking.py") == ["audit"]
    assert changed_by("components/audit/component.yaml") == []
    assert changed_by("components/shared/files.py") == stages
    assert changed_by("models/resnet.py") == stages
    assert hash_code("no stage") == hash_code("") == ""
