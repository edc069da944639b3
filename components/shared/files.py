"""Outputs that are whole or absent."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_directory(target: str | Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that takes its name when the block ends well.

    What an earlier attempt left under either name is cleared: a stage that was killed can run again.
    """
    temporary = _temporary(target)
    temporary.mkdir(parents=True)
    with _renamed_at_the_end(temporary, Path(target)):
        yield temporary


@contextlib.contextmanager
def new_file(target: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` that takes its name when the block ends well."""
    temporary = _temporary(target)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with _renamed_at_the_end(temporary, Path(target)):
        yield temporary


def _temporary(target: str | Path) -> Path:
    path = Path(target).with_name(f".partial.{Path(target).name}")  # in front: some writers look at the ending
    _remove(path)
    return path


@contextlib.contextmanager
def _renamed_at_the_end(temporary: Path, target: Path) -> Iterator[None]:
    try:
        yield
        if target.is_dir() or temporary.is_dir():  # a rename replaces a file by a file only
            _remove(target)
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
