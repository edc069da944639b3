"""A curated folder becomes the next DVC version of the data: planned first, then done.

Killed at any moment and run again, it comes to the same end. The new images are copied beside the folder and take its
place by renames, so that it never holds half of them; the old ones go only where git and DVC can bring them back.
DVC is imported inside the functions, as in dvc_version.py.
"""

import difflib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.shared.errors import UserError, shorten
from components.shared.files import name_temporary, new_directory, remove_attempts, write_to_disk
from components.shared.formats.examples import is_augmented
from components.shared.formats.manifest import CuratedImage, is_image_path
from components.shared.formats.names import has_image_suffix, has_passed_over
from pipelines.data.curated import Curated, compute_md5, trace_back
from pipelines.data.dvc_version import (
    Folder,
    check_committed,
    check_files,
    find_committed,
    find_output,
    find_pointer,
    find_pushed,
    find_tracked,
    list_tracked_parts,
    open_remote,
)
from pipelines.output.results import FILES, RESULTS, keep_results, read_data_version

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree


class AdoptionOptions(NamedTuple):
    """What is to be done after `dvc add`."""

    commit: bool = False
    message: str = ""  # empty: one that counts the changes
    tag: str = ""
    push: str | None = None  # to this DVC remote; empty: to DVC's default; None: not at all
    new: bool = False  # the folder may be one that DVC does not track yet
    force: bool = False  # the curated folder may be made of another version than the present one


class Snapshot(NamedTuple):
    """The content of a folder as DVC names it."""

    name: str  # <md5>.dir; empty: there is none
    md5s: dict[str, str]  # of each file, by path


class ChangeCounts(NamedTuple):
    """Numbers of images. Augmented ones are made again each time, so those that go are not counted."""

    relabelled: int = 0
    moved: int = 0  # to another split
    edited: int = 0  # the picture itself was changed
    converted_to_png: int = 0  # of a kind that curate does not write, a TIFF for example
    removed: int = 0
    added: int = 0
    added_to_test: int = 0  # perhaps from a test split that was given to the run apart from the data
    augmented: int = 0

    def __str__(self) -> str:
        """The counts that are not 0, for people."""
        counts = [f"{count:,} {name.replace('_', ' ')}" for name, count in self._asdict().items() if count]
        return ", ".join(counts) or "no changes"


class Figures(NamedTuple):
    """What a run on this machine has measured."""

    run: str  # its name
    evaluation: Path
    history: Path | None  # of the training, if it is still there


class Plan(NamedTuple):
    """What adopting a curated folder would do."""

    folder: Folder
    on_disk: str  # the version in the folder; empty: it is not there
    now: Snapshot  # the version of git's HEAD; without files if they are not in the cache
    next: Snapshot
    changes: ChangeCounts | None  # None: it is not known what `now` holds
    figures: Figures | None  # of the next version, for results/, where others are now
    results_obstacle: str  # why git cannot keep results/; empty if it can
    files: list[Path]  # that the commit takes
    is_adopted: bool  # the folder, its .dvc file and git's HEAD are the next version already
    options: AdoptionOptions

    @property
    def is_of_another_version(self) -> bool:
        """Whether the curated folder has images that the present version lacks, and would replace it."""
        is_done = self.on_disk == self.next.name
        return bool(self.now.name and self.changes and self.changes.added and not is_done)

    @property
    def has_figures(self) -> bool:
        """Whether the commit takes what was measured on the next version."""
        return RESULTS.resolve() in self.files

    @property
    def commands(self) -> list[str]:
        """What follows the exchange of the images, as one would type it in the root of the repository, if one could."""
        options, folder = self.options, self.folder
        commands = [f"dvc add {folder.name}"]
        if options.commit:
            if self.figures:
                commands.append(f"copy the figures of {self.figures.run} to {RESULTS}/")
            files = shlex.join(os.path.relpath(path, folder.root) for path in self.files)
            commands.append(f"git add {files} && git commit -m {shlex.quote(options.message)}")
        if options.tag:
            commands.append(
                f"git tag --cleanup whitespace -m {shlex.quote(options.message)} {shlex.quote(options.tag)}"
            )
        if options.push is not None:
            remote = f"-r {shlex.quote(options.push)} " if options.push else ""
            commands.append(f"dvc push {remote}{folder.name}")
        return commands


