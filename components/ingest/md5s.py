"""The data version, from sorted files of md5s, which are never all in memory."""

import hashlib
import heapq
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

OPEN_FILES = 100  # merged at once


def write_md5s(md5s: list[tuple[str, str]], path: Path) -> None:
    """Writes a line [name, md5] per file, sorted.

    Args:
        md5s: The path below the data set and the md5, in hex, of each file; those without an md5 are left out.
        path: The file to write.
    """
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in sorted(md5s) if entry[1])


def compute_version(paths: list[Path]) -> str:
    """Computes the version that DVC gives a folder: the md5 of its `.dir` manifest, as it stands in the `.dvc` file.

    The manifest has the form of `dvc_data.hashfile.tree.Tree.as_bytes`.

    Args:
        paths: Files of write_md5s, which together have all files of the folder; more are written beside them.

    Returns:
        The version: <md5>.dir.
    """
    while len(paths) > OPEN_FILES:
        some, paths = paths[:OPEN_FILES], paths[OPEN_FILES:]
        merged = some[0].with_name(f"{some[0].name}.merged")
        with merged.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in _merge(some))
        paths.append(merged)
    digest = hashlib.md5(b"[", usedforsecurity=False)
    for position, (name, md5) in enumerate(_merge(paths)):
        entry = json.dumps({"md5": md5, "relpath": name}, sort_keys=True)
        digest.update(f"{', ' if position else ''}{entry}".encode())
    digest.update(b"]")
    return digest.hexdigest() + ".dir"


def _merge(paths: list[Path]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open(encoding="utf-8")) for path in paths]
        yield from heapq.merge(*(map(json.loads, file) for file in files))
