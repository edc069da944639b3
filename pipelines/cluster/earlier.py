"""An earlier run on a cluster, from which a new run continues."""

from kfp_server_api import V2beta1Run

from components.shared.errors import UserError
from pipelines.cluster import runs
from pipelines.cluster.artifacts import Execution, Uris, find_artifacts, list_written, read_execution
from pipelines.cluster.connection import Cluster
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.spec import find_parameters, find_sources, is_own
from pipelines.compiler.stages import Stages
from pipelines.submission.arguments import COMPARISON, EarlierRun, go_through, refuse_comparison


def describe_run(cluster: Cluster, run: V2beta1Run, *, stages: Stages, stage: str | None) -> EarlierRun:
    """The run with the artifacts that it made, took, or was given.

    Args:
        cluster: where the run is.
        run: the run.
        stages: all stages.
        stage: the one that is to be repeated, if any.

    Raises:
        UserError: the run compared two others, so that it has two runs' artifacts of the same names.
    """
    execution = read_execution(cluster, run)
    uris = find_artifacts(cluster, execution)
    artifacts = _name_artifacts(cluster, execution, uris=uris, stages=stages)
    inputs: dict[str, str] = {}
    parameters = {}
    earlier = runs.find_by_id(cluster, execution.parameters.get(FROM_RUN, ""))
    if stage and earlier and not any(task.stage == stage and task.is_own for task in execution.tasks):
        described = EarlierRun(run.run_id, run.display_name, artifacts, {}, {})
        before = describe_run(cluster, earlier, stages=stages, stage=stage)
        return go_through(described, before, stages.list_affected(*_list_changed(execution)))
    if stage:
        parameters = _read_parameters(execution, stage)
        for port, uri in _find_inputs(execution, uris, stage).items():
            if uri:
                inputs[port] = uri
            else:  # what the stage took is gone, and another artifact of that name would be wrong
                artifacts.pop(port, None)
    return EarlierRun(run.run_id, run.display_name, artifacts, parameters, inputs)


def _name_artifacts(cluster: Cluster, execution: Execution, *, uris: Uris, stages: Stages) -> dict[str, str]:
    """The run's artifacts by their names alone; if several have one name, the last.

    They are what its stages made, what it was given, and what the run that it continued from had.
    """
    if execution.pipeline == COMPARISON:
        raise UserError(refuse_comparison(execution.run.display_name))
    own = {task.name for task in execution.tasks if task.is_own}
    made = {output: uri for (task, output), uri in uris.items() if task in own}
    artifacts = stages.artifact_parameters
    taken = {artifacts[name]: uri for name, uri in execution.parameters.items() if name in artifacts}
    earlier: dict[str, str] = {}
    run = runs.find_by_id(cluster, execution.parameters.get(FROM_RUN, ""))
    if run:
        before = read_execution(cluster, run)
        earlier = _name_artifacts(cluster, before, uris=find_artifacts(cluster, before), stages=stages)
    elif taken:  # it was started in the UI, which knows only these artifacts, or the earlier run is deleted
        folders = {uri.rsplit("/", 3)[0] for uri in taken.values()}
        written = [list_written(folder) for folder in sorted(folders)]
        earlier = {
            output: uri
            for outputs in written
            for (task, output), uri in outputs.items()
            if any(is_own(task, stage) for stage in stages.contracts)
        }
    outdated = stages.list_affected(*_list_changed(execution))
    return {name: uri for name, uri in earlier.items() if name not in outdated} | made | taken


def _list_changed(execution: Execution) -> set[str]:
    """The stages whose outputs the run made anew."""
    return {task.stage for task in execution.tasks if task.is_own}


def _read_parameters(execution: Execution, stage: str) -> dict[str, object]:
    """The values that the run was given for parameters of its last task of the stage, by the names they have there."""
    last = [task for task in execution.tasks if task.stage == stage and task.is_own][-1:]
    return {
        name: execution.parameters[source]
        for task in last
        for name, source in find_parameters(execution.spec, task.name, task.parts).items()
        if source in execution.parameters
    }


def _find_inputs(execution: Execution, uris: Uris, stage: str) -> dict[str, str | None]:
    """What the run's last task of the stage took from its other tasks, by input; None if it is not found."""
    last = [task for task in execution.tasks if task.stage == stage and task.is_own][-1:]
    names = {task.name for task in execution.tasks}
    return {
        port: uris.get((source.task, source.output))
        for task in last
        for port, source in find_sources(execution.spec, task.name, task.parts).items()
        if source.task in names
    }
