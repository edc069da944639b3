"""The values of a pipeline's parameters: from what the user gave, and from earlier runs."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.json_format import MessageToDict
from kfp.dsl.base_component import BaseComponent
from pydantic import TypeAdapter, ValidationError

from components.shared.errors import UserError, cut, name_unknown, shorten
from pipelines.compiler.contracts import Contract, name_uri, spell_type
from pipelines.compiler.packages import PIPELINES, build
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.spec import find_constants, find_parameters, list_tasks
from pipelines.compiler.stages import Stages
from pipelines.compiler.values import PYTHON_TYPES, check_holdable, check_limits, parse_json

LONGEST = 100_000  # characters as JSON; Linux takes arguments of 128 KiB, and kfp puts the artifacts into the same one


@dataclass(frozen=True)
class EarlierRun:
    """A run from which another one continues."""

    id: str
    name: str
    artifacts: dict[str, str]  # the URI of each of its artifacts, by the name of the output
    parameters: dict[str, Any]  # of its last task of the stage that is to be repeated
    inputs: dict[str, str]  # the URIs of the artifacts that this task took
    lost: dict[str, str] = field(default_factory=dict)  # where an artifact that is gone should be, and why there


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


def select_beginning(run: EarlierRun, made: Mapping[tuple[str, str], str]) -> EarlierRun:
    """An improvement with what its first part, `before`, has made.

    Args:
        run: the run.
        made: the URIs of its artifacts, by the names of the task and of the output.

    Raises:
        UserError: it has no such part.
    """
    artifacts = {output: uri for (task, output), uri in made.items() if task.startswith("before-")}
    if not artifacts:
        raise UserError(f"run {run.name}: is no improvement, so it began with no other version; leave out :before.")
    return replace(run, id=f"{run.id}:before", name=f"{run.name}:before", artifacts=artifacts)


def check_arguments(
    pipeline: BaseComponent, arguments: dict[str, Any], *, params: tuple[str, ...], stages: Stages
) -> dict[str, Any]:
    """The arguments and each NAME=VALUE of `params`, as the parameters of the pipeline want them.

    Args:
        pipeline: what is to be run.
        arguments: the values of its parameters that are known without `params`.
        params: what the user gave.
        stages: whose parameters the pipeline's become.

    Raises:
        UserError: a name is unknown, a value has the wrong type or is not allowed, or one without a default is missing.
    """
    inputs = pipeline.component_spec.inputs or {}
    given: dict[str, str] = {}
    for name, text in (_split_param(param, inputs) for param in params):
        if name not in inputs:
            raise UserError(_explain_unknown(name, pipeline, stages))
        if name in given:
            raise UserError(f"--param {name}: is there twice, with {cut(given[name])} and {cut(text)}; leave one.")
        given[name] = text
    arguments = dict(arguments)
    for name, text in given.items():
        arguments[name] = _parse_param(name, text, inputs)
    for name in arguments.keys() - inputs.keys():
        raise UserError(name_unknown("the parameter", name, inputs))
    for name, value in arguments.items():
        try:
            check_holdable(value)
        except ValueError as error:
            raise UserError(f"{_name_place(name, given)} {error}.") from None
    missing = [name for name, spec in inputs.items() if not spec.optional and name not in arguments]
    if missing:
        raise UserError(f"{', '.join(missing)}: no value; give it with --data, or --param NAME=VALUE.")
    defaults = {name: spec.default for name, spec in inputs.items() if spec.optional}
    _check_limits(pipeline, {**defaults, **arguments}, given=given, contracts=stages.contracts)
    return arguments


def _split_param(param: str, inputs: Mapping[str, Any]) -> tuple[str, str]:
    name, separator, text = param.partition("=")
    if not separator and name in inputs:
        raise UserError(f"--param {name}: has no value; give it as {_show_form(name, inputs)}.")
    if not separator:
        known = ", ".join(f"{name} ({spec.type})" for name, spec in inputs.items())
        raise UserError(f"--param {param}: must be NAME=VALUE. The parameters are: {known}.")
    return name, text


def _explain_unknown(name: str, pipeline: BaseComponent, stages: Stages) -> str:
    """The sentence about a parameter that the pipeline does not have: a stage of it may, or another one."""
    contracts = stages.contracts
    own = {task.stage for task in list_tasks(MessageToDict(pipeline.pipeline_spec))} & contracts.keys()
    having = sorted(
        stage for stage in own if any(port.name == name and port.is_parameter for port in contracts[stage].inputs)
    )
    if having:
        each = f"`{having[0]}`" if len(having) == 1 else "each of them"
        return (
            f"--param {name}: {pipeline.name} leaves it to {' and '.join(having)}; set it in the config, as `{name}` "
            f"in `parameters` of {each} in `stages`, or in components/{having[0]}/component.yaml."
        )
    if pipeline.name in PIPELINES and (other := _find_pipeline(name, stages)):
        return f"--param {name}: belongs to the pipeline {other}, not to {pipeline.name}; add --pipeline {other}."
    return name_unknown("the parameter", name, pipeline.component_spec.inputs or {})


def _find_pipeline(parameter: str, stages: Stages) -> str:
    """The name of a pipeline that has the parameter; empty if there is none."""
    for name in PIPELINES:
        with contextlib.suppress(UserError):  # one that is broken, but was not asked for
            if parameter in (build(name, stages).component_spec.inputs or {}):
                return name
    return ""


def _parse_param(name: str, text: str, inputs: Mapping[str, Any]) -> Any:
    kind = spell_type(inputs[name].type)
    adapter: TypeAdapter[Any] = TypeAdapter(PYTHON_TYPES[kind])
    try:
        return adapter.validate_python(parse_json(text)) if kind.startswith("Json") else adapter.validate_strings(text)
    except ValueError as error:
        reason = "" if isinstance(error, ValidationError) else f" ({shorten(error)})"  # what is wrong with the JSON
        advice = f"; give it as {_show_form(name, inputs)}" if kind.startswith("Json") else ""
        raise UserError(f"--param {name}={cut(text)}: not of type {kind}{reason}{advice}.") from None


def _show_form(name: str, inputs: Mapping[str, Any]) -> str:
    """The option with a value of the parameter's type, as one types it."""
    forms = {"JsonArray": '["a", "b"]', "JsonObject": '{"a": "b"}'}
    kind = spell_type(inputs[name].type)
    return f"--param '{name}={forms[kind]}'" if kind in forms else f"--param {name}=VALUE"


