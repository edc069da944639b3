"""Compiled pipelines of a configuration with `notify`: one group with all tasks, and the task that follows it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.compiler.config import Config
from pipelines.compiler.packages import PIPELINES, build, write_package
from pipelines.compiler.spec import Spec, find_parameters, find_sources, list_tasks, read_spec
from pipelines.compiler.stages import Stages
from tests.fakes.kfp_rules import check_parameters, parsed_specs

CONFIG: dict[str, Any] = {
    "name": "told",
    "endpoint": {"ui": "https://kfp.example.com/", "namespace": "pipelines"},
    "notify": {"secret": "pipeline-webhook", "key": "address"},
    "defaults": {"timeout": 600, "node_selector": {"pool": "small"}},
    "stages": {"notify": {"requests": {"cpu": "100m"}, "timeout": 60}},
}
ALONE = ["audit", "compare", "curate", "evaluate", "ingest", "train", "transform", "validate"]


class Package(NamedTuple):
    spec: Spec
    kubernetes: Spec  # by executor
    inputs: Spec


def compile_both(name: str, folder: Path, **changes: Any) -> tuple[Package, Package]:
    """A pipeline without the exit handler, and with it."""
    return (
        _compile(name, folder / "plain.yaml", {**CONFIG, "notify": None}),
        _compile(name, folder / "told.yaml", {**CONFIG, **changes}),
    )


def _compile(name: str, path: Path, config: dict[str, Any]) -> Package:
    write_package(build(name, Stages(Config.model_validate(config), tag="1")), path)
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    parsed_specs(documents)  # refuses what Kubeflow Pipelines does not take
    kubernetes = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return Package(read_spec(path), kubernetes, documents[0]["root"].get("inputDefinitions", {}).get("parameters", {}))


@pytest.mark.parametrize("name", [*PIPELINES, *ALONE])
def test_every_pipeline_is_followed_by_the_task(name: str, tmp_path: Path):
    plain, told = compile_both(name, tmp_path)
    tasks = list_tasks(plain.spec)
    *others, last = list_tasks(told.spec)
    (group, notify), before = told.spec["root"]["dag"]["tasks"].values(), {task.name: task for task in tasks}
    assert (last.name, last.stage, last.image, last.parts) == ("notify", "notify", "notify:1", ())
    assert [task._replace(parts=task.parts[1:]) for task in others] == tasks
    assert {task.parts[0] for task in others} == {group["taskInfo"]["name"]}
    assert notify["dependentTasks"] == [group["taskInfo"]["name"]]
    assert notify["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert not notify["cachingOptions"]
    parameters = dict(notify["inputs"]["parameters"])
    assert parameters.pop("status") == {"taskFinalStatus": {"producerTask": group["taskInfo"]["name"]}}
    assert {key: value["runtimeValue"]["constant"] for key, value in parameters.items()} == {
        "run": "{{$.pipeline_job_name}}",
        "run_id": "{{$.pipeline_job_uuid}}",
        "tasks": list(before),
        "api": "http://ml-pipeline.pipelines:8888",
        "pages": "https://kfp.example.com/#/runs/details/",
    }


@pytest.mark.parametrize("name", [*PIPELINES, "train"])
def test_parameters_and_artifacts_come_from_where_they_came(name: str, tmp_path: Path):
    plain, told = compile_both(name, tmp_path)
    assert told.inputs == plain.inputs
    for task, same in zip(list_tasks(plain.spec), list_tasks(told.spec), strict=False):
        assert find_parameters(told.spec, same.name, same.parts) == find_parameters(plain.spec, task.name, task.parts)
        sources = find_sources(told.spec, same.name, same.parts)
        sources = {port: source._replace(parts=source.parts[1:]) for port, source in sources.items()}
        assert sources == find_sources(plain.spec, task.name, task.parts)
    check_parameters(told.spec, {name: "x" for name, each in plain.inputs.items() if "defaultValue" not in each})


def test_the_address_comes_from_the_secret_and_a_missing_one_holds_nothing_up(tmp_path: Path):
    plain, told = compile_both("training", tmp_path)
    assert {name: told.kubernetes[name] for name in plain.kubernetes} == plain.kubernetes
    (secret,) = told.kubernetes["exec-notify"]["secretAsEnv"]
    assert secret["secretName"] == "pipeline-webhook"
    assert secret["keyToEnv"] == [{"envVar": "WEBHOOK", "secretKey": "address"}]
    assert secret["optional"] is True


def test_the_task_has_the_resources_that_the_config_gives_it(tmp_path: Path):
    _, told = compile_both("training", tmp_path)
    container = told.spec["deploymentSpec"]["executors"]["exec-notify"]["container"]
    assert container["resources"]["resourceCpuRequest"] == "100m"
    kubernetes = told.kubernetes["exec-notify"]
    assert (kubernetes["activeDeadlineSeconds"], kubernetes["nodeSelector"]) == ("60", {"labels": {"pool": "small"}})


@pytest.mark.parametrize(
    ("endpoint", "pages"),
    [
        ({"host": "https://kfp.example.com/pipeline"}, "https://kfp.example.com/pipeline/#/runs/details/"),
        ({"host": "https://a.example.com", "ui": "https://b.example.com"}, "https://b.example.com/#/runs/details/"),
        ({}, ""),
    ],
)
def test_the_link_is_that_of_the_endpoint(endpoint: dict[str, str], pages: str, tmp_path: Path):
    _, told = compile_both("comparison", tmp_path, endpoint=endpoint)
    parameters = told.spec["root"]["dag"]["tasks"]["notify"]["inputs"]["parameters"]
    assert parameters["pages"] == {"runtimeValue": {"constant": pages}}


def test_the_same_twice_is_the_same_to_the_byte(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        compile_both("improvement", tmp_path / name)
    assert (tmp_path / "one/told.yaml").read_bytes() == (tmp_path / "two/told.yaml").read_bytes()
