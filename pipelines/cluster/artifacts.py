"""What a run on a cluster has: what its tasks wrote, and what they took from KFP's cache."""

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec
from kfp_server_api import V2beta1Run
from kfp_server_api.exceptions import ApiException

from components.shared.cloud_storage import list_objects
from components.shared.errors import UserError
from pipelines.cluster import runs
from pipelines.cluster.connection import Cluster
from pipelines.compiler.spec import Spec, Task, find_component, find_dag, find_executor, find_sources, list_tasks

# What the functions of pipelines.compiler.spec raise on a spec whose parts name what is not there, or themselves.
BROKEN = (KeyError, IndexError, ValueError, RecursionError)
Uris = dict[tuple[str, str], str]  # by the name of a task, and of its output


class Execution(NamedTuple):
    """A run, and the pipeline as it was when the run was started."""

    run: V2beta1Run
    pipeline: str
    spec: Spec
    folder: str  # the folder in Cloud Storage to which its tasks wrote

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the pipeline."""
        return list_tasks(self.spec)

    @property
    def makers(self) -> list[Task]:
        """The tasks that make artifacts."""
        return [
            task
            for task in self.tasks
            if find_component(self.spec, find_dag(self.spec, task.parts), task.name).get("outputDefinitions")
        ]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that the run was started with."""
        return (self.run.runtime_config and self.run.runtime_config.parameters) or {}


def read_execution(cluster: Cluster, run: V2beta1Run) -> Execution:
    """The run with its pipeline.

    Raises:
        UserError: the run's pipeline was not uploaded, or is not one.
    """
    version = run.pipeline_version_reference
    if not (version and version.pipeline_id):
        raise UserError(f"run {run.display_name}: was not started from an uploaded pipeline.")
    pipeline = cluster.call(lambda client: client.get_pipeline(version.pipeline_id)).display_name
    uploaded = cluster.call(
        lambda client: client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id)
    )
    spec = _check_spec(uploaded.pipeline_spec)
    if not spec:
        raise UserError(f"run {run.display_name}: its pipeline is not one that Kubeflow Pipelines can have run.")
    return _make_execution(cluster, run, pipeline=pipeline, spec=spec)


def find_artifacts(cluster: Cluster, execution: Execution, tasks: Collection[str] | None = None) -> Uris:
    """Finds what the run's tasks wrote or took from the cache, in the order of the tasks; what is gone is left out.

    The server does not record where cached artifacts come from. KFP reuses only outputs of a task in the same pipeline
    with the same container, parameters and inputs, so the newest such task wrote them.

    Args:
        cluster: where the run is.
        execution: the run.
        tasks: those to look at, which have succeeded; None stands for all.
    """
    names = [task.name for task in execution.makers if tasks is None or task.name in tasks]
    uris = {output: uri for output, uri in _find_written(execution).items() if output[0] in names}
    wrote = {task for task, _ in uris}
    own = _describe_works(execution)
    cached = {name: own[name] for name in names if name not in wrote}
    for earlier in _list_earlier(cluster, execution) if cached else ():
        works = _describe_works(earlier)
        twins = {name: twin for name in cached for twin, work in works.items() if work == cached[name]}
        outputs = _find_written(earlier) if twins else {}
        for name, twin in twins.items():
            if left := {(name, output): uri for (task, output), uri in outputs.items() if task == twin}:
                uris |= left
                del cached[name]
        if not cached:
            break
    return dict(sorted(uris.items(), key=lambda item: names.index(item[0][0])))


def list_written(folder: str) -> Uris:
    """What the tasks of a run wrote; of several attempts the last one counts.

    KFP's driver puts an output at <root>/<pipeline>/<run>/<task>/<id of the attempt>/<output>.

    Args:
        folder: the part of the address up to the run.

    Raises:
        UserError: the bucket cannot be listed.
    """
    written = []
    for item in list_objects(folder, if_missing="check pipeline_root in the config"):
        task, *attempt = item.name.split("/")[:3]
        if len(attempt) == 2:
            written.append((item.updated, (task, attempt[1]), f"{folder.rstrip('/')}/{task}/{'/'.join(attempt)}"))
    return {output: uri for _, output, uri in sorted(written)}


def _make_execution(cluster: Cluster, run: V2beta1Run, *, pipeline: str, spec: Spec) -> Execution:
    root = (run.runtime_config and run.runtime_config.pipeline_root) or cluster.config.pipeline_root
    return Execution(run, pipeline, spec, f"{root.rstrip('/')}/{pipeline}/{run.run_id}")


