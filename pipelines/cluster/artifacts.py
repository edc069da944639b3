"""What a run on a cluster has: what its tasks wrote, and what they took from KFP's cache."""

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec
from kfp_server_api import V2beta1Run
from kfp_server_api.exceptions import ApiException

from components.shared.cloud_storage import is_address, list_objects
from components.shared.errors import UserError
from pipelines.cluster import runs
from pipelines.cluster.connection import Cluster
from pipelines.cluster.kubeconfig import leads_to, read_config_map
from pipelines.cluster.nodes import TaskNodes, find_nodes
from pipelines.cluster.waiting import read_task_states
from pipelines.compiler.spec import Spec, Task, find_component, find_dag, find_executor, find_sources, list_tasks

# What the functions of pipelines.compiler.spec raise on a spec whose parts name what is not there, or themselves.
BROKEN = (KeyError, IndexError, ValueError, RecursionError)
LAUNCHER = "kfp-launcher"  # the ConfigMap with the root of the runs that have none of their own
DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"  # if that has none
LOG = re.compile(r"executor-logs(?:-(\d+))?")  # what an attempt printed, beside its outputs; the first one is number 0
Uris = dict[tuple[str, str], str]  # by the name of a task, and of its output


class PipelineDeleted(UserError):
    """The server has a run, but not the pipeline that was run."""


