"""The values of a pipeline's parameters: from what the user gave, and from earlier runs."""

from dataclasses import dataclass, replace
from typing import Any

from kfp.dsl.base_component import BaseComponent
from pydantic import TypeAdapter, ValidationError

from components.shared.errors import UserError, name_unknown
from pipelines.compiler.contracts import PYTHON_TYPES, Contract, name_uri
from pipelines.compiler.single_stage import FROM_RUN


@dataclass(frozen=True)
class EarlierRun:
    """A run from which another one continues."""

    id: str
    name: str
    artifacts: dict[str, str]  # the URI of each of its artifacts, by the name of the output
    parameters: dict[str, Any]  # of its last task of the stage that is to be repeated
    inputs: dict[str, str]  # the URIs of the artifacts that this task took


def inherit_task(run: EarlierRun, before: EarlierRun, changed: set[str]) -> EarlierRun:
    """A run that had no task of the stage to repeat, with the parameters and inputs of the run it continued from.

    Args:
        run: the run.
        before: the run that it continued from.
        changed: the outputs that `run` made or that depend on these: where they are inputs, those of `before` are
            outdated.
    """
    inputs = {port: uri for port, uri in before.inputs.items() if port not in changed}
    return replace(run, parameters=before.parameters, inputs=inputs)


def check_not_comparison(pipeline: str, name: str) -> None:
    """Checks that a run can be continued from.

    Raises:
        UserError: it compared two others, so that it has two runs' artifacts of the same names.
    """
    if pipeline == "comparison":
        raise UserError(f"run {name}: compared two other runs; name one of these, by --from-run or --before.")


def check_arguments(pipeline: BaseComponent, arguments: dict[str, Any], params: tuple[str, ...]) -> dict[str, Any]:
    """The arguments and each NAME=VALUE of `params`, as the parameters of the pipeline want them.

    Raises:
        UserError: a name is unknown, a value has the wrong type, or one without a default is missing.
    """
    inputs = pipeline.component_spec.inputs or {}
    known = ", ".join(f"{name} ({spec.type})" for name, spec in inputs.items())
    arguments = dict(arguments)
    for param in params:
        name, separator, text = param.partition("=")
        if not separator:
            raise UserError(f"--param {param}: must be NAME=VALUE. The parameters are: {known}.")
        if name not in inputs:
            raise UserError(name_unknown("the parameter", name, inputs))
        kind = {"List": "JsonArray", "Dict": "JsonObject"}.get(inputs[name].type, inputs[name].type)
        adapter: TypeAdapter[Any] = TypeAdapter(PYTHON_TYPES[kind])
        try:
            arguments[name] = adapter.validate_json(text) if kind.startswith("Json") else adapter.validate_strings(text)
        except ValidationError:
            raise UserError(f"--param {param}: not of type {kind}. The parameters are: {known}.") from None
    for name in arguments.keys() - inputs.keys():
        raise UserError(name_unknown("the parameter", name, inputs))
    missing = [name for name, spec in inputs.items() if not spec.optional and name not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)}: no value; give it with --data, or --param NAME=VALUE.")
    return arguments


def repeat_stage(contract: Contract, run: EarlierRun) -> dict[str, Any]:
    """The arguments that repeat a stage on the outputs of an earlier run.

    Raises:
        UserError: the run has no such artifact.
    """
    ports = [port.name for port in contract.inputs if not port.is_parameter]
    names = {port.name for port in contract.inputs if port.is_parameter}
    parameters = {name: value for name, value in run.parameters.items() if name in names}
    return parameters | address_artifacts(dict(zip(ports, ports, strict=True)), run) | {FROM_RUN: run.id}


def address_artifacts(names: dict[str, str], run: EarlierRun) -> dict[str, str]:
    """NAME_uri for each NAME: the URI of the artifact that it stands for.

    Raises:
        UserError: the run has no such artifact.
    """
    available = run.artifacts | run.inputs
    for artifact in names.values():
        if artifact not in available:
            raise UserError(
                f"run {run.name} has no artifact '{artifact}' that is up to date; run the stage that makes it, or name "
                "a run that has it."
            )
    return {name_uri(name): available[artifact] for name, artifact in names.items()}
