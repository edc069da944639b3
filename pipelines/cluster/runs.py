"""Pipelines, versions, experiments and runs on an endpoint: what is there is used, what is missing is made."""

import contextlib
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kfp_server_api import (
    V2beta1Experiment,
    V2beta1PipelineVersion,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RuntimeConfig,
)
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.shared.errors import UserError, quote
from pipelines.cluster.answers import WrongAnswer
from pipelines.cluster.connection import Cluster
from pipelines.cluster.cron import check_cron
from pipelines.cluster.failures import has_done_nothing
from pipelines.compiler.values import list_texts
from pipelines.output.console import print_line
from pipelines.submission.request import is_folder_name

# What the server's database holds. The server refuses what is longer only after it has started the run.
NAME_LENGTH, DESCRIPTION_LENGTH = 128, 255
VERSION_DIGITS = 16  # hexadecimal, of a SHA-256
UNSTORABLE = re.compile("[\0\ud800-\udfff\U00010000-\U0010ffff]")  # emoji and the like, which take four bytes
PAGE, LARGEST_PAGE = 20, 200  # runs; the latter is the most that the server sends
SETTLING = 2  # seconds in which a server ends what it was asked for by a request whose answer was lost
GOING = ("PENDING", "RUNNING", "PAUSED")  # states of runs that can be ended
STOPPED = (KeyboardInterrupt, SystemExit)  # by Ctrl-C, SIGTERM or SIGHUP
OTHER_RUN = "it tells of another run than that which was asked for"
# Which of kubectl's options show the run of each workflow, whose own name the server makes up.
WORKFLOW_NAMES = r"custom-columns=NAME:.metadata.name,RUN:.metadata.annotations.pipelines\.kubeflow\.org/run_name"
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


def name_version(package: Path) -> str:
    """A hash of the YAML, in which the images stand with their tags: other code or settings have another name."""
    return hashlib.sha256(package.read_bytes()).hexdigest()[:VERSION_DIGITS]


def find_or_upload(cluster: Cluster, *, pipeline: str, package: Path, version: str) -> V2beta1PipelineVersion:
    """The version of that name; the pipeline and the version are uploaded if they are not there."""

    def find_or_upload_once(client: Any) -> Any:
        """Looks first each time: an upload whose response was lost may have arrived."""
        there = _choose_named(client.list_pipelines(filter=_match_name(pipeline)).pipelines, pipeline)
        pipeline_id = (there or client.upload_pipeline(str(package), pipeline)).pipeline_id
        found = client.list_pipeline_versions(pipeline_id, filter=_match_name(version)).pipeline_versions
        return _choose_named(found, version) or client.upload_pipeline_version(str(package), version, pipeline_id)

    return cluster.call(find_or_upload_once)


def check_names(experiment: str, recurring: str | None, cron: str | None) -> None:
    """Checks the names and the times that were given on the command line.

    Raises:
        UserError: one of them cannot be used.
    """
    _check_name("--experiment", experiment)
    if recurring:
        _check_name("--recurring", recurring)
    if cron:
        check_cron(cron)


def check_characters(where: str, content: object) -> None:
    """Checks that the server's database can hold all texts of `content`, which is as JSON has it.

    Raises:
        UserError: a character cannot be stored; `where` says where it stands.
    """
    for text in list_texts(content):
        if found := UNSTORABLE.search(text):
            raise UserError(
                f"{where}: has {quote(found[0])}, which the database of Kubeflow Pipelines cannot hold; use another."
            )


def describe(text: str) -> str:
    """The text as the description of a run, cut to what the server's database holds."""
    text = UNSTORABLE.sub("\ufffd", text)
    return text if len(text) <= DESCRIPTION_LENGTH else f"{text[: DESCRIPTION_LENGTH - 1]}…"


def _check_name(option: str, name: str) -> None:
    """Refuses names that the API server decodes twice and then does not find, or that its database cannot hold."""
    if any(character in name for character in "+%") or not name.strip():
        raise UserError(f"{option} '{name}': must be a name without + and %.")
    if len(name) > NAME_LENGTH:
        raise UserError(f"{option} '{name}': must not be longer than {NAME_LENGTH} characters.")
    check_characters(option, name)


