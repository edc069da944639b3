"""Where this project lies, and how its programs are called from the folder that one works in."""

import os
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def write_command(program: str, *words: str) -> str:
    """A command that can be pasted into a shell.

    Args:
        program: the name of a file in ROOT, such as submit.py.
        words: what follows it.
    """
    return shlex.join(["python", os.path.relpath(ROOT / program), *words])
