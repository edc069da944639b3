"""Pairs of names in sorted files, which are never all in memory: the md5 of each file, for the data version."""

import heapq
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

OPEN_FILES = 100  # merged at once


def write_pairs(pairs: list[tuple[str, str]], path: Path) -> None:
    """Writes a line [name, value] per pair, sorted.

    Args:
        pairs: The path of each file below the data set, say, and its md5 in hex; those without a value are left out.
        path: The file to write.
    """
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in sorted(pairs) if pair[1])


def merge_pairs(paths: list[Path]) -> Iterator[list[str]]:
    """Yields the pairs of several files of write_pairs, sorted; more files are written beside them."""
    while len(paths) > OPEN_FILES:
        some, paths = paths[:OPEN_FILES], paths[OPEN_FILES:]
        merged = some[0].with_name(f"{some[0].name}.merged")
        with merged.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(pair) + "\n" for pair in _merge(some))
        paths.append(merged)
    yield from _merge(paths)


def _merge(paths: list[Path]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open(encoding="utf-8")) for path in paths]
        yield from heapq.merge(*(map(json.loads, file) for file in files))
