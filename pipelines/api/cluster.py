"""Runs on a cluster, from Python."""

import datetime
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Unpack

from kfp_server_api import V2beta1Run

from components.shared.cloud_storage import fetch
from components.shared.errors import UserError, name_unknown
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.webhook import check_webhook
from pipelines.api.run import Run, Task
from pipelines.cluster import actions, runs, waiting
from pipelines.cluster.artifacts import Execution, find_made, read_execution
from pipelines.cluster.checks import Check
from pipelines.cluster.connection import Cluster as Connection
from pipelines.cluster.connection import open_cluster
from pipelines.cluster.fetching import link_to_run, locate_folder
from pipelines.cluster.submission import submit, wait_for_results
from pipelines.compiler.contracts import name_uri
from pipelines.submission.request import (
    LATEST,
    ClusterOptions,
    RunOptions,
    RunRequest,
    check_experiment_name,
    make_request,
)


class Cluster:
    """A Kubeflow Pipelines endpoint, as submit.py uses it."""

    def __init__(self, config: str = "gke", *, runs: str | Path = "runs", **endpoint: str) -> None:
        """Names the endpoint; it is asked when something is to be known.

        Args:
            config: a name in pipelines/config.
            runs: the folder on this machine for the pages of the runs.
            endpoint: what is not to be as the config has it: host, namespace, client_id, token_file and so on.

        Raises:
            UserError: there is no such configuration, or a setting of the endpoint is wrong.
        """
        self.config, self.runs = config, Path(runs)
        self._endpoint = endpoint
        self._connection = open_cluster(config, endpoint)

    def check(self, **options: Unpack[RunOptions]) -> list[Check]:
        """Tries everything that such a run would need, and starts nothing.

        Raises:
            UserError: the configuration still has placeholders.
        """
        return list(actions.try_all(self._connection, self._request(options)))

    def start(self, *, force: bool = False, **options: Unpack[RunOptions]) -> "ClusterRun":
        """Compiles, uploads and starts a run.

        Args:
            force: take images that the registry lacks, or whose tag may come to stand for other code.
            options: what to run, on what; see RunOptions.

        Returns:
            The run, which goes on; `wait` follows it.

        Raises:
            UserError: it cannot be run.
        """
        request = self._request(options)
        started = submit(self._connection, request, ClusterOptions(self._endpoint, force=force))
        assert started  # as it is no recurring run
        return ClusterRun(self._connection, started, request=request, endpoint=self._endpoint)

    def schedule(self, name: str, cron: str, *, force: bool = False, **options: Unpack[RunOptions]) -> None:
        """Makes a recurring run.

        Args:
            name: of the recurring run.
            cron: when it runs: six fields, seconds first.
            force: as of `start`.
            options: as of `start`.

        Raises:
            UserError: it cannot be made.
        """
        runs.check_names("default", name, cron)
        submit(
            self._connection, self._request(options), ClusterOptions(self._endpoint, force, recurring=name, cron=cron)
        )

    def change_schedule(self, name: str, change: str) -> None:
        """Changes a recurring run; `change` is pause, resume or delete.

        Raises:
            UserError: there is no such change, or no such recurring run.
        """
        if change not in (changes := ("pause", "resume", "delete")):
            raise UserError(name_unknown("the change", change, changes))
        actions.change_schedule(self._connection, name, change)

    def list_runs(self, experiment: str = "default") -> list["ClusterRun"]:
        """The newest runs of an experiment, the newest first.

        Raises:
            UserError: no folder can have the experiment's name.
        """
        check_experiment_name(experiment)
        return [self._open(run, experiment) for run in runs.list_newest(self._connection, experiment)]

    def find_run(self, name: str = LATEST, experiment: str = "default") -> "ClusterRun":
        """The run of that id or name, or the newest of the experiment, whatever its state.

        Raises:
            UserError: there is none, or no folder can have the experiment's name.
        """
        check_experiment_name(experiment)
        run = runs.find(self._connection, name, experiment)
        return self._open(run, runs.name_experiment(self._connection, run, experiment))

    def _request(self, options: RunOptions) -> RunRequest:
        request = make_request(options, config=self.config, runs=self.runs)
        runs.check_names(request.experiment, None, None)
        return request

    def _open(self, run: V2beta1Run, experiment: str) -> "ClusterRun":
        request = make_request({"experiment": experiment}, config=self.config, runs=self.runs)
        return ClusterRun(self._connection, run, request=request, endpoint=self._endpoint)


