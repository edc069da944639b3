"""The labelling guideline: labels.md in the root of a data set, which says of each class what belongs to it.

The section of a class begins with a heading that is the name of the class, and ends before the next heading of the same
or a higher level. Ingest keeps the file with the examples, and curate in the next version, so it has the versions that
the images have.
"""

import shutil
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.errors import UserError, quote
from components.shared.files import open_regular

if TYPE_CHECKING:
    from markdown_it.token import Token

FILE = "labels.md"
LARGEST = 1_000_000  # bytes; it stands on a page


def read_guideline(path: Path, classes: Collection[str], *, shown: str = "") -> dict[str, str] | None:
    """Reads the sections of the classes.

    Args:
        path: The file, UTF-8; there may be none.
        classes: The names of the classes.
        shown: What messages call the file, if not by its path.

    Returns:
        The section of each class that has one, as HTML, without its heading; None if there is no file. It holds no
        link, picture or HTML of the file's own: a data set may come from anybody.

    Raises:
        UserError: The file cannot be read, is no such text, or has two sections of a class.
    """
    from markdown_it import MarkdownIt  # here, since the tools have no need of it

    if not path.exists():
        return None
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.disable(["link", "image", "autolink", "reference"])
    names = {unicodedata.normalize("NFC", name): name for name in classes}
    tokens = markdown.parse(_read_text(path, shown or str(path)))
    sections: dict[str, str] = {}
    for start, token in enumerate(tokens):
        name = next((names[text] for text in _read_heading(tokens, start) if text in names), None)
        if name is None:
            continue
        if name in sections:
            raise UserError(f"{shown or path}: has two sections of the class {quote(name)}; put them into one.")
        end = next((place for place in range(start + 1, len(tokens)) if _ends(tokens[place], token)), len(tokens))
        sections[name] = markdown.renderer.render(tokens[start + 3 : end], markdown.options, {})
    return sections


def copy_guideline(path: Path, folder: Path, classes: Collection[str], *, shown: str = "") -> None:
    """Copies the file into a folder, if there is one.

    Args:
        path: As in read_guideline, and so are the next ones.
        folder: Where it is to lie, under its name.
        classes: The names of the classes.
        shown: What messages call the file.

    Raises:
        UserError: As read_guideline.
    """
    if path.exists():
        read_guideline(path, classes, shown=shown)
        shutil.copyfile(path, folder / FILE)


def list_unexplained(sections: Collection[str] | None, classes: Collection[str]) -> list[str]:
    """The classes without a section; none if there is no guideline at all."""
    return [] if sections is None else [name for name in classes if name not in sections]


def _read_text(path: Path, shown: str) -> str:
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise UserError(
            f"{shown}: cannot be read ({reason}); write the guideline as Markdown, a section a class."
        ) from None


def _read_heading(tokens: "list[Token]", place: int) -> list[str]:
    """The text of the heading that begins there, without its markup and with it, since a class may be called __a__.

    There is none where no heading begins, or one within a list or quote.
    """
    if tokens[place].type != "heading_open" or tokens[place].level:
        return []
    inline = tokens[place + 1]
    bare = "".join(child.content for child in inline.children or [])
    return [unicodedata.normalize("NFC", text.strip()) for text in (bare, inline.content)]


def _ends(token: "Token", heading: "Token") -> bool:
    """Whether the section of a heading ends before this token."""
    return token.type == "heading_open" and not token.level and token.tag <= heading.tag
