"""The folder that curate made, checked: train/<class>/, val/<class>/, perhaps test/<class>/, and manifest.csv.

If the data had a guideline, labels.md, it lies there too.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from components.shared.cloud_storage import fetch_object, fetch_objects, is_address, list_folder
from components.shared.errors import UserError
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.manifest import FILE as MANIFEST
from components.shared.formats.manifest import CuratedImage, read_manifest
from components.shared.formats.names import has_passed_over

IF_MISSING = "run curate again"


class Curated(NamedTuple):
    """A curated folder on this machine."""

    shown: str  # how messages name it: the path or URI as it was given
    folder: Path
    images: list[CuratedImage]
    md5s: dict[str, str]  # of each of its files, by path


@contextmanager
def open_curated(place: str) -> Iterator[Curated]:
    """Opens the curated folder at a path, or a copy of the one at gs://BUCKET/FOLDER.

    Args:
        place: The path or the address.

    Yields:
        The folder, which is here for as long as the block lasts.

    Raises:
        UserError: It is not there, or is not what its manifest says.
    """
    if not is_address(place):
        yield _check(Path(place), place)
        return
    with tempfile.TemporaryDirectory() as temporary:
        shown, folder = place.rstrip("/"), Path(temporary)
        fetch_object(f"{shown}/{MANIFEST}", folder / MANIFEST, if_missing=IF_MISSING)
        names = [image.filename for image in read_manifest(folder, shown)]
        objects, _ = list_folder(shown)
        names += [GUIDELINE] * any(found.name == GUIDELINE for found in objects)
        fetch_objects(shown, names, folder, if_missing=IF_MISSING)
        yield _check(folder, shown)


def _check(folder: Path, shown: str) -> Curated:
    """The folder, if it has every file of its manifest, unchanged, and no other."""
    if not folder.is_dir():
        raise UserError(f"{shown}: no such folder; --curated names a folder that curate made.")
    images = read_manifest(folder, shown)
    sha256s = {image.filename: image.sha256 for image in images}
    others = [MANIFEST, *([GUIDELINE] if (folder / GUIDELINE).exists() else [])]
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_other = path.is_file() and not has_passed_over(path.name) and name not in sha256s and name not in others
        is_special = path.exists() and not path.is_file() and not path.is_dir()  # a pipe would be read forever
        if is_other or is_special or path.is_symlink():
            raise UserError(f"{shown}/{name}: curate did not make it; remove it, or run curate again.")
    md5s = {}
    for name in (*others, *sha256s):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(f"{shown}/{name}: cannot be read ({error.strerror}); run curate again.") from None
        if name in sha256s and hashlib.sha256(content).hexdigest() != sha256s[name]:
            raise UserError(f"{shown}/{name}: differs from its checksum in {MANIFEST}; run curate again.")
        md5s[name] = compute_md5(content)
    return Curated(shown, folder, images, md5s)


def trace_back(images: list[CuratedImage], earlier: list[CuratedImage]) -> list[CuratedImage]:
    """The images of a version that was curated from a curated one, with their sources in the version before that.

    Args:
        images: Of the last version.
        earlier: Of the one that it was curated from.
    """
    sources = {(image.filename, image.sha256): image for image in earlier}
    found = [(image, sources.get((image.source_path, image.source_sha256))) for image in images]
    return [
        image._replace(
            source_filename=source.source_filename,
            source_sha256=source.source_sha256,
            source_path=source.source_path,
            operations=[*source.operations, *image.operations],
        )
        if source
        else image
        for image, source in found
    ]


def compute_md5(content: bytes) -> str:
    """The MD5 in hex, by which DVC knows a file."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