class ClusterRun(Run):
    """A run on a cluster, as the server described it last; see Run.

    Attributes:
        link: the address of its page in Kubeflow Pipelines.
    """

    def __init__(
        self, connection: Connection, run: V2beta1Run, *, request: RunRequest, endpoint: dict[str, str]
    ) -> None:
        """Takes what the server says of the run, what was asked for, and the endpoint settings given to Cluster."""
        super().__init__(run.display_name, request.experiment, locate_folder(request, run))
        self.link = link_to_run(connection, run)
        self._connection, self._run, self._request, self._endpoint = connection, run, request, endpoint

    def refresh(self) -> "ClusterRun":
        """Asks the server how the run goes now; returns the same object."""
        self._run = runs.read(self._connection, self._run.run_id)
        self.__dict__.pop("outputs", None)
        return self

    def wait(self, minutes: float | None = None, *, webhook: str = "") -> str:
        """Shows the tasks until the run ends; then its pages and, of a success, its figures are fetched.

        Args:
            minutes: wait no longer than this.
            webhook: the address that is told how the run ended; empty for none.

        Returns:
            The final state; `timeout` or `interrupted` if the run goes on.

        Raises:
            UserError: `minutes` is not above 0; the webhook is no address, or one that others could read; or nothing
                can be fetched.
        """
        if minutes is not None and not minutes > 0:
            raise UserError(f"minutes is {minutes}; it must be above 0.")
        if webhook:
            check_webhook(webhook)
        options = ClusterOptions(self._endpoint, wait=True, timeout=minutes)
        state = wait_for_results(self._connection, self._run, request=self._request, options=options, webhook=webhook)
        self.refresh()
        return state

    def terminate(self) -> None:
        """Ends the run.

        Raises:
            UserError: it has ended already.
        """
        options = ClusterOptions(self._endpoint)
        actions.terminate(self._connection, str(self._run.run_id), request=self._request, options=options)
        self.refresh()

    @property
    def state(self) -> str:
        """See Run."""
        return waiting.read_state(self._run)

    @property
    def pipeline(self) -> str:
        """See Run."""
        return self._execution.pipeline

    @property
    def started(self) -> datetime.datetime:
        """See Run."""
        return self._run.created_at  # type: ignore[no-any-return]

    @property
    def seconds(self) -> float:
        """See Run."""
        return waiting.measure_seconds(self._run.created_at, self._run.finished_at) or 0.0

    @property
    def tasks(self) -> list[Task]:
        """See Run."""
        tasks = self._execution.tasks
        stages = {task.name: task.stage for task in tasks}
        progress = waiting.read_progress(self._run, tasks)
        return [Task(name, stages[name], how.state, how.seconds) for name, how in progress.items()]

    @cached_property
    def outputs(self) -> dict[tuple[str, str], str]:
        """See Run."""
        return find_made(self._connection, self._execution._replace(run=self._run))

    def find_output(self, output: str) -> str | None:
        """See Run."""
        own = {task.name for task in self._execution.tasks if task.is_own}
        found = [uri for (task, name), uri in self.outputs.items() if name == output and task in own]
        return found[-1] if found else None

    def audited_examples(self) -> ExampleSet:
        """See Run; of an audit alone, what it took from an earlier run."""
        taken = self._execution.parameters.get(name_uri("examples"))
        return open_examples(self.fetch(str(taken))) if taken else super().audited_examples()

    def fetch(self, uri: str) -> Path:
        """See Run; what was fetched before is taken from the run's folder.

        Raises:
            UserError: it cannot be fetched.
        """
        # The hash keeps addresses apart, and whatever is in one, its copy lies in this folder.
        kept = self.folder / "artifacts" / hashlib.sha256(uri.encode()).hexdigest()
        return kept if kept.exists() else fetch(uri, kept)

    @cached_property
    def _execution(self) -> Execution:
        return read_execution(self._connection, self._run)
