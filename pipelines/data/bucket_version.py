"""The version that DVC would give a folder in Cloud Storage: its listing tells it, and no image is read."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from components.shared.cloud_storage import MissingError, Object, exists, list_objects, parse_address
from components.shared.errors import UserError
from components.shared.formats.dvc_manifest import compute_version
from components.shared.formats.image_table import is_table_name
from components.shared.formats.names import lies_in_repository
from pipelines.data.dvc_version import DataVersion
from pipelines.output.console import count_on_terminal, print_line

TIMEOUT = 10  # seconds for each request to Cloud Storage; the run does without an answer


def find_version(uri: str) -> DataVersion:
    """The version of the images at an address as they are now.

    Ingest is told of it, and fails if what it reads is another one. Where the listing does not tell the version, one
    line says why; the run does without, and ingest is not taken from the cache.

    Args:
        uri: the address of a folder, or of a table.

    Returns:
        The address and the version, which may be empty.

    Raises:
        UserError: there is no such bucket, or nothing at the address.
    """
    if is_table_name(uri):
        return _do_without(uri, f"{uri}: the images of a table may lie anywhere.")
    listing = Listing()
    try:
        version = compute_version(listing.watch(_list_files(uri)))
    except MissingError:
        raise
    except UserError as error:  # the account of the run may read what this one may not
        return _do_without(uri, str(error))
    if not listing.files:
        found = "is an object and no folder" if _is_object(uri) else "nothing lies there in Cloud Storage"
        raise UserError(f"{uri}: {found}; give the address of a folder of images.")
    if obstacle := listing.describe_obstacle():
        return _do_without(uri, obstacle)
    return DataVersion(uri, version)


@dataclass
class Listing:
    """What is noticed of files while their version is computed; none of them is kept, for there may be millions."""

    files: int = 0
    misnamed: str = ""  # the first whose name no folder of a disk can hold
    composite: str = ""  # the first without an md5
    composites: int = 0

    def watch(self, files: Iterable[Object]) -> Iterator[tuple[str, str]]:
        """Yields the name and the md5 of each file."""
        for found in files:
            self.files += 1
            if not self.misnamed and any(part in ("", ".", "..") for part in found.name.split("/")):
                self.misnamed = found.address
            if not found.md5:
                self.composite = self.composite or found.address
                self.composites += 1
            yield found.name, found.md5

    def describe_obstacle(self) -> str:
        """Why the files have no version that is known before they are read; empty if they have one."""
        if self.misnamed:
            return f"{self.misnamed}: no folder of a disk, whose versions DVC makes, can hold a file of this name."
        if not self.composite:
            return ""
        others = f" and {self.composites - 1:,} more" if self.composites > 1 else ""
        return f"{self.composite}{others}: Cloud Storage has no md5 of composite objects, which were uploaded in parts."


def _list_files(uri: str) -> Iterator[Object]:
    """What DVC would take for data: neither the objects that stand for folders, nor what repositories keep."""
    for found in count_on_terminal(list_objects(uri, timeout=TIMEOUT), f"listing {uri}"):
        if not found.name.endswith("/") and not lies_in_repository(found.name):
            yield found


def _is_object(uri: str) -> bool:
    """Whether there is an object at the address itself, as far as Cloud Storage tells."""
    with contextlib.suppress(UserError):
        return bool(parse_address(uri).name) and exists(uri, uri, timeout=TIMEOUT)
    return False


def _do_without(uri: str, reason: str) -> DataVersion:
    print_line(f"{reason} So the data have no version before the run, and ingest is not taken from the cache.")
    return DataVersion(uri, "")
