"""The version that DVC gives a folder of images, and its address in the DVC remote.

DVC is imported inside the functions, because it takes long and only folders that it tracks need it.
"""

import getpass
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.shared.cloud_storage import exists
from components.shared.errors import UserError, name_unknown, shorten
from components.shared.formats.image_table import is_table_name
from components.shared.hosts import check_private

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

PATIENCE = 15  # seconds for Cloud Storage to answer


class DataVersion(NamedTuple):
    """Images as they were at some time, and where ingest can read them."""

    uri: str  # of the version's manifest in the remote: gs://bucket/..., or an absolute path
    version: str  # <md5>.dir; empty if it is not known before the run
    ignored: tuple[str, ...] = ()  # files and folders of a folder on this machine that are no part of it


def resolve_version(path: Path, rev: str | None = None, remote: str | None = None) -> DataVersion:
    """The version of the DVC-tracked folder `path` at the git revision `rev`, or as it is on disk now.

    A path that is a table in such a folder gives the version of the folder, with the place of the table in it.

    On disk, the folder must be what git's HEAD says, so that anyone can get the version again. The repository is the
    one the folder lies in, wherever this is called from. The version must be in the DVC remote `remote`, or in the
    default one. That takes one request however many images there are, because `dvc push` uploads a folder's manifest
    when all of its files are there, and `dvc gc` removes it first.

    Raises:
        UserError: there is no such version, it is not committed or not pushed, or the remote cannot be read.
    """
    if is_table_name(path.name) and not path.is_dir():
        above = _find_folder_of_table(path)
        version = resolve_version(above, rev, remote)
        return version._replace(uri=f"{version.uri}/{path.resolve().relative_to(above).as_posix()}")
    with open_repository(path) as (repo, folder):
        out = _find_at_revision(repo, folder, rev) if rev else _find_on_disk(repo, folder)
        return find_pushed(repo, folder, out, rev=rev, remote=remote)


def _find_folder_of_table(path: Path) -> Path:
    """The folder above a table that has a .dvc file beside it."""
    for parent in path.resolve().parents:
        if Path(f"{parent}.dvc").is_file():
            return parent
    raise UserError(
        f"{path}: DVC tracks no folder that it lies in; put the table and its images into one folder, `dvc add` that, "
        "commit and `dvc push`."
    )


class Folder(NamedTuple):
    """A folder of images in a DVC repository, which need not be there yet."""

    given: Path  # as the user wrote it
    root: str  # of its DVC repository
    relpath: str  # in its repository

    @property
    def path(self) -> Path:
        """Where it is on this machine."""
        return Path(self.root, self.relpath)

    @property
    def name(self) -> str:
        """As a shell takes it, in the root of the repository."""
        return shlex.quote(self.relpath)


@contextmanager
def open_repository(path: Path) -> "Iterator[tuple[Repo, Folder]]":
    """The DVC repository that `path` lies in, and its place there; what DVC raises becomes a UserError."""
    from dvc.config import Config
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc_data.hashfile.build import IgnoreInCollectedDirError
    from pygit2 import GitError

    folder = path.resolve()
    root = ""
    try:
        _set_names_of_user()
        root = Repo.find_root(str(_find_nearest_folder(folder)))
        # today's remotes for older revisions too, which may not know them yet
        with Repo(root, config=Config(Repo.find_dvc_dir(root))) as repo:
            yield repo, Folder(path, repo.root_dir, os.path.relpath(folder, repo.root_dir))
    except NotDvcRepoError:
        raise UserError(
            f"{path}: not in a DVC repository; run `git init` and `dvc init` in the folder above the images, and "
            "`dvc add` the images."
        ) from None
    except IgnoreInCollectedDirError as error:
        raise UserError(f"{path}: DVC makes no version of it ({shorten(error)}); move that file above it.") from None
    except GitError as error:
        if "not owned by current user" not in str(error):
            raise UserError(f"{path}: git cannot use its repository ({shorten(error)}); fix what it names.") from None
        raise UserError(_explain_distrust(Path(root))) from None
    except DvcException as error:
        raise UserError(f"{path}: DVC cannot use its repository ({shorten(error)}); fix what it names.") from None


def _explain_distrust(folder: Path) -> str:
    """What to do where git refuses a repository that another user owns; git itself does not say where that begins."""
    root = next(parent for parent in (folder, *folder.parents) if (parent / ".git").exists())
    before = "" if os.environ.get("HOME") else "set HOME to a folder that you may write to and "
    return (
        f"git does not trust {root}, which another user owns; {before}run "
        f"git config --global --add safe.directory {root}."
    )


