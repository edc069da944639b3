"""Which kind of source an address names."""

from components.ingest.buckets import Bucket
from components.ingest.folders import Folder
from components.ingest.sources import Source
from components.ingest.versions import is_manifest, open_version
from components.shared.cloud_storage import is_address, parse_address


def open_source(uri: str, prefix: str = "", ignored: frozenset[str] = frozenset()) -> Source:
    """Opens the data set at a path, at gs://bucket/folder, or of a DVC version.

    Args:
        uri: Its address; that of a DVC version is its manifest: <remote>/files/md5/<2 hex>/<30 hex>.dir,
            or <remote>/<2 hex>/<30 hex>.dir if DVC 2 made it.
        prefix: What stands before the names of its files, if it is one split only: `test`.
        ignored: The names of files and folders that are no part of it, if it is a folder of a disk.

    Returns:
        A folder, a bucket or a version.

    Raises:
        UserError: The address is wrong, or the manifest is missing or not as DVC writes it.
    """
    if is_manifest(uri):
        return open_version(uri, prefix, _open_folder(uri.rsplit("/", 2)[0]))
    return _open_folder(uri, prefix, ignored)


def _open_folder(uri: str, prefix: str = "", ignored: frozenset[str] = frozenset()) -> Source:
    return Bucket(str(parse_address(uri)), prefix) if is_address(uri) else Folder(uri, prefix, ignored=ignored)
