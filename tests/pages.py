"""What a browser would make of a report, or of a page of `dvc plots`."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ADDRESSES = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.text += " "
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        """The values of these attributes, in the order of the page."""
        return [value for name, value in self.attributes if name in names]

    def check_self_contained(self) -> None:
        assert all(address.startswith(("data:", "#")) for address in self.values(*ADDRESSES))
        assert not {"script", "link", "iframe", "object", "embed", "base"} & self.tags
        assert "@import" not in self.source
        assert set(re.findall(r"url\(\s*['\"]?(.)", self.source)) <= {"#"}


def read_plots(page: Path) -> dict[str, Any]:
    """What a page of `dvc plots` gives Vega-Lite to draw, by the titles."""
    drawn = map(json.loads, re.findall(r"var spec = (\{.*\});$", page.read_text(encoding="utf-8"), re.MULTILINE))
    return {plot["title"]["text"]: plot for plot in drawn}
