"""An earlier run on a cluster, from which a new run continues."""

from kfp_server_api import V2beta1Run

from components.shared.errors import UserError
from pipelines.cluster import runs
from pipelines.cluster.artifacts import Execution, Uris, find_artifacts, list_written, read_execution
from pipelines.cluster.connection import Cluster
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.spec import find_sources, is_own
from pipelines.compiler.stages import Stages
from pipelines.submission.arguments import EarlierRun


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
    if stage:
        names = {port.name for port in stages.contracts[stage].inputs if port.is_parameter}
        parameters = {name: value for name, value in execution.parameters.items() if name in names}
        for port, uri in _find_inputs(execution, uris, stage).items():
            if uri:
                inputs[port] = uri
            else:  # what the stage's last task took is gone; an artifact of that name from elsewhere would be wrong
                artifacts.pop(port, None)
    return EarlierRun(run.run_id, run.display_name, artifacts, parameters, inputs)


def _name_artifacts(cluster: Cluster, execution: Execution, *, uris: Uris, stages: Stages) -> dict[str, str]:
    """The run's artifacts by name alone; if several share a name, the last.

    They are what its stages made, what it was given, and what the run had from which it continued.
    """
    if execution.pipeline == "comparison":
        name = execution.run.display_name
        raise UserError(f"run {name}: compared two other runs; name one of these, by --from-run or --before.")
    own = {task.name for task in execution.tasks if task.is_own}
    made = {output: uri for (task, output), uri in uris.items() if task in own}
    parameters = execution.parameters.items()
    taken = {name.removesuffix("_uri"): uri for name, uri in parameters if name in stages.artifact_parameters}
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
    return {**earlier, **made, **taken}


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
