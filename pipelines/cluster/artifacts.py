"""What a run on a cluster has: what its tasks wrote, and what they took from KFP's cache."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from components.shared.errors import UserError
from pipelines.cluster import runs, storage
from pipelines.cluster.connection import Cluster
from pipelines.compiler import packages
from pipelines.compiler.config import Config

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

Uris = dict[tuple[str, str], str]  # by the full name of a task, and its output


class Execution(NamedTuple):
    """A run, and the pipeline as it was when it was started."""

    run: "V2beta1Run"
    pipeline: str
    spec: dict[str, Any]
    folder: str  # in Cloud Storage, of what it wrote

    @property
    def tasks(self) -> list[packages.Task]:
        return packages.tasks(self.spec)

    @property
    def parameters(self) -> dict[str, Any]:
        return (self.run.runtime_config and self.run.runtime_config.parameters) or {}


def execution(cluster: Cluster, run: "V2beta1Run", config: Config) -> Execution:
    """
    Raises:
        UserError: the run's pipeline was not uploaded.
    """
    version = run.pipeline_version_reference
    if not (version and version.pipeline_id):
        raise UserError(f"run {run.display_name}: was not started from an uploaded pipeline.")
    pipeline = cluster.call(lambda client: client.get_pipeline(version.pipeline_id)).display_name
    found = cluster.call(lambda client: client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id))
    return _execution(run, pipeline, found.pipeline_spec, config)


def _execution(run: "V2beta1Run", pipeline: str, spec: dict[str, Any], config: Config) -> Execution:
    root = (run.runtime_config and run.runtime_config.pipeline_root) or config.pipeline_root
    spec = spec.get("pipeline_spec", spec)  # beside it may be what Kubernetes alone is told
    return Execution(run, pipeline, spec, f"{root.rstrip('/')}/{pipeline}/{run.run_id}")


def of_run(cluster: Cluster, execution: Execution, config: Config) -> Uris:
    """What the run's tasks wrote, or took from the cache, as far as that is found; in the order of the tasks.

    No server says where a task's artifacts come from that were in the cache. But KFP takes them only from a task of the
    same pipeline with the same container, parameters and inputs, so it is what the newest such task wrote.
    """
    uris = _written(execution)
    wrote = {task for task, _ in uris}
    cached = {task.name: _work(execution, task.name) for task in execution.tasks if task.name not in wrote}
    for earlier in _earlier(cluster, execution, config) if cached else ():
        works = {task.name: _work(earlier, task.name) for task in earlier.tasks}
        twins = {name: twin for name in cached for twin, work in works.items() if work == cached[name]}
        outputs = _written(earlier) if twins else {}
        for name, twin in twins.items():
            if left := {(name, output): uri for (task, output), uri in outputs.items() if task == twin}:
                uris |= left
                del cached[name]
        if not cached:
            break
    names = [task.name for task in execution.tasks]
    return dict(sorted(uris.items(), key=lambda item: names.index(item[0][0])))


def _written(execution: Execution) -> Uris:
    return storage.by_task(storage.find_artifacts(execution.folder), execution.tasks)


def _earlier(cluster: Cluster, execution: Execution, config: Config) -> Iterator[Execution]:
    """The pipeline's runs before this one, of the newest 200 of all pipelines, newest first."""
    versions: dict[str, dict[str, Any] | None] = {}
    for run in runs.newest(cluster, None, count=200):
        version = run.pipeline_version_reference
        same = version and version.pipeline_id == execution.run.pipeline_version_reference.pipeline_id
        if same and run.created_at < execution.run.created_at:
            key = version.pipeline_version_id
            if key not in versions:
                versions[key] = _spec(cluster, version.pipeline_id, key)
            if spec := versions[key]:
                yield _execution(run, execution.pipeline, spec, config)


def _spec(cluster: Cluster, pipeline_id: str, version_id: str) -> dict[str, Any] | None:
    """None of a version that somebody has deleted."""
    from kfp_server_api.exceptions import ApiException

    try:
        found = cluster.call(lambda client: client.get_pipeline_version(pipeline_id, version_id), expected=(404,))
    except ApiException:
        return None
    return found.pipeline_spec


def _work(execution: Execution, name: str) -> Any:
    """What a task does, and on what: equal for tasks that KFP's cache holds for the same.

    It goes by the image, the command, the parameters, and which tasks the inputs come from; a task that it must leave
    alone is like no other.
    """
    *parts, task = name.split("/")
    dag = packages.dag_of(execution.spec, parts)
    if not dag["tasks"][task].get("cachingOptions", {}).get("enableCache"):
        return execution.run.run_id, name
    component = packages.component_of(execution.spec, dag, task)
    executor = execution.spec["deploymentSpec"]["executors"][component["executorLabel"]]
    container = executor.get("container", {})
    given = dag["tasks"][task].get("inputs", {}).get("parameters", {})
    sources = packages.sources(execution.spec, name)
    return {
        "runs": [executor.get("importer"), *(container.get(field) for field in ("image", "command", "args"))],
        "outputs": component.get("outputDefinitions"),
        "parameters": {port: _value(execution, parts, source) for port, source in given.items()},
        "artifacts": {port: (_work(execution, producer), output) for port, (producer, output) in sources.items()},
    }


def _value(execution: Execution, parts: list[str], source: dict[str, Any]) -> Any:
    """The value of a parameter that comes from `source`; `parts` leads to the part of the pipeline it is used in."""
    if "runtimeValue" in source:
        return source["runtimeValue"]["constant"]
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        return _work(execution, "/".join([*parts, output["producerTask"]])), output["outputParameterKey"]
    return _arguments(execution, parts)[source["componentInputParameter"]]


def _arguments(execution: Execution, parts: list[str]) -> dict[str, Any]:
    """The parameters of the pipeline, or of the part that `parts` leads to."""
    component, values = execution.spec["root"], execution.parameters
    if parts:
        *outer, part = parts
        dag = packages.dag_of(execution.spec, outer)
        component = packages.component_of(execution.spec, dag, part)
        given = dag["tasks"][part].get("inputs", {}).get("parameters", {})
        values = {name: _value(execution, outer, source) for name, source in given.items()}
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: spec.get("defaultValue") for name, spec in declared.items()} | values
