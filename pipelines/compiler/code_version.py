"""The version of the code: the git commit that the images are tagged with.

`python -m pipelines.compiler.code_version` prints it.
"""

import subprocess
from pathlib import Path

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


def _ask_git(*arguments: str) -> str:
    try:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    print(find_image_tag())
