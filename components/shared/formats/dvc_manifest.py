"""The manifest of a folder in a DVC remote: its files by their md5s, and the md5 of the whole, which is the version."""

import hashlib
import json
import re
from collections.abc import Iterable

# DVC 3 keeps it below <remote>/files/md5; what DVC 2 made stays where it was, directly below <remote>.
ADDRESS = re.compile(r"(.+/([0-9a-f]{2})/([0-9a-f]{30}\.dir))(?:/(.+))?", re.DOTALL)  # and the path of a table in it


def split_manifest(uri: str) -> tuple[str, str] | None:
    """The address of a folder's manifest in a DVC remote and a path in that folder, if that is what an address is."""
    found = ADDRESS.fullmatch(uri)
    return (found[1], found[4] or "") if found else None


def read_version(uri: str) -> str:
    """The version that an address names, <md5>.dir; empty if it is not that of a manifest, or of a table in one."""
    found = ADDRESS.fullmatch(uri)
    return f"{found[2]}{found[3]}" if found else ""


def compute_version(files: Iterable[tuple[str, str]]) -> str:
    """Computes the version that DVC 3 gives a folder: the md5 of its manifest, as it stands in the `.dvc` file.

    The manifest has the form of `dvc_data.hashfile.tree.Tree.as_bytes`.

    Args:
        files: The path of each file below the folder and its md5 in hex, sorted by path.

    Returns:
        The version: <md5>.dir.
    """
    digest = hashlib.md5(b"[", usedforsecurity=False)
    for position, (path, md5) in enumerate(files):
        entry = json.dumps({"md5": md5, "relpath": path}, sort_keys=True)
        digest.update(f"{', ' if position else ''}{entry}".encode())
    digest.update(b"]")
    return digest.hexdigest() + ".dir"
