"""`submit.py --local --prune`: removes the old runs of an experiment.

What another run takes its artifacts from stays, and so does what a person has changed.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from components.shared.errors import UserError
from components.shared.files import TEMPORARY, name_temporary
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.values import list_texts
from pipelines.local.cache import remove_useless_entries
from pipelines.local.record import FILE, RunRecord, list_records
from pipelines.output.console import print_line
from pipelines.output.index import FILE as INDEX

SETTLED = 2  # seconds after its end in which a run may still write, and to which file systems round times
Records = Mapping[Path, RunRecord]  # by the run's folder, in the order in which the runs of an experiment were started


class Survey(NamedTuple):
    """The runs of an experiment that are old."""

    removable: dict[Path, int]  # the bytes on disk that each would free, by its folder
    kept: dict[Path, str]  # why each of the others stays


def prune(runs: Path, experiment: str, keep: int, *, remove: bool) -> Survey:
    """Says which runs of an experiment are old and what they take on disk; removes them if that is asked for.

    Args:
        runs: the folder of the runs.
        experiment: whose runs are looked at.
        keep: so many of the newest runs stay, and the latest success.
        remove: whether the old ones are removed; otherwise nothing is.

    Returns:
        What was found.

    Raises:
        UserError: the experiment has no runs; the record of a run is damaged, so that it is not known what that one
            takes from others; or a run cannot be removed.
    """
    survey = _survey(runs.resolve(), experiment, keep)
    for folder, size in survey.removable.items():
        if remove:
            _remove(folder)
        print_line(f"{folder.name}: {'removed' if remove else 'would be removed'}, {_write_size(size)}")
    for folder, reason in survey.kept.items():
        print_line(f"{folder.name}: stays, since {reason}")
    if remove:
        _remove_what_was_left(runs / experiment)
        remove_useless_entries(runs)
    print_line(f"{_write_size(sum(survey.removable.values()))} {'freed' if remove else 'would be freed'}")
    return survey


def _survey(runs: Path, experiment: str, keep: int) -> Survey:
    records = {folder: record for name in _list_experiments(runs) for folder, record in _list_runs(runs, name)}
    own = [folder for folder in records if folder.parent == runs / experiment]
    if not own:
        raise UserError(f"{runs / experiment}: has no runs; name the experiment by --experiment.")
    successes = [folder for folder in own if records[folder]["state"] == "succeeded"]
    old = [folder for folder in own[: max(len(own) - keep, 0)] if folder not in successes[-1:]]
    kept = {folder: f"{work} was written after it ended" for folder in old if (work := _find_later_work(folder))}
    users = _list_users(records)
    while True:  # a run that stays keeps what it takes artifacts from
        removable = [folder for folder in old if folder not in kept]
        needed = {
            folder: f"{_name(user, runs)} takes artifacts from it"
            for folder in removable
            for user in users[folder] - {*removable}
        }
        if not needed:
            return Survey({folder: _measure(folder) for folder in removable}, kept)
        kept |= needed


def _list_experiments(runs: Path) -> Iterator[str]:
    """The names of the experiments; a name with a slash is a folder in a folder."""
    for parent, folders, _ in os.walk(runs):
        if any(Path(parent, folder, FILE).is_file() for folder in folders):
            yield os.path.relpath(parent, runs)
        folders[:] = [folder for folder in folders if not Path(parent, folder, FILE).is_file()]


def _list_runs(runs: Path, experiment: str) -> Iterator[tuple[Path, RunRecord]]:
    for record in list_records(runs, experiment):
        yield runs / experiment / record["run"], record


def _list_users(records: Records) -> dict[Path, set[Path]]:
    """The runs whose records name something in the folder of another run, or that run itself, by that one's folder."""
    users: dict[Path, set[Path]] = {folder: set() for folder in records}
    for user, record in records.items():
        paths = [Path(text) for text in list_texts(dict(record)) if text.startswith("/")]
        taken = {folder for path in paths for folder in (path, *path.parents) if folder in users}
        if before := record["arguments"].get(FROM_RUN):
            taken.add(user.parent / before)
        for folder in taken & users.keys() - {user}:
            users[folder].add(user)
    return users


def _name(run: Path, runs: Path) -> str:
    return run.relative_to(runs).as_posix()


def _find_later_work(folder: Path) -> str:
    """A file in the folder of a run that was written after the run had ended, by its path; empty if there is none."""
    last = next(folder / name for name in (INDEX, FILE) if (folder / name).is_file())
    end = last.stat().st_mtime + SETTLED
    return next((str(path.relative_to(folder)) for path in _list_files(folder) if path.lstat().st_mtime > end), "")


def _measure(folder: Path) -> int:
    """The bytes that the files in a folder take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in _list_files(folder))


def _list_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _write_size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _remove(folder: Path) -> None:
    """Removes a run: under another name first, so that nobody finds half of it.

    Raises:
        UserError: it cannot be removed.
    """
    hidden = name_temporary(folder)
    try:
        with contextlib.suppress(FileNotFoundError):  # another command has been faster
            folder.rename(hidden)
            shutil.rmtree(hidden)
    except OSError as error:
        raise UserError(f"{folder}: cannot be removed ({error.strerror}); make it yours to remove.") from None


def _remove_what_was_left(experiment: Path) -> None:
    """Removes the rest of runs whose removal was killed."""
    for path in experiment.iterdir():
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
