"""FiftyOne: what version 1.22.1 exported of the data set that the images of test_decisions.py make.

Of the five images one was relabelled, then another one, one is to be dropped, one kept, and the label of one removed.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.decisions import Decision, check_decisions, read_decisions
from components.shared.formats.examples import ImageExample
from components.shared.formats.fiftyone import DATA, LABELS, write_dataset
from components.shared.formats.given_labels import name_drop, name_image
from tests.components.shared.formats.test_decisions import CLASSES, EXAMPLES, A, B, C, decided
from tests.mutations import encode, mutated, read_or_refuse, torn
from tests.rows import make_issue

EXPORTS = Path(__file__).with_name("exports")
DECISIONS = [
    Decision(A, "train/i/1.png", "i", "relabel", "ii"),
    Decision(B, "train/v/2.png", "v", "relabel", "vi"),
    Decision(B, "val/vi/2.png", "vi", "drop"),
    Decision(C, "val/vi/3,;.png", "vi", "keep"),
]
IMAGE_A = name_image(A, "train/i/1.png")


def make_image(filename: str, sha256: str, encoded: bytes = b"picture", **fields: Any) -> ImageExample:
    """An image of which the format has only to be kept."""
    image = ImageExample(encoded, "png", 1, 1, 1, filename, sha256, 0, "i", 1.0, 0.0, 0.0, 1.0, len(encoded))
    return image._replace(**fields)


def read(folder: Path, content: object) -> list[Decision]:
    path = folder / LABELS
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_decisions(path, EXAMPLES, CLASSES, reviewer="labels")["labels"]


@pytest.mark.parametrize("name", ["fiftyone.json", "fiftyone-attributes.json"])
def test_what_fiftyone_exports_is_what_a_person_decided(name: str) -> None:
    assert read_decisions(EXPORTS / name, EXAMPLES, CLASSES, reviewer="anna") == {"anna": DECISIONS}
    assert check_decisions(EXPORTS / name, CLASSES, reviewer="anna") == ["anna"]


@pytest.mark.parametrize("form", ["/home/anna/out/data/{}.png", "data/{}.jpg", "{}-2"])
def test_an_image_is_found_wherever_fiftyone_has_put_it(form: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"labels": {form.format(IMAGE_A): "v"}}) == [
        Decision(A, "train/i/1.png", "i", "relabel", "v")
    ]


@pytest.mark.parametrize("name", ["train/i/1", "train/i/1.png"])
def test_an_image_of_the_data_themselves_is_found_by_its_file(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, {"classes": None, "labels": {name: "i"}}) == [Decision(A, "train/i/1.png", "i", "keep")]


def test_a_list_of_one_label_is_that_label(tmp_path: Path) -> None:
    """As FiftyOne exports Classifications."""
    labels = {IMAGE_A: [{"label": 1, "confidence": 0.5}], name_image(C, "val/vi/3,;.png"): []}
    assert read(tmp_path, {"classes": CLASSES, "labels": labels}) == DECISIONS[:1]


def test_of_copies_only_the_first_goes_out(tmp_path: Path) -> None:
    names = [f"train/i/{number}.png" for number in range(3)]
    issues = [make_issue(filename=name, sha256=A, action="keep_one", group=4) for name in names]
    write_dataset(tmp_path, issues, images=[make_image(name, A) for name in names], classes=["i"])
    labels = json.loads((tmp_path / LABELS).read_text(encoding="utf-8"))["labels"]
    assert [(label["attributes"]["filename"], label["attributes"]["group"]) for label in labels.values()] == [
        (names[0], 4)
    ]
    assert [path.stem for path in (tmp_path / DATA).iterdir()] == [name_image(A, names[0])]


WRONG: dict[str, tuple[Any, str]] = {
    "unknown class": ("iix", "the class 'iix' is unknown; the classes are i, ii, v, vi, zwölf; sechs."),
    "no position": (6, "is 6, which is no position in `classes`; give the image one label, and export again."),
    "a position before the first": (-1, "is -1, which is no position in `classes`; give the image one label, and"),
    "a long number": (10**400, f"is 1{'0' * 37}...{'0' * 39}, which is no position in `classes`; give the image one"),
    "two labels": ([0, 1], "has 2 labels; give the image one label, and export again."),
    "true": (True, "is True, which is no label; give the image one label, and export again."),
    "a number": (1.5, "is 1.5, which is no label; give the image one label, and export again."),
    "an object": ({"name": "i"}, "is {'name': 'i'}, which is no label; give the image one label, and export again."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_label_that_is_none_is_one_sentence_that_names_file_and_image(name: str, tmp_path: Path) -> None:
    target, sentence = WRONG[name]
    with pytest.raises(UserError) as refused:
        read(tmp_path, {"classes": [*CLASSES, "drop"], "labels": {"train/i/1": target}})
    assert str(refused.value).startswith(f"{tmp_path}/labels.json, the label of train/i/1: {sentence}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"labels": {"other": "i"}}, ", the label of other: 'other' is not in this data version; name its images as"),
        ({"labels": {f"{'e' * 64}-{'0' * 16}": "i"}}, ", the label of eeee"),
        (
            {"labels": {IMAGE_A: "ii", "train/i/1": "v"}},
            ", the label of train/i/1: train/i/1.png is relabelled 'v', but the label of ",
        ),
        ({"classes": None, "labels": {IMAGE_A: 0}}, f", the label of {'a' * 38}..."),
        ({"samples": []}, ": labels: is missing; export it from FiftyOne as a FiftyOneImageClassificationDataset."),
        (
            {"labels": {"x": {"label": "i", "attributes": {"sha256": "e" * 64, "filename": "train/i/1.png"}}}},
            ", the label of x: train/i/1.png has another sha256 in this data version; decide on the issues of this",
        ),
    ],
)
def test_another_mistake_is_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, content)
    assert str(refused.value).startswith(f"{tmp_path}/labels.json{sentence}")


def test_names_that_differ_in_their_suffixes_alone_are_told_apart(tmp_path: Path) -> None:
    examples = {(A, "train/i/1.png"): "i", (B, "train/i/1.jpg"): "i"}
    path = tmp_path / LABELS
    path.write_text(json.dumps({"labels": {"train/i/1.jpg": "v", IMAGE_A: "ii"}}), encoding="utf-8")
    assert [str(one) for one in read_decisions(path, examples, CLASSES)[""]] == ["relabel to v", "relabel to ii"]
    path.write_text(json.dumps({"labels": {"train/i/1": "v"}}), encoding="utf-8")
    with pytest.raises(
        UserError, match="'train/i/1' may be train/i/1.jpg or train/i/1.png; give the file name with its"
    ):
        read_decisions(path, examples, CLASSES)


def test_the_data_set_has_the_doubted_images_with_their_labels(tmp_path: Path) -> None:
    images = [
        make_image("train/i/1.png", A, b"one"),
        make_image("train/i/1.jpg", B, b"two", format="jpeg"),
        make_image("train/i/2.png", C),
    ]
    issue = make_issue(
        rank=4, sha256=A, filename="train/i/1.png", action="relabel", new_label="drop", why="It is drop."
    )
    other = make_issue(rank=5, sha256=B, filename="train/i/1.jpg", label="drop")
    write_dataset(tmp_path, [issue, other], images=images, classes=["i", "drop"])
    second = name_image(B, "train/i/1.jpg")
    files = {path.name: path.read_bytes() for path in (tmp_path / DATA).iterdir()}
    assert files == {f"{IMAGE_A}.png": b"one", f"{second}.jpg": b"two"}
    document = json.loads((tmp_path / LABELS).read_text(encoding="utf-8"))
    assert document["classes"] == ["i", "drop", "(drop)"]
    assert {name: target["label"] for name, target in document["labels"].items()} == {IMAGE_A: 0, second: 1}
    assert document["labels"][IMAGE_A]["attributes"] == {
        "sha256": A,
        "filename": "train/i/1.png",
        "rank": 4,
        "suggestion": "i → drop?",
        "why": "It is drop.",
        "label_score": 0.9,
        "outlier_score": 0.1,
    }


@given(decided(), st.sampled_from(["all", "positions", "names"]))
@settings(deadline=None)
def test_decisions_come_back_as_they_were_made(case: tuple[list[str], list[Decision]], form: str) -> None:
    """A person changes the labels that were written; FiftyOne exports them with or without the attributes."""
    classes, decisions = case
    issues = [make_issue(sha256=one.sha256, filename=one.filename, label=one.label) for one in decisions]
    with TemporaryDirectory() as folder:
        images = [make_image(one.filename, one.sha256) for one in decisions]
        write_dataset(Path(folder), issues, images=images, classes=classes)
        path = Path(folder, LABELS)
        document = json.loads(path.read_text(encoding="utf-8"))
        assert len(list(Path(folder, DATA).iterdir())) == len(decisions)
        for target, one in zip(document["labels"].values(), decisions, strict=True):
            assert document["classes"][target["label"]] == one.label
            target["label"] = document["classes"].index(one.outcome or name_drop(classes))
        if form != "all":
            document["labels"] = {name: target["label"] for name, target in document["labels"].items()}
        if form == "names":
            names = document.pop("classes")
            document["labels"] = {name: names[label] for name, label in document["labels"].items()}
        path.write_text(json.dumps(document), encoding="utf-8")
        examples = {(one.sha256, one.filename): one.label for one in decisions}
        assert read_decisions(path, examples, classes, reviewer="anna") == {"anna": decisions}


@pytest.mark.parametrize("name", ["fiftyone.json", "fiftyone-attributes.json"])
@given(data=st.data())
@settings(deadline=None)
def test_an_export_with_a_mistake_anywhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        content = json.loads((EXPORTS / name).read_text(encoding="utf-8"))
        wrong = data.draw(mutated(content).map(encode) | torn(encode(content)))
        read_or_refuse(lambda path: read_decisions(path, EXAMPLES, CLASSES), Path(folder, LABELS), wrong)
