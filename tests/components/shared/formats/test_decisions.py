import csv
import io
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.decisions import COLUMNS, Decision, name_reviewer, read_decisions
from components.shared.formats.issues import Issue

CLASSES = ["i", "ii", "v", "vi", "zwölf; sechs"]
A, B, C, D = (letter * 64 for letter in "abcd")
EXAMPLES = {
    (A, "train/i/1.png"): "i",
    (B, "train/v/2.png"): "v",
    (B, "val/vi/2.png"): "vi",  # the same bytes under another label
    (C, "val/vi/3,;.png"): "vi",
    (D, "train/zwölf; sechs/4.png"): "zwölf; sechs",
}


def saved(*rows: tuple[str, str, str, str], separator: str = ",", columns: tuple[str, ...] = COLUMNS) -> str:
    """decisions.csv with rows of sha256, filename, decision and new label."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=separator, restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow(dict(zip(("sha256", "filename", "decision", "new_label"), row, strict=True)))
    return text.getvalue()


def issue(**cells: str) -> dict[str, str]:
    """A row as the audit writes it: it suggests ii."""
    suggested = {"rank": "1", "sha256": A, "filename": "train/i/1.png", "label": "i", "kinds": "label;outlier"}
    return {**suggested, "action": "relabel", "new_label": "ii", "why": "It reads ii; not i, says the judge.", **cells}


def edited(*rows: dict[str, str], separator: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
    """issues.csv after a person was there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, Issue._fields, delimiter=separator, restval="", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "decisions.csv"


def read(file: Path, content: str | bytes) -> list[Decision]:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_decisions(file, EXAMPLES, CLASSES)[""]


def test_earlier_turns_keep_copies_whose_label_people_left_open(file: Path):
    kept = [(B, "train/v/2.png", "keep", ""), (B, "val/vi/2.png", "keep", "")]
    file.write_text(saved(*kept), encoding="utf-8")
    found = read_decisions(file, EXAMPLES, CLASSES, reviewer="earlier")["earlier"]
    assert found == [Decision(B, "train/v/2.png", "v", "keep"), Decision(B, "val/vi/2.png", "vi", "keep")]
    file.write_text(saved(kept[0], (B, "val/vi/2.png", "relabel", "ii")), encoding="utf-8")
    with pytest.raises(UserError, match="give both one label or drop one"):
        read_decisions(file, EXAMPLES, CLASSES, reviewer="earlier")


def test_every_word_of_decisions_csv(file: Path):
    rows = [
        (A, "train/i/1.png", "relabel", "ii"),
        (B, "train/v/2.png", "keep", ""),
        (B, "val/vi/2.png", "drop", ""),
        (C, "val/vi/3,;.png", "skip", ""),
        (D, "train/zwölf; sechs/4.png", "relabel", "vi"),
    ]
    assert read(file, saved(*rows)) == [
        Decision(A, "train/i/1.png", "i", "relabel", "ii"),
        Decision(B, "train/v/2.png", "v", "keep"),
        Decision(B, "val/vi/2.png", "vi", "drop"),
        Decision(D, "train/zwölf; sechs/4.png", "zwölf; sechs", "relabel", "vi"),
    ]


def test_class_is_known_in_either_form_of_unicode(file: Path):
    label = unicodedata.normalize("NFD", "zwölf; sechs")
    assert read(file, saved((A, "train/i/1.png", "relabel", label))) == [
        Decision(A, "train/i/1.png", "i", "relabel", "zwölf; sechs")
    ]