def make_plan(
    repo: "Repo",
    folder: Folder,
    curated: Curated,
    *,
    options: AdoptionOptions,
    find_figures: Callable[[str], Figures | None],
    earlier: Iterable[list[CuratedImage]] = (),
) -> Plan:
    """What it takes to make `curated` the version of `folder`; nothing is changed yet.

    Args:
        repo: the repository of DVC.
        folder: the images.
        curated: what they are to be.
        options: what is to be done.
        find_figures: finds what a run has measured on a data version.
        earlier: the images of the version that `curated` was made from, if that was curated as well, and so on: after
            several turns of the loop the last may become the next version at once.

    Raises:
        UserError: it cannot be done, or something that is on disk would be lost.
    """
    git = _find_git_root(repo, folder)
    _check_places(repo, folder, curated)
    out = _find_tracked(repo, folder)
    on_disk = _read_folder(repo, folder)
    upcoming = _describe_tree(_build_tree(curated.md5s))
    if on_disk.name != upcoming.name:
        _check_nothing_is_lost(repo, folder, out, may_be_new=options.new)
        _check_nothing_is_beside(folder, on_disk)
    head = find_committed(repo, folder)
    now = on_disk if head and head.value == on_disk.name else _read_cache(repo, head)
    if now.name == upcoming.name:
        now = upcoming  # it may not be in the cache
    changes = _compare(now, upcoming, curated, earlier)
    options = options._replace(message=options.message or _write_message(upcoming, changes))
    obstacle, has_results = _find_results_obstacle(git), read_data_version(RESULTS) == upcoming.name
    figures = find_figures(upcoming.name) if not obstacle and not has_results else None
    has_results = not obstacle and (has_results or figures is not None)
    files = _list_files(folder, has_results=has_results, is_first=head is None)
    if options.commit:
        _check_git(git, files)
    if options.tag:
        _check_tag(git, options.tag, is_done=head is not None and head.value == upcoming.name)
    if options.push is not None:
        open_remote(repo, folder, options.push or (out.remote if out else None))
    versions = {info.value if info else None for info in (out and out.hash_info, head)} | {on_disk.name}
    is_adopted = versions == {upcoming.name}
    return Plan(folder, on_disk.name, now, upcoming, changes, figures, obstacle, files, is_adopted, options)


def _find_git_root(repo: "Repo", folder: Folder) -> Path:
    from dvc.scm import NoSCM

    if isinstance(repo.scm, NoSCM):
        raise UserError(
            f"{folder.given}: git keeps its versions; run `git init` and "
            f"`dvc config --unset core.no_scm` in {folder.root}."
        )
    return Path(repo.scm.root_dir)


def _check_places(repo: "Repo", folder: Folder, curated: Curated) -> None:
    source = curated.folder.resolve()
    if folder.path.is_relative_to(source) or source.is_relative_to(folder.path):
        raise UserError(f"{curated.shown} and {folder.given}: one contains the other; move one of them.")
    if folder.path.exists() and not folder.path.is_dir():
        raise UserError(f"{folder.given}: a file; --data names the folder of the images.")
    for name in curated.md5s:
        if repo.dvcignore.is_ignored_file(str(folder.path / name)):
            raise UserError(f"{folder.given}/{name}: DVC would leave it out; take its pattern from .dvcignore.")


