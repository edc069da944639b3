"""The runs on this machine: a folder each, runs/<experiment>/<time>-<pipeline>/, with what happened in run.json."""

import contextlib
import datetime
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.errors import UserError, cut, quote
from components.shared.files import TEMPORARY, new_file, write_to_disk
from components.shared.formats.documents import read_document, write_document
from components.shared.formats.evaluation import Evaluation, read_evaluation
from pipelines.compiler.spec import is_own

FILE = "run.json"


def _check_time(text: str) -> str:
    """The text, if it is a time that can be compared with others."""
    try:
        zone = datetime.datetime.fromisoformat(text).utcoffset()
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError(f"is {quote(text)}, which is no time with its zone, such as 2026-11-28T21:46:38+00:00")
    return text


class ArtifactRecord(TypedDict):
    """An output of a task."""

    uri: str
    metadata: dict[str, Any]


class TaskRecord(TypedDict):
    """What became of a task."""

    stage: str  # the component that it runs
    state: str  # waiting, succeeded, failed or cancelled
    seconds: float | None  # None if it did not end
    parameters: dict[str, Any]
    inputs: dict[str, str]  # the URIs of the artifacts that it took
    artifacts: dict[str, ArtifactRecord]
    made_by: NotRequired[str]  # of a task whose outputs were taken from the cache: the run that ran it; see TakenTask
    message: NotRequired[str]  # of a task that failed: its last words


class RunRecord(TypedDict):
    """The content of run.json."""

    run: str  # its name, which is that of its folder
    pipeline: str
    command: NotRequired[str]  # that made it; this and the next are missing where an older version of this code did
    config: NotRequired[str]  # the name of its configuration
    state: str  # succeeded, failed or cancelled
    started: Annotated[str, AfterValidator(_check_time)]  # ISO 8601, in UTC
    arguments: dict[str, Any]
    seconds: float
    stages: dict[str, TaskRecord]  # by the name of the task
    artifacts: dict[str, str]  # URIs by the name of the output, with those of the run that this one continued from


def make_folder(runs: Path, experiment: str, pipeline: str) -> Path:
    """Makes the folder of a new run; never one that exists.

    Raises:
        UserError: it cannot be made, or a hundred runs were started within this second.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    try:
        (runs / experiment).mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{number}" for number in range(2, 100))):
            folder = (runs / experiment / f"{stamp}-{pipeline}{suffix}").resolve()
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); give another --runs or --experiment"
        raise UserError(f"{cut(str(runs / experiment))}: {reason}.") from None
    raise UserError(f"{runs / experiment}: too many runs within one second; try again.")


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes run.json into the folder of the run."""
    with new_file(folder / FILE) as path:
        write_document(path, record)
        write_to_disk(path)
    write_to_disk(folder)


def find_record(runs: Path, experiment: str, name: str) -> RunRecord:
    """The record of the run of that name or path, or of the experiment's latest success for `latest`.

    Raises:
        UserError: there is none.
    """
    if name == "latest":
        records = _list_successes(runs, experiment)
        if not records:
            others = [other for other in _list_experiments(runs) if other != experiment]
            hint = f", or name its --experiment (there are: {', '.join(others)})" if others else ""
            raise UserError(f"{runs / experiment}: no run succeeded yet; run the pipeline first{hint}.")
        return records[-1]
    candidates = [Path(name) / FILE, runs / experiment / name / FILE]
    for path in candidates:
        if path.is_file():
            return _read(path)
    raise UserError(f"{name}: no such run in {runs / experiment}; give the name or the folder of an earlier run.")


def list_records(runs: Path, experiment: str) -> list[RunRecord]:
    """The records of the experiment's runs that have ended, in the order in which they were started.

    That is not the order of their names, which hold the local time: it repeats an hour when summer time ends.

    Raises:
        UserError: one of them is damaged.
    """
    return list(read_records(runs, experiment).values())


