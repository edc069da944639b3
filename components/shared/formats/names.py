"""Which names files, folders and classes may have, so that every stage, table, page and disk can hold them."""

import unicodedata

# Control characters, among them CR and LF, which end a row of a table; what ends a line or a paragraph; and halves of
# characters, which no file can hold as UTF-8.
REFUSED = ("Cc", "Cs", "Zl", "Zp")
LONGEST_NAME = 255  # bytes that a file or folder may have in its name on most file systems
NAME_ADVICE = f"has a control character, a line break, a backslash or more than {LONGEST_NAME} bytes; rename it"


def is_plain_name(name: str) -> bool:
    """Whether a name, or each name of a path, has nothing that NAME_ADVICE speaks of."""
    if "\\" in name or any(unicodedata.category(character) in REFUSED for character in name):
        return False
    return all(len(part.encode()) <= LONGEST_NAME for part in name.split("/"))


def is_visible_name(name: str) -> bool:
    """Whether an image or a class can have this name: it is plain, not hidden, and leads nowhere else."""
    return bool(name) and not name.startswith(".") and "/" not in name and is_plain_name(name)


def belongs_to_repository(name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder of this name is of git, Mercurial or DVC itself, which DVC never takes for data."""
    return name == ".git" or (is_folder and name in (".hg", ".dvc"))