def _find_tracked(repo: "Repo", folder: Folder) -> "Output | None":
    """What `dvc add` made of the folder, if it did."""
    from dvc.exceptions import OutputNotFoundError

    try:
        out = find_output(repo, folder)
    except OutputNotFoundError:
        return None
    if find_pointer(out).suffix != ".dvc" or out.stage.deps:
        raise UserError(f"{folder.given}: {out.stage.relpath} makes it; name a folder that `dvc add` tracks.")
    return out


def _read_folder(repo: "Repo", folder: Folder) -> Snapshot:
    """Reads the folder as `dvc add` would; DVC knows the md5s of files that it has seen."""
    from dvc.fs import localfs
    from dvc_data.hashfile.build import build

    if not folder.path.exists():
        return Snapshot("", {})
    check_files(folder)
    _, _, tree = build(repo.cache.local, str(folder.path), localfs, "md5", ignore=repo.dvcignore, dry_run=True)
    return _describe_tree(tree)


def _read_cache(repo: "Repo", hash_info: "HashInfo | None") -> Snapshot:
    from dvc_data.hashfile import load
    from dvc_objects.errors import ObjectFormatError

    if hash_info is None:
        return Snapshot("", {})
    try:
        return _describe_tree(load(repo.cache.local, hash_info))
    except (FileNotFoundError, ObjectFormatError):
        return Snapshot(str(hash_info.value), {})


def _describe_tree(tree: Any) -> Snapshot:
    """Describes a tree of DVC."""
    return Snapshot(tree.hash_info.value, {"/".join(key): hash_info.value for key, _, hash_info in tree})