def _find_written(execution: Execution) -> Uris:
    """Lists the outputs of tasks, without those of importers."""
    names = {task.name for task in execution.tasks}
    return {output: uri for output, uri in list_written(execution.folder).items() if output[0] in names}


def _list_earlier(cluster: Cluster, execution: Execution) -> Iterator[Execution]:
    """The pipeline's runs before this one, of the newest of all pipelines, as many as one page has, newest first."""
    versions: dict[str, Spec | None] = {}
    for run in runs.list_newest(cluster, None, count=runs.LARGEST_PAGE):
        version = run.pipeline_version_reference
        is_same = version and version.pipeline_id == execution.run.pipeline_version_reference.pipeline_id
        if is_same and run.created_at < execution.run.created_at:
            key = version.pipeline_version_id
            if key not in versions:
                versions[key] = _read_spec(cluster, version.pipeline_id, key)
            if spec := versions[key]:
                yield _make_execution(cluster, run, pipeline=execution.pipeline, spec=spec)


def _read_spec(cluster: Cluster, pipeline_id: str, version_id: str) -> Spec | None:
    """The spec of an uploaded version; None for one that somebody has deleted, or that is none."""
    try:
        version = cluster.call(lambda client: client.get_pipeline_version(pipeline_id, version_id), expected=(404,))
    except ApiException:
        return None
    return _check_spec(version.pipeline_spec)


def _check_spec(content: Any) -> Spec | None:
    """What a server has as a pipeline's spec, as protobuf writes it; None if it is none."""
    if isinstance(content, dict):
        content = content.get("pipeline_spec", content)  # beside it may be what Kubernetes alone is told
    try:
        spec: Spec = json_format.MessageToDict(
            json_format.ParseDict(content, PipelineSpec(), ignore_unknown_fields=True)
        )
        executors = json_format.ParseDict(
            spec["deploymentSpec"], PipelineDeploymentConfig(), ignore_unknown_fields=True
        )
        spec["deploymentSpec"] = json_format.MessageToDict(executors)
        tasks = list_tasks(spec)
    except (json_format.ParseError, *BROKEN):
        return None
    return spec if all(re.fullmatch(r"[\w-]+", task.name) for task in tasks) else None


def _describe_works(execution: Execution) -> dict[str, object]:
    """What each task does, by its name.

    A task that takes what does not exist, or in a way that this project's pipelines do not, is like no other.
    """
    works: dict[str, object] = {}
    for task in execution.tasks:
        try:
            works[task.name] = _describe_work(execution, task.name, task.parts)
        except BROKEN:
            works[task.name] = execution.run.run_id, task.name
    return works


def _describe_work(execution: Execution, task: str, parts: tuple[str, ...]) -> object:
    """What a task does, and on what: equal for tasks that KFP's cache holds to be the same.

    It goes by the image, the command, the parameters, and which tasks the inputs come from. A task that does not
    use the cache is like no other. `parts` lead to the task.
    """
    dag = find_dag(execution.spec, parts)
    if not dag["tasks"][task].get("cachingOptions", {}).get("enableCache"):
        return execution.run.run_id, task
    component = find_component(execution.spec, dag, task)
    executor = find_executor(execution.spec, component)
    container = executor.get("container", {})
    parameters = dag["tasks"][task].get("inputs", {}).get("parameters", {})
    sources = find_sources(execution.spec, task, parts)
    return {
        "runs": [executor.get("importer"), *(container.get(field) for field in ("image", "command", "args"))],
        "outputs": component.get("outputDefinitions"),
        "parameters": {port: _find_value(execution, parts, source) for port, source in parameters.items()},
        "artifacts": {
            port: (_describe_work(execution, source.task, source.parts), source.output)
            for port, source in sources.items()
        },
    }


def _find_value(execution: Execution, parts: tuple[str, ...], source: Spec) -> object:
    """The value of a parameter that comes from `source`; `parts` lead to where it is used."""
    if "runtimeValue" in source:
        return source["runtimeValue"]["constant"]
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        return _describe_work(execution, output["producerTask"], parts), output["outputParameterKey"]
    return _list_parameters(execution, parts)[source["componentInputParameter"]]


def _list_parameters(execution: Execution, parts: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of the pipeline, or of the pipeline within it that `parts` lead to."""
    component, values = execution.spec["root"], execution.parameters
    if parts:
        *outer, part = parts
        dag = find_dag(execution.spec, tuple(outer))
        component = find_component(execution.spec, dag, part)
        sources = dag["tasks"][part].get("inputs", {}).get("parameters", {})
        values = {name: _find_value(execution, tuple(outer), source) for name, source in sources.items()}
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: spec.get("defaultValue") for name, spec in declared.items()} | values
