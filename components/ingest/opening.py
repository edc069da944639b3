"""Which kind of source an address names."""

import os

from components.ingest.buckets import Bucket
from components.ingest.folders import Folder
from components.ingest.sources import Source
from components.ingest.table import open_table
from components.ingest.versions import open_version
from components.shared.cloud_storage import is_address, parse_address
from components.shared.errors import UserError
from components.shared.formats.dvc_manifest import split_manifest
from components.shared.formats.image_table import is_table_name


def open_source(uri: str, prefix: str = "", ignored: frozenset[str] = frozenset()) -> Source:
    """Opens the data set at a path, at gs://bucket/folder, or of a DVC version; or one that a table there lists.

    Args:
        uri: Its address; that of a DVC version is its manifest: <remote>/files/md5/<2 hex>/<30 hex>.dir,
            or <remote>/<2 hex>/<30 hex>.dir if DVC 2 made it. A table is a file .csv or .parquet; that of a DVC version
            has its path in the version behind the address of the manifest.
        prefix: What stands before the names of its files, if it is one split only: `test`.
        ignored: The names of files and folders that are no part of it, if it is a folder of a disk.

    Returns:
        A folder, a bucket, a version or a table.

    Raises:
        UserError: The address is wrong, or the manifest is missing or not as DVC writes it.
    """
    if found := split_manifest(uri):
        manifest, table = found
        version = open_version(manifest, "" if table else prefix, _open_folder(manifest.rsplit("/", 2)[0]))
        return open_table(version, table, prefix) if table else version
    if is_table_name(uri) and not os.path.isdir(uri):
        folder, _, name = uri.rpartition("/")
        if not (is_address(uri) or os.path.isfile(uri)):
            raise UserError(f"{uri}: no such file; data_uri names a folder of images, or a table of them.")
        return open_table(_open_folder(folder or "."), name, prefix)
    return _open_folder(uri, prefix, ignored)


def _open_folder(uri: str, prefix: str = "", ignored: frozenset[str] = frozenset()) -> Source:
    return Bucket(str(parse_address(uri)), prefix) if is_address(uri) else Folder(uri, prefix, ignored=ignored)
