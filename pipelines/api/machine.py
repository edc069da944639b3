"""Runs on this machine, from Python.

    from pipelines.api.machine import Machine
    from pipelines.api.show import make_frame

    machine = Machine()
    run = machine.start(data="data", pipeline="improvement", params={"epochs": 20})
    make_frame(run.issues()).head()
    run.page("audit")

A mistake is a UserError of components.shared.errors, with the sentence that the command line has for it.
"""

import datetime
from pathlib import Path
from typing import Unpack

from components.shared.errors import UserError, name_unknown
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.webhook import check_webhook
from pipelines.api.run import Run, Task
from pipelines.compiler.config import load_config
from pipelines.local.record import FILE, RunRecord, find_last_task, find_maker, find_record, list_records
from pipelines.submission.request import (
    LATEST,
    RUNNERS,
    LocalOptions,
    Runner,
    RunOptions,
    check_experiment_name,
    find_wrong_turns,
    make_request,
)


class Machine:
    """This machine, as `submit.py --local` runs things on it."""

    def __init__(
        self,
        config: str = "local",
        *,
        runs: str | Path = "runs",
        runner: Runner = "subprocess",
        cold: bool = False,
        webhook: str = "",
    ) -> None:
        """Keeps what all of its runs share.

        Args:
            config: a name in pipelines/config.
            runs: the folder of the runs.
            runner: `subprocess` for the stages' environment, `docker` for each stage in its image.
            cold: start each stage in a new Python, in place of forking it from one that has its packages.
            webhook: the address that is told how each run ended; empty for none.

        Raises:
            UserError: there is no such configuration or runner, or the webhook is no address, or one that others could
                read.
        """
        load_config(config)
        if runner not in RUNNERS:
            raise UserError(name_unknown("the runner", runner, RUNNERS))
        if webhook:
            check_webhook(webhook)
        self.config, self.runs, self.webhook = config, Path(runs), webhook
        self._options = LocalOptions(runner, cold)

    def start(self, **options: Unpack[RunOptions]) -> "MachineRun":
        """Runs a pipeline, or one stage, to its end; meanwhile it shows the tasks.

        Args:
            options: what to run, on what; see RunOptions.

        Returns:
            The run, which has succeeded, failed, or, after an interrupt, was cancelled.

        Raises:
            UserError: it cannot be run.
        """
        from pipelines.local.submission import submit  # here, since what runs have made can be read without kfp

        request = make_request(options, config=self.config, runs=self.runs)
        record = submit(request, self._options, self.webhook)
        return MachineRun(record, request.experiment, request.runs / request.experiment / record["run"])

    def take_turns(self, turns: int, **options: Unpack[RunOptions]) -> "list[MachineRun]":
        """Takes turns of the loop, each on what the last one has made, until one brings no gain.

        Args:
            turns: the most to take.
            options: of the first one, as `start` takes them; `pipeline` is improvement if it is left out.

        Returns:
            The runs in their order: the turns, and from the second one on after each a comparison with the first
            version. If the last one has not succeeded, the turns ended with it.

        Raises:
            UserError: a run cannot be started.
        """
        from pipelines.local.turns import take_turns  # as above

        request = make_request({"pipeline": "improvement", **options}, config=self.config, runs=self.runs)
        if problem := find_wrong_turns(request, turns):
            raise UserError(f"{problem}.")
        records = take_turns(request, turns, self._options, self.webhook)
        folder = request.runs / request.experiment
        return [MachineRun(record, request.experiment, folder / record["run"]) for record in records]

    def list_runs(self, experiment: str = "default") -> list["MachineRun"]:
        """The runs of an experiment, the newest first.

        Raises:
            UserError: no folder can have the experiment's name.
        """
        check_experiment_name(experiment)
        records = reversed(list_records(self.runs, experiment))
        return [MachineRun(record, experiment, self.runs / experiment / record["run"]) for record in records]

    def find_run(self, name: str = LATEST, experiment: str = "default") -> "MachineRun":
        """The run of that name or in that folder, or the latest that succeeded.

        Raises:
            UserError: there is none, or no folder can have the experiment's name.
        """
        check_experiment_name(experiment)
        record = find_record(self.runs, experiment, name)
        is_folder = Path(name, FILE).is_file() and name != LATEST
        return MachineRun(record, experiment, Path(name) if is_folder else self.runs / experiment / record["run"])


class MachineRun(Run):
    """A run on this machine, which has ended; see Run."""

    def __init__(self, record: RunRecord, experiment: str, folder: Path) -> None:
        """Takes the content of its run.json."""
        super().__init__(record["run"], experiment, folder)
        self._record = record

    @property
    def state(self) -> str:
        """See Run."""
        return self._record["state"]

    @property
    def pipeline(self) -> str:
        """See Run."""
        return self._record["pipeline"]

    @property
    def started(self) -> datetime.datetime:
        """See Run."""
        return datetime.datetime.fromisoformat(self._record["started"])

    @property
    def seconds(self) -> float:
        """See Run."""
        return self._record["seconds"]

    @property
    def tasks(self) -> list[Task]:
        """See Run."""
        return [
            Task(name, task["stage"], task["state"], task["seconds"], task.get("message", ""))
            for name, task in self._record["stages"].items()
        ]

    @property
    def outputs(self) -> dict[tuple[str, str], str]:
        """See Run."""
        return {
            (name, output): artifact["uri"]
            for name, task in self._record["stages"].items()
            for output, artifact in task["artifacts"].items()
        }

    def find_output(self, output: str) -> str | None:
        """See Run; of a run that continued from an earlier one, that run's artifact where it has none itself."""
        return self._record["artifacts"].get(output)

    def audited_examples(self) -> ExampleSet:
        """See Run; of a run that took the audit of an earlier one, what that one audited."""
        maker = find_maker(str(self.locate("issues")))
        audit = find_last_task(maker, "audit") if maker else None
        taken = audit["inputs"].get("examples") if audit else None
        return open_examples(self.fetch(taken)) if taken else super().audited_examples()

    def fetch(self, uri: str) -> Path:
        """See Run.

        Raises:
            UserError: it is gone.
        """
        if not Path(uri).exists():
            raise UserError(f"{uri}: is gone; run again, or name another run.")
        return Path(uri)