def find_experiment(cluster: Cluster, name: str) -> str | None:
    """The id of the experiment; None if it is not there."""
    return cluster.call(lambda client: _find_experiment(client, cluster, name))


def _find_experiment(client: Any, cluster: Cluster, name: str) -> str | None:
    namespace = cluster.endpoint.user_namespace or None
    found = _choose_named(client.list_experiments(namespace=namespace, filter=_match_name(name)).experiments, name)
    return found and str(found.experiment_id)


def make_experiment(cluster: Cluster, name: str) -> str:
    """The id of the experiment, which is made if it is not there."""
    namespace = cluster.endpoint.user_namespace or None

    def find_or_make(client: Any) -> str:
        """Looks first each time: the answer to the request that made it may have been lost."""
        if found := _find_experiment(client, cluster, name):
            return found
        experiment = V2beta1Experiment(display_name=name, namespace=namespace or client.get_user_namespace() or None)
        return str(client.experiments.experiment_service_create_experiment(experiment=experiment).experiment_id)

    return cluster.call(find_or_make)


def start(cluster: Cluster, submission: Submission) -> V2beta1Run:
    """Starts the run; its name is unique, so that a run whose answer was lost is found and not started twice.

    Raises:
        UserError: it could not be started, or perhaps it was.
    """
    experiment = make_experiment(cluster, submission.experiment)
    body = V2beta1Run(
        experiment_id=experiment,
        display_name=submission.name,
        description=submission.description,
        pipeline_version_reference=_make_reference(submission.version),
        runtime_config=_make_runtime_config(submission),
        service_account=submission.service_account or None,
    )

    def find_started(client: Any) -> Any:
        listed = client.list_runs(experiment_id=experiment, filter=_match_name(submission.name)).runs
        return _choose_named(listed, submission.name)

    def start_once(client: Any) -> Any:
        return _check_made(client.runs.run_service_create_run(body), submission.name)

    doubt = _doubt(cluster, f"the run {submission.name} may have started", "workflows", "-o", WORKFLOW_NAMES)
    return _make_once(cluster, find_started, start_once, doubt)


def _make_once(cluster: Cluster, find_made: Callable[[Any], Any], make: Callable[[Any], Any], doubt: str) -> Any:
    """Makes what would be there twice if a request were repeated that has arrived.

    So it is repeated only where it surely has not, or where the server asks for that. The server of Kubeflow Pipelines
    fails after it has begun a run, and then no list shows what goes on.

    Args:
        cluster: where.
        find_made: looks for what the request has made, should its answer be lost.
        make: makes it.
        doubt: what to say when nobody knows whether it was made.

    Raises:
        UserError: it was refused, or perhaps it was made.
    """
    is_in_doubt = False

    def make_once(client: Any) -> Any:
        nonlocal is_in_doubt
        is_in_doubt = True
        try:
            return make(client)
        except (ApiException, HTTPError, WrongAnswer) as error:
            is_in_doubt = not has_done_nothing(error)
            if is_in_doubt:
                raise _LostAnswerError(cluster.explain(error)) from None
            raise

    try:
        try:
            return cluster.call(make_once)
        except _LostAnswerError as lost:
            said = str(lost)
        time.sleep(SETTLING)
        with contextlib.suppress(UserError):  # it cannot be looked for either
            if found := cluster.call(find_made):
                return found
    except STOPPED:
        if is_in_doubt:
            print_line(f"\ninterrupted; {doubt}.")
        raise
    raise UserError(f"{said.rstrip('.')}; {doubt}.")


class _LostAnswerError(Exception):
    """A request has perhaps done what it asks for; the text says what came instead of an answer."""


def _doubt(cluster: Cluster, made: str, kind: str, *output: str) -> str:
    """What to say of something that was perhaps made though no list shows it, and how to see and end it.

    Args:
        cluster: where.
        made: that it was made, with its name.
        kind: of the resource of Kubernetes that it is there.
        output: the options with which kubectl shows what it is called there.
    """
    return (
        f"{made} all the same, even if no list shows it: `{cluster.write_kubectl('get', kind, *output)}` shows it, "
        f"and `{cluster.write_kubectl('delete', kind)} NAME` ends it; look there before you try again"
    )


