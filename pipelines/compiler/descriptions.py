"""What parameters and artifacts are, in compiled pipelines: kfp leaves out what component.yaml says of them."""

from collections import defaultdict
from collections.abc import Iterator

from kfp.components import YamlComponent
from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, PipelineSpec, PipelineTaskSpec

from pipelines.compiler.contracts import Contract

# The page of the task that made an artifact shows its URI, which a person pastes into the form of a new run.
EXAMPLE = "gs://BUCKET/runs/PIPELINE/RUN/TASK/ATTEMPT/OUTPUT"


def describe_ports(component: YamlComponent, contract: Contract) -> None:
    """Gives each input and output of a component its description in component.yaml."""
    spec = component.component_spec
    for ports, described in ((spec.inputs or {}, contract.inputs), (spec.outputs or {}, contract.outputs)):
        for port in described:
            ports[port.name].description = port.description


def describe_parameters(spec: PipelineSpec) -> None:
    """Gives each parameter of a pipeline, and of those within it, the description of what takes it.

    One that several tasks take for different things has what it is for each, after the name of the task.
    """
    _describe(spec, spec.root)


def _describe(spec: PipelineSpec, pipeline: ComponentSpec) -> None:
    takers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # tasks by description
    for task, name, description in _list_taken(spec, pipeline):
        takers[name][description].append(task)
    parameters = pipeline.input_definitions.parameters
    for name in parameters.keys() & takers.keys():
        of_tasks = takers[name]
        parameters[name].description = "\n".join(
            description if len(of_tasks) == 1 else f"{', '.join(tasks)}: {description}"
            for description, tasks in of_tasks.items()
        )


def _list_taken(spec: PipelineSpec, pipeline: ComponentSpec) -> Iterator[tuple[str, str, str]]:
    """Yields each task that takes a parameter of the pipeline, the parameter, and what it is for that task."""
    tasks = pipeline.dag.tasks
    for name in sorted(tasks):
        component = spec.components[tasks[name].component_ref.name]
        if component.HasField("dag"):
            _describe(spec, component)
        taken = component.input_definitions
        for port, parameter in sorted(tasks[name].inputs.parameters.items()):
            outer = parameter.component_input_parameter
            if outer and port in taken.parameters and (description := taken.parameters[port].description):
                yield name, outer, description
        for port, artifact in sorted(tasks[name].inputs.artifacts.items()):
            producer = artifact.task_output_artifact.producer_task
            if producer in tasks and (outer := _find_imported(spec, tasks[producer])):
                yield name, outer, f"The URI of {port}, such as {EXAMPLE}. {taken.artifacts[port].description}"


def _find_imported(spec: PipelineSpec, task: PipelineTaskSpec) -> str:
    """The parameter of the pipeline that has the URI which a task imports; empty if it is another kind of task."""
    executor = spec.components[task.component_ref.name].executor_label
    if not executor or "importer" not in spec.deployment_spec["executors"][executor]:
        return ""
    return str(task.inputs.parameters["uri"].component_input_parameter)
