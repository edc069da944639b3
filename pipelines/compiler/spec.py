"""What a compiled pipeline contains: its tasks, where their inputs come from, and their images."""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.shared.artifacts import PLACEHOLDER

FUNCTION = "--function_to_execute"  # the argument of kfp's executor that names the component
Spec = dict[str, Any]  # kfp's PipelineSpec, as JSON


class Task(NamedTuple):
    """A component's place in a compiled pipeline."""

    name: str  # unique within the whole pipeline: before-train
    stage: str  # the component that it runs: train
    image: str
    parts: tuple[str, ...]  # the pipelines within the pipeline that lead to it

    @property
    def is_own(self) -> bool:
        """Whether its outputs count as the run's own, from which other runs may continue."""
        return is_own(self.name, self.stage)


class Source(NamedTuple):
    """Where an artifact comes from."""

    task: str
    parts: tuple[str, ...]  # as those of Task
    output: str


def is_own(task: str, stage: str) -> bool:
    """Whether the outputs of a task count as the run's own: its name is its stage's, perhaps with its part in front.

    The task `yardstick` is not, because it evaluates images of another version; no run continues from it.
    """
    return task == stage or task.endswith(f"-{stage}")


def read_spec(package: Path) -> Spec:
    """The pipeline spec of a compiled package. A second document in the file is for Kubernetes alone."""
    spec: Spec = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    return spec


def list_tasks(spec: Spec) -> list[Task]:
    """The tasks that run a container, each after those that it depends on."""
    return list(_walk(spec, spec["root"]["dag"], ()))


def list_images(spec: Spec) -> list[str]:
    """The images of the tasks, each once, sorted."""
    return sorted({task.image for task in list_tasks(spec)})


def find_sources(spec: Spec, task: str, parts: tuple[str, ...]) -> dict[str, Source]:
    """Where the artifacts that a task takes come from, by input; `parts` lead to the task."""
    dag = find_dag(spec, parts)
    sources = {}
    for port, source in dag["tasks"][task].get("inputs", {}).get("artifacts", {}).items():
        output = source["taskOutputArtifact"]
        sources[port] = _find_source(spec, parts, task=output["producerTask"], output=output["outputArtifactKey"])
    return sources


def find_parameters(spec: Spec, task: str, parts: tuple[str, ...]) -> dict[str, str]:
    """The parameter of the whole pipeline that each parameter of a task takes; `parts` lead to the task.

    Parameters with a constant of their own, or with the output of another task, are left out.
    """
    sources = find_dag(spec, parts)["tasks"][task].get("inputs", {}).get("parameters", {})
    taken = {name: source.get("componentInputParameter") for name, source in sources.items()}
    if parts:
        outer = find_parameters(spec, parts[-1], parts[:-1])
        taken = {name: outer.get(source) for name, source in taken.items()}
    return {name: source for name, source in taken.items() if source}


def find_constants(spec: Spec, task: str, parts: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of a task that the pipeline gives a value of its own; `parts` lead to the task.

    Texts that a pipeline makes of other values, in which it has placeholders, are left out.
    """
    sources = find_dag(spec, parts)["tasks"][task].get("inputs", {}).get("parameters", {})
    constants = {
        name: source["runtimeValue"]["constant"] for name, source in sources.items() if "runtimeValue" in source
    }
    return {name: value for name, value in constants.items() if not (isinstance(value, str) and PLACEHOLDER in value)}


def find_dag(spec: Spec, parts: tuple[str, ...]) -> Spec:
    """The graph of the pipeline, or of the pipeline within it that `parts` lead to."""
    dag = spec["root"]["dag"]
    for part in parts:
        dag = find_component(spec, dag, part)["dag"]
    return dag  # type: ignore[no-any-return]


def find_component(spec: Spec, dag: Spec, task: str) -> Spec:
    """The component that a task of the graph runs."""
    return spec["components"][dag["tasks"][task]["componentRef"]["name"]]  # type: ignore[no-any-return]


def find_executor(spec: Spec, component: Spec) -> Spec:
    """How a component that is no pipeline is run: its container, or its importer."""
    return spec["deploymentSpec"]["executors"][component["executorLabel"]]  # type: ignore[no-any-return]


def _find_source(spec: Spec, parts: tuple[str, ...], *, task: str, output: str) -> Source:
    component = find_component(spec, find_dag(spec, parts), task)
    if "dag" not in component:
        return Source(task, parts, output)
    # A pipeline within the pipeline hands on what one of its tasks makes.
    (selector,) = component["dag"]["outputs"]["artifacts"][output]["artifactSelectors"]
    inner, output = selector["producerSubtask"], selector["outputArtifactKey"]
    return _find_source(spec, (*parts, task), task=inner, output=output)


def _walk(spec: Spec, dag: Spec, parts: tuple[str, ...]) -> Iterator[Task]:
    dependencies = {name: dag["tasks"][name].get("dependentTasks", []) for name in sorted(dag["tasks"])}
    for name in TopologicalSorter(dependencies).static_order():
        component = find_component(spec, dag, name)
        if "dag" in component:
            yield from _walk(spec, component["dag"], (*parts, name))
        elif container := find_executor(spec, component).get("container"):
            arguments = container.get("args", [])
            stage = arguments[arguments.index(FUNCTION) + 1] if FUNCTION in arguments else name
            yield Task(name, stage, container["image"], parts)
