"""The pipelines that there are, and their compiled packages."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from components.files import UserError, new_file
from pipelines.config import unknown

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    from pipelines.stages import Stages

PIPELINES = ("training",)


def chosen(component: str | None, stages: "Stages") -> str:
    """The component to run alone, or the training pipeline.

    Raises:
        UserError: there is no such component.
    """
    if component and component not in stages.contracts:
        raise UserError(unknown("the component", component, stages.contracts))
    return component or PIPELINES[0]


def build(name: str, stages: "Stages") -> "BaseComponent":
    """The pipeline of that name, or the one that runs a single stage."""
    from pipelines import single, training

    return training.build(stages) if name == "training" else single.build(stages, name)


def write(pipeline: "BaseComponent", path: Path) -> None:
    from kfp.compiler import Compiler

    with new_file(path) as temporary:
        Compiler().compile(pipeline, str(temporary))


def read_spec(package: Path) -> dict[str, Any]:
    """The pipeline spec of a compiled package; a second document is for Kubernetes alone."""
    return next(yaml.safe_load_all(package.read_text()))


def stage_images(spec: dict[str, Any]) -> dict[str, str]:
    """The image of each stage."""
    executors = spec["deploymentSpec"]["executors"].items()
    return {name.removeprefix("exec-"): each["container"]["image"] for name, each in executors if "container" in each}
