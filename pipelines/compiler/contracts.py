"""component.yaml: a component's interface, its defaults, and its container; checked against its function."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from kfp import dsl
from pydantic import Field, TypeAdapter, ValidationError

from components.shared.errors import UserError, name_unknown, shorten
from pipelines.compiler.config import Strict, validate
from pipelines.compiler.values import PYTHON_TYPES, Limits, check_holdable, check_limits, parse_json, show
from pipelines.compiler.yaml_files import read_yaml

NAME = re.compile(r"[a-z][a-z0-9]*")
FINAL_STATUS = "PipelineTaskFinalStatus"  # of other tasks; Kubeflow Pipelines gives it to a task that follows them
ARTIFACT_TYPES = ("Artifact", "ClassificationMetrics", "Dataset", "HTML", "Markdown", "Metrics", "Model")


Word = Annotated[str, Field(pattern=r"^\S{1,100}$")]


class Port(Strict):
    """An input or output as component.yaml declares it."""

    name: Word
    type: Word
    description: str = ""
    default: Any = None
    annotations: Limits = Limits()  # of a parameter; kfp leaves what stands there to others

    @property
    def is_parameter(self) -> bool:
        """Whether it is a value, and not an artifact."""
        return self.type in PYTHON_TYPES

    @property
    def is_artifact(self) -> bool:
        """Whether it is what a task makes, of which another one is given the address."""
        return self.type in ARTIFACT_TYPES


def name_uri(artifact: str) -> str:
    """The parameter that takes an artifact's URI in a pipeline that imports it."""
    return f"{artifact}_uri"


class Container(Strict):
    """What runs the component."""

    image: str = Field(pattern=r"^\S+$")
    command: list[str] = Field(min_length=1)
    args: list[Any] = []


class Implementation(Strict):
    """How component.yaml wraps the container."""

    container: Container


class Contract(Strict):
    """A component.yaml."""

    name: Word
    description: str = ""
    inputs: list[Port] = []
    outputs: list[Port] = []
    implementation: Implementation

    @property
    def is_exit_task(self) -> bool:
        """Whether it follows other tasks, whatever becomes of them, and so cannot run alone."""
        return any(port.type == FINAL_STATUS for port in self.inputs)


def read_contract(path: Path) -> Contract:
    """The component.yaml at a path.

    Raises:
        UserError: it is broken, or differs from the component's function.
    """
    contract = validate(Contract, read_yaml(path), path)
    if contract.name != path.parent.name:
        folder = path.parent.name
        raise UserError(f"{path}: name is {show(contract.name)}; it must be that of its folder, '{folder}'.")
    if not NAME.fullmatch(contract.name):
        advice = "kfp would change it: use lower-case letters and digits"
        raise UserError(f"{path}: name is {show(contract.name)}; {advice}.")
    for kind, ports in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        for name, count in Counter(port.name for port in ports).items():
            if count > 1:
                raise UserError(f"{path}: {kind}: '{name}' appears {count} times; leave one.")
    for port in contract.inputs + contract.outputs:
        if port.type not in (known := (*PYTHON_TYPES, *ARTIFACT_TYPES, FINAL_STATUS)):
            raise UserError(f"{path}: {port.name}: {name_unknown('type', port.type, known)}")
    _check_parameters(path, contract)
    _check_function(path, contract)
    return contract


def _check_parameters(path: Path, contract: Contract) -> None:
    """Checks the defaults, and that the limits of a parameter name no other parameter that is not there."""
    parameters = [port.name for port in contract.inputs if port.is_parameter]
    numbers = [port.name for port in contract.inputs if port.type in ("Integer", "Float")]
    defaults: dict[str, Any] = {}
    for port in [port for port in contract.inputs + contract.outputs if port.default is not None]:
        try:
            defaults[port.name] = parse_default(port)
        except (ValueError, KeyError) as error:
            is_json_text = isinstance(port.default, str) and not isinstance(error, ValidationError | KeyError)
            reason = f" ({shorten(error)})" if is_json_text else ""
            form = "JSON text in quotes, as kfp wants it" if port.type.startswith("Json") else f"of type {port.type}"
            raise UserError(f"{path}: {port.name}: the default {show(port.default)} must be {form}{reason}.") from None
    for port in [port for port in contract.inputs if port.is_parameter]:
        for bound in port.annotations.bounds:
            if isinstance(bound, str) and bound not in numbers:
                raise UserError(name_unknown(f"{path}: {port.name}: the parameter", bound, numbers))
        if (other := port.annotations.not_with) and other not in parameters:
            raise UserError(name_unknown(f"{path}: {port.name}: the parameter", other, parameters))
        if port.name in defaults:
            try:
                check_holdable(defaults[port.name])
                check_limits(defaults[port.name], port.annotations, defaults)
            except ValueError as error:
                raise UserError(f"{path}: {port.name}: the default {error}.") from None


def parse_default(port: Port) -> Any:
    """The default as Python has it; a list or dictionary stands in component.yaml as JSON text.

    Raises:
        ValueError: it is not of the port's type.
        KeyError: the port is no parameter.
    """
    value = port.default
    if port.type.startswith("Json"):
        value = parse_json(TypeAdapter(str).validate_python(value, strict=True))
    return TypeAdapter(PYTHON_TYPES[port.type]).validate_python(value, strict=True)


def _check_function(path: Path, contract: Contract) -> None:
    """Compares the contract with the interface that kfp derives from the function in component.py, field by field."""
    source = path.with_name("component.py")
    function = getattr(_import(source), contract.name, None)
    if function is None:
        raise UserError(f"{source}: no function '{contract.name}', which {path} names.")
    try:
        interface = dsl.component(function, base_image="python").component_spec
    except Exception as error:  # such as a TypeError that names the argument without a type
        raise UserError(f"{source}: kfp cannot take the function '{contract.name}': {shorten(error)}.") from None
    for kind, ports in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        declared = {port.name: port.type for port in ports}
        derived = {name: spell_type(spec.type) for name, spec in (getattr(interface, kind) or {}).items()}
        for name in [*declared, *derived]:
            if name not in derived:
                raise UserError(f"{path}: {kind}: '{name}' is not an argument of the function in {source}.")
            if name not in declared:
                raise UserError(f"{path}: {kind}: '{name}' is missing; the function in {source} has it.")
            if declared[name] != derived[name]:
                raise UserError(
                    f"{path}: {kind}: '{name}' has type {declared[name]}; in {source} it is {derived[name]}."
                )


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_component", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path}: no such file; it holds the component's function.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be imported: {type(error).__name__}: {shorten(error)}.") from None
    return module


def spell_type(derived: str) -> str:
    """A type of kfp as component.yaml spells it: `system.Dataset@0.0.1` -> `Dataset`, and `List` -> `JsonArray`."""
    name = re.sub(r"^system\.|@.*$", "", derived)
    return {"List": "JsonArray", "Dict": "JsonObject"}.get(name, name)
