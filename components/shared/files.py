"""Files: outputs that are whole or absent, and hashes."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import DISK_ERRORS

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of fcntl.h and linux/fs.h
CACHE = "data-centric-pipeline"  # in the folder for caches in a user's home
CACHED = 30 * 24 * 3600.0  # seconds
NOT_REGULAR = "not a regular file"
# No person gives a file such a name, so what has it is ours to remove. The target's name comes last, since some writers
# look at the ending.
TEMPORARY = re.compile(r"\.partial\.[0-9a-f]{16}\.(.+)", re.DOTALL)


@contextlib.contextmanager
def new_directory(target: str | Path) -> Iterator[Path]:
    """Makes a folder that is whole or absent.

    The leftovers of an earlier attempt are replaced, so that a stage that was killed can run again.

    Args:
        target: The path of the new folder.

    Yields:
        A temporary folder beside `target`, which takes its name when the block ends well and is removed otherwise.
    """
    temporary = _prepare_temporary(target)
    temporary.mkdir(parents=True)
    with _rename_at_end(temporary, Path(target)):
        yield temporary


@contextlib.contextmanager
def new_file(target: str | Path) -> Iterator[Path]:
    """Makes a file that is whole or absent.

    Args:
        target: The path of the new file.

    Yields:
        A temporary path beside `target`; what the block writes there takes its name when the block ends well, and is
        removed otherwise.
    """
    temporary = _prepare_temporary(target)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with _rename_at_end(temporary, Path(target)):
        yield temporary


@contextlib.contextmanager
def scratch_folder(target: str | Path) -> Iterator[Path]:
    """Makes a folder beside `target` for what is not kept; it is removed at the end, or by the next attempt."""
    temporary = _prepare_temporary(target)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        _remove(temporary)


def _prepare_temporary(target: str | Path) -> Path:
    remove_attempts(Path(target))
    return name_temporary(Path(target))


def remove_attempts(target: Path) -> None:
    """Removes what attempts at `target` that were killed have left beside it."""
    if target.parent.is_dir():
        for path in target.parent.iterdir():
            if (name := TEMPORARY.fullmatch(path.name)) and name[1] == target.name:
                _remove(path)


def name_temporary(target: Path) -> Path:
    """A new name beside `target`, which remove_temporary and the next attempt at `target` know as ours."""
    return target.with_name(f".partial.{secrets.token_hex(8)}.{target.name}")


def remove_temporary(folder: Path) -> None:
    """Removes what writers that were killed left in a folder and below it; what a person called `.partial.` stays."""
    for path in folder.rglob(".partial.*"):
        if TEMPORARY.fullmatch(path.name):
            _remove(path)


@contextlib.contextmanager
def _rename_at_end(temporary: Path, target: Path) -> Iterator[None]:
    try:
        yield
        if target.is_dir() and temporary.is_dir() and _exchange(temporary, target):
            _remove(temporary)
            return
        if target.is_dir() or temporary.is_dir():  # a rename replaces a file by a file only
            _remove(target)
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        if error.errno in DISK_ERRORS and not error.filename:
            error.filename = str(target)
        raise
    except BaseException:
        _remove(temporary)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two paths, so that there is no moment without either; False where the system cannot."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "renameat2"):  # a call of Linux
        return False
    paths = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    return bool(library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)


def find_cache_folder(stage: str) -> Path:
    """The folder in the user's cache for what a stage keeps until it has ended well; made if it is missing.

    What was left there a month ago, by a stage that nobody started again, is removed. It is a temporary folder for a
    user without a home, or with one that cannot be written to, as in some clusters.
    """
    try:
        folder = Path.home() / ".cache" / CACHE / stage
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except (RuntimeError, OSError):
        return Path(tempfile.mkdtemp())
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # such as what another process has just removed
            if time.time() - path.stat().st_mtime > CACHED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Makes the folder if it is missing, and lets one process at a time run the block for it.

    Without the lock, new_directory and new_file would remove what another command is still writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Shows others that the folder is in use while the block runs; however the process ends, that ends too."""
    with _lock(folder, fcntl.LOCK_SH):
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds or locks the folder."""
    try:
        with _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


@contextlib.contextmanager
def _lock(folder: Path, operation: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def write_to_disk(*paths: Path) -> None:
    """Waits until files would survive a power cut; of a folder, the names in it, among them that of a renamed file."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_regular(path: str | Path) -> io.BufferedReader:
    """Opens a file that is one: reading a pipe, a socket or a device would block forever, or change it.

    Raises:
        OSError: It cannot be opened; with EINVAL if it is something else.
    """
    if stat.S_ISREG(os.stat(path).st_mode):
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it may have been replaced in the meantime
            return file
        file.close()
    raise OSError(errno.EINVAL, NOT_REGULAR)


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hex.

    Raises:
        OSError: As open_regular does.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
