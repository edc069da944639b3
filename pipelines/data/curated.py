"""The folder that curate made, found and checked: train/<class>/, val/<class>/, perhaps test/<class>/, manifest.csv."""

import csv
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from components.shared.cloud_storage import fetch_object, fetch_objects, is_address
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS
from components.shared.formats.manifest import FILE as MANIFEST

IF_MISSING = "run curate again"


class CuratedFile(NamedTuple):
    """A row of the manifest: a file, and the image of the version before that it was made of."""

    filename: str  # split/class/file
    sha256: str  # of its bytes
    source_filename: str
    source_sha256: str


class Curated(NamedTuple):
    """A curated folder that was found to be as its manifest says."""

    shown: str  # how messages name it: the path or URI as it was given
    folder: Path
    images: list[CuratedFile]  # the rows of its manifest
    md5s: dict[str, str]  # of each of its files, by path


@contextmanager
def open_curated(place: str) -> Iterator[Curated]:
    """The curated folder at a path or at gs://BUCKET/FOLDER, which is here for as long as the block lasts.

    Raises:
        UserError: it is not there, or is not what its manifest says.
    """
    if not is_address(place):
        yield _check_folder(Path(place), place)
        return
    with tempfile.TemporaryDirectory() as temporary:
        shown, folder = place.rstrip("/"), Path(temporary)
        fetch_object(f"{shown}/{MANIFEST}", folder / MANIFEST, if_missing=IF_MISSING)
        names = [image.filename for image in _read_images(folder, shown)]
        fetch_objects(shown, names, folder, if_missing=IF_MISSING)
        yield _check_folder(folder, shown)


def _check_folder(folder: Path, shown: str) -> Curated:
    if not folder.is_dir():
        raise UserError(f"{shown}: no such folder; --curated names a folder that curate made.")
    images = _read_images(folder, shown)
    sha256s = {image.filename: image.sha256 for image in images}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        is_other = path.is_file() and not path.name.startswith(".") and name not in sha256s and name != MANIFEST
        if is_other or path.is_symlink():
            raise UserError(f"{shown}/{name}: curate did not make it; remove it, or run curate again.")
    md5s = {}
    for name in (MANIFEST, *sha256s):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(f"{shown}/{name}: cannot be read ({error.strerror}); run curate again.") from None
        if name != MANIFEST and hashlib.sha256(content).hexdigest() != sha256s[name]:
            raise UserError(f"{shown}/{name}: differs from its checksum in {MANIFEST}; run curate again.")
        md5s[name] = hash_md5(content)
    return Curated(shown, folder, images, md5s)


def hash_md5(content: bytes) -> str:
    """As DVC names it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read_images(folder: Path, shown: str) -> list[CuratedFile]:
    """The rows of the manifest; nothing in it is believed before it is checked."""
    try:
        with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
            images = [
                CuratedFile(*(row[field] for field in CuratedFile._fields)) for row in csv.DictReader(file, strict=True)
            ]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown}/{MANIFEST}: cannot be read ({reason}); name a folder that curate made.") from None
    except KeyError as error:
        raise UserError(f"{shown}/{MANIFEST}: has no column {error}; name a folder that curate made.") from None
    if not images:
        raise UserError(f"{shown}/{MANIFEST}: lists no images; name a folder that curate made.")
    seen: set[str] = set()
    for image in images:
        if None in image or not is_image(image.filename) or not is_image(image.source_filename):
            raise UserError(f"{shown}/{MANIFEST}: {image.filename!r} is no split/class/file; run curate again.")
        if image.filename in seen:
            raise UserError(f"{shown}/{MANIFEST}: {image.filename!r} is there twice; run curate again.")
        seen.add(image.filename)
    return images


def is_image(name: str) -> bool:
    """Whether a path in a data set is that of an image: split/class/file, nothing hidden, and nowhere else."""
    parts = name.split("/")
    plain = not any(character < " " or character == "\\" for character in name)
    shown = all(part and not part.startswith(".") for part in parts)
    return plain and shown and len(parts) == 3 and parts[0] in SPLITS
