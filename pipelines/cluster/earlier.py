"""An earlier run on a cluster, from which a new run continues."""

from dataclasses import replace

from kfp_server_api import V2beta1Run

from components.shared.errors import UserError
from pipelines.cluster import runs
from pipelines.cluster.artifacts import (
    BROKEN,
    Execution,
    PipelineDeleted,
    Uris,
    find_made,
    has_run,
    list_written,
    read_execution,
)
from pipelines.cluster.connection import Cluster
from pipelines.cluster.nodes import find_nodes
from pipelines.cluster.waiting import read_task_states
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.spec import Task, find_parameters, find_sources, is_own
from pipelines.compiler.stages import Stages
from pipelines.submission.arguments import EarlierRun, check_not_comparison, inherit_task


def describe_run(cluster: Cluster, run: V2beta1Run, *, stages: Stages, stage: str | None) -> EarlierRun:
    """The run with the artifacts that it made, took, or was given.

    Args:
        cluster: where the run is.
        run: the run.
        stages: all stages.
        stage: the one that is to be repeated, if any.

    Raises:
        UserError: the run compared two others, so that it has two runs' artifacts of the same names, or its pipeline
            is broken.
    """
    execution = read_execution(cluster, run)
    check_not_comparison(execution.pipeline, run.display_name)
    uris = find_made(cluster, execution)
    before = _describe_before(cluster, execution, stages=stages, stage=stage)
    outdated = stages.list_affected(*(task.stage for task in execution.tasks if task.is_own))
    lost = _find_lost(execution, uris, stages)
    artifacts = _name_artifacts(execution, uris=uris, stages=stages, before=before, outdated=outdated)
    artifacts = {name: uri for name, uri in artifacts.items() if name not in lost}
    described = EarlierRun(run.run_id, run.display_name, artifacts, {}, {}, lost)
    task = _find_last_task(execution, stage)
    if not task:
        return inherit_task(described, before, outdated) if before else described
    try:
        inputs, parameters = _find_inputs(execution, uris, task), _read_parameters(execution, task)
    except BROKEN:
        raise UserError(
            f"run {run.display_name}: its pipeline does not say where {task.name} takes its inputs."
        ) from None
    for port, uri in inputs.items():
        if not uri:  # what the stage took is gone, and another artifact of that name would be wrong
            artifacts.pop(port, None)
    taken = {port: uri for port, uri in inputs.items() if uri}
    return replace(described, parameters=parameters, inputs=taken)


def _describe_before(cluster: Cluster, execution: Execution, *, stages: Stages, stage: str | None) -> EarlierRun | None:
    """The run that it continued from; None if there is none, or if that or its pipeline has been deleted."""
    run = runs.find_by_id(cluster, str(execution.parameters.get(FROM_RUN, "")))
    try:
        return describe_run(cluster, run, stages=stages, stage=stage) if run else None
    except PipelineDeleted:
        return None


def _name_artifacts(
    execution: Execution, *, uris: Uris, stages: Stages, before: EarlierRun | None, outdated: set[str]
) -> dict[str, str]:
    """The run's artifacts by their names alone; if several have one name, the last.

    They are what its stages made, what it was given, and what the run that it continued from had.
    """
    own = {task.name for task in execution.tasks if task.is_own}
    made = {output: uri for (task, output), uri in uris.items() if task in own}
    artifacts = stages.artifact_parameters
    taken = {artifacts[name]: str(uri) for name, uri in execution.parameters.items() if name in artifacts}
    earlier: dict[str, str] = {}
    if before:
        earlier = before.artifacts
    elif taken:  # it was started in the UI, which knows only these artifacts, or the earlier run is deleted
        folders = {uri.rsplit("/", 3)[0] for uri in taken.values()}
        written = [list_written(folder) for folder in sorted(folders)]
        earlier = {
            output: uri
            for outputs in written
            for (task, output), uri in outputs.items()
            if any(is_own(task, stage) for stage in stages.contracts)
        }
    return {name: uri for name, uri in earlier.items() if name not in outdated} | made | taken


def _find_lost(execution: Execution, uris: Uris, stages: Stages) -> dict[str, str]:
    """Where each artifact should be that the run wrote, by what the server says, but that is not there.

    If several have one name, the last counts. Only artifacts that some stage takes are looked for: of others, such as
    metrics, not each has an object.
    """
    nodes, states = find_nodes(execution.run, execution.tasks), read_task_states(execution.run, execution.tasks)
    taken = stages.artifact_parameters.values()
    is_known = execution.is_folder_known
    source = "where the run wrote it" if is_known else "by the config's pipeline_root, as the run names none"
    lost: dict[str, str] = {}
    for task in (task for task in execution.tasks if task.is_own and states[task.name] == "succeeded"):
        for output in (output for output in execution.outputs.get(task.name, []) if output in taken):
            lost.pop(output, None)
            if (task.name, output) not in uris and has_run(nodes.get(task.name)):
                lost[output] = f"{execution.folder}/{task.name}, {source}"
    return lost


def _find_last_task(execution: Execution, stage: str | None) -> Task | None:
    """The run's last own task of the stage."""
    tasks = [task for task in execution.tasks if task.stage == stage and task.is_own]
    return tasks[-1] if tasks else None


def _read_parameters(execution: Execution, task: Task) -> dict[str, object]:
    """The values that the run was given for the parameters of a task, by the names that they have there."""
    sources = find_parameters(execution.spec, task.name, task.parts)
    given = execution.parameters
    return {name: given[source] for name, source in sources.items() if source in given}


def _find_inputs(execution: Execution, uris: Uris, task: Task) -> dict[str, str | None]:
    """What a task took from other tasks of the run, by input; None if it is not found."""
    names = {other.name for other in execution.tasks}
    return {
        port: uris.get((source.task, source.output))
        for port, source in find_sources(execution.spec, task.name, task.parts).items()
        if source.task in names
    }