def _check_made(made: Any, name: str) -> Any:
    """What the server says that it has made.

    Raises:
        WrongAnswer: it is something else.
    """
    if made.display_name != name:
        raise WrongAnswer(OTHER_RUN)
    return made


def read(cluster: Cluster, run_id: str, *, patience: float | None = None, expected: tuple[int, ...] = ()) -> V2beta1Run:
    """The run of that id; see Cluster.call."""

    def read_once(client: Any) -> Any:
        run = client.get_run(run_id)
        if run.run_id != run_id:
            raise WrongAnswer(OTHER_RUN)
        return run

    return cluster.call(read_once, patience=patience, expected=expected)


def find(cluster: Cluster, name: str, experiment: str, *, succeeded: bool = False) -> V2beta1Run:
    """The newest run of that id or name; for `latest` the experiment's newest, with `succeeded` its newest success.

    Raises:
        UserError: there is none.
    """
    check_characters("the name of the run", name)
    if UUID.fullmatch(name):
        run = find_by_id(cluster, name)
        if not run:
            raise UserError(f"run {name}: there is no such run; --list shows the newest.")
        return run
    if name != "latest":
        named = [run for run in iterate_newest(cluster, None, condition=_match_name(name)) if _is_named(run, name)]
        found = next((run for run in named if run.display_name == name), named[0] if named else None)
        missing = "there is no run of that name"
    else:
        newest = iterate_newest(cluster, experiment)
        found = next((run for run in newest if run.state == "SUCCEEDED" or not succeeded), None)
        missing = f"there is none in experiment {experiment}"
        if succeeded:
            missing = f"there is none in experiment {experiment} that succeeded"
    if not found:
        raise UserError(f"run {name}: {missing}; --list shows the newest.")
    return read(cluster, found.run_id)


def find_by_id(cluster: Cluster, run_id: str) -> V2beta1Run | None:
    """The run of that id; None if there is none, or no longer."""
    if not UUID.fullmatch(run_id):
        return None
    try:
        return read(cluster, run_id, expected=(404,))
    except ApiException:
        return None


def name_experiment(cluster: Cluster, run: V2beta1Run, asked: str) -> str:
    """The name of the experiment that a run is in, as it was asked for if it means the same one.

    It becomes the name of a folder, and other people name experiments too: where it cannot, it is the id.
    """
    if not run.experiment_id:
        return asked
    try:
        experiment = cluster.call(lambda client: client.get_experiment(run.experiment_id), expected=(404,))
    except ApiException:  # somebody has deleted it
        return asked
    if _is_named(experiment, asked):
        return asked
    is_usable = is_folder_name(experiment.display_name)
    return str(experiment.display_name if is_usable else experiment.experiment_id)


def list_newest(cluster: Cluster, experiment: str | None, *, count: int = PAGE) -> list[V2beta1Run]:
    """The newest runs of an experiment, or of all, newest first."""
    return list(itertools.islice(iterate_newest(cluster, experiment, page_size=count), count))


def iterate_newest(
    cluster: Cluster, experiment: str | None, *, condition: str | None = None, page_size: int = PAGE
) -> Iterator[V2beta1Run]:
    """The runs of an experiment, or of all, newest first.

    Args:
        cluster: where.
        experiment: its name; None stands for all.
        condition: a filter of the API.
        page_size: how many runs the first request asks for; those after it ask for as many as the server sends.
    """
    options = {"sort_by": "created_at desc", "filter": condition}
    if experiment:
        within = find_experiment(cluster, experiment)
        if not within:
            return
        options["experiment_id"] = within
    else:
        options["namespace"] = cluster.endpoint.user_namespace or None
    yield from _iterate_pages(
        cluster,
        lambda token, size, client: client.list_runs(page_token=token, page_size=size, **options),
        "runs",
        page_size,
    )


