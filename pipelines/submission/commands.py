"""The command that asked for a run: as one types it, and as command.json keeps it in the folder of the run.

Those who wait for a run on a cluster, or adopt what it curated, may do so long after it was started.
"""

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.shared.errors import UserError
from components.shared.files import new_file
from components.shared.formats.documents import read_document, write_document
from pipelines.output.project import write_command
from pipelines.submission.request import ClusterOptions, LocalOptions, RunRequest

FILE = "command.json"
DEFAULTS = RunRequest(experiment="default", config="")


@dataclass(frozen=True)
class Command:
    """What submit.py was asked for, and where that is to be done."""

    request: RunRequest
    options: Annotated[ClusterOptions | LocalOptions, Field(union_mode="left_to_right")]  # the former need an endpoint

    @property
    def is_local(self) -> bool:
        """Whether it is about this machine, and not about a cluster."""
        return isinstance(self.options, LocalOptions)

    def __str__(self) -> str:
        """The command, without the options that have their defaults."""
        return write_command("submit.py", *_list_words(self))

    def change(self, **fields: Any) -> "Command":
        """The same command, but with these values in its request."""
        return replace(self, request=replace(self.request, **fields))


def write_action(request: RunRequest, options: ClusterOptions, *action: str) -> str:
    """The command that does something else than to start a run, on the same cluster, for the same experiment.

    Args:
        request: whose experiment, config and folder of runs it has.
        options: of the cluster.
        action: what to do, such as --attach RUN.
    """
    bare = Command(RunRequest(request.experiment, request.config, runs=request.runs), ClusterOptions(options.endpoint))
    return write_command("submit.py", *_list_words(bare), *action)


def _list_words(command: Command) -> list[str]:
    request, options = command.request, command.options
    words = []
    if isinstance(options, LocalOptions):
        words += ["--local", *(["--runner", options.runner] if options.runner != "subprocess" else [])]
        words += ["--cold"] * options.cold
    if request.config != ("local" if command.is_local else "gke"):
        words += _write_value("--config", request.config)
    for name in ("experiment", "runs", "pipeline", "component", "data", "test_data", "rev"):
        words += write_option(request, name)
    for file in request.decisions:
        words += _write_value("--decisions", file)
    words += write_option(request, "schema")
    for param in request.params:
        words += _write_value("--param", param)
    for name in ("from_run", "before"):
        words += write_option(request, name)
    words += ["--no-cache"] * request.no_cache
    return words + (_list_cluster_words(options) if isinstance(options, ClusterOptions) else [])


def _list_cluster_words(options: ClusterOptions) -> list[str]:
    words = ["--force"] * options.force
    for name, flag in options.endpoint.items():
        words += _write_value(f"--{name.replace('_', '-')}", flag)
    words += ["--wait"] * options.wait
    return words + (["--timeout", f"{options.timeout:g}"] if options.timeout else [])


def write_option(request: RunRequest, name: str) -> list[str]:
    """An option of the request as words, none if it has its default."""
    value = getattr(request, name)
    is_default = value in (None, getattr(DEFAULTS, name))
    return [] if is_default else _write_value(f"--{name.replace('_', '-')}", str(value))


def _write_value(option: str, value: str) -> list[str]:
    """An option with its value, in one word where argparse would take the value for another option."""
    return [f"{option}={value}"] if value.startswith("-") else [option, value]


def keep_command(folder: Path, command: Command) -> None:
    """Writes command.json into the folder of a run."""
    content = asdict(command)
    content["request"]["runs"] = str(command.request.runs)
    with new_file(folder / FILE) as path:
        write_document(path, content)


def read_command(folder: Path) -> Command | None:
    """The command that asked for the run of that folder; None if it is not known, or what is there is damaged."""
    with contextlib.suppress(UserError):
        return read_document(folder / FILE, Command, "delete it")
    return None


def find_command(runs: Path, experiment: str, address: str) -> Command | None:
    """The command that asked for the run which made the artifact at a path or an address; None if that is not known.

    Both contain the name of the run's folder, here and in Cloud Storage.
    """
    parts = address.split("/")
    folders = (path.parent for path in (runs / experiment).glob(f"*/{FILE}") if path.parent.name in parts)
    return next(filter(None, map(read_command, folders)), None)