def read_records(runs: Path, experiment: str) -> dict[Path, RunRecord]:
    """The same by the folder of each run, whatever the record calls it.

    Raises:
        UserError: one of them is damaged.
    """
    records = [(path.parent, _read(path)) for path in _list_paths(runs, experiment)]
    return dict(sorted(records, key=lambda run: _read_order(run[1])))


def find_curated(runs: Path, experiment: str, name: str) -> str:
    """The path or URI of the curated folder of that run, or for `latest` of the latest success that made one.

    Raises:
        UserError: there is no such run, or it made none.
    """
    if name != "latest":
        record = find_record(runs, experiment, name)
        if "data" not in record["artifacts"]:
            raise UserError(f"{record['run']}: this run made no curated folder; take one of the improvement pipeline.")
        return record["artifacts"]["data"]
    artifacts = [record["artifacts"] for record in _list_successes(runs, experiment)]
    folders = [uris["data"] for uris in artifacts if "data" in uris]
    if not folders:
        raise UserError(f"{runs / experiment}: no run made a curated folder yet; run the improvement pipeline.")
    return folders[-1]


def find_measured_before(runs: Path, experiment: str, record: RunRecord) -> tuple[str, Evaluation] | None:
    """The name and the figures of the latest success of the experiment before a run, if one measured a model.

    Only runs whose own figures stand beside their run.json count; those that are gone or damaged are passed over.
    """
    measured = []
    for path in _list_paths(runs, experiment):
        with contextlib.suppress(UserError):
            earlier = _read(path)
            if earlier["state"] == "succeeded" and _read_order(earlier) < _read_order(record):
                measured.append((_read_order(earlier), earlier["run"], read_evaluation(path.parent)))
    return max(measured, key=lambda run: run[0])[1:] if measured else None


def find_measurement(runs: Path, experiment: str, version: str) -> RunRecord | None:
    """The latest success of the experiment whose model was trained and measured on that data version, if any."""
    return next((record for record in reversed(_list_successes(runs, experiment)) if _is_of(record, version)), None)


def _is_of(record: RunRecord, version: str) -> bool:
    """Whether a run has measured that data version, as far as its evaluation is still there and whole.

    A stage that ran alone has the evaluation of the run that it continued from among its artifacts, too.
    """
    if "evaluation" not in record["artifacts"] or not find_last_task(record, "evaluate"):
        return False
    try:
        content = read_evaluation(record["artifacts"]["evaluation"])
    except UserError:
        return False
    return content["data_version"] == content["trained_on"] == version


def find_maker(uri: str) -> RunRecord | None:
    """The record of the run on this machine that made an artifact; None if it lies elsewhere."""
    folder = next((folder for folder in Path(uri).parents if (folder / FILE).is_file()), None)
    return _read(folder / FILE) if folder else None


def find_last_task(record: RunRecord, stage: str) -> TaskRecord | None:
    """The run's last task of a stage that is its own; see compiler/spec.py."""
    tasks = [task for name, task in record["stages"].items() if task.get("stage") == stage and is_own(name, stage)]
    return tasks[-1] if tasks else None


def _list_successes(runs: Path, experiment: str) -> list[RunRecord]:
    return [record for record in list_records(runs, experiment) if record["state"] == "succeeded"]


def _list_experiments(runs: Path) -> list[str]:
    """The experiments that have runs which have ended."""
    return sorted(folder.name for folder in runs.glob("*") if _list_paths(runs, folder.name))


def _list_paths(runs: Path, experiment: str) -> list[Path]:
    """The run.json of each run of an experiment, without those whose removal was interrupted."""
    return [path for path in (runs / experiment).glob(f"*/{FILE}") if not TEMPORARY.fullmatch(path.parent.name)]


def _read_order(record: RunRecord) -> tuple[datetime.datetime, str]:
    return datetime.datetime.fromisoformat(record["started"]), record["run"]


def _read(path: Path) -> RunRecord:
    return read_document(path, RunRecord, "delete or move that run, or name another")
