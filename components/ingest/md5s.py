"""The data version, from sorted files of md5s: at no time all of them in memory."""

import hashlib
import heapq
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

OPEN_FILES = 100  # merged at once


def write_md5s(md5s: list[tuple[str, str]], path: Path) -> None:
    """A line [name, md5] per file, sorted; without those that have no md5."""
    with path.open("w") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in sorted(md5s) if entry[1])


def data_version(paths: list[Path]) -> str:
    """The version that DVC gives a folder with these files: the md5 of its `.dir` manifest, so it equals the one in
    the `.dvc` file. `paths` are files of write_md5s; more are written beside them.

    The manifest's form is that of `dvc_data.hashfile.tree.Tree.as_bytes`.
    """
    while len(paths) > OPEN_FILES:
        some, paths = paths[:OPEN_FILES], paths[OPEN_FILES:]
        merged = some[0].with_name(f"{some[0].name}.merged")
        with merged.open("w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in _merged(some))
        paths.append(merged)
    digest = hashlib.md5(b"[", usedforsecurity=False)
    for position, (name, md5) in enumerate(_merged(paths)):
        entry = json.dumps({"md5": md5, "relpath": name}, sort_keys=True)
        digest.update(f"{', ' if position else ''}{entry}".encode())
    digest.update(b"]")
    return digest.hexdigest() + ".dir"


def _merged(paths: list[Path]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open()) for path in paths]
        yield from heapq.merge(*(map(json.loads, file) for file in files))
