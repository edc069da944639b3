"""The stages a pipeline is made of: components/<stage>/component.yaml with a configuration applied."""

import json
import re
from pathlib import Path
from typing import Any

from kfp import components, dsl, kubernetes

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError, name_unknown
from pipelines.compiler.config import Config, StageConfig
from pipelines.compiler.contracts import Contract, name_uri, parse_default, read_contract
from pipelines.compiler.descriptions import describe_ports
from pipelines.compiler.image_tags import find_tag
from pipelines.compiler.values import check_limits, check_value, show

# What the names of container images are made of, by the OCI's specification of distribution.
_REGISTRY = r"[A-Za-z0-9._-]+(:[0-9]+)?(/[A-Za-z0-9._-]+)*/?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"

NVIDIA = "nvidia"  # whose libraries `make images GPU=1` builds in: nvidia.com/gpu, or NVIDIA_TESLA_T4 on Vertex
COMPONENTS = Path(__file__).parents[2] / "components"


class Stages:
    """Every stage, by name, with its contract, its defaults, and a method that adds a task of it."""

    def __init__(self, config: Config, registry: str | None = None, tag: str | None = None) -> None:
        """Loads and checks all components.

        Raises:
            UserError: a component.yaml is broken or differs from its function, or the config names what is not there.
        """
        prefix = registry if registry is not None else config.registry
        self.tag = tag or config.tag  # of all images; empty: each has that of what it is made of
        _check_reference(prefix, self.tag)
        self.config = config
        self.contracts = {path.parent.name: read_contract(path) for path in sorted(COMPONENTS.glob("*/component.yaml"))}
        for stage in config.stages:
            if stage not in self.contracts:
                raise UserError(name_unknown(f"{config.path}: the stage", stage, self.contracts))
        self._prefix = prefix.rstrip("/")
        self.untagged: dict[str, str] = {}  # why the image of a stage has no tag, as far as tasks were added
        self._components: dict[tuple[str, str], components.YamlComponent] = {}
        self.parameters = {name: self._configure_parameters(name) for name in self.contracts}
        self.pipeline_root = config.pipeline_root or None

    @property
    def alone(self) -> list[str]:
        """The stages that can run alone."""
        return [name for name, contract in self.contracts.items() if not contract.is_exit_task]

    @property
    def artifact_parameters(self) -> dict[str, str]:
        """The parameters of single-stage pipelines that take an artifact's URI, and the name of that artifact."""
        return {
            name_uri(port.name): port.name
            for contract in self.contracts.values()
            for port in contract.inputs
            if port.is_artifact
        }

    def list_affected(self, *changed: str) -> set[str]:
        """The outputs of these stages, and of all that take them directly or through others.

        An input takes the outputs of its name, with or without a word in front: after_evaluation takes evaluation.
        """
        affected: set[str] = set()
        waiting = list(changed)
        while waiting:
            new = {port.name for port in self.contracts[waiting.pop()].outputs} - affected
            affected |= new
            waiting += [
                name
                for name, contract in self.contracts.items()
                if any(
                    f"_{port.name}".endswith(f"_{output}")
                    for port in contract.inputs
                    if port.is_artifact
                    for output in new
                )
            ]
        return affected

    def add_task(self, stage: str, name: str = "", /, **inputs: Any) -> dsl.PipelineTask:
        """Adds a task to the pipeline being built: with `inputs`, the configured values for the rest, and resources.

        Args:
            stage: the name of the component.
            name: the name of the task, if it is not that of its stage: each task of a pipeline has one of its own.
            inputs: parameters, and outputs of other tasks.

        Returns:
            The task, whose outputs others may take.

        Raises:
            UserError: there is no such stage, or the pipeline has a task of that name.
        """
        if stage not in self.contracts:
            raise UserError(name_unknown("the stage", stage, self.contracts))
        name = name or stage
        if (stage, name) not in self._components:  # kfp takes long to load one
            contract = self.contracts[stage].model_copy(update={"name": name})
            self._components[stage, name] = _load_component(contract, self._name_image(stage))
        configured = {parameter: value for parameter, value in self.parameters[stage].items() if value is not None}
        task = self._components[stage, name](**{**configured, **inputs})
        if task.name != name:  # kfp has numbered it
            raise UserError(f"two tasks of a pipeline are called {name}; give each a name of its own.")
        _configure(task, self.config.get_stage(stage))
        return task

    def _name_image(self, stage: str) -> str:
        """The image of a stage; a bare name gets the registry and the tag, a full reference stays as it is."""
        image = self.contracts[stage].implementation.container.image
        if re.search(r"[/:@]", image):
            return image
        accelerator = self.config.get_stage(stage).accelerator
        for_gpu = accelerator is not None and accelerator.type.lower().startswith(NVIDIA)
        try:
            tag = self.tag or find_tag(image, for_gpu=for_gpu)
        except UserError as error:  # it cannot be built yet, which only a cluster minds
            tag = ""
            self.untagged[stage] = str(error)
        return f"{f'{self._prefix}/' if self._prefix else ''}{image}{f':{tag}' if tag else ''}"

    def _configure_parameters(self, stage: str) -> dict[str, Any]:
        """The value of each parameter: the config's, else the component's default, else None."""
        inputs = {port.name: port for port in self.contracts[stage].inputs if port.is_parameter}
        defaults = {port.name: None if port.default is None else parse_default(port) for port in inputs.values()}
        overrides = self.config.get_stage(stage).parameters
        if self.config.model and "model" in inputs:
            overrides = {"model": self.config.model, **overrides}
        if is_address(self.config.schema_file) and "curated_schema_uri" in inputs:
            overrides = {"curated_schema_uri": self.config.schema_file, **overrides}
        for name in overrides.keys() - inputs.keys():
            raise UserError(name_unknown(f"{self.config.path}: the parameter of {stage}", str(name), inputs))
        values = {**defaults, **overrides}
        name = ""
        try:
            for name, value in overrides.items():
                values[name] = check_value(value, inputs[name].type)
            for name in [name for name, value in values.items() if value is not None]:
                check_limits(values[name], inputs[name].annotations, values)
        except ValueError as error:
            raise UserError(f"{self.config.path}: {stage}.{name} {error}.") from None
        return values


