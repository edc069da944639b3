"""Which names files and classes may have, so that every stage, table and page can hold them."""

import unicodedata

# Control characters, among them CR and LF, which end a row of a table, and what ends a line or a paragraph.
REFUSED = ("Cc", "Zl", "Zp")
NAME_ADVICE = "has a control character, a line break or a backslash; rename it"


def is_plain_name(name: str) -> bool:
    """Tells whether a name, or a path of names, has none of the characters that NAME_ADVICE names."""
    return "\\" not in name and not any(unicodedata.category(character) in REFUSED for character in name)
