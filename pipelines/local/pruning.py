"""`submit.py --local --prune`: removes the old runs of an experiment.

What another run takes its artifacts from stays, and so does what a person has changed.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from components.shared.errors import UserError
from components.shared.files import TEMPORARY, is_held, name_temporary
from pipelines.compiler.single_stage import FROM_RUN
from pipelines.compiler.values import list_texts
from pipelines.local.cache import remove_useless_entries
from pipelines.local.record import FILE, RunRecord, read_records
from pipelines.output.console import print_line
from pipelines.output.index import FILE as INDEX
from pipelines.output.project import ROOT
from pipelines.submission.commands import FILE as COMMAND

SETTLED = 2  # seconds after its end in which a run may still write, and to which file systems round times
PAGES = 60  # seconds within which a run writes its pages, the last of which is index.html
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
        keep: so many of the newest runs stay, besides the latest success and the latest that made a curated folder.
        remove: whether the old ones are removed; otherwise nothing is.

    Returns:
        What was found.

    Raises:
        UserError: the experiment has no runs; a run goes on, or the record of one is damaged, so that it is not known
            what that one takes from others; or a run cannot be removed.
    """
    survey = _survey(runs, experiment, keep)
    if remove:
        _remove_what_was_left(runs / experiment)
    for folder, size in survey.removable.items():
        if remove:
            _remove(folder)
        print_line(f"{folder.name}: {'removed' if remove else 'would be removed'}, {_write_size(size)}")
    for folder, reason in survey.kept.items():
        print_line(f"{folder.name}: stays, since {reason}")
    if remove:
        remove_useless_entries(runs)
    print_line(f"{_write_size(sum(survey.removable.values()))} {'freed' if remove else 'would be freed'}")
    return survey


def _survey(runs: Path, experiment: str, keep: int) -> Survey:
    names = {(runs / name).resolve(): name for name in _list_experiments(runs)}  # it may be a link to another place
    records: dict[Path, RunRecord] = {}
    for place, name in names.items():
        found = {place / folder.name: record for folder, record in read_records(runs, name).items()}
        records |= {folder: record for folder, record in found.items() if not folder.is_symlink()}
    own = [folder for folder in records if folder.parent == (runs / experiment).resolve()]
    if not own:
        raise UserError(f"{runs / experiment}: has no runs; name the experiment by --experiment.")
    successes = [folder for folder in own if records[folder]["state"] == "succeeded"]
    curating = [folder for folder in successes if "data" in records[folder]["artifacts"]]
    newest = {*own[-keep:], *successes[-1:], *curating[-1:]}
    old = [folder for folder in own if folder not in newest]
    kept = {folder: f"{work} was written after it ended" for folder in old if (work := _find_later_work(folder))}
    for link in filter(Path.is_symlink, (runs / experiment).iterdir()):
        if link.resolve() in old:
            kept[link.resolve()] = f"the link {link.name} leads to it"
    users = _list_users(records)
    while True:  # a run that stays keeps what it takes artifacts from
        removable = [folder for folder in old if folder not in kept]
        needed = {
            folder: f"{names[user.parent]}/{user.name} takes artifacts from it"
            for folder in removable
            for user in users[folder] - {*removable}
        }
        if not needed:
            return Survey({folder: _measure(folder) for folder in removable}, kept)
        kept |= needed


def _list_experiments(runs: Path) -> Iterator[str]:
    """The names of the experiments; a name with a slash is a folder in a folder.

    Raises:
        UserError: a run goes on.
    """
    left, seen = [runs], set()
    while left:
        place = left.pop(0)
        if place.resolve() in seen or not place.is_dir():
            continue
        seen.add(place.resolve())
        folders = [path for path in sorted(place.iterdir()) if path.is_dir() and not TEMPORARY.fullmatch(path.name)]
        if any((folder / FILE).is_file() for folder in folders):
            yield place.relative_to(runs).as_posix()
        for folder in folders:
            if is_held(folder):
                raise UserError(f"{folder}: goes on, and may take something from any run; wait until it has ended.")
        left += [folder for folder in folders if not any((folder / name).exists() for name in (FILE, COMMAND))]


def _list_users(records: Records) -> dict[Path, set[Path]]:
    """The runs whose records name something in the folder of another run, or that run itself, by that one's folder."""
    users: dict[Path, set[Path]] = {folder: set() for folder in records}
    for user, record in records.items():
        paths = [(ROOT / text).resolve() for text in list_texts(dict(record)) if "/" in text and "\0" not in text]
        taken = {folder for path in paths for folder in (path, *path.parents) if folder in users}
        if isinstance(before := record["arguments"].get(FROM_RUN), str):
            taken.add(user.parent / before)
        for folder in taken & users.keys() - {user}:
            users[folder].add(user)
    return users


def _find_later_work(folder: Path) -> str:
    """A file in the folder of a run that came there after the run had ended, by its path; empty if there is none."""
    end = _read_time(folder / FILE)
    if (folder / INDEX).is_file():
        if _read_time(folder / INDEX) > end + PAGES:
            return INDEX
        end = max(end, _read_time(folder / INDEX))
    files = (path for path in _list_files(folder) if _read_time(path) > end + SETTLED)
    return next((str(path.relative_to(folder)) for path in files), "")


def _read_time(path: Path) -> float:
    """When a file or link was written or came here; a copy may keep the time of its original."""
    status = path.lstat()
    return max(status.st_mtime, status.st_ctime)


def _measure(folder: Path) -> int:
    """The bytes that the files in a folder take on disk."""
    files = (path.lstat() for path in _list_files(folder))
    return sum(status.st_blocks * 512 for status in files if status.st_nlink == 1)  # others stay under another name


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
        folder.rename(hidden)
    except FileNotFoundError:  # another command has been faster
        return
    except OSError as error:
        raise UserError(f"{folder}: cannot be removed ({error.strerror}); make it yours to remove.") from None
    _remove_hidden(hidden)


def _remove_what_was_left(experiment: Path) -> None:
    """Removes the rest of runs whose removal was interrupted."""
    for path in experiment.iterdir():
        if TEMPORARY.fullmatch(path.name):
            _remove_hidden(path)


def _remove_hidden(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # as above
        pass
    except OSError as error:
        raise UserError(
            f"{folder}: what is left of a run cannot be removed ({error.strerror}); make it yours to remove."
        ) from None
