"""The pipelines that there are, and their compiled packages."""

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from components.shared.errors import UserError
from components.shared.files import new_file
from pipelines.compiler.config import unknown

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    from pipelines.compiler.stages import Stages

FUNCTION = "--function_to_execute"  # the argument of kfp's executor that names the stage
PIPELINES = ("training", "improvement", "comparison")


class Task(NamedTuple):
    """A stage's place in a compiled pipeline."""

    name: str  # in a part that is a pipeline itself, with the part's name in front: before/train
    stage: str  # the component's name, and the task's own one unless it was given another
    alias: str  # what kfp.local calls it, to which every task is in one folder: train-2
    image: str

    @property
    def base_name(self) -> str:
        return self.name.rpartition("/")[2]


def chosen(pipeline: str | None, component: str | None, stages: "Stages") -> str:
    """The component to run alone, or the pipeline.

    Raises:
        UserError: there is none of that name.
    """
    if component and component not in stages.contracts:
        raise UserError(unknown("the component", component, stages.contracts))
    if pipeline and pipeline not in PIPELINES:
        raise UserError(unknown("the pipeline", pipeline, PIPELINES))
    return component or pipeline or PIPELINES[0]


def build(name: str, stages: "Stages") -> "BaseComponent":
    """The pipeline of that name, or the one that runs a single stage."""
    from pipelines import comparison, improvement, training
    from pipelines.compiler import single_stage as single

    builds = {"training": training.build, "improvement": improvement.build, "comparison": comparison.build}
    return builds[name](stages) if name in builds else single.build(stages, name)


def write(pipeline: "BaseComponent", path: Path) -> None:
    from kfp.compiler import Compiler

    with new_file(path) as temporary:
        Compiler().compile(pipeline, str(temporary))
        # At the head kfp comments on the parameters, and there writes a dictionary in another order each time.
        text = re.sub(r"^(#.*: dict) \[Default: .*\]$", r"\1", temporary.read_text(), flags=re.MULTILINE)
        temporary.write_text(text)


def read_spec(package: Path) -> dict[str, Any]:
    """The pipeline spec of a compiled package; a second document is for Kubernetes alone."""
    return next(yaml.safe_load_all(package.read_text()))


def tasks(spec: dict[str, Any]) -> list[Task]:
    """Those of a pipeline spec that run a container, each after those it depends on."""
    return list(_tasks(spec, spec["root"]["dag"], ""))


def sources(spec: dict[str, Any], name: str) -> dict[str, tuple[str, str]]:
    """Where the artifacts that the task takes come from: the name of a task and of its output, by input."""
    *parts, task = name.split("/")
    dag = dag_of(spec, parts)
    found = {}
    for port, given in dag["tasks"][task].get("inputs", {}).get("artifacts", {}).items():
        source = given["taskOutputArtifact"]
        producer, output = source["producerTask"], source["outputArtifactKey"]
        component = component_of(spec, dag, producer)
        if "dag" in component:
            (selector,) = component["dag"]["outputs"]["artifacts"][output]["artifactSelectors"]
            producer, output = f"{producer}/{selector['producerSubtask']}", selector["outputArtifactKey"]
        found[port] = "/".join([*parts, producer]), output
    return found


def dag_of(spec: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    """The graph of the pipeline, or of a part of it that is a pipeline itself: `parts` leads there."""
    dag = spec["root"]["dag"]
    for part in parts:
        dag = component_of(spec, dag, part)["dag"]
    return dag


def component_of(spec: dict[str, Any], dag: dict[str, Any], task: str) -> dict[str, Any]:
    return spec["components"][dag["tasks"][task]["componentRef"]["name"]]


def images(spec: dict[str, Any]) -> list[str]:
    """The images of a pipeline spec, each once."""
    return sorted({task.image for task in tasks(spec)})


def _tasks(spec: dict[str, Any], dag: dict[str, Any], prefix: str) -> Iterator[Task]:
    dependencies = {name: dag["tasks"][name].get("dependentTasks", []) for name in sorted(dag["tasks"])}
    for name in TopologicalSorter(dependencies).static_order():
        component = component_of(spec, dag, name)
        if "dag" in component:
            yield from _tasks(spec, component["dag"], f"{prefix}{name}/")
        elif container := spec["deploymentSpec"]["executors"][component["executorLabel"]].get("container"):
            arguments = container.get("args", [])
            stage = arguments[arguments.index(FUNCTION) + 1] if FUNCTION in arguments else name
            alias = dag["tasks"][name]["componentRef"]["name"].removeprefix("comp-")
            yield Task(f"{prefix}{name}", stage, alias, container["image"])