class Execution(NamedTuple):
    """A run, and the pipeline as it was when the run was started."""

    run: V2beta1Run
    spec: Spec
    folder: str  # the folder in Cloud Storage to which its tasks wrote
    is_folder_known: bool  # by the run or the cluster; else it is taken to be below the root of the config

    @property
    def pipeline(self) -> str:
        """The name of the pipeline in its YAML; people may upload that under another one."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the pipeline."""
        return list_tasks(self.spec)

    @property
    def outputs(self) -> dict[str, list[str]]:
        """The names of the artifacts that each task makes; tasks that make none are left out."""
        components = {
            task.name: find_component(self.spec, find_dag(self.spec, task.parts), task.name) for task in self.tasks
        }
        declared = {
            task: [*component.get("outputDefinitions", {}).get("artifacts", {})]
            for task, component in components.items()
        }
        return {task: names for task, names in declared.items() if names}

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that the run was started with."""
        return (self.run.runtime_config and self.run.runtime_config.parameters) or {}

    def list_cached(self, uris: Uris) -> list[str]:
        """The tasks that took their outputs from the cache, where `uris` are those that were found.

        A run of which the server does not tell its tasks took what it has not written.
        """
        nodes = find_nodes(self.run, self.tasks)
        wrote = {task for (task, _), uri in uris.items() if uri.startswith(f"{self.folder}/")}
        return [task for task in self.outputs if task not in wrote and not has_run(nodes.get(task))]


def has_run(nodes: TaskNodes | None) -> bool:
    """Whether the server says that a container of the task ran; of a cached one none did."""
    return bool(nodes and nodes.containers and not nodes.is_cached)


def read_execution(cluster: Cluster, run: V2beta1Run) -> Execution:
    """The run with its pipeline.

    Raises:
        PipelineDeleted: somebody has deleted the pipeline, or the version of it that was run.
        UserError: the server does not say what its pipeline was, or it is none.
    """
    if not (_find_version(run) or run.pipeline_spec):
        raise UserError(f"run {run.display_name}: the server does not say which version of which pipeline it ran.")
    try:
        spec = _read_spec(cluster, run, expected=(404,))
    except ApiException:
        raise PipelineDeleted(
            f"run {run.display_name}: somebody has deleted its pipeline, or the version of it that was run, so nobody "
            "knows its stages any more; choose another run, or start it again."
        ) from None
    if not spec:
        raise UserError(f"run {run.display_name}: its pipeline is not one that Kubeflow Pipelines can have run.")
    return _make_execution(cluster, run, spec)


def find_made(cluster: Cluster, execution: Execution) -> Uris:
    """The artifacts of a run; where that has not succeeded as a whole, those of its tasks that have."""
    states = read_task_states(execution.run, execution.tasks)
    succeeded = [name for name, state in states.items() if state == "succeeded"]
    return find_artifacts(cluster, execution, None if execution.run.state == "SUCCEEDED" else succeeded)


def find_artifacts(cluster: Cluster, execution: Execution, tasks: Collection[str] | None = None) -> Uris:
    """Finds what the run's tasks wrote or took from the cache, in the order of the tasks; what is gone is left out.

    The server does not record where cached artifacts come from. KFP reuses only outputs of a task with the same
    container, parameters and inputs, in a pipeline whose YAML has the same name, so the newest such task wrote them.

    Args:
        cluster: where the run is.
        execution: the run.
        tasks: those to look at, which have succeeded; None stands for all.
    """
    names = [name for name in execution.outputs if tasks is None or name in tasks]
    uris = {output: uri for output, uri in _find_written(execution).items() if output[0] in names}
    own = _describe_works(execution)
    cached = {name: own[name] for name in execution.list_cached(uris) if name in names}
    for earlier in _list_earlier(cluster, execution) if cached else ():
        works, nodes = _describe_works(earlier), find_nodes(earlier.run, earlier.tasks)
        twins = {
            name: twin
            for name in cached
            for twin, work in works.items()
            if work == cached[name] and _may_have_written(nodes.get(twin))
        }
        outputs = _find_written(earlier) if twins and is_address(earlier.folder) else {}
        for name, twin in twins.items():
            left = {(name, output): uri for (task, output), uri in outputs.items() if task == twin}
            uris |= left
            if left or has_run(nodes.get(twin)):  # or it was written there, and is gone
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
        if len(attempt) == 2 and not LOG.fullmatch(attempt[1]):
            written.append((item.updated, (task, attempt[1]), f"{folder.rstrip('/')}/{task}/{'/'.join(attempt)}"))
    return {output: uri for _, output, uri in sorted(written)}


def _make_execution(cluster: Cluster, run: V2beta1Run, spec: Spec) -> Execution:
    known = (run.runtime_config and run.runtime_config.pipeline_root) or _read_default_root(cluster)
    root = known or cluster.config.pipeline_root
    return Execution(run, spec, f"{root.rstrip('/')}/{spec['pipelineInfo']['name']}/{run.run_id}", bool(known))


@cache  # it is asked for of each earlier run
def _read_default_root(cluster: Cluster) -> str:
    """The root of the runs that have none of their own; empty where one may not know it."""
    if not leads_to(cluster):
        return ""
    try:
        return str(read_config_map(cluster, cluster.namespace, LAUNCHER).get("defaultPipelineRoot") or DEFAULT_ROOT)
    except UserError:
        return ""


def _find_written(execution: Execution) -> Uris:
    """Lists the outputs of tasks, without those of importers.

    Raises:
        UserError: they lie elsewhere than in Cloud Storage, or the bucket cannot be listed.
    """
    if not is_address(execution.folder):
        raise UserError(
            f"run {execution.run.display_name}: its outputs lie at {execution.folder}, which is not in Cloud Storage; "
            "start it with a pipeline_root, which is gs://BUCKET/FOLDER."
        )
    outputs = execution.outputs
    return {(task, name): uri for (task, name), uri in list_written(execution.folder).items() if task in outputs}


def _may_have_written(nodes: TaskNodes | None) -> bool:
    """Whether a task may have written what another one took from the cache: it succeeded, and took nothing itself."""
    if not nodes or not nodes.task:
        return True  # the server does not tell
    return nodes.task.state == "SUCCEEDED" and not nodes.is_cached


def _list_earlier(cluster: Cluster, execution: Execution) -> Iterator[Execution]:
    """The runs before this one of pipelines of this name, of the newest of all as many as a page has, newest first."""
    known: dict[str, Spec | None] = {}
    for run in runs.list_newest(cluster, None, count=runs.LARGEST_PAGE):
        if run.created_at < execution.run.created_at:
            version = _find_version(run)
            key = version.pipeline_version_id if version else run.run_id
            if key not in known:
                try:
                    known[key] = _read_spec(cluster, run, expected=(403, 404, 500))
                except ApiException:  # it is somebody else's, or deleted
                    known[key] = None
            spec = known[key]
            if spec and spec["pipelineInfo"]["name"] == execution.pipeline:
                yield _make_execution(cluster, run, spec)


def _read_spec(cluster: Cluster, run: V2beta1Run, *, expected: tuple[int, ...]) -> Spec | None:
    """The pipeline of a run, of an uploaded version or brought along; None if it is none.

    Args:
        cluster: where the run is.
        run: the run.
        expected: the statuses of refusals that the caller deals with.

    Raises:
        kfp_server_api.ApiException: a refusal with an `expected` status.
    """
    version = _find_version(run)
    if not version:
        return _check_spec(run.pipeline_spec)
    uploaded = cluster.call(
        lambda client: client.get_pipeline_version(version.pipeline_id, version.pipeline_version_id),
        expected=expected,
    )
    return _check_spec(uploaded.pipeline_spec)


def _find_version(run: V2beta1Run) -> Any:
    """The ids of the version that was run; None if the server does not say both."""
    version = run.pipeline_version_reference
    return version if version and version.pipeline_id and version.pipeline_version_id else None


def _check_spec(content: Any) -> Spec | None:
    """What a server has as a pipeline's spec, as protobuf writes it; None if it is none."""
    if not isinstance(content, dict):
        return None
    content = content.get("pipeline_spec", content)  # beside it may be what Kubernetes alone is told
    try:
        spec: Spec = json_format.MessageToDict(
            json_format.ParseDict(content, PipelineSpec(), ignore_unknown_fields=True)
        )
        executors = json_format.ParseDict(
            spec["deploymentSpec"], PipelineDeploymentConfig(), ignore_unknown_fields=True
        )
        spec["deploymentSpec"] = json_format.MessageToDict(executors)
        names = [spec["pipelineInfo"]["name"], *(task.name for task in list_tasks(spec))]
    except (json_format.ParseError, *BROKEN):
        return None
    return spec if all(re.fullmatch(r"[\w-]+", name) for name in names) else None


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
