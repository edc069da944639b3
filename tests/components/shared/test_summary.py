from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from components.shared.summary import count, write_summary


def read_texts(text: str) -> list[str]:
    """What a reader of Markdown sees of it: the text of each paragraph and each point of a list."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [token.children or [] for token in tokens if token.type == "inline"]
    assert {child.type for children in inline for child in children} <= {"text", "strong_open", "strong_close"}
    return ["".join(child.content for child in children) for children in inline]


def test_summary_is_a_sentence_a_list_of_figures_and_the_next_step(tmp_path: Path) -> None:
    write_summary(
        str(tmp_path / "summary"), "It is done.", {"images": 1200, "accuracy": 0.5, "version": "1.dir"}, "go on."
    )
    assert (tmp_path / "summary").read_text(encoding="utf-8") == (
        "**It is done.**\n\n- images: 1,200\n- accuracy: 0.500\n- version: 1.dir\n\nNext: go on.\n"
    )


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1))
@example("<script>alert(1)</script>")
@example("**i**, [a](b), `c`, a_b_, ~~no~~, a|b, &lt;, \\")
def test_text_of_the_data_is_shown_as_it_is(tmp_path_factory, name: str) -> None:
    output = tmp_path_factory.mktemp("summary") / "summary"
    write_summary(str(output), f"Of {name}.", {f"the class {name}": f"is {name}"}, f"look at {name}.")
    shown = read_texts(output.read_text(encoding="utf-8"))
    assert shown == [f"Of {name}.", f"the class {name}: is {name}", f"Next: look at {name}."]


def test_lines_of_a_name_become_one(tmp_path: Path) -> None:
    write_summary(str(tmp_path / "summary"), "Done.", {"a\n\n# b": "c\nd"}, "go on.")
    assert read_texts((tmp_path / "summary").read_text(encoding="utf-8")) == ["Done.", "a # b: c d", "Next: go on."]


def test_numbers_have_the_right_noun() -> None:
    assert [count(1, "image"), count(1200, "image"), count(2, "class", "classes")] == [
        "1 image",
        "1,200 images",
        "2 classes",
    ]