def _set_names_of_user() -> None:
    """Sets what DVC asks for and a user without an entry in /etc/passwd lacks, as in a container with any uid."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    try:
        Path.home()
    except RuntimeError:  # without a home there is no configuration of DVC in it
        os.environ.setdefault("DVC_GLOBAL_CONFIG_DIR", "/nonexistent")


def _find_nearest_folder(path: Path) -> Path:
    """The folder itself or the first one above it: a revision may hold what is not on disk."""
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _find_on_disk(repo: "Repo", folder: Folder) -> "Output":
    out = find_tracked(repo, folder)
    if not out.exists:
        raise UserError(f"{folder.given}: not on disk; run `dvc pull {folder.name}` in {folder.root}.")
    check_committed(repo, folder, out)
    return out


def find_tracked(repo: "Repo", folder: Folder) -> "Output":
    """What DVC tracks at this place in the workspace.

    Raises:
        UserError: nothing, or not the folder as a whole, or it has no version.
    """
    from dvc.exceptions import OutputNotFoundError

    try:
        return find_output(repo, folder)
    except OutputNotFoundError:
        if parts := list_tracked_parts(repo, folder):
            raise UserError(f"{folder.given}: DVC tracks only parts of it; give one of {', '.join(parts)}.") from None
        raise UserError(
            f"{folder.given}: not tracked by DVC; run `dvc add {folder.name}` in {folder.root}, commit and `dvc push`."
        ) from None


def list_tracked_parts(repo: "Repo", folder: Folder) -> list[str]:
    """The paths below the folder that DVC tracks one by one."""
    return [out.fs_path for out in repo.index.outs if repo.fs.isin(out.fs_path, _locate(repo, folder))]


def check_committed(repo: "Repo", folder: Folder, out: "Output") -> None:
    """What is on disk, if it is there, is what git's HEAD says.

    Raises:
        UserError: it differs from its .dvc file, or that one from HEAD.
    """
    pointer = os.path.relpath(find_pointer(out), folder.root)
    if out.stage.is_import:
        record = f"dvc commit --force {shlex.quote(pointer)}"
    else:
        record = f"dvc add {folder.name}" if pointer.endswith(".dvc") else "dvc repro"
    check_files(folder)
    if out.exists and out.workspace_status():
        raise UserError(
            f"{folder.given}: differs from {pointer}; run `{record}` in {folder.root}, commit {pointer} and "
            f"`dvc push`, or undo the changes with `dvc checkout {folder.name}`."
        )
    if out.hash_info != find_committed(repo, folder):
        raise UserError(
            f"{folder.given}: its version is not committed; run `git add {shlex.quote(pointer)}` and `git commit` "
            f"in {folder.root}."
        )


def check_files(folder: Folder) -> None:
    """Checks that the folder holds nothing at which DVC, which reads every file, would wait forever.

    Raises:
        UserError: a pipe, a socket or a device is there.
    """
    for parent, _, files in os.walk(folder.path):
        for name in files:
            path = Path(parent, name)
            if path.exists() and not path.is_file():
                raise UserError(f"{path}: neither a file nor a folder; DVC cannot read it, so move it out of the data.")


def find_pointer(out: "Output") -> Path:
    """The file that holds its version: data.dvc, or the dvc.lock of a stage's output."""
    stage = Path(out.stage.path)
    return stage if stage.suffix == ".dvc" else stage.with_name("dvc.lock")


def find_committed(repo: "Repo", folder: Folder) -> Any:
    """The hash that HEAD has for the folder; None if it has none, or if there is no commit at all."""
    from dvc.exceptions import NotDvcRepoError, OutputNotFoundError
    from dvc.scm import SCMError

    try:
        with repo.switch("HEAD"):
            return find_output(repo, folder).hash_info
    except (OutputNotFoundError, NotDvcRepoError, SCMError):
        return None


def _find_at_revision(repo: "Repo", folder: Folder, rev: str) -> "Output":
    from dvc.exceptions import NotDvcRepoError, OutputNotFoundError
    from dvc.scm import SCMError, resolve_rev

    try:
        with repo.switch(resolve_rev(repo.scm, rev)):
            return find_output(repo, folder)
    except SCMError:
        raise UserError(
            f"'{rev}': no such tag, branch or commit in {folder.root}; `git log --all` lists them."
        ) from None
    except (OutputNotFoundError, NotDvcRepoError):
        raise UserError(
            f"{folder.given}: not tracked by DVC at {rev}; `git log --all -- {folder.name}.dvc` in {folder.root} lists "
            "the commits of its versions."
        ) from None


def _locate(repo: "Repo", folder: Folder) -> str:
    return str(repo.fs.normpath(repo.fs.join(repo.root_dir, *Path(folder.relpath).parts)))