def _name_place(parameter: str, given: Mapping[str, str]) -> str:
    """The beginning of a sentence about a parameter of the pipeline."""
    return f"--param {parameter}={cut(given[parameter])}: {parameter}" if parameter in given else parameter


def _check_limits(
    pipeline: BaseComponent,
    values: Mapping[str, Any],
    *,
    given: Mapping[str, str],
    contracts: Mapping[str, Contract],
) -> None:
    """Checks each stage's parameters as the pipeline hands them on, so that no stage refuses them in the middle of it.

    Args:
        pipeline: what is to be run.
        values: of all its parameters.
        given: those that the user gave, as text.
        contracts: of the stages.

    Raises:
        UserError: the contract of a stage does not allow a value.
    """
    spec = MessageToDict(pipeline.pipeline_spec)
    for task in list_tasks(spec):
        sources = find_parameters(spec, task.name, task.parts)
        handed = {name: values.get(source) for name, source in sources.items()}
        own = {**find_constants(spec, task.name, task.parts), **handed}
        ports = [
            port for port in (contracts[task.stage].inputs if task.stage in contracts else []) if port.is_parameter
        ]
        integers = {port.name for port in ports if port.type == "Integer"}  # which the pipeline holds as doubles
        own = {name: int(value) if name in integers and value is not None else value for name, value in own.items()}
        places = {
            name: _name_place(source, given) if (source := sources.get(name, "")) in given else f"{task.name}: {name}"
            for name in own
        }
        _check_length(own, places)
        for port in ports:
            if own.get(port.name) is not None:
                place = places[port.name]
                try:
                    check_limits(own[port.name], port.annotations, own)
                except ValueError as error:
                    raise UserError(f"{place} {error}.") from None


def _check_length(values: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Checks that Linux takes the parameters of a stage, which kfp passes to it in one argument of a command."""
    lengths = {name: len(json.dumps(value)) for name, value in values.items()}
    if sum(lengths.values()) > LONGEST:
        longest = max(lengths, key=lambda name: lengths[name])
        raise UserError(
            f"{places[longest]} has {lengths[longest]:,} characters as JSON, but all parameters of a stage may have "
            f"{LONGEST:,} together; shorten it."
        )


def repeat_stage(contract: Contract, run: EarlierRun) -> dict[str, Any]:
    """The arguments that repeat a stage on the outputs of an earlier run.

    Raises:
        UserError: the run has no such artifact.
    """
    ports = [port.name for port in contract.inputs if not port.is_parameter]
    parameters = {
        port.name: _restore_number(run.parameters[port.name], port.type)
        for port in contract.inputs
        if port.is_parameter and port.name in run.parameters
    }
    return parameters | address_artifacts(dict(zip(ports, ports, strict=True)), run) | {FROM_RUN: run.id}


def _restore_number(value: Any, kind: str) -> Any:
    """A number as its parameter's type wants it: of a task that came from the cache, a run has 12 as 12.0."""
    if kind == "Integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return float(value) if kind == "Float" and type(value) is int else value


def address_artifacts(names: dict[str, str], run: EarlierRun) -> dict[str, str]:
    """NAME_uri for each NAME: the URI of the artifact that it stands for.

    Raises:
        UserError: the run has no such artifact.
    """
    available = run.artifacts | run.inputs
    for artifact in names.values():
        if artifact in run.lost and artifact not in run.inputs:
            raise UserError(
                f"run {run.name}: its artifact '{artifact}' is not at {run.lost[artifact]}; "
                "run the stage that makes it with --no-cache, or name a run that has it."
            )
        if artifact not in available:
            raise UserError(
                f"run {run.name} has no artifact '{artifact}' that is up to date; run the stage that makes it, or name "
                "a run that has it."
            )
    return {name_uri(name): available[artifact] for name, artifact in names.items()}