def test_relabel_to_the_given_label_keeps(file: Path):
    assert read(file, saved((A, "train/i/1.png", "relabel", "i"))) == [Decision(A, "train/i/1.png", "i", "keep")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_issues_csv_as_any_spreadsheet_saves_it(file: Path, separator: str, quoting: int, start: str, end: str):
    text = edited(
        issue(decision="Relabel ", decided_label="ii"),
        issue(rank="2", sha256=C, filename="val/vi/3,;.png", label="vi"),
        issue(rank="3", sha256=D.upper(), filename="train/zwölf; sechs/4.png", decision="KEEP"),
        separator=separator,
        quoting=quoting,
    )
    assert read(file, start + text.replace("\r\n", end)) == [
        Decision(A, "train/i/1.png", "i", "relabel", "ii"),
        Decision(D, "train/zwölf; sechs/4.png", "zwölf; sechs", "keep"),
    ]


def test_the_suggestion_alone_decides_nothing(file: Path):
    assert read(file, edited(issue())) == []


def test_empty_cells_at_the_end_may_be_missing(file: Path):
    text = edited(issue(), issue(decision="drop"))
    shortened = "\r\n".join(line.rstrip(",") for line in text.splitlines())
    assert read(file, shortened + '\r\n,,,,\r\n,"a note: b; c"\r\n') == [Decision(A, "train/i/1.png", "i", "drop")]


def test_the_same_decision_twice_is_one(file: Path):
    row = (A, "train/i/1.png", "drop", "")
    assert read(file, saved(row, row)) == [Decision(A, "train/i/1.png", "i", "drop")]


def test_skip_does_not_contradict(file: Path):
    text = saved((A, "train/i/1.png", "skip", ""), (A, "train/i/1.png", "drop", ""))
    assert read(file, text) == [Decision(A, "train/i/1.png", "i", "drop")]


@pytest.mark.parametrize("one", ["keep", "relabel"])
def test_one_of_two_copies_may_be_dropped(file: Path, one: str):
    text = saved((B, "train/v/2.png", one, "ii" if one == "relabel" else ""), (B, "val/vi/2.png", "drop", ""))
    assert [decision.decision for decision in read(file, text)] == [one, "drop"]


def test_copies_may_get_one_label(file: Path):
    text = saved((B, "train/v/2.png", "relabel", "vi"), (B, "val/vi/2.png", "keep", ""))
    assert [decision.decision for decision in read(file, text)] == ["relabel", "keep"]


WRONG = {
    "unknown class": (
        saved((A, "train/i/1.png", "relabel", "iix")),
        "line 2: the class 'iix' is unknown; the classes are i, ii, v, vi, zwölf; sechs.",
    ),
    "unknown image": (saved(("e" * 64, "train/i/9.png", "drop", "")), "line 2: 'train/i/9.png' is not in this data"),
    "moved image": (
        saved((A, "train/ii/1.png", "drop", "")),
        "line 2: 'train/ii/1.png' is train/i/1.png in this data version; decide on the issues of this version.",
    ),
    "changed image": (
        saved(("e" * 64, "train/i/1.png", "drop", "")),
        "line 2: train/i/1.png has another sha256 in this data version; decide on the issues of this version.",
    ),
    "mixed up": (
        saved((C, "train/i/1.png", "drop", "")),
        "line 2: the sha256 is that of val/vi/3,;.png, not of train/i/1.png; put each in its own row.",
    ),
    "no name": (saved((A, "", "drop", "")), "line 2: a decision without filename; fill it in."),
    "no hash": (saved(("", "train/i/1.png", "drop", "")), "line 2: a decision without sha256; fill it in."),
    "two decisions": (
        saved((A, "train/i/1.png", "drop", ""), (D, "x", "skip", ""), (A, "train/i/1.png", "relabel", "v")),
        "line 4: train/i/1.png is relabelled 'v', but line 2 has it dropped; leave one of the two.",
    ),
    "two labels": (
        saved((A, "train/i/1.png", "relabel", "ii"), (A, "train/i/1.png", "relabel", "v")),
        "line 3: train/i/1.png is relabelled 'v', but line 2 has it relabelled 'ii'; leave one of the two.",
    ),
    "copies with two labels": (
        saved((B, "train/v/2.png", "keep", ""), (B, "val/vi/2.png", "keep", "")),
        "line 3: val/vi/2.png is kept as 'vi', but train/v/2.png in line 2, which has the same bytes, is kept as 'v';"
        " give both one label or drop one.",
    ),
    "relabel to nothing": (
        saved((A, "train/i/1.png", "relabel", " ")),
        "line 2: relabel, but new_label is empty; write the right class there.",
    ),
    "relabel to nothing in issues.csv": (
        edited(issue(decision="relabel")),
        "line 2: relabel, but decided_label is empty; write the right class there.",
    ),
    "a label without a decision": (
        edited(issue(), issue(decided_label="v")),
        "line 3: decided_label is 'v', but decision is empty; write relabel there, or empty decided_label.",
    ),
    "a label without a decision in decisions.csv": (
        saved((A, "train/i/1.png", "keep", ""), (C, "val/vi/3,;.png", "", "v")),
        "line 3: new_label is 'v', but decision is empty; write relabel there, or empty new_label.",
    ),
    "a label to skip in decisions.csv": (
        saved((A, "train/i/1.png", "skip", "v")),
        "line 2: new_label is 'v', but decision is skip; write relabel there, or empty new_label.",
    ),
    "two files with other separators": (
        f"sha256;filename;decision;new_label\n{A};train/i/1.png;keep;\n{C},val/vi/3.png,drop,\n",
        "line 3: separated otherwise than the header; give the whole file one separator.",
    ),
    "two files with other separators, of which one stands in a name": (
        f"filename,sha256,decision,new_label\nval/vi/3,.png;{C};drop;\n",
        "line 2: separated otherwise than the header; give the whole file one separator.",
    ),
    "keep and another label": (
        edited(issue(decision="keep", decided_label="v")),
        "line 2: keep, but also the new label 'v'; write relabel, or leave the label out.",
    ),
    "unknown word": (
        saved((A, "train/i/1.png", "delete", "")),
        "line 2: the decision 'delete' is unknown; write keep, relabel, drop, skip, or nothing.",
    ),
    "line of a cell with line ends": (
        edited(issue(why="One\nor two\r\nlines."), issue(decision="remove")),
        "line 5: the decision 'remove' is unknown",
    ),
    "missing column": ("sha256,filename\n", "line 1: no column decision;"),
    "missing label column": ("sha256,filename,decision\n", "line 1: no column new_label;"),
    "another file": ("a;b\n1;2\n", "line 1: no column sha256, filename, decision;"),
    "a column twice": ("sha256,filename,decision,new_label,decision\n", "line 1: the column decision appears twice"),
    "separator in a cell": (
        f"sha256,filename,decision,new_label\n{C},val/vi/3,;.png,drop,\n",
        "line 2: 5 cells below a header of 4;",
    ),
    "half a file": (saved((A, 'train/i/1".png', "drop", ""))[:-20], "not readable as CSV (unexpected end of data)"),
    "empty": ("", ": empty; give decisions.csv of review.html"),
    "blank": ("\ufeff \n", ": empty; give decisions.csv of review.html"),
    "Latin-1": (saved((D, "train/zwölf; sechs/4.png", "drop", "")).encode("latin-1"), "line 2: not UTF-8;"),
    "UTF-16": (saved((A, "train/i/1.png", "drop", "")).encode("utf-16"), "line 1: UTF-16, not UTF-8; save it as"),
    "binary": (b"PK\x03\x04\x14\x00\x06\x00", "line 1: not a text file; save the spreadsheet as 'CSV UTF-8'."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_that_names_file_and_line(file: Path, name: str):
    content, sentence = WRONG[name]
    with pytest.raises(UserError) as error:
        read(file, content)
    message = str(error.value)
    assert message.startswith(str(file))
    assert sentence in message
    assert message.endswith(".")
    assert "\n" not in message


def test_a_file_that_is_not_there(file: Path, tmp_path: Path):
    advice = "give decisions.csv of review.html, or issues.csv with decisions filled in"
    for path, reason in ((file, "No such file or directory"), (tmp_path, "not a regular file")):
        with pytest.raises(UserError) as caught:
            read_decisions(path, EXAMPLES, CLASSES)
        assert str(caught.value) == f"{path}: cannot be read ({reason}); {advice}."


def read_anything(content: bytes) -> list[Decision] | str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.csv"
        path.write_bytes(content)
        try:
            return read_decisions(path, EXAMPLES, CLASSES)[""]
        except UserError as error:
            return str(error)


CELLS = st.one_of(
    st.sampled_from([*CLASSES, "keep", "relabel", "drop", "skip", "", A, B, "train/i/1.png", "val/vi/2.png"]),
    st.text(max_size=8),
    st.sampled_from(['"', '""', "\n", ",", ";", "=1+1", "x" * 200_000]),
)
HEADERS = st.sampled_from([",".join(COLUMNS), ";".join(Issue._fields), "\t".join(COLUMNS), ""])


@given(HEADERS, st.lists(st.lists(CELLS, max_size=7)), st.sampled_from([",", ";", "\t"]), st.binary(max_size=6))
@settings(deadline=None)
def test_hostile_files_are_read_or_refused(header: str, rows: list[list[str]], separator: str, rest: bytes):
    text = "\n".join([header, *(separator.join(cells) for cells in rows)])
    result = read_anything(text.encode(errors="surrogatepass") + rest)
    assert isinstance(result, list) or "decisions.csv" in result


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_refused(content: bytes):
    assert "decisions.csv" in read_anything(content)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def decided(draw: st.DrawFn) -> tuple[list[str], list[Decision]]:
    """Class names, and a decision on each of some images; any text is a name."""
    classes = draw(st.lists(NAMES.filter(lambda name: name == name.strip()), min_size=2, max_size=5, unique=True))
    decisions = []
    for index, name in enumerate(draw(st.lists(NAMES, max_size=6))):
        label, word = draw(st.sampled_from(classes)), draw(st.sampled_from(["keep", "relabel", "drop"]))
        new_label = draw(st.sampled_from([other for other in classes if other != label])) if word == "relabel" else ""
        decisions.append(Decision(f"{index:064x}", f"train/{index}/{name}", label, word, new_label))
    return classes, decisions


@given(decided(), st.sampled_from([",", ";", "\t"]))
@settings(deadline=None)
def test_what_is_saved_is_read(case: tuple[list[str], list[Decision]], separator: str):
    classes, decisions = case
    rows = [(one.sha256, one.filename, one.decision, one.new_label) for one in decisions]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.csv"
        path.write_bytes(saved(*rows, separator=separator).encode())
        assert read_decisions(path, {(one.sha256, one.filename): one.label for one in decisions}, classes) == {
            "": decisions
        }


@pytest.mark.parametrize(
    ("cell", "label"),
    [("'=1+1", "=1+1"), ("=1+1", "=1+1"), ("'-1", "-1"), ("-1", "-1"), ("''=1+1", "'=1+1"), ("'i", "'i")],
)
def test_formulas_are_read_as_the_texts_that_they_were(file: Path, cell: str, label: str):
    """The review page and issues.csv put an apostrophe before what a spreadsheet would run; a person types none."""
    file.write_text(saved((A, "train/i/1.png", "relabel", cell)), encoding="utf-8")
    classes = ["i", "=1+1", "-1", "'=1+1", "'i"]
    assert read_decisions(file, EXAMPLES, classes)[""] == [Decision(A, "train/i/1.png", "i", "relabel", label)]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("decisions-anna.csv", "anna"),
        ("ben.csv", "ben"),
        ("/a/b/decisions-Cléo M..csv", "Cléo M."),
        ("gs://bucket/folder/decisions-dora.csv", "dora"),
        ("decisions.csv", "decisions"),
        ("decisions (1).csv", "decisions"),
        ("decisions-settled (1).csv", "settled"),
        ("decisions-ben(12).csv", "ben"),
        ("decisions-zoe\u0308.csv", "zo\u00eb"),
        ("decisions-anna (b).csv", "anna (b)"),
        ("decisions-.csv", "decisions-"),
        ("decisions-settled.csv", "settled"),
        ("emil", "emil"),
    ],
)
def test_files_are_named_after_people(file: str, name: str):
    assert name_reviewer(file) == name


@pytest.mark.parametrize(
    ("decision", "outcome", "words"),
    [
        (Decision(A, "train/i/1.png", "i", "keep"), "i", "keep"),
        (Decision(A, "train/i/1.png", "i", "relabel", "v"), "v", "relabel to v"),
        (Decision(A, "train/i/1.png", "i", "drop"), "", "drop"),
    ],
)
def test_what_a_decision_makes_of_an_image(decision: Decision, outcome: str, words: str):
    assert (decision.outcome, str(decision)) == (outcome, words)
