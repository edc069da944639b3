"""The version of the code: the git commit that the images are tagged with.

`python -m pipelines.compiler.code_version` prints it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from components.shared.errors import command_line

ROOT = Path(__file__).parents[2]
IN_IMAGES = ("components", "containers", "models", ".dockerignore")
UNKNOWN = "unversioned"


def find_image_tag() -> str:
    """The last commit that changed what goes into the images, so that data and docs need no new ones.

    It ends in `-dirty` when there are uncommitted changes; outside a git repository it is `unversioned`.
    """
    commit = _ask_git("log", "-1", "--format=%h", "--abbrev=12", "--", *IN_IMAGES)
    if not commit:
        return UNKNOWN
    return f"{commit}-dirty" if _ask_git("status", "--porcelain", "--", *IN_IMAGES) else commit


def is_fixed(image: str) -> bool:
    """Whether the image's reference means the same code forever, as KFP's cache supposes."""
    if "@sha256:" in image:
        return True
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag not in ("", "latest", UNKNOWN) and not tag.endswith("-dirty")


def find_commit() -> str:
    """The commit that is checked out, with `-dirty` where files differ from it; empty outside a git repository."""
    return _ask_git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def explain_unknown() -> str:
    """Why the images are tagged `unversioned`, for people."""
    if not shutil.which("git"):
        return f"the images are tagged {UNKNOWN}: git is not installed."
    if not (root := find_git_root(ROOT)):
        return f"the images are tagged {UNKNOWN}: {ROOT} is in no git repository."
    if "dubious ownership" in _run_git("status").stderr:
        return f"the images are tagged {UNKNOWN}: {explain_distrust(root)}"
    return f"the images are tagged {UNKNOWN}: git knows no commit of {', '.join(IN_IMAGES)} in {root}."


def find_git_root(folder: Path) -> Path | None:
    """The git repository that a folder lies in, found without git, which may not want to look into it."""
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


def explain_distrust(root: Path | None) -> str:
    """What to do where git refuses a repository that another user owns."""
    before = "" if os.environ.get("HOME") else "set HOME to a folder that you may write to and "
    return (
        f"git does not trust {root}, which another user owns; {before}run "
        f"git config --global --add safe.directory {root}."
    )


def _run_git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, encoding="utf-8", errors="backslashreplace"
    )


def _ask_git(*arguments: str) -> str:
    try:
        result = _run_git(*arguments)
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    with command_line():
        print(find_image_tag())
        if find_image_tag() == UNKNOWN:
            print(explain_unknown(), file=sys.stderr)