def import_artifact(name: str, uri: "dsl.pipeline_channel.PipelineParameterChannel", kind: str) -> Any:
    """The artifact of that type at a URI, from a task that Kubeflow Pipelines shows under the artifact's name."""
    task = dsl.importer(uri, artifact_class=getattr(dsl, kind))
    return task.set_display_name(f"import-{name.replace('_', '-')}").output


def _check_reference(registry: str, tag: str) -> None:
    """Checks that no cluster would refuse the images for their names alone.

    Raises:
        UserError: it would.
    """
    if registry and not re.fullmatch(_REGISTRY, registry):
        raise UserError(
            f"registry {show(registry)}: not of the form HOST/FOLDER; correct it in the config or --registry."
        )
    if tag and not re.fullmatch(_TAG, tag):
        raise UserError(
            f"tag {show(tag)}: no tag of an image (up to 128 letters, digits, underscores, points and dashes, of which "
            "the last two do not come first); correct it in the config or --tag."
        )


def _configure(task: dsl.PipelineTask, config: StageConfig) -> None:
    """Sets the caching, and what only a cluster heeds: resources, retries and nodes."""
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


def _load_component(contract: Contract, image: str) -> components.YamlComponent:
    """The kfp component, whose container has that image."""
    content = contract.model_dump(exclude_none=True, by_alias=True)
    content["implementation"]["container"]["image"] = image
    component = components.load_component_from_text(json.dumps(content))  # JSON is YAML, and faster to write
    describe_ports(component, contract)
    return component
