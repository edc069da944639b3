"""The arguments of a run that goes on from earlier ones: their parameters, and the URIs of their artifacts."""

import re
from typing import TYPE_CHECKING, Any

from components.shared.errors import UserError
from pipelines.cluster import artifacts, runs, storage
from pipelines.cluster.artifacts import Execution, Uris
from pipelines.cluster.connection import Cluster
from pipelines.compiler import packages
from pipelines.compiler.config import Config
from pipelines.compiler.stages import Stages
from pipelines.submission import arguments

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run


def stage_arguments(cluster: Cluster, config: Config, stages: Stages, run: "V2beta1Run", stage: str) -> dict[str, Any]:
    """Those that repeat the stage on the run: its parameters, and the artifacts that it made, took or was given.

    Raises:
        UserError: the run lacks an artifact, or compared two others.
    """
    contract = stages.contracts[stage]
    execution = artifacts.execution(cluster, run, config)
    uris = artifacts.of_run(cluster, execution, config)
    found = {**_by_name(cluster, config, stages, execution, uris), **_taken(execution, uris, stage)}
    names = {port.name for port in contract.inputs if port.is_parameter}
    parameters = {name: value for name, value in execution.parameters.items() if name in names}
    available = {name: uri for name, uri in found.items() if uri}
    return arguments.from_run(contract, run.display_name, parameters, available)


def comparison_arguments(
    cluster: Cluster, config: Config, stages: Stages, before: "V2beta1Run", after: "V2beta1Run"
) -> dict[str, str]:
    """Those that compare the run `after` with the one `before`.

    Raises:
        UserError: a run lacks an artifact, or compared two others.
    """
    given: dict[str, str] = {}
    for run, wanted in ((before, arguments.BEFORE), (after, arguments.AFTER)):
        execution = artifacts.execution(cluster, run, config)
        uris = artifacts.of_run(cluster, execution, config)
        given |= arguments.uris(wanted, run.display_name, _by_name(cluster, config, stages, execution, uris))
    return given


def _by_name(cluster: Cluster, config: Config, stages: Stages, execution: Execution, uris: Uris) -> dict[str, str]:
    """The run's artifacts by their names alone, of several of a name the last: what its stages made, what it was given,
    and what the run had that it goes on from."""
    if execution.pipeline == "comparison":  # was given the artifacts of two runs, under the same names
        name = execution.run.display_name
        raise UserError(f"run {name}: compared two other runs; name one of these, by --from-run or --before.")
    made = {output: uri for (task, output), uri in uris.items() if task.rpartition("/")[2] in stages.contracts}
    parameters = execution.parameters.items()
    given = {name.removesuffix("_uri"): uri for name, uri in parameters if name in stages.artifact_parameters}
    source = re.search(r"^from run: (.+)$", execution.run.description or "", re.M)
    others: dict[str, str] = {}
    run = runs.named(cluster, source[1]) if source else None
    # Of a clone made in the UI under the name of its source, the newest run of that name is itself.
    if run and run.created_at < execution.run.created_at:
        earlier = artifacts.execution(cluster, run, config)
        others = _by_name(cluster, config, stages, earlier, artifacts.of_run(cluster, earlier, config))
    elif given:  # it was started in the UI, which was told nothing but these
        folders = {uri.rsplit("/", 3)[0] for uri in given.values()}
        others = {each.output: each.uri for each in storage.find_artifacts(*folders) if each.task in stages.contracts}
    return {**others, **made, **given}


def _taken(execution: Execution, uris: Uris, stage: str) -> dict[str, str | None]:
    """What the run's last task of the stage took from its other tasks, by input; None is not found."""
    last = [task.name for task in execution.tasks if task.base_name == stage][-1:]
    sources = {port: source for name in last for port, source in packages.sources(execution.spec, name).items()}
    names = {task.name for task in execution.tasks}
    return {port: uris.get(source) for port, source in sources.items() if source[0] in names}
