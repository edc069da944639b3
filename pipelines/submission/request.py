"""What a person asks submit.py to run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class RunRequest:
    """A run, wherever it takes place; what is None or empty was not asked for."""

    experiment: str
    config: str  # a name in pipelines/config
    pipeline: str | None = None
    component: str | None = None  # in place of a pipeline: this stage alone
    data: str | None = None  # a folder, or gs://BUCKET/FOLDER
    test_data: str | None = None
    rev: str | None = None  # the version of `data`: a commit, tag or branch of git
    decisions: str | None = None  # a file, or gs://BUCKET/OBJECT
    schema: str | None = None  # likewise
    params: tuple[str, ...] = ()  # NAME=VALUE
    from_run: str = "latest"
    before: str | None = None  # the run that `from_run` is compared with
    no_cache: bool = False
    runs: Path = Path("runs")  # the folder of the runs on this machine, and of the reports of those on a cluster


@dataclass(frozen=True)
class LocalOptions:
    """How a run takes place on this machine."""

    runner: Literal["subprocess", "docker"] = "subprocess"


@dataclass(frozen=True)
class ClusterOptions:
    """How a run takes place on a cluster."""

    endpoint: dict[str, str]  # fields of Endpoint that were given as flags
    force: bool = False  # take images whose tag does not stand for one version of the code
    wait: bool = False
    timeout: float | None = None  # minutes
    recurring: str | None = None  # the name of the recurring run to make
    cron: str | None = None

    @property
    def limit(self) -> float | None:
        """The timeout in seconds; None waits for as long as it takes."""
        return self.timeout * 60 if self.timeout else None
