"""A pipeline of one stage, to run it again on the artifacts of an earlier run."""

import inspect
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from pipelines.compiler.contracts import name_uri
from pipelines.compiler.stages import Stages, import_artifact
from pipelines.compiler.values import PYTHON_TYPES

# The id of the run that the artifacts are of, if submit.py knows it. No task takes it; it is kept with the run, so that
# a later run can continue from this one with all that the earlier run had.
FROM_RUN = "from_run"


def build(stages: Stages, stage: str) -> BaseComponent:
    """The pipeline that runs one stage.

    Its parameters are the stage's, for each artifact input NAME the URI of an artifact as NAME_uri, and FROM_RUN.
    """
    contract = stages.contracts[stage]
    signature: list[tuple[str, type, Any]] = [(FROM_RUN, str, "")]
    for port in contract.inputs:
        if port.is_parameter:
            value = stages.parameters[stage][port.name]
            default = inspect.Parameter.empty if value is None else value
            signature.append((port.name, PYTHON_TYPES[port.type], default))
        else:
            signature.append((name_uri(port.name), str, inspect.Parameter.empty))

    def single(*values: Any) -> None:
        arguments = {name: value for (name, _, _), value in zip(signature, values, strict=True) if name != FROM_RUN}
        for port in contract.inputs:
            if not port.is_parameter:
                arguments[port.name] = import_artifact(port.name, arguments.pop(name_uri(port.name)), port.type)
        stages.add_task(stage, **arguments)

    # kfp reads a pipeline's parameters from its signature, and what they are from its docstring. The signature follows
    # from component.yaml.
    single.__doc__ = f"Runs {stage}.\n\nArgs:\n    {FROM_RUN}: The id of the run that the artifacts are of, if known."
    signature.sort(key=lambda parameter: parameter[2] is not inspect.Parameter.empty)
    single.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
            for name, kind, default in signature
        ]
    )
    # Not the stage's own name: kfp would take the pipeline for the component inside it when it loads the YAML.
    decorate = dsl.pipeline(
        name=f"single-{stage}", description=contract.description, pipeline_root=stages.pipeline_root
    )
    return decorate(single)
