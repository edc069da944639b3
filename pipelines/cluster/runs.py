"""Pipelines, versions, experiments and runs on an endpoint: what is there is used, what is missing is made."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import kfp
from kfp_server_api import (
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RuntimeConfig,
)
from kfp_server_api.exceptions import ApiException

from components.shared.errors import UserError
from pipelines.cluster.connection import Cluster

# What the server's database holds. The server refuses a longer description only after it has started the run.
NAME_LENGTH, DESCRIPTION_LENGTH = 128, 255
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Submission(NamedTuple):
    """What a run is made of."""

    name: str
    description: str
    experiment: str
    version: V2beta1PipelineVersion
    arguments: dict[str, Any]
    pipeline_root: str
    service_account: str


def name_version(package: Path, tag: str) -> str:
    """<tag>-<hash of the YAML>: other code or settings have another name."""
    return f"{tag}-{hashlib.sha256(package.read_bytes()).hexdigest()[:8]}"


def find_or_upload(cluster: Cluster, *, pipeline: str, package: Path, version: str) -> V2beta1PipelineVersion:
    """The version of that name; the pipeline and the version are uploaded if they are not there."""

    def find_or_upload_once(client: Any) -> Any:
        """Looks first each time: an upload whose response was lost may have arrived."""
        pipeline_id = client.get_pipeline_id(pipeline) or client.upload_pipeline(str(package), pipeline).pipeline_id
        found = client.list_pipeline_versions(pipeline_id, filter=_match_name(version)).pipeline_versions
        return found[0] if found else client.upload_pipeline_version(str(package), version, pipeline_id)

    return cluster.call(find_or_upload_once)


def check_names(experiment: str, recurring: str | None, cron: str | None) -> None:
    """Checks the names and the times that were given on the command line.

    Raises:
        UserError: one of them cannot be used.
    """
    _check_name("--experiment", experiment)
    if recurring:
        _check_name("--recurring", recurring)
    if cron and len(cron.split()) != 6:
        raise UserError(
            f"--cron '{cron}': needs six fields, seconds first, such as '0 30 2 * * *' for 2:30 every night."
        )


def _check_name(option: str, name: str) -> None:
    """Refuses names that the API server decodes twice and then does not find, or that its database cannot hold."""
    if any(character in name for character in "+%") or not name.strip():
        raise UserError(f"{option} '{name}': must be a name without + and %.")
    if len(name) > NAME_LENGTH:
        raise UserError(f"{option} '{name}': must not be longer than {NAME_LENGTH} characters.")


def find_experiment(cluster: Cluster, name: str) -> str:
    """The id of the experiment, which is made if it is not there."""
    namespace = cluster.endpoint.user_namespace or None
    return str(cluster.call(lambda client: client.create_experiment(name, namespace=namespace)).experiment_id)


def start(cluster: Cluster, submission: Submission) -> V2beta1Run:
    """Starts the run; its name is unique, so that a run whose answer was lost is found and not started twice."""
    experiment = find_experiment(cluster, submission.experiment)
    body = V2beta1Run(
        experiment_id=experiment,
        display_name=submission.name,
        description=submission.description,
        pipeline_version_reference=_make_reference(submission.version),
        runtime_config=_make_runtime_config(submission),
        service_account=submission.service_account or None,
    )

    def start_once(client: Any) -> Any:
        found = client.list_runs(experiment_id=experiment, filter=_match_name(submission.name)).runs
        return found[0] if found else client.runs.run_service_create_run(body)

    return cluster.call(start_once)


def find(cluster: Cluster, name: str, experiment: str, *, succeeded: bool = False) -> V2beta1Run:
    """The newest run of that id or name; for `latest` the experiment's newest, with `succeeded` its newest success.

    Raises:
        UserError: there is none.
    """
    if UUID.fullmatch(name):
        run = find_by_id(cluster, name)
        if not run:
            raise UserError(f"run {name}: there is no such run; --list shows the newest.")
        return run
    if name != "latest":
        found = next(iter(list_newest(cluster, None, condition=_match_name(name))), None)
        missing = "there is no run of that name"
    else:
        runs = list_newest(cluster, experiment)
        found = next((run for run in runs if run.state == "SUCCEEDED" or not succeeded), None)
        missing = f"there is none in experiment {experiment}"
    if not found:
        raise UserError(f"run {name}: {missing}; --list shows the newest.")
    return cluster.call(lambda client: client.get_run(found.run_id))


def find_by_id(cluster: Cluster, run_id: str) -> V2beta1Run | None:
    """The run of that id; None if there is none, or no longer."""
    if not UUID.fullmatch(run_id):
        return None
    try:
        return cluster.call(lambda client: client.get_run(run_id), expected=(404,))
    except ApiException:
        return None


def list_newest(
    cluster: Cluster, experiment: str | None, *, condition: str | None = None, count: int = 20
) -> list[V2beta1Run]:
    """The newest runs of an experiment, or of all, newest first; `condition` is a filter of the API."""
    namespace = cluster.endpoint.user_namespace or None

    def list_once(client: Any) -> Any:
        try:
            within = client.get_experiment(experiment_name=experiment, namespace=namespace).experiment_id
        except ValueError:
            return []
        return client.list_runs(experiment_id=within, **options).runs or []

    options = {"page_size": count, "sort_by": "created_at desc", "filter": condition}
    if experiment:
        return cluster.call(list_once)
    return cluster.call(lambda client: client.list_runs(namespace=namespace, **options).runs or [])


def terminate(cluster: Cluster, run_id: str) -> None:
    """Asks for the end of a run."""
    cluster.call(lambda client: client.terminate_run(run_id))


def schedule(cluster: Cluster, submission: Submission, cron: str) -> V2beta1RecurringRun:
    """Makes the recurring run of that name; one that is there already is replaced, when the new one exists."""
    earlier = {run.recurring_run_id for run in list_recurring(cluster, submission.name)}
    experiment = find_experiment(cluster, submission.experiment)

    def create_once(client: Any) -> Any:
        for run in _list_recurring(client, cluster, submission.name):
            if run.recurring_run_id not in earlier:  # made by a request whose response was lost
                return run
        return client.create_recurring_run(
            experiment,
            submission.name,
            submission.description,
            cron_expression=cron,
            no_catchup=True,
            params=submission.arguments,
            pipeline_id=submission.version.pipeline_id,
            version_id=submission.version.pipeline_version_id,
            pipeline_root=submission.pipeline_root or None,
            service_account=submission.service_account or None,
        )

    run = cluster.call(create_once)
    for old in earlier:
        cluster.call(partial(_change, change="delete", recurring_run_id=old))
    return run


def change_schedule(cluster: Cluster, name: str, change: str) -> None:
    """Pauses, resumes or deletes a recurring run, as `change` says.

    Raises:
        UserError: there is no recurring run of that name.
    """
    found = list_recurring(cluster, name)
    if not found:
        raise UserError(f"--recurring {name}: there is no recurring run of that name; --cron makes one.")
    for run in found:
        cluster.call(partial(_change, change=change, recurring_run_id=run.recurring_run_id))


def list_recurring(cluster: Cluster, name: str) -> list[Any]:
    """The recurring runs of that name."""
    return cluster.call(lambda client: _list_recurring(client, cluster, name))


def _list_recurring(client: Any, cluster: Cluster, name: str) -> list[Any]:
    namespace = cluster.endpoint.user_namespace or None
    return client.list_recurring_runs(namespace=namespace, filter=_match_name(name)).recurring_runs or []


def _change(client: kfp.Client, change: str, recurring_run_id: str) -> None:
    changes = {
        "pause": client.disable_recurring_run,
        "resume": client.enable_recurring_run,
        "delete": client.delete_recurring_run,
    }
    changes[change](recurring_run_id)


def _make_reference(version: V2beta1PipelineVersion) -> Any:
    return V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )


def _make_runtime_config(submission: Submission) -> Any:
    return V2beta1RuntimeConfig(parameters=submission.arguments, pipeline_root=submission.pipeline_root or None)


def _match_name(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