def _build_tree(md5s: dict[str, str]) -> "Tree":
    """Builds the tree that DVC would make of a folder with these files."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree = Tree()  # type: ignore[no-untyped-call]
    for name, value in md5s.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", value))
    tree.digest()
    return tree


def _check_nothing_is_lost(repo: "Repo", folder: Folder, out: "Output | None", *, may_be_new: bool) -> None:
    """Checks that what is on disk, if anything, is the version of git's HEAD, and in DVC's cache or remote."""
    if out is None:
        if folder.path.exists() or list_tracked_parts(repo, folder):
            find_tracked(repo, folder)  # raises what is wrong
        if not may_be_new:
            raise UserError(
                f"{folder.given}: neither on disk nor tracked by DVC.{_hint_at_tracked(repo, folder)} Name a folder "
                "that it tracks, or insist on a new data set with --new."
            )
        return
    check_committed(repo, folder, out)
    if out.changed_cache():
        try:
            find_pushed(repo, folder, out)
        except UserError as error:
            raise UserError(
                f"{folder.given}: version {out.hash_info.value} could not be restored: DVC's cache lacks files of it, "
                f"and {str(error).rstrip('.')}; run `dvc add {folder.name}`, which puts them into the cache."
            ) from None


def _hint_at_tracked(repo: "Repo", folder: Folder) -> str:
    tracked = sorted(repo.fs.relpath(out.fs_path, repo.root_dir) for out in repo.index.outs)
    near = difflib.get_close_matches(folder.relpath, tracked, 1)
    return f" Did you mean {near[0]}?" if near else ""


def _check_nothing_is_beside(folder: Folder, on_disk: Snapshot) -> None:
    """Checks that the folder has nothing that its version does not hold: what DVC ignores, a repository, links."""
    if not folder.path.exists():
        return
    beside = sorted(name for name in _list_entries(folder.path) if name not in on_disk.md5s)
    if beside:
        more = f" and {len(beside) - 3:,} more" if len(beside) > 3 else ""
        raise UserError(
            f"{folder.given}: no version holds {', '.join(beside[:3])}{more}, since DVC leaves out what .dvcignore "
            "names, repositories and links to folders; adopt.py replaces the folder, so move them out of it first."
        )


def _list_entries(folder: Path) -> Iterator[str]:
    """Yields every file and link below a folder, relative to it; links are not followed."""

    def fail(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}), so nobody knows what it holds."
        ) from None

    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in files + links:
            yield os.path.relpath(os.path.join(parent, name), folder)


def _compare(
    now: Snapshot, upcoming: Snapshot, curated: Curated, earlier: Iterable[list[CuratedImage]]
) -> ChangeCounts | None:
    """What changes from one version to the next; None if it is not known what the present one holds."""
    if now.name == upcoming.name:  # the manifest tells the names before, which the folder no longer has
        return ChangeCounts()
    if now.name and not now.md5s:
        return None
    changes = count_changes(now.md5s, curated)
    traced, manifests = changes, iter(earlier)
    while traced.added and (manifest := next(manifests, None)):
        curated = curated._replace(images=trace_back(curated.images, manifest))
        traced = count_changes(now.md5s, curated)
    return changes if traced.added else traced


def count_changes(now: dict[str, str], curated: Curated) -> ChangeCounts:
    """What became of the images whose md5s are `now`, by what the manifest says of their names."""
    relabelled = moved = edited = converted = added = added_to_test = augmented = 0
    sources = set()
    for image in curated.images:
        name, source, path = image.filename, image.source_filename, image.source_path
        is_same = image.sha256 == image.source_sha256
        if is_augmented(name):
            augmented += 1
        elif path not in now or (is_same and now[path] != curated.md5s[name]):
            added_to_test += name.startswith("test/")
            added += not name.startswith("test/")
        else:
            sources.add(path)
            (split, label, _), (old_split, old_label, _) = name.split("/"), source.split("/")
            relabelled += label != old_label
            moved += split != old_split
            edited += not is_same and bool(image.operations)
            converted += not is_same and not image.operations
    removed = sum(is_image(name) and not is_augmented(name) for name in now.keys() - sources)
    return ChangeCounts(relabelled, moved, edited, converted, removed, added, added_to_test, augmented)


def is_image(path: str) -> bool:
    """Whether a file of a version is an image, in whatever folders that version has them."""
    return is_image_path(path) or (has_image_suffix(path) and not has_passed_over(path))


def _write_message(version: Snapshot, changes: ChangeCounts | None) -> str:
    return f"Data version {version.name[:8]}" + (f": {changes}" if changes else "")


def _list_files(folder: Folder, *, has_results: bool, is_first: bool) -> list[Path]:
    """Lists the files to commit: the pointer, .gitignore if DVC edits it, and results/ if they are of this version."""
    files = [folder.path.with_name(f"{folder.path.name}.dvc")]
    if is_first:
        files.append(folder.path.with_name(".gitignore"))
    if has_results:
        files.append(RESULTS.resolve())
    return files


def _find_results_obstacle(git: Path) -> str:
    """Why git cannot keep all of results/; empty if it can. Tracked files in an ignored folder count as ignored."""
    folder = RESULTS.resolve()
    if not folder.is_relative_to(git):
        return f"{RESULTS}/ is outside {git}"
    # Of files, since git cannot tell that what is not there is a folder.
    ignored = [name for name in FILES if _ask_git(git, "check-ignore", "--no-index", "--", str(folder / name))]
    if len(ignored) == len(FILES):
        return f"git ignores {RESULTS}/"
    return f"git ignores {RESULTS}/{ignored[0]}" if ignored else ""


def _check_git(git: Path, files: list[Path]) -> None:
    if not _ask_git(git, "var", "GIT_COMMITTER_IDENT"):
        raise UserError(f"{git}: git does not know who commits; run `git config --global user.email` and `user.name`.")
    if not _ask_git(git, "symbolic-ref", "--quiet", "HEAD"):
        raise UserError(f"{git}: no branch is checked out, so the commit would be on none; run `git switch -c NAME`.")
    lock = git / _ask_git(git, "rev-parse", "--git-path", "index.lock")
    if lock.exists():
        raise UserError(f"{git}: another git is at work there; wait for it, or remove {lock} if it was killed.")
    staged = [git / name for name in _ask_git(git, "diff", "--cached", "--name-only", "-z").split("\0") if name]
    others = [str(path.relative_to(git)) for path in staged if not any(path.is_relative_to(file) for file in files)]
    if others:
        raise UserError(
            f"{git}: other changes are staged ({', '.join(others)}); commit them, or run `git restore --staged .`."
        )


def _check_tag(git: Path, tag: str, is_done: bool) -> None:
    """Refuses a tag that exists, unless an earlier attempt has set it already."""
    if tag.startswith("-") or _ask_git(git, "check-ref-format", f"refs/tags/{tag}", failed="no") == "no":
        raise UserError(f"'{tag}': not a name that git takes for a tag.")
    commit = _ask_git(git, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    if commit and not (is_done and commit == _ask_git(git, "rev-parse", "HEAD")):
        raise UserError(f"the tag '{tag}' exists; choose another name.")
    if _ask_git(git, "rev-parse", "--verify", "--quiet", f"refs/heads/{tag}"):
        raise UserError(f"a branch '{tag}' exists, and git could not tell the two apart; choose another name.")
    for other in _ask_git(git, "for-each-ref", "--format=%(refname:strip=2)", "refs/tags").splitlines():
        if f"{other}/".startswith(f"{tag}/") != f"{tag}/".startswith(f"{other}/"):
            raise UserError(f"the tag '{other}' exists, and git cannot have both; choose another name than '{tag}'.")


def _ask_git(git: Path, *arguments: str, failed: str = "") -> str:
    """What git answers to a question; `failed` if it does not."""
    result = _call_git(git, *arguments)
    return result.stdout.strip() if result.returncode == 0 else failed


def _call_git(git: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What git answers, in which bytes that are no UTF-8, as names of files may have them, are spelt out."""
    command = ["git", "-C", str(git), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="backslashreplace"
    )


