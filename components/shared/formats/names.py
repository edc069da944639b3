"""Which names files, folders and classes may have, so that every stage, table, page and disk can hold them."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

# Control characters, among them CR and LF, which end a row of a table; what ends a line or a paragraph; and halves of
# characters, which no file can hold as UTF-8.
REFUSED = ("Cc", "Cs", "Zl", "Zp")
LONGEST_NAME = 255  # bytes that a file or folder may have in its name on most file systems
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")  # of formats that lose something each time, or mostly
# What Windows and macOS leave among people's files.
JUNK_FILES = ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r")
JUNK_FOLDERS = ("__macosx",)
SPLIT_NAMES = {  # what people call the splits, in small letters
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
NUMERALS = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
NAME_ADVICE = f"has a control character, a line break, a backslash or more than {LONGEST_NAME} bytes; rename it"


def is_plain_name(name: str) -> bool:
    """Whether a name, or each name of a path, has nothing that NAME_ADVICE speaks of."""
    if "\\" in name or any(unicodedata.category(character) in REFUSED for character in name):
        return False
    return all(len(part.encode()) <= LONGEST_NAME for part in name.split("/"))


def is_visible_name(name: str) -> bool:
    """Whether an image or a class can have this name: it is plain, not hidden, and leads nowhere else."""
    return bool(name) and not name.startswith(".") and "/" not in name and is_plain_name(name)


def has_image_suffix(name: str) -> bool:
    """Whether a file is an image by its name."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_passed_over(name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder among the images is none of them, as everybody knows: hidden, a readme, a system's."""
    lower = name.lower()
    if name.startswith(".") or is_folder:
        return name.startswith(".") or lower in JUNK_FOLDERS
    return lower in JUNK_FILES or (lower.startswith("readme") and not has_image_suffix(lower))


def has_passed_over(path: str) -> bool:
    """Whether a file is passed over, or a folder of its path is."""
    *folders, name = path.split("/")
    return is_passed_over(name, is_folder=False) or any(is_passed_over(folder, is_folder=True) for folder in folders)


def sort_classes(names: Iterable[str]) -> list[str]:
    """The classes in the order in which people count: 2 before 10, and the ten Roman numerals by their values."""
    names = list(names)
    if {name.lower() for name in names} <= set(NUMERALS):
        return sorted(names, key=lambda name: (NUMERALS.index(name.lower()), name))
    return sorted(names, key=_make_natural_key)


def _make_natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Text and numbers alternate in what is compared, so that a number is never compared with text."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name).casefold())
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def belongs_to_repository(name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder of this name is of git, Mercurial or DVC itself, which DVC never takes for data."""
    return name == ".git" or (is_folder and name in (".hg", ".dvc"))


def lies_in_repository(path: str) -> bool:
    """Whether a file belongs to a repository, or a folder of its path does."""
    *folders, name = path.split("/")
    return belongs_to_repository(name, is_folder=False) or any(
        belongs_to_repository(folder, is_folder=True) for folder in folders
    )
