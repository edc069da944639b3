"""The stages a pipeline is made of: components/<stage>/component.yaml with a configuration applied."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from kfp import components, dsl
from pydantic import TypeAdapter, ValidationError

from components.shared.errors import UserError
from pipelines.compiler.code_version import image_tag
from pipelines.compiler.config import Config, StageConfig, Strict, one_line, read_yaml, unknown, validated

COMPONENTS = Path(__file__).parents[2] / "components"
PYTHON_TYPES = {"String": str, "Integer": int, "Float": float, "Boolean": bool, "JsonArray": list, "JsonObject": dict}
ARTIFACT_TYPES = ("Artifact", "ClassificationMetrics", "Dataset", "HTML", "Metrics", "Model")


class Port(Strict):
    """An input or output as component.yaml declares it."""

    name: str
    type: str
    description: str = ""
    default: Any = None

    @property
    def is_parameter(self) -> bool:
        return self.type in PYTHON_TYPES


class Container(Strict):
    image: str
    command: list[str]
    args: list[Any] = []


class Implementation(Strict):
    container: Container


class Contract(Strict):
    """A component.yaml."""

    name: str
    description: str = ""
    inputs: list[Port] = []
    outputs: list[Port] = []
    implementation: Implementation


class Stages:
    """Every stage, by name, with its contract, its defaults, and the way to make a task of it."""

    def __init__(self, config: Config, registry: str | None = None, tag: str | None = None) -> None:
        """Loads and checks all components.

        Raises:
            UserError: a component.yaml is broken or differs from its function, or the config names what is not there.
        """
        prefix = registry if registry is not None else config.registry
        self.tag = tag or config.tag or image_tag()
        self.config = config
        self.contracts = {
            path.parent.name: _read_contract(path) for path in sorted(COMPONENTS.glob("*/component.yaml"))
        }
        for stage in config.stages:
            if stage not in self.contracts:
                raise UserError(unknown(f"{config.path}: the stage", stage, self.contracts))
        self._prefix = prefix
        self._components: dict[tuple[str, str], components.YamlComponent] = {}
        self.parameters = {name: self._parameters(name) for name in self.contracts}
        self.pipeline_root = config.pipeline_root or None

    @property
    def artifact_parameters(self) -> set[str]:
        """The parameters of single-stage pipelines that take an artifact's URI."""
        return {
            f"{port.name}_uri"
            for contract in self.contracts.values()
            for port in contract.inputs
            if not port.is_parameter
        }

    def task(self, stage: str, name: str = "", /, **inputs: Any) -> dsl.PipelineTask:
        """A task of the pipeline being built, with `inputs`, the configured values for the rest, and the resources.

        A stage that is more than once in a pipeline needs a `name` for each task beside the first.
        """
        name = name or stage
        if (stage, name) not in self._components:  # kfp takes long to load one
            contract = self.contracts[stage].model_copy(update={"name": name})
            self._components[stage, name] = _load_component(contract, self._prefix, self.tag)
        configured = {parameter: value for parameter, value in self.parameters[stage].items() if value is not None}
        task = self._components[stage, name](**{**configured, **inputs})
        _configure(task, self.config.stage(stage))
        return task

    def _parameters(self, stage: str) -> dict[str, Any]:
        """The value of each parameter: the config's, else the component's default, else None."""
        inputs = {port.name: port for port in self.contracts[stage].inputs if port.is_parameter}
        values = {port.name: None if port.default is None else _default(port) for port in inputs.values()}
        overrides = self.config.stage(stage).parameters
        for name, value in overrides.items():
            if name not in inputs:
                raise UserError(unknown(f"{self.config.path}: the parameter of {stage}", name, inputs))
            try:
                values[name] = _typed(inputs[name], value)
            except ValidationError:
                raise UserError(
                    f"{self.config.path}: {stage}.{name} is {value!r}; it must be of type {inputs[name].type}."
                ) from None
        return values


