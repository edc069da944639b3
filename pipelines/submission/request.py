"""What a person asks to run, on the command line or in Python."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, get_args

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError, name_unknown, quote

LATEST = "latest"  # in place of a run's name
Runner = Literal["subprocess", "docker"]
RUNNERS: tuple[Runner, ...] = get_args(Runner)
LONGEST_NAME = 255  # bytes of the name of a file or folder


class NamedRun(Protocol):
    """A run as pipelines.api.run has it."""

    name: str


class RunOptions(TypedDict, total=False):
    """What submit.py takes as options to start a run; each key has the meaning of the option of its name.

    Paths may be given as such. Leave out what you do not want.
    """

    experiment: str  # the runs it belongs with; `default` if it is left out
    data: str | Path  # a folder, a table, or gs://BUCKET/FOLDER
    test_data: str | Path  # the test split, likewise, if the data have none
    rev: str  # the version of `data`: a commit, tag or branch of git
    pipeline: str  # training (the default), improvement or comparison
    component: str  # in place of a pipeline: this stage alone
    from_run: str | NamedRun  # the run whose artifacts it takes, or that is compared; the latest if it is left out
    before: str | NamedRun  # the run that `from_run` is compared with; RUN:before is what an improvement began with
    decisions: str | Path | Sequence[str | Path]  # of the review or of another tool, one file a person; for improvement
    schema: str | Path  # schema.pbtxt that the images must fit
    params: Mapping[str, Any]  # parameters of the pipeline or of the stage, by their names
    no_cache: bool  # run every stage, whatever is in the cache


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
    decisions: tuple[str, ...] = ()  # files, or gs://BUCKET/OBJECT, each of another person
    schema: str | None = None  # a file, or gs://BUCKET/OBJECT
    params: tuple[str, ...] = ()  # NAME=VALUE
    from_run: str = LATEST
    before: str | None = None  # the run that `from_run` is compared with
    no_cache: bool = False
    runs: Path = Path("runs")  # the folder of the runs on this machine, and of the reports of those on a cluster


@dataclass(frozen=True)
class LocalOptions:
    """How a run takes place on this machine."""

    runner: Runner = "subprocess"
    cold: bool = False  # start each stage in a new Python, in place of forking it from one that has its packages


@dataclass(frozen=True)
class ClusterOptions:
    """How a run takes place on a cluster."""

    endpoint: dict[str, str]  # fields of Endpoint that were given as flags
    force: bool = False  # take images that the registry lacks, or whose tag may come to stand for other code
    wait: bool = False
    timeout: float | None = None  # minutes
    recurring: str | None = None  # the name of the recurring run to make
    cron: str | None = None

    @property
    def limit(self) -> float | None:
        """The timeout in seconds; None waits for as long as it takes."""
        return self.timeout * 60 if self.timeout else None


def make_request(options: RunOptions, *, config: str, runs: Path) -> RunRequest:
    """The request with these options, to be run with this configuration and this folder of runs.

    Raises:
        UserError: there is no such option, the options contradict each other, or the experiment has no name for a
            folder.
    """
    for name in options.keys() - RunOptions.__annotations__.keys():
        raise UserError(name_unknown("the option", name, RunOptions.__annotations__))
    fields: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in ("data", "test_data", "schema"):
        if name in fields:
            fields[name] = str(fields[name])
    for name in fields.keys() & {"from_run", "before"}:
        run = fields[name]
        fields[name] = str(run if isinstance(run, str | Path) else run.name)
    decisions = fields.get("decisions", ())
    fields["decisions"] = tuple(map(str, [decisions] if isinstance(decisions, (str, Path)) else decisions))
    if not isinstance(params := fields.get("params", {}), Mapping):
        raise UserError(f"params is {params!r}; give a dictionary, such as {{'epochs': 20}}.")
    fields["params"] = tuple(_write_param(name, value) for name, value in params.items())
    request = RunRequest(**{"experiment": "default", **fields}, config=config, runs=runs)
    if problem := find_contradiction(request):
        raise UserError(f"{problem}.")
    check_experiment_name(request.experiment)
    return request


def check_experiment_name(name: str) -> None:
    """Checks that an experiment of this name can have a folder of its own among the runs.

    Raises:
        UserError: it cannot.
    """
    if not is_folder_name(name):
        raise UserError(
            f"--experiment {quote(name)}: its runs go into a folder of this name, and no folder can have it; give a "
            f"name without slashes and of at most {LONGEST_NAME} bytes, such as numerals."
        )


def is_folder_name(name: str) -> bool:
    """Whether a folder can have this name in any other: it is neither a path nor too long."""
    is_one_part = re.fullmatch(r"(?!\.\.?$)[^/\\\0]+", name) is not None
    return is_one_part and len(name.encode(errors="surrogatepass")) <= LONGEST_NAME


def _write_param(name: str, value: Any) -> str:
    """NAME=VALUE, as --param takes it.

    Raises:
        UserError: the value is of a type that JSON has not.
    """
    if value is None:
        raise UserError(f"{name} is None; leave it out, or give it a value.")
    if isinstance(value, str | Path):
        return f"{name}={value}"
    try:
        return f"{name}={json.dumps(value, default=_unwrap_number)}"
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{name} is of the type {type(value).__name__}; give a number, a text, a list or a dictionary of them."
        ) from None


def _unwrap_number(value: Any) -> Any:
    """A number of NumPy as Python has it."""
    return value.item()


def find_contradiction(request: RunRequest) -> str | None:
    """What is wrong with options that are right one by one, in the words of the command line."""
    if request.pipeline and request.component:
        return "--pipeline runs a whole pipeline, --component one stage; leave out one"
    if request.decisions and request.pipeline != "improvement" and request.component != "curate":
        return "--decisions goes with --pipeline improvement or --component curate"
    if request.schema and (request.before or request.component not in (None, "validate")):
        return "--schema goes with --pipeline training or improvement, or --component validate"
    if bool(request.before) != (request.pipeline == "comparison"):
        return "--pipeline comparison goes with --before RUN, the run to compare with"
    takes_artifacts = request.before or (request.component and not request.data)
    if request.from_run != LATEST and not takes_artifacts:
        return "--from-run goes with --component and without --data, or with --before"
    if request.before:
        for name in ("data", "test_data", "rev"):
            if getattr(request, name):
                option = name.replace("_", "-")
                return f"--{option} is for a run on images; --pipeline comparison takes two runs"
    if request.rev and not request.data:
        return "--rev goes with --data, the folder it is a version of"
    if request.rev and is_address(request.data or ""):
        return f"--rev goes with a folder tracked by DVC, not with {request.data}"
    return None


def find_wrong_turns(request: RunRequest, turns: int) -> str | None:
    """What is wrong with asking for so many turns of the loop, in the words of the command line."""
    if turns < 1:
        return f"--turns is {turns}; it must be 1 or more"
    if request.pipeline != "improvement":
        return "--turns goes with --pipeline improvement, which is one turn of the loop"
    if not request.data:
        return "--turns goes with --data, the images of the first turn"
    return None
