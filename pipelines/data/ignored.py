"""What DVC ignores in a folder of images: a run leaves it out as well, and so computes the version that DVC does."""

import json
import os
from pathlib import Path

from components.shared.errors import UserError
from components.shared.formats.names import belongs_to_repository

LONGEST = 60_000  # characters; kfp passes the parameters of a stage as one argument, of which Linux takes 128 KiB


def list_ignored(folder: Path) -> list[str]:
    """Lists what DVC ignores below a folder: what .dvcignore files name, and other DVC repositories inside this one.

    Args:
        folder: A folder on this machine, in a DVC repository or not.

    Returns:
        The paths below the folder, sorted; of a folder that is ignored as a whole, only itself. What belongs to
        repositories of git, Mercurial and DVC is left out, since ingest knows that by itself.

    Raises:
        UserError: DVC would make no version of the folder, or so much is ignored that it cannot be passed on.
    """
    path = folder.resolve()
    root = next((parent for parent in (path, *path.parents) if (parent / ".dvc").is_dir()), None)
    if root is None:
        return []
    from dvc.fs import localfs  # here, because it takes long and only folders in its repositories need it
    from dvc.ignore import DvcIgnoreFilter

    keep = DvcIgnoreFilter(localfs, str(root))
    ignored = []
    for parent, folders, files in os.walk(path):
        kept_folders, kept_files = keep(parent, list(folders), list(files))
        if ".dvcignore" in kept_files and Path(parent) != root:
            raise UserError(
                f"{Path(parent, '.dvcignore')}: DVC makes no version of a folder with such a file inside; move its "
                f"patterns to {root / '.dvcignore'}."
            )
        others = {name for name in files if not belongs_to_repository(name, is_folder=False)} - {*kept_files}
        others |= {name for name in folders if not belongs_to_repository(name, is_folder=True)} - {*kept_folders}
        ignored += [Path(parent, name).relative_to(path).as_posix() for name in others if _is_utf8(name)]
        folders[:] = kept_folders
    if len(json.dumps(ignored)) > LONGEST:
        raise UserError(
            f"{folder}: DVC ignores {len(ignored):,} files there, such as {min(ignored)}, which is more than a run "
            "can be told of; move them out of it."
        )
    return sorted(ignored)


def _is_utf8(name: str) -> bool:
    """Whether a parameter can hold the name; ingest names a file whose name it is not."""
    return name == name.encode(errors="replace").decode()
