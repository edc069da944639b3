"""The values of a pipeline's parameters, from what the user gave."""

from typing import TYPE_CHECKING, Any

from components.shared.errors import UserError
from pipelines.compiler.config import unknown
from pipelines.compiler.stages import PYTHON_TYPES, Contract

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

# Of the pipeline `comparison`: its parameters without _uri, and the artifacts of the run before and of that after.
BEFORE = {"examples": "examples", "before_evaluation": "evaluation", "before_predictions": "predictions"}
AFTER = {"model": "model", "after_evaluation": "evaluation", "after_predictions": "predictions"}


def checked(pipeline: "BaseComponent", given: dict[str, Any], params: list[str]) -> dict[str, Any]:
    """`given` and each NAME=VALUE of `params`, as the pipeline's parameters want them.

    Raises:
        UserError: a name is unknown, a value has the wrong type, or one without a default is missing.
    """
    from pydantic import TypeAdapter, ValidationError

    inputs = pipeline.component_spec.inputs or {}
    known = ", ".join(f"{name} ({spec.type})" for name, spec in inputs.items())
    arguments = dict(given)
    for param in params:
        name, separator, text = param.partition("=")
        if not separator:
            raise UserError(f"--param {param}: must be NAME=VALUE. The parameters are: {known}.")
        if name not in inputs:
            raise UserError(unknown("the parameter", name, inputs))
        kind = {"List": "JsonArray", "Dict": "JsonObject"}.get(inputs[name].type, inputs[name].type)
        adapter: TypeAdapter[Any] = TypeAdapter(PYTHON_TYPES[kind])
        try:
            arguments[name] = adapter.validate_json(text) if kind.startswith("Json") else adapter.validate_strings(text)
        except ValidationError:
            raise UserError(f"--param {param}: not of type {kind}. The parameters are: {known}.") from None
    for name in arguments.keys() - inputs.keys():
        raise UserError(unknown("the parameter", name, inputs))
    missing = [name for name, spec in inputs.items() if not spec.optional and name not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)}: no value; give it with --data, or --param NAME=VALUE.")
    return arguments


def from_run(contract: Contract, run: str, parameters: dict[str, Any], artifacts: dict[str, str]) -> dict[str, Any]:
    """The arguments that repeat a stage: `parameters`, and as NAME_uri the artifacts which that run left.

    Raises:
        UserError: the run left no such artifact.
    """
    ports = [port.name for port in contract.inputs if not port.is_parameter]
    return parameters | uris(dict(zip(ports, ports, strict=True)), run, artifacts)


def uris(names: dict[str, str], run: str, artifacts: dict[str, str]) -> dict[str, str]:
    """NAME_uri for each NAME: the URI of the artifact that it stands for, of those which the run left.

    Raises:
        UserError: the run left no such artifact.
    """
    for artifact in names.values():
        if artifact not in artifacts:
            raise UserError(f"run {run} has no artifact '{artifact}'; take a run that made it.")
    return {f"{name}_uri": artifacts[artifact] for name, artifact in names.items()}
