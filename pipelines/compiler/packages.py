"""The pipelines that there are, and their compiled packages."""

import importlib
import re
from collections import Counter
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from kfp.compiler import Compiler
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from components.shared.errors import UserError, name_unknown, shorten
from components.shared.files import lock_folder, new_file
from pipelines.compiler import single_stage
from pipelines.compiler.descriptions import describe_parameters
from pipelines.compiler.exit_handler import add_exit_handler
from pipelines.compiler.spec import Task, list_tasks
from pipelines.compiler.stages import Stages

DEFAULT = "training"
PIPELINES = sorted(path.stem for path in Path(__file__).parents[1].glob("[!_]*.py"))  # each has a function `build`


def choose_package(pipeline: str | None, component: str | None, stages: Stages) -> str:
    """The component to run alone, or the pipeline.

    Raises:
        UserError: there is none of that name.
    """
    if component and component not in stages.alone:
        raise UserError(name_unknown("the component", component, stages.alone))
    if pipeline and pipeline not in PIPELINES:
        raise UserError(name_unknown("the pipeline", pipeline, PIPELINES))
    return component or pipeline or DEFAULT


def build(name: str, stages: Stages) -> BaseComponent:
    """The pipeline of that name, or the one that runs a single stage; with an exit handler, if the config has `notify`.

    Raises:
        UserError: the file of that name builds none.
    """
    pipeline = single_stage.build(stages, name) if name not in PIPELINES else _build_pipeline(name, stages)
    if notify := stages.config.notify:
        if not isinstance(pipeline, GraphComponent):
            raise UserError(
                f"pipelines/{name}.py: builds no pipeline of kfp's dsl, which `notify` in the config needs."
            )
        pipeline = add_exit_handler(pipeline, stages, notify)
    describe_parameters(pipeline.pipeline_spec)
    return pipeline


def _build_pipeline(name: str, stages: Stages) -> BaseComponent:
    if name in stages.contracts:
        raise UserError(f"pipelines/{name}.py: has the name of a stage; give it another one.")
    try:
        module = importlib.import_module(f"pipelines.{name}")
    except Exception as error:  # whatever the file does
        raise UserError(f"pipelines/{name}.py: cannot be imported: {shorten(error)}.") from None
    pipeline = module.build(stages) if hasattr(module, "build") else None
    if not isinstance(pipeline, BaseComponent):
        raise UserError(f"pipelines/{name}.py: has no function 'build' that returns a pipeline of kfp.")
    return pipeline


def is_package(path: Path) -> bool:
    """Whether a file has the first line that kfp's compiler writes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline() == b"# PIPELINE DEFINITION\n"


def write_package(pipeline: BaseComponent, path: Path) -> None:
    """Compiles a pipeline to YAML, the same bytes each time.

    Raises:
        UserError: two tasks have one name.
    """
    _check_names(pipeline.name, list_tasks(MessageToDict(pipeline.pipeline_spec)))
    with new_file(path) as temporary:
        Compiler().compile(pipeline, str(temporary))
        # At the head kfp comments on the parameters, and writes the entries of a dictionary in a different order
        # each time.
        text = re.sub(
            r"^(#.*: dict) \[Default: .*\]$", r"\1", temporary.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        temporary.write_text(text, encoding="utf-8")


def write_packages(stages: Stages, output: Path) -> dict[Path, BaseComponent]:
    """Compiles every pipeline, and every component as a pipeline of its own; either all of them are written or none.

    Args:
        stages: what they are made of.
        output: the folder to write to.

    Returns:
        The pipeline in each file.

    Raises:
        UserError: a pipeline or a component is wrong, or the folder cannot be written, or has other files of these
            names.
    """
    targets = {name: output / f"{name}.yaml" for name in PIPELINES}
    targets |= {stage: output / "components" / f"{stage}.yaml" for stage in stages.alone}
    pipelines = {path: build(name, stages) for name, path in targets.items()}  # all, so that a mistake writes nothing
    try:
        with lock_folder(output):
            for path in filter(Path.exists, pipelines):
                if not is_package(path):
                    raise UserError(f"{path}: was not written by compile.py; move it, or give another --output.")
            for path, pipeline in pipelines.items():
                write_package(pipeline, path)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); give another --output.") from None
    return pipelines


def _check_names(pipeline: str, tasks: list[Task]) -> None:
    """Refuses names that appear twice, since the bucket, the server and people know a task by its name alone."""
    for name, count in Counter(task.name for task in tasks).items():
        if count > 1:
            raise UserError(f"pipeline {pipeline}: {count} tasks are called {name}; give each a name of its own.")