def _configure(task: dsl.PipelineTask, config: StageConfig) -> None:
    """What the cluster is told of the task; a run on this machine leaves it aside."""
    from kfp import kubernetes

    for set_quantity, quantity in (
        (task.set_cpu_request, config.requests.cpu),
        (task.set_cpu_limit, config.limits.cpu),
        (task.set_memory_request, config.requests.memory),
        (task.set_memory_limit, config.limits.memory),
    ):
        if quantity:
            set_quantity(quantity)
    if config.accelerator:
        task.set_accelerator_type(config.accelerator.type)
        task.set_accelerator_limit(config.accelerator.count)
    if config.retries:
        task.set_retry(config.retries, config.backoff, backoff_factor=2)
    task.set_caching_options(config.caching)
    for label, value in config.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in config.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if config.timeout:
        kubernetes.set_timeout(task, config.timeout)
    if config.image_pull_policy:
        kubernetes.set_image_pull_policy(task, config.image_pull_policy)


def _read_contract(path: Path) -> Contract:
    contract = validated(Contract, read_yaml(path), path)
    if contract.name != path.parent.name:
        raise UserError(f"{path}: name is '{contract.name}'; it must be that of its folder, '{path.parent.name}'.")
    for port in contract.inputs + contract.outputs:
        if port.type not in (*PYTHON_TYPES, *ARTIFACT_TYPES):
            raise UserError(f"{path}: {port.name}: {unknown('type', port.type, (*PYTHON_TYPES, *ARTIFACT_TYPES))}")
        if port.default is not None:
            _check_default(path, port)
    _check_function(path, contract)
    return contract


def _check_default(path: Path, port: Port) -> None:
    try:
        _default(port)
    except (ValidationError, KeyError):
        form = (
            f"must be {port.type}"
            if not port.type.startswith("Json")
            else "must be JSON text in quotes, as kfp wants it"
        )
        raise UserError(f"{path}: {port.name}: the default {port.default!r} {form}.") from None


def _default(port: Port) -> Any:
    if port.type.startswith("Json"):
        return TypeAdapter(PYTHON_TYPES[port.type]).validate_json(port.default)
    return _typed(port, port.default)


def _typed(port: Port, value: Any) -> Any:
    return TypeAdapter(PYTHON_TYPES[port.type]).validate_python(value, strict=True)


def _check_function(path: Path, contract: Contract) -> None:
    """Compares the contract with the interface that kfp derives from the function in component.py, field by field."""
    source = path.with_name("component.py")
    function = getattr(_imported(source), contract.name, None)
    if function is None:
        raise UserError(f"{source}: no function '{contract.name}', which {path} names.")
    try:
        interface = dsl.component(function, base_image="python").component_spec
    except Exception as error:  # such as a TypeError that names the argument without a type
        raise UserError(f"{source}: kfp cannot take the function '{contract.name}': {one_line(error)}.") from None
    for kind, ports in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        declared = {port.name: port.type for port in ports}
        derived = {name: _yaml_type(spec.type) for name, spec in (getattr(interface, kind) or {}).items()}
        for name in [*declared, *derived]:
            if name not in derived:
                raise UserError(f"{path}: {kind}: '{name}' is not an argument of the function in {source}.")
            if name not in declared:
                raise UserError(f"{path}: {kind}: '{name}' is missing; the function in {source} has it.")
            if declared[name] != derived[name]:
                raise UserError(
                    f"{path}: {kind}: '{name}' has type {declared[name]}; in {source} it is {derived[name]}."
                )


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_component", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{path}: no such file; it holds the component's function.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be imported: {type(error).__name__}: {one_line(error)}.") from None
    return module


def _yaml_type(derived: str) -> str:
    """`system.Dataset@0.0.1` -> `Dataset`, and `List` -> `JsonArray`, as component.yaml spells them."""
    name = re.sub(r"^system\.|@.*$", "", derived)
    return {"List": "JsonArray", "Dict": "JsonObject"}.get(name, name)


def _load_component(contract: Contract, registry: str, tag: str) -> components.YamlComponent:
    """The kfp component; a bare image name gets the registry and the tag, a full reference stays as it is."""
    content = contract.model_dump(exclude_none=True)
    container = content["implementation"]["container"]
    if not re.search(r"[/:@]", container["image"]):
        container["image"] = f"{registry.rstrip('/') + '/' if registry else ''}{container['image']}:{tag}"
    return components.load_component_from_text(json.dumps(content))  # JSON is YAML, and sooner written