def check_origin(plan: Plan, curated: Curated) -> None:
    """Checks that the curated folder was made from the present version, whose later improvements it would undo.

    Raises:
        UserError: it was not, and that was not insisted on.
    """
    if plan.is_of_another_version and not plan.options.force:
        raise UserError(
            f"{plan.folder.given}: {plan.now.name} lacks images of which {curated.shown} was made, so that is the next "
            f"version of another one; run the improvement on {plan.folder.given}, or insist with --force."
        )


def carry_out(repo: "Repo", plan: Plan, curated: Curated, *, done: Callable[[str], None]) -> None:
    """Does what is planned, and calls `done` with each step.

    Raises:
        UserError: the folder or the curated one was changed meanwhile, or git or DVC refuses.
    """
    from dvc.repo import lock_repo

    folder, options = plan.folder, plan.options
    git = _find_git_root(repo, folder)
    steps = iter(plan.commands)
    with lock_repo(repo):  # so that no other DVC or adopt.py works there meanwhile
        _exchange(repo, plan, curated)
        repo.scm_context.quiet = options.commit  # its advice to run `git add`
        (stage,) = repo.add(str(folder.path))
    if stage.outs[0].hash_info.value != plan.next.name:
        raise UserError(
            f"{folder.given}: is now {stage.outs[0].hash_info.value}, not {plan.next.name}; something changed it; "
            "run adopt.py again."
        )
    done(next(steps))
    if options.commit:
        if plan.figures:
            keep_results(plan.figures.evaluation, plan.figures.history, RESULTS)
            done(next(steps))
        files = [str(path) for path in plan.files]
        _run_git(git, "add", "--", *files)
        if _ask_git(git, "diff", "--cached", "--name-only"):
            _run_git(git, "commit", "--quiet", "--message", options.message)
        done(next(steps))
    if options.tag:
        if not _ask_git(git, "rev-parse", "--verify", "--quiet", f"refs/tags/{options.tag}"):
            # With its message, since git opens an editor for that of a tag which the user's settings let it sign.
            _run_git(git, "tag", "--cleanup", "whitespace", "--message", options.message, options.tag)
        done(next(steps))
    if options.push is not None:
        _push(repo, folder, options.push)
        done(next(steps))


