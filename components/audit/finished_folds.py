"""The verdicts of finished folds, kept so that an audit that was interrupted continues.

A file holds the sha256 of its values and the values: float32 [pictures, classes + 2], of each picture the probabilities
and the two distances. Reading it runs nothing, whoever wrote it, and what is not whole counts as not kept.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.audit.judge import Verdict
from components.shared.cloud_storage import fetch, is_address
from components.shared.errors import UserError

DIGEST = hashlib.sha256().digest_size  # bytes


def keep_verdict(path: Path, verdict: Verdict) -> None:
    """Writes a verdict, whole or not at all; where that cannot be done, the audit goes on and says so.

    Args:
        path: The file. Its folder is made again if another audit of the same images has cleared it.
        verdict: The verdict on the pictures of a fold.
    """
    values = np.column_stack(verdict).astype("<f4").tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # another audit may write the same file
            written = Path(folder, path.name)
            written.write_bytes(hashlib.sha256(values).digest() + values)
            os.replace(written, path)
    except OSError as error:
        print(f"audit: {path.parent}: a finished fold cannot be kept ({error.strerror})", flush=True)


def fetch_verdicts(uris: Iterable[str], folder: Path) -> None:
    """Brings verdicts that were kept elsewhere to a folder in which read_verdict looks for them.

    Args:
        uris: The addresses of folders, paths or gs://BUCKET/FOLDER.
        folder: The folder, in which their files have the same paths.

    Raises:
        UserError: There is nothing at an address, or it cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for uri in uris:
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            source = fetch(uri, Path(temporary, "fetched")) if is_address(uri) else Path(uri)
            if not source.is_dir():
                raise UserError(f"{uri}: no such folder; verdicts_uris names what judge has written.")
            shutil.copytree(source, folder, dirs_exist_ok=True)


def read_verdict(path: Path, *, pictures: int, classes: int) -> Verdict | None:
    """Reads a verdict.

    Args:
        path: The file.
        pictures: How many it must be about.
        classes: The number of classes.

    Returns:
        The verdict; None if there is none, or if it is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, values = content[:DIGEST], content[DIGEST:]
    if digest != hashlib.sha256(values).digest() or len(values) != pictures * (classes + 2) * 4:
        return None
    table: NDArray[np.float32] = np.frombuffer(values, "<f4").reshape(pictures, classes + 2)
    return Verdict(table[:, :-2], table[:, -2], table[:, -1])