def find_output(repo: "Repo", folder: Folder) -> "Output":
    """What DVC tracks at this place, in the workspace or in the revision that `repo` is switched to."""
    place = _locate(repo, folder)
    out = repo.find_outs_by_path(place, strict=False)[0]
    if out.fs_path != place:
        whole = repo.fs.relpath(out.fs_path, repo.root_dir)
        raise UserError(f"{folder.given}: only a part of {whole}, which DVC tracks as a whole; give that folder.")
    if out.stage.is_repo_import:
        source = out.stage.deps[0].def_repo["url"]
        raise UserError(f"{folder.given}: imported from {source}, whose DVC remote has it; give the folder in a clone.")
    if not out.hash_info and out.stage.is_import:
        pointer = repo.fs.relpath(out.stage.path, repo.root_dir)
        raise UserError(
            f"{folder.given}: {pointer} names no version yet; run `dvc update {shlex.quote(pointer)}` in "
            f"{folder.root}, commit it and `dvc push`."
        )
    if not out.hash_info:
        raise UserError(f"{folder.given}: has no version yet; run `dvc repro` in {folder.root} and commit dvc.lock.")
    if not out.hash_info.isdir:
        raise UserError(f"{folder.given}: a file; a data version is a folder of images that DVC tracks as a whole.")
    return out


def find_pushed(
    repo: "Repo", folder: Folder, out: "Output", *, rev: str | None = None, remote: str | None = None
) -> DataVersion:
    """The version of `out` in the DVC remote.

    Raises:
        UserError: it is not there, or the remote cannot be read.
    """
    name, odb = open_remote(repo, folder, remote or out.remote, hash_name=out.hash_name)
    place = f"the DVC remote '{name}' ({repo.config['remote'][name]['url']})"
    path = odb.oid_to_path(out.hash_info.value)
    if odb.fs.protocol == "local":
        version = DataVersion(path, out.hash_info.value)
        found = os.path.exists(path)
    else:
        version = DataVersion(odb.fs.unstrip_protocol(path), out.hash_info.value)
        # with the settings of the DVC remote; DVC's own gcsfs takes half a minute to say that nobody answers
        settings = odb.fs.fs_args
        endpoint, token = settings["endpoint_url"] or "", settings["token"] or ""
        found = exists(version.uri, place, timeout=PATIENCE, endpoint=endpoint, token=token)
    if not found:
        # not `dvc push --all-tags`: of older revisions it mistakes the path of a remote that is a folder
        command = f"`git checkout {rev}` and " if rev else ""
        command += f"`dvc push -r {name} {folder.name}`"
        raise UserError(f"{folder.given}: version {version.version} is not in {place}; run {command} in {folder.root}.")
    return version


def open_remote(
    repo: "Repo", folder: Folder, remote: str | None, *, hash_name: str = "md5"
) -> tuple[str, "HashFileDB"]:
    """The DVC remote of that name, or the default one: its name in DVC's config, and its files.

    Raises:
        UserError: there is none, or ingest cannot read one of its kind.
    """
    known = repo.config["remote"]
    name = (remote or repo.config["core"].get("remote", "")).lower()  # as DVC reads its config
    if not known:
        raise UserError(
            f"{folder.given}: its repository has no DVC remote; run `dvc remote add --default NAME gs://BUCKET/dvc` "
            f"in {folder.root}, and `dvc push`."
        )
    if not name:
        raise UserError(
            f"{folder.given}: its repository has no default DVC remote; run `dvc remote default NAME` in {folder.root} "
            f"with one of {', '.join(sorted(known))}."
        )
    if name not in known:
        raise UserError(name_unknown("the DVC remote", name, known))
    url = known[name]["url"]
    if url.startswith("gs://BUCKET/"):  # as .dvc/config has it in a new clone
        raise UserError(
            f"the DVC remote '{name}' is {url}, which still has BUCKET in place of your bucket's name; run "
            f"`dvc remote modify {name} url gs://NAME/dvc` in {folder.root}, and `dvc push -r {name}`."
        )
    try:
        store = repo.cloud.get_remote(name)
        is_readable = store.fs.protocol in ("local", "gs")
    except ImportError:  # DVC's plug-in for the others is not here
        is_readable = False
    if not is_readable:
        raise UserError(f"the DVC remote '{name}' is {url}; ingest reads gs:// and folders, so push to one of those.")
    endpoint = store.fs.fs_args.get("endpoint_url") or ""
    if endpoint and store.fs.fs_args.get("token") != "anon":
        check_private(endpoint)
    if store.worktree or store.fs.version_aware:
        raise UserError(f"the DVC remote '{name}' ({url}) keeps cloud versions, not DVC's own; push to another one.")
    return name, repo.cloud.get_remote_odb(name, hash_name=hash_name)
