from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats import guideline
from components.shared.formats.guideline import list_unexplained, read_guideline

CLASSES = ["i", "ii", "a *b*", "é"]


def read(folder: Path, text: str, classes: list[str] = CLASSES) -> dict[str, str]:
    (folder / "labels.md").write_text(text, encoding="utf-8")
    return read_guideline(folder / "labels.md", classes)


def test_each_class_has_the_section_under_its_name(tmp_path: Path) -> None:
    text = "Of all: look twice.\n\n# Numerals\n\nIntroduction.\n\n## ii ##\n\nTwo\nstrokes.\n\nxx\n--\n\nNone.\n"
    found = read(tmp_path, text)
    assert found == {"ii": "<p>Two\nstrokes.</p>\n"}
    assert list_unexplained(found, CLASSES) == ["i", "a *b*", "é"]


def test_sections_end_at_the_next_heading_of_their_level(tmp_path: Path) -> None:
    found = read(tmp_path, "## ii\n\nTwo.\n\n### Unlike\n\n- one\n\n## i\n\nOne.\n\n# Others\n\nNothing.\n")
    assert found == {
        "ii": "<p>Two.</p>\n<h3>Unlike</h3>\n<ul>\n<li>one</li>\n</ul>\n",
        "i": "<p>One.</p>\n",
    }


def test_names_are_those_that_people_read(tmp_path: Path) -> None:
    """Markup is none of the name, and é may be of one character or of two."""
    found = read(tmp_path, "# a \\*b\\*\n\n1\n\n# e\u0301\n\n2\n\n# **i**\n\n3\n\n> # ii\n>\n> A quote.\n")
    assert found.keys() == {"a *b*", "é", "i"}
    assert found["é"] == "<p>2</p>\n"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n"),
        ("[here](javascript:x)", "<p>[here](javascript:x)</p>\n"),
        ("![here](https://a.example/x.png)", "<p>![here](https://a.example/x.png)</p>\n"),
        ("<https://a.example>", "<p>&lt;https://a.example&gt;</p>\n"),
        ("[a]\n\n[a]: https://a.example", "<p>[a]</p>\n<p>[a]: https://a.example</p>\n"),
        ("| a |\n|---|\n| *b* |", "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n"
         "<td><em>b</em></td>\n</tr>\n</tbody>\n</table>\n"),
    ],
)  # fmt: skip
def test_nothing_leads_out_of_the_page_and_html_is_text(tmp_path: Path, text: str, html: str) -> None:
    assert read(tmp_path, f"# i\n\n{text}\n") == {"i": html}


@given(st.text(alphabet="#* \n<>[]()!`|-=&i/\"'a:.", max_size=60))
def test_whatever_is_in_it_no_attribute_or_foreign_tag_comes_out(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    found = read(tmp_path_factory.mktemp("labels"), f"# i\n\n{text.replace('# i', '')}\n\n", ["i"])
    for html in found.values():
        for tag in html.split("<")[1:]:
            assert tag.split(">")[0].strip("/ ").split(" ")[0] in ALLOWED


ALLOWED = {
    *("p", "em", "strong", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "br"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_guideline(tmp_path / "labels.md", CLASSES) is None
    assert list_unexplained(None, CLASSES) == []
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize("text", ["#i\n\nOne.", "# I\n\nOne.", "# i: one\n\nOne.", "<h2>i</h2>\n\nOne."])
def test_a_guideline_without_a_section_explains_no_class(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}
    assert list_unexplained(read(tmp_path, text), CLASSES) == CLASSES


def test_a_heading_may_have_markup_that_is_the_name_of_a_class(tmp_path: Path) -> None:
    names = ["__init__", "a*b*c", "i"]
    found = read(tmp_path, "# __init__\n\none\n\n# a*b*c\n\ntwo\n\n# *i*\n\nthree\n", names)
    assert found == dict(zip(names, ("<p>one</p>\n", "<p>two</p>\n", "<p>three</p>\n"), strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"# i\n\n# *i*\n", "has two sections of the class 'i'; put them into one."),
        (b"\xff\xfe#", "cannot be read (it is not UTF-8); write the guideline as Markdown, a section a class."),
        (
            b" " * (guideline.LARGEST + 1),
            "cannot be read (it has more than 1,000,000 bytes); write the guideline as Markdown, a section a class.",
        ),
    ],
)
def test_what_is_no_guideline_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "labels.md").write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_guideline(tmp_path / "labels.md", CLASSES, shown="gs://b/labels.md")
    assert str(caught.value) == f"gs://b/labels.md: {message}"
