import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.documents import Share
from components.shared.formats.issues import ACTIONS, KINDS, Issue, read_issues, write_issues
from tests.rows import make_issue

CLASSES = ["i", "v", "NA"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SHARES = [name for name, kind in Issue.__annotations__.items() if kind is Share]


@st.composite
def issues(draw: st.DrawFn) -> Issue:
    action = draw(st.sampled_from(ACTIONS))
    return make_issue(
        rank=draw(st.integers(1)),
        kinds=tuple(draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True))),
        action=action,
        new_label=draw(st.sampled_from(CLASSES)) if action == "relabel" else "",
        group=draw(st.none() | st.integers(0)),
        **{name: draw(TEXT) for name in ("sha256", "filename", "split", "label", "prediction", "why", "decision")},
        **{name: draw(st.floats(0, 1)) for name in SHARES},
    )


@given(st.lists(issues(), max_size=4))
def test_what_is_written_is_read(rows: list[Issue]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "issues.csv"
        write_issues(path, iter(rows))
        assert [issue for _, issue in read_issues(path, CLASSES)] == rows


def test_file_begins_with_the_columns_that_people_and_review_html_know(tmp_path: Path) -> None:
    write_issues(tmp_path / "issues.csv", [])
    assert (tmp_path / "issues.csv").read_text() == (
        "rank,sha256,filename,split,label,kinds,action,new_label,confidence,prediction,probability,label_probability,"
        "label_score,outlier_score,duplicate_score,group,why,decision,decided_label\n"
    )


@pytest.mark.parametrize(
    ("action", "kinds", "new_label", "said"),
    [
        ("relabel", ("label",), "v", "i → v?"),
        ("drop", ("blank", "exact_duplicate"), "", "drop: blank, exact duplicate"),
        ("drop", ("label", "ambiguous", "outlier"), "v", "drop: ambiguous, outlier"),
        ("look", ("label",), "v", "i, or v?"),
        ("look", ("conflicting_duplicate",), "", "i?"),
        ("keep_one", ("exact_duplicate",), "", "keep one of these"),
        ("", (), "", "i"),
    ],
)
def test_a_caption_says_the_suggestion(action: str, kinds: tuple[str, ...], new_label: str, said: str) -> None:
    issue = make_issue(label="i", prediction="v", action=action, kinds=kinds, new_label=new_label)
    assert issue.suggestion == said


def test_probabilities_are_those_of_the_prediction_and_of_the_label() -> None:
    issue = make_issue(label="i", prediction="v", probability=0.7, label_probability=0.2)
    assert issue.probabilities == {"v": 0.7, "i": 0.2}
    assert issue._replace(prediction="", probability=None, label_probability=None).probabilities == {}


def test_rows_come_with_their_lines(tmp_path: Path) -> None:
    write_issues(tmp_path / "issues.csv", [make_issue(why="One\nor two\nlines."), make_issue()])
    assert [line for line, _ in read_issues(tmp_path / "issues.csv", CLASSES)] == [4, 5]


@pytest.mark.parametrize(
    ("column", "cell", "sentence"),
    [
        ("action", "burn", "action: is the unknown 'burn'"),
        ("new_label", "ii", "has the unknown class 'ii'"),
        ("new_label", "", "has the unknown class ''"),
        ("rank", "first", "rank: is 'first', but should be a valid integer"),
        ("rank", "", "rank: is '', but should be a valid integer"),
        ("rank", "0", "rank: is '0', but should be greater than or equal to 1"),
        ("rank", "1" * 5_000, "rank: Unable to parse input string as an integer, exceeded maximum size"),
        ("group", "1.5", "group: is '1.5', but should be a valid integer"),
        *((name, "high", f"{name}: is 'high', but should be a valid number") for name in SHARES),
        *((name, "", f"{name}: is '', but should be a valid number") for name in SHARES),
        *((name, "nan", f"{name}: is 'nan', but should be less than or equal to 1") for name in SHARES),
        *((name, "inf", f"{name}: is 'inf', but should be less than or equal to 1") for name in SHARES),
        *((name, "-0.1", f"{name}: is '-0.1', but should be greater than or equal to 0") for name in SHARES),
    ],
)
def test_broken_cells_are_refused(tmp_path: Path, column: str, cell: str, sentence: str) -> None:
    path = tmp_path / "issues.csv"
    write_issues(path, [make_issue(), make_issue(action="relabel", new_label="v")])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[1][column] = cell
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UserError, match=f"^{path}, line 3: {sentence}.*; give issues.csv as audit writes it.$"):
        list(read_issues(path, CLASSES))


@pytest.mark.parametrize("column", Issue._fields)
def test_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "issues.csv"
    path.write_text(",".join(name for name in Issue._fields if name != column) + "\n")
    with pytest.raises(UserError, match=f"issues.csv: no column {column}; give issues.csv as audit writes it.$"):
        list(read_issues(path, CLASSES))


def test_torn_file_is_refused_or_ends_between_rows(tmp_path: Path) -> None:
    path = tmp_path / "issues.csv"
    write_issues(path, [make_issue(rank=rank, why='"Torn", it was.') for rank in (1, 2, 3)])
    whole = path.read_bytes()
    ends = {length for length in range(len(whole) + 1) if whole[:length].endswith(b"\r\n")}
    ends |= {end - 1 for end in ends} | {end - 2 for end in ends}  # the end of the line alone is missing
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in ends:
            list(read_issues(path, CLASSES))
        else:
            with pytest.raises(UserError, match="give issues.csv as audit writes it"):
                list(read_issues(path, CLASSES))