def _exchange(repo: "Repo", plan: Plan, curated: Curated) -> None:
    """Replaces the folder's files by the curated ones, unless they are there already."""
    folder = plan.folder
    try:
        remove_attempts(folder.path)
        _remove_replaced(folder)  # an attempt was killed when the new ones were in place
        if plan.on_disk == plan.next.name:
            return
        with new_directory(folder.path) as new:
            _copy_images(curated, new)
            os.sync()  # so that after a power cut too the names stand for whole files; one by one would take minutes
            current = _read_folder(repo, folder)
            if current.name != plan.on_disk:
                raise UserError(f"{folder.given}: was changed meanwhile; run again.")
            _check_nothing_is_beside(folder, current)
            if folder.path.exists():  # new_directory would remove it file by file
                folder.path.rename(_name_replaced(folder, current.name))
        write_to_disk(folder.path.parent)
        _remove_replaced(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder.given}: {error.strerror}; fix that and run again.") from None
    finally:
        replaced = _list_replaced(folder)
        if replaced and not folder.path.exists():  # the new ones could not take their place
            replaced[0].rename(folder.path)


def _name_replaced(folder: Folder, version: str) -> Path:
    """The name of the folder's former self: it says which files are in it, and so which may be removed."""
    return folder.path.with_name(f".partial.old.{folder.path.name}.{version.removesuffix('.dir')}")


def _list_replaced(folder: Folder) -> list[Path]:
    name = re.compile(rf"\.partial\.old\.{re.escape(folder.path.name)}\.[0-9a-f]{{32}}")
    return [path for path in folder.path.parent.iterdir() if name.fullmatch(path.name)]


def _remove_replaced(folder: Folder) -> None:
    """Removes the folder's former self, if it still is the version that it was when its files were checked.

    Raises:
        UserError: something was written into it just before it was replaced, or while.
    """
    for path in _list_replaced(folder):
        if path != _name_replaced(folder, _hash_files(path)):
            raise UserError(
                f"{path}: was {folder.given} until adopt.py replaced it, and was changed meanwhile; move what you need "
                "out of it, remove it, and run again."
            )
        checked = name_temporary(folder.path)  # the next attempt removes what SIGKILL leaves of it
        path.rename(checked)
        try:
            shutil.rmtree(checked)
        except BaseException:  # most likely a signal; the rest is removed before the command ends
            shutil.rmtree(checked, ignore_errors=True)
            raise


def _hash_files(folder: Path) -> str:
    """The version of all files of a folder, whatever DVC would ignore; empty if one of them cannot have a version."""
    try:
        md5s = {name: compute_md5((folder / name).read_bytes()) for name in _list_entries(folder)}
    except OSError:  # a link to a folder or to nothing
        return ""
    return str(_build_tree(md5s).hash_info.value)


def _copy_images(curated: Curated, new: Path) -> None:
    """Copies, not links: what is edited in the data must not change in the run that made it."""
    for name, expected in curated.md5s.items():
        content = (curated.folder / name).read_bytes()
        if compute_md5(content) != expected:
            raise UserError(f"{curated.shown}/{name}: was changed meanwhile; run again.")
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run_git(git: Path, *arguments: str) -> None:
    result = _call_git(git, *arguments)
    if result.returncode != 0:
        said = shorten(result.stderr or result.stdout)
        raise UserError(f"git {arguments[0]} failed in {git} ({said}); fix that and run again.")


def _push(repo: "Repo", folder: Folder, remote: str) -> None:
    try:
        repo.push(targets=[str(folder.path)], remote=remote or None)
    except Exception as error:  # from any of the many libraries between this and the remote
        raise UserError(f"dvc push failed ({shorten(error)}); fix that and run again.") from None
