"""A plain table that says which label each image has."""

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.decisions import Decision, check_decisions, read_decisions
from components.shared.formats.given_labels import find_image_name, name_drop, name_image
from tests.components.shared.formats.test_decisions import CLASSES, EXAMPLES, A, B, C, D, decided
from tests.mutations import mutated_table, read_or_refuse, torn


def read(folder: Path, content: str) -> list[Decision]:
    path = folder / "decisions-anna.csv"
    path.write_text(content, encoding="utf-8")
    return read_decisions(path, EXAMPLES, CLASSES, reviewer="anna")["anna"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("column", ["filename", "path"])
def test_the_present_label_keeps_and_another_one_relabels(tmp_path: Path, separator: str, start: str, column: str):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    rows = [("train/i/1.png", "i"), ("val/vi/3,;.png", " v "), ("train/v/2.png", "drop"), ("val/vi/2.png", "")]
    writer.writerows([(column, "label"), *rows, ("train/zwölf; sechs/4.png", "zwölf; sechs")])
    assert read(tmp_path, start + text.getvalue()) == [
        Decision(A, "train/i/1.png", "i", "keep"),
        Decision(C, "val/vi/3,;.png", "vi", "relabel", "v"),
        Decision(B, "train/v/2.png", "v", "drop"),
        Decision(D, "train/zwölf; sechs/4.png", "zwölf; sechs", "keep"),
    ]
    assert check_decisions(tmp_path / "decisions-anna.csv", CLASSES, reviewer="anna") == ["anna"]


def test_a_hash_that_is_there_must_be_that_of_the_image(tmp_path: Path):
    assert read(tmp_path, f"sha256,filename,label\n{A.upper()},train/i/1.png,ii\n") == [
        Decision(A, "train/i/1.png", "i", "relabel", "ii")
    ]
    with pytest.raises(UserError) as refused:
        read(tmp_path, f"sha256,filename,label\n{C},train/i/1.png,ii\n")
    assert str(refused.value) == (
        f"{tmp_path}/decisions-anna.csv, line 2: the sha256 is that of val/vi/3,;.png, not of train/i/1.png; put each"
        " in its own row."
    )


WRONG = {
    "unknown class": (
        "filename,label\ntrain/i/1.png,iix\n",
        ", line 2: the class 'iix' is unknown; the classes are i,",
    ),
    "unknown image": (
        "filename,label\ntrain/i/1.png,i\n1.png,i\n",
        ", line 3: '1.png' is not in this data version; name its images as it does, such as train/i/1.png.",
    ),
    "no name": (
        "filename,label\n,i\n",
        ", line 2: '' is not in this data version; name its images as it does, such as",
    ),
    "two labels of one image": (
        "path,label\ntrain/i/1.png,ii\ntrain/i/1.png,v\n",
        ", line 3: train/i/1.png is relabelled 'v', but line 2 has it relabelled 'ii'; leave one of the two.",
    ),
    "copies with two labels": (
        "path,label\ntrain/v/2.png,v\nval/vi/2.png,vi\n",
        ", line 3: val/vi/2.png is kept as 'vi', but train/v/2.png in line 2, which has the same bytes,",
    ),
    "a cell too many": (
        "filename,label\nval/vi/3,;.png,i\n",
        ", line 2: 3 cells below a header of 2; give a table with",
    ),
    "another spelling": ("Filename,label\na,i\n", ": the column 'Filename' must be called filename; rename it."),
    "decisions.csv without its decisions": (
        f"sha256,filename,label,new_label\n{A},train/i/1.png,i,ii\n",
        ", line 1: no column decision; give decisions.csv of review.html",
    ),
    "what Label Studio exports as CSV": (
        "annotation_id,decided_label,filename,label\n1,ii,train/i/1.png,i\n",
        ": a table of Label Studio; export the project as JSON or JSON-MIN.",
    ),
    "what a model predicts": (
        "split,filename,sha256,label,prediction\ntrain,train/i/1.png,a,i,i\n",
        ": has what a model predicts, and not what people decided; give decisions.csv of review.html, or issues.csv",
    ),
    "issues without their end": (
        "rank,sha256,filename,split,label\n1,a,train/i/1.png,train,i\n",
        ", line 1: no column decision; give decisions.csv of review.html, issues.csv with the columns decision and",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_that_names_file_and_line(name: str, tmp_path: Path):
    content, sentence = WRONG[name]
    with pytest.raises(UserError) as refused:
        read(tmp_path, content)
    assert str(refused.value).startswith(f"{tmp_path}/decisions-anna.csv{sentence}")
    assert str(refused.value).endswith(".")


@given(decided(), st.booleans(), st.sampled_from([",", ";", "\t"]))
@settings(deadline=None)
def test_decisions_come_back_as_they_were_made(case: tuple[list[str], list[Decision]], hashed: bool, separator: str):
    classes, decisions = case
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(["sha256", "filename", "label"] if hashed else ["filename", "label"])
    for one in decisions:
        cells = [f"'{cell}" if cell[0] in "=+-@\t\r'" else cell for cell in (one.outcome or name_drop(classes),)]
        writer.writerow([*[one.sha256] * hashed, one.filename, *cells])
    with TemporaryDirectory() as folder:
        path = Path(folder, "decisions-anna.csv")
        path.write_bytes(text.getvalue().encode())
        examples = {(one.sha256, one.filename): one.label for one in decisions}
        assert read_decisions(path, examples, classes, reviewer="anna") == {"anna": decisions}


@given(data=st.data())
@settings(deadline=None)
def test_a_table_with_a_mistake_anywhere_is_read_or_refused(data: st.DataObject):
    content = f"sha256,filename,label\n{A},train/i/1.png,ii\n{C},val/vi/3.png,drop\n"
    with TemporaryDirectory() as folder:
        wrong = data.draw(mutated_table(content) | torn(content.encode()))
        read_or_refuse(lambda path: read_decisions(path, EXAMPLES, CLASSES), Path(folder, "labels.csv"), wrong)


def test_the_label_of_an_image_to_drop_is_no_class():
    assert [name_drop(classes) for classes in ([], ["i"], ["drop"], ["drop", "(drop)"])] == [
        "drop",
        "drop",
        "(drop)",
        "((drop))",
    ]


def test_names_of_copies_tell_images_apart_that_differ_in_folder_suffix_or_content():
    images = [(A, "train/i/1.png"), (B, "train/i/1.png"), (A, "val/i/1.png"), (A, "train/i/1.jpg"), (A, "x" * 9999)]
    names = [name_image(*image) for image in images]
    assert len(set(names)) == len(images)
    assert all(len(name) == 81 for name in names)
    assert [find_image_name(f"/a/data/{name}.png") for name in names] == names
    assert find_image_name("train/i/1.png") == ""
