"""The version of the code: the git commit that is checked out.

`python -m pipelines.compiler.code_version` prints it, for the labels of the images.
"""

import subprocess
from pathlib import Path

from components.shared.errors import command_line

ROOT = Path(__file__).parents[2]


def find_commit() -> str:
    """The commit that is checked out, with `-dirty` where files differ from it; empty outside a git repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    with command_line():
        print(find_commit())
