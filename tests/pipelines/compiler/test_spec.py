"""What a compiled pipeline says of itself."""

from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines.compiler.config import load_config
from pipelines.compiler.packages import build, write_package
from pipelines.compiler.spec import (
    Source,
    Spec,
    find_constants,
    find_parameters,
    find_sources,
    list_images,
    list_tasks,
    read_spec,
)
from pipelines.compiler.stages import Stages

TRAINING = ["ingest", "validate", "transform", "train", "evaluate"]


@pytest.fixture(scope="module")
def improvement(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    path = tmp_path_factory.mktemp("spec") / "improvement.yaml"
    write_package(build("improvement", Stages(load_config("local"), tag="1")), path)
    return read_spec(path)


def test_tasks_have_names_of_their_own_and_come_after_what_they_need(improvement: Spec):
    names = [task.name for task in list_tasks(improvement)]
    assert len(set(names)) == len(names)
    turn = [f"before-{stage}" for stage in TRAINING]
    turn += ["audit", "curate", *(f"after-{stage}" for stage in TRAINING), "yardstick", "compare"]
    assert names == turn


def test_a_task_knows_its_stage_its_part_and_whether_it_is_the_runs_own(improvement: Spec):
    tasks = {task.name: task for task in list_tasks(improvement)}
    assert (tasks["after-train"].stage, tasks["after-train"].parts) == ("train", ("after",))
    assert (tasks["yardstick"].stage, tasks["yardstick"].parts) == ("evaluate", ())
    assert [name for name, task in tasks.items() if not task.is_own] == ["yardstick"]
    assert list_images(improvement) == sorted({f"{task.stage}:1" for task in tasks.values()})


def test_sources_are_tasks_also_where_a_part_hands_on_what_they_made(improvement: Spec):
    assert find_sources(improvement, "yardstick", ()) == {
        "model": Source("after-train", ("after",), "model"),
        "examples": Source("before-ingest", ("before",), "examples"),
    }
    assert find_sources(improvement, "after-transform", ("after",)) == {
        "examples": Source("after-ingest", ("after",), "examples"),
        "schema": Source("after-validate", ("after",), "schema"),
    }


def test_parameters_are_those_of_the_whole_pipeline(improvement: Spec):
    """Not of those that have the same name by chance: the audit's epochs are not the training's."""
    assert find_parameters(improvement, "audit", ()) == {"content": "content", "seed": "seed"}
    training = ("epochs", "batch_size", "learning_rate", "seed", "seeds")
    assert find_parameters(improvement, "after-train", ("after",)) == {name: name for name in training}
    data = ("classes", "val_share", "test_share", "split_seed", "content")  # curate and constants give the others
    assert find_parameters(improvement, "after-ingest", ("after",)) == {name: name for name in data}


def test_two_tasks_of_one_name_in_one_pipeline_are_refused():
    from kfp import dsl

    stages = Stages(load_config("local"), tag="1")

    def both() -> None:
        stages.add_task("ingest", data_uri="x")
        stages.add_task("ingest", data_uri="y")

    with pytest.raises(UserError, match="^two tasks of a pipeline are called ingest; give each a name of its own"):
        dsl.pipeline(name="both")(both)


def test_unknown_stage_is_named():
    with pytest.raises(UserError, match="^the stage 'trian' does not exist. Did you mean train?"):
        Stages(load_config("local"), tag="1").add_task("trian")


def test_two_tasks_of_one_name_are_refused(tmp_path: Path):
    from kfp import dsl

    stages = Stages(load_config("local"), tag="1")

    def add_ingest() -> None:
        stages.add_task("ingest", data_uri="x")

    parts = [dsl.pipeline(name=name)(add_ingest) for name in ("one", "two")]

    @dsl.pipeline(name="both")
    def both() -> None:
        for part in parts:
            part()

    with pytest.raises(UserError, match="^pipeline both: 2 tasks are called ingest; give each a name of its own"):
        write_package(both, tmp_path / "both.yaml")
    assert not (tmp_path / "both.yaml").exists()


def test_constants_are_what_the_pipeline_gives_itself(improvement: Spec):
    assert find_constants(improvement, "curate", ())["max_images"] == 10_000
    assert "augment_to" not in find_constants(improvement, "curate", ())  # a parameter of the pipeline
    constants = find_constants(improvement, "before-ingest", ("before",))
    assert constants["beam_options"] == ["--runner=FnApiRunner"]


def test_a_text_that_a_pipeline_makes_of_others_is_no_constant():
    value = "{{$.inputs.parameters['pipelinechannel--data_uri']}}/train"
    parameters = {"data_uri": {"runtimeValue": {"constant": value}}, "shards": {"runtimeValue": {"constant": 4.0}}}
    spec = {"root": {"dag": {"tasks": {"ingest": {"inputs": {"parameters": parameters}}}}}}
    assert find_constants(spec, "ingest", ()) == {"shards": 4.0}
