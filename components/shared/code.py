"""Which code decides what a stage makes: part of the names of what it keeps between runs."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def hash_code(folders: Iterable[str], libraries: Iterable[str]) -> str:
    """A SHA-256, in hexadecimal digits, which is another one if any of these has changed.

    Args:
        folders: Of the project; all modules in them count.
        libraries: Installed packages, whose versions count.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for name in libraries:
        digest.update(f"{name} {version(name)}\0".encode())
    return digest.hexdigest()