def _iterate_pages(
    cluster: Cluster, ask: Callable[[str, int, Any], Any], field: str, page_size: int = PAGE
) -> Iterator[Any]:
    """What is in the `field` of the answers to `ask`, which is given the page's token, its size, and a client."""
    seen = {""}
    token = ""
    while True:
        page = cluster.call(partial(ask, token, page_size))
        yield from getattr(page, field) or ()
        token, page_size = page.next_page_token or "", LARGEST_PAGE
        if not token:
            return
        if token in seen:
            raise UserError(cluster.explain(WrongAnswer("its pages go round in a circle")))
        seen.add(token)


def terminate(cluster: Cluster, run: V2beta1Run) -> V2beta1Run:
    """Asks for the end of a run; returns it, as it is now if it has begun to end by itself."""
    was_asked = False

    def terminate_once(client: Any) -> None:
        """Looks first when it has asked already: the server refuses to end what ends."""
        nonlocal was_asked
        if was_asked and client.get_run(run.run_id).state not in GOING:
            return
        was_asked = True
        client.terminate_run(run.run_id)

    try:
        cluster.call(terminate_once, expected=(400,))
    except STOPPED:
        if was_asked:
            print_line(f"\ninterrupted; the run {run.display_name} may end all the same: --list shows its state.")
        raise
    except ApiException as error:
        now = read(cluster, run.run_id)
        if now.state in GOING:
            raise UserError(cluster.explain(error)) from None
        return now
    return run


def schedule(cluster: Cluster, submission: Submission, cron: str) -> V2beta1RecurringRun:
    """Makes the recurring run of that name; one that is there already is replaced, when the new one exists.

    Raises:
        UserError: it could not be made, or perhaps it was.
    """
    earlier = {run.recurring_run_id for run in list_recurring(cluster, submission.name)}
    experiment = make_experiment(cluster, submission.experiment)

    def find_made(client: Any) -> Any:
        listed = _list_recurring(cluster, submission.name, "", LARGEST_PAGE, client).recurring_runs or []
        made = (run for run in listed if run.recurring_run_id not in earlier)
        return next((run for run in made if _is_named(run, submission.name)), None)

    def make(client: Any) -> Any:
        made = client.create_recurring_run(
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
        return _check_made(made, submission.name)

    doubt = _doubt(cluster, f"the recurring run {submission.name} may have been made", "scheduledworkflows")
    run = _make_once(cluster, find_made, make, doubt)
    for old in earlier:
        _change(cluster, old, "delete")
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
        _change(cluster, run.recurring_run_id, change)


def list_recurring(cluster: Cluster, name: str) -> list[Any]:
    """The recurring runs of that name."""
    listed = _iterate_pages(cluster, partial(_list_recurring, cluster, name), "recurring_runs")
    return [run for run in listed if _is_named(run, name)]


def _list_recurring(cluster: Cluster, name: str, token: str, size: int, client: Any) -> Any:
    return client.list_recurring_runs(
        page_token=token,
        page_size=size,
        namespace=cluster.endpoint.user_namespace or None,
        filter=_match_name(name),
    )


def _change(cluster: Cluster, recurring_run_id: str, change: str) -> None:
    """Changes one recurring run; to delete one that is gone is no failure: the answer may have been lost."""

    def change_once(client: Any) -> None:
        changes = {
            "pause": client.disable_recurring_run,
            "resume": client.enable_recurring_run,
            "delete": client.delete_recurring_run,
        }
        changes[change](recurring_run_id)

    with contextlib.suppress(ApiException):
        cluster.call(change_once, expected=(404,) if change == "delete" else ())


def _make_reference(version: V2beta1PipelineVersion) -> Any:
    return V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.pipeline_version_id
    )


def _make_runtime_config(submission: Submission) -> Any:
    return V2beta1RuntimeConfig(parameters=submission.arguments, pipeline_root=submission.pipeline_root or None)


def _match_name(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _is_named(item: Any, name: str) -> bool:
    """Whether the item has that name; to the server's database, capitals and spaces at the end are all the same."""
    return bool(item.display_name.rstrip().casefold() == name.rstrip().casefold())


def _choose_named(items: Iterable[Any] | None, name: str) -> Any:
    """The first of the items that has that name, whatever a server makes of the filter; None if there is none."""
    return next((item for item in items or () if _is_named(item, name)), None)
