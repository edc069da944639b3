"""Label Studio. `exports` has what Label Studio 1.23.2 exported, and what FiftyOne 1.22.1 did.

Each has the images of test_decisions.py. In the exports of Label Studio, person 1 decided about three and cancelled a
fourth, and left a draft of the fifth; person 2 decided about two, of one of them otherwise.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import UserError
from components.shared.formats.decisions import Decision, check_decisions, read_decisions
from components.shared.formats.given_labels import name_drop
from components.shared.formats.label_studio import CONFIG, TASKS, make_choice, write_project
from tests.components.shared.formats.test_decisions import CLASSES, EXAMPLES, A, B, C, D, decided
from tests.mutations import encode, mutated, read_or_refuse, torn
from tests.rows import make_issue

EXPORTS = Path(__file__).with_name("exports")
FIRST = [
    Decision(A, "train/i/1.png", "i", "relabel", "ii"),
    Decision(B, "train/v/2.png", "v", "relabel", "vi"),
    Decision(B, "val/vi/2.png", "vi", "drop"),
]
SECOND = [Decision(A, "train/i/1.png", "i", "relabel", "v"), Decision(C, "val/vi/3,;.png", "vi", "keep")]


def load(name: str) -> Any:
    return json.loads((EXPORTS / name).read_text(encoding="utf-8"))


def read(folder: Path, content: object) -> dict[str, list[Decision]]:
    path = folder / "export.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_decisions(path, EXAMPLES, CLASSES, reviewer="export")


def refuse(folder: Path, content: object) -> str:
    """The sentence with which an export is refused."""
    with pytest.raises(UserError) as refused:
        read(folder, content)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("label-studio.json", ("audit-1", "audit-2")),
        ("label-studio-min.json", ("audit-1", "audit-2")),
        ("label-studio-snapshot.json", ("audit-anna@example.com", "audit-ben@example.com")),
    ],
)
def test_what_label_studio_exports_is_what_each_person_decided(name: str, people: tuple[str, str]) -> None:
    path = EXPORTS / name
    found = read_decisions(path, EXAMPLES, CLASSES, reviewer="audit")
    assert found == dict(zip(people, (FIRST, SECOND), strict=True))
    assert check_decisions(path, CLASSES, reviewer="audit") == list(people)


@pytest.mark.parametrize("name", ["label-studio.json", "label-studio-min.json"])
def test_one_person_alone_is_the_one_after_whom_the_file_is_named(name: str, tmp_path: Path) -> None:
    text = json.dumps(load(name))
    alone = json.loads(
        text.replace('"completed_by": 2', '"completed_by": 1').replace('"annotator": 2', '"annotator": 1')
    )
    with pytest.raises(
        UserError, match="annotation [56]: train/i/1.png is relabelled '.*', but task 6, annotation [56] has"
    ):
        read(tmp_path, alone)
    assert read(tmp_path, [task for task in alone if task["id"] != 6]) == {"export": [*FIRST[1:], SECOND[1]]}
    assert read(tmp_path, []) == {"export": []}


@pytest.mark.parametrize("name", ["label-studio-two-choices.json", "label-studio-min-two-choices.json"])
def test_two_choices_in_one_annotation_are_refused(name: str) -> None:
    with pytest.raises(UserError) as refused:
        read_decisions(EXPORTS / name, EXAMPLES, CLASSES)
    sentence = "task 10: has 2 choices ('i', 'ii'); annotate it again with one choice."
    assert str(refused.value) == f"{EXPORTS / name}, {sentence}"


def test_what_is_chosen_beside_the_label_is_no_decision(tmp_path: Path) -> None:
    quality = {**make_choice("drop"), "from_name": "quality"}
    both, other = make_task(), make_task(id=8, data={"sha256": C, "filename": "val/vi/3,;.png"})
    both["annotations"][0]["result"].append(quality)
    other["annotations"][0]["result"] = [quality]
    assert read(tmp_path, [both, other]) == {"export": FIRST[:1]}


def test_the_only_choice_is_that_of_the_label(tmp_path: Path) -> None:
    task = make_task()
    task["annotations"][0]["result"][0]["from_name"] = "choice"
    assert read(tmp_path, [task]) == {"export": FIRST[:1]}
    task["annotations"][0]["result"].append({**make_choice("drop"), "from_name": "quality"})
    assert refuse(tmp_path, [task]) == (
        f"{tmp_path}/export.json: has several choices ('choice', 'quality'), and none that is called decided_label; "
        "label with the config.xml that export.py writes."
    )


def test_json_min_without_the_choice_is_refused(tmp_path: Path) -> None:
    annotation = {"id": 7, "annotation_id": 3, "annotator": 1, "sha256": A, "filename": "train/i/1.png", "choice": "ii"}
    assert refuse(tmp_path, [annotation]) == (
        f"{tmp_path}/export.json: has no choice that is called decided_label; label with the config.xml that export.py "
        "writes, or export the project as JSON."
    )


def test_an_email_may_be_missing_and_the_file_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(
        json.dumps([make_task(annotation={"completed_by": {"id": 1, "email": None}})]), encoding="utf-8-sig"
    )
    assert read_decisions(tmp_path / "export.json", EXAMPLES, CLASSES, reviewer="anna") == {"anna": FIRST[:1]}


def test_of_copies_the_first_is_to_be_kept_and_the_others_dropped(tmp_path: Path) -> None:
    cells = ({"group": 4}, {"group": 4}, {"group": 9}, {"group": 4})
    issues = [
        make_issue(rank=rank, filename=f"train/i/{rank}.png", action="keep_one", **cell)
        for rank, cell in enumerate(cells, 1)
    ]
    pictures = {issue.filename: "data:," for issue in issues}
    write_project(tmp_path, issues, pictures=pictures, classes=CLASSES, data_version="1.dir")
    tasks = json.loads((tmp_path / TASKS).read_text(encoding="utf-8"))
    predicted = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert predicted == [["i"], ["drop"], ["i"], ["drop"]]
    assert [task["data"]["group"] for task in tasks] == [4, 4, 9, 4]


def make_task(label: str = "ii", **changes: Any) -> dict[str, Any]:
    """An exported task, of which some parts are others."""
    annotation = {"id": 3, "completed_by": 1, "was_cancelled": False, "result": [make_choice(label)]}
    annotation |= changes.pop("annotation", {})
    data = {"sha256": A, "filename": "train/i/1.png"} | changes.pop("data", {})
    return {"id": 7, "data": data, "annotations": [annotation]} | changes


CHOICES: dict[str, Any] = {"type": "choices", "from_name": "decided_label", "to_name": "image"}
WRONG: dict[str, tuple[Any, str]] = {
    "unknown class": (
        [make_task("iix")],
        ", task 7, annotation 3: the class 'iix' is unknown; the classes are i, ii, v, vi, zwölf; sechs.",
    ),
    "unknown image": (
        [make_task(data={"sha256": "e" * 64, "filename": "train/i/9.png"})],
        ", task 7, annotation 3: 'train/i/9.png' is not in this data version; decide on the issues of this version.",
    ),
    "changed image": (
        [make_task(data={"sha256": "e" * 64})],
        ", task 7, annotation 3: train/i/1.png has another sha256 in this data version; decide on the issues of",
    ),
    "two tasks of one image": (
        [make_task("ii"), make_task("drop", id=8)],
        ", task 8, annotation 3: train/i/1.png is dropped, but task 7, annotation 3 has it relabelled 'ii'; leave one",
    ),
    "copies with two labels": (
        [
            make_task("v", data={"sha256": B, "filename": "train/v/2.png"}),
            make_task("vi", data={"sha256": B, "filename": "val/vi/2.png"}, id=8),
        ],
        ", task 8, annotation 3: val/vi/2.png is kept as 'vi', but train/v/2.png in task 7, annotation 3, which has the"
        " same bytes, is kept as 'v'; give both one label or drop one.",
    ),
    "two results": (
        [make_task(annotation={"result": [make_choice("i"), make_choice("ii")]})],
        ", task 7: has 2 choices ('i', 'ii'); annotate it again with one choice.",
    ),
    "a choice that is no text": (
        [make_task(annotation={"result": [{**CHOICES, "value": {"choices": [1]}}]})],
        ", task 7: the choice is {'choices': [1]}, not the name of a class; annotate it again with one choice.",
    ),
    "a choice without a value": (
        [make_task(annotation={"result": [CHOICES]})],
        ", task 7: the choice is None, not the name of a class; annotate it again with one choice.",
    ),
    "a choice of JSON-MIN that is no text": (
        [{"id": 7, "filename": "train/i/1.png", "annotator": 1, "annotation_id": 3, "decided_label": 5}],
        ", task 7: the choice is 5, not the name of a class; annotate it again with one choice.",
    ),
    "the tasks that went out": (
        [{"data": {"filename": "train/i/1.png"}, "predictions": []}],
        ", task 1: annotations: is missing; export the project from Label Studio as JSON.",
    ),
    "another project": (
        [make_task(data={"filename": None})],
        ", task 7: data.filename: is None, but should be a valid string; export the project from Label Studio as JSON.",
    ),
    "a person who is none": ([make_task(annotation={"completed_by": []})], ", task 7: annotations.0.completed_by."),
    "a list of no tasks": ([1], ": 0: is 1, but should be an object; export the project from Label Studio"),
    "results that are none": ([make_task(annotation={"result": "i"})], ", task 7: annotations.0.result: is 'i', but"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_that_names_file_and_task(name: str, tmp_path: Path) -> None:
    content, sentence = WRONG[name]
    with pytest.raises(UserError) as refused:
        read(tmp_path, content)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/export.json{sentence}")
    assert message.endswith(".")
    assert "\n" not in message


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes((EXPORTS / "label-studio.json").read_bytes()[:3000])
    with pytest.raises(UserError, match="export.json: is not JSON .*; export the project from Label Studio as JSON.$"):
        read_decisions(path, EXAMPLES, CLASSES)


def test_what_else_is_annotated_and_what_is_empty_decides_nothing(tmp_path: Path) -> None:
    comment = {"type": "textarea", "from_name": "comment", "to_name": "image", "value": {"text": ["?"]}}
    tasks = [
        make_task(annotation={"result": [comment]}),
        make_task(annotation={"result": []}),
        make_task(annotation={"was_cancelled": True}),
        make_task(annotations=[], drafts=[{"result": [make_choice("v")]}]),
    ]
    assert read(tmp_path, tasks) == {"export": []}
    assert read(tmp_path, [make_task(annotation={"result": [comment, make_choice("i")]})]) == {
        "export": [Decision(A, "train/i/1.png", "i", "keep")]
    }


def test_a_project_without_hashes_names_images_by_their_files(tmp_path: Path) -> None:
    tasks = [make_task("vi", data={"sha256": "", "filename": name}) for name in ("val/vi/3,;.png", "train/i/1")]
    assert read(tmp_path, tasks) == {
        "export": [Decision(C, "val/vi/3,;.png", "vi", "keep"), Decision(A, "train/i/1.png", "i", "relabel", "vi")]
    }
    with pytest.raises(UserError) as refused:
        read(tmp_path, [make_task(data={"sha256": "", "filename": "/data/upload/1/1.png"})])
    assert str(refused.value).endswith(
        "task 7, annotation 3: '/data/upload/1/1.png' is not in this data version; name its images as it does, such as"
        " train/i/1.png."
    )


def test_the_project_asks_about_each_image_with_what_the_audit_suggests(tmp_path: Path) -> None:
    classes = ["i", "<drop> & \"'", "drop"]
    issues = [
        make_issue(sha256=A, action="relabel", new_label="drop", confidence=0.8, why="It looks like drop."),
        make_issue(sha256=B, filename="train/i/1.png", action="drop", confidence=0.7, kinds=("blank",)),
        make_issue(sha256=C, filename="train/i/2.png", action="look", prediction="drop", probability=0.4),
        make_issue(sha256=D, filename="train/i/3.png", action="keep_one", prediction="", probability=None),
    ]
    pictures = {issue.filename: f"data:image/png;base64,{issue.sha256[0]}" for issue in issues}
    write_project(tmp_path, issues, pictures=pictures, classes=classes, data_version="abc.dir")
    tasks = json.loads((tmp_path / TASKS).read_text(encoding="utf-8"))
    assert [task["data"] for task in tasks][:2] == [
        {
            "image": "data:image/png;base64,a",
            "sha256": A,
            "filename": "train/i/0.png",
            "label": "i",
            "suggestion": "i → drop?",
            "why": "It looks like drop.",
        },
        {
            "image": "data:image/png;base64,b",
            "sha256": B,
            "filename": "train/i/1.png",
            "label": "i",
            "suggestion": "drop: blank",
            "why": "",
        },
    ]
    chosen = [
        (each["model_version"], each["score"], each["result"][0]["value"]["choices"])
        for task in tasks
        for each in task["predictions"]
    ]
    version = "audit of abc.dir"
    assert chosen == [(version, 0.8, ["drop"]), (version, 0.7, ["(drop)"]), (version, 0.4, ["drop"])]
    assert tasks[3]["predictions"] == []
    view = ElementTree.fromstring((tmp_path / CONFIG).read_text(encoding="utf-8"))
    assert [choice.get("value") for choice in view.iter("Choice")] == [*classes, "(drop)"]
    (choices,), (image,) = view.iter("Choices"), view.iter("Image")
    for result in (each["result"][0] for task in tasks for each in task["predictions"]):
        assert (result["from_name"], result["to_name"]) == (choices.get("name"), image.get("name"))
    assert {each.get("value") for each in view} - {None} == {f"${name}" for name in ("image", "suggestion", "why")}


@given(decided(), st.booleans())
@settings(deadline=None)
def test_decisions_come_back_as_they_were_made(case: tuple[list[str], list[Decision]], minimal: bool) -> None:
    """A person goes through the tasks that were written, chooses what was decided, and exports."""
    classes, decisions = case
    issues = [make_issue(sha256=one.sha256, filename=one.filename, label=one.label) for one in decisions]
    with TemporaryDirectory() as folder:
        write_project(
            Path(folder), issues, pictures={i.filename: "" for i in issues}, classes=classes, data_version="abc.dir"
        )
        exported = []
        tasks = json.loads(Path(folder, TASKS).read_text(encoding="utf-8"))
        for number, (task, one) in enumerate(zip(tasks, decisions, strict=True)):
            label = one.outcome or name_drop(classes)
            annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "result": [make_choice(label)]}
            full = {"id": number, **task, "annotations": [annotation]}
            brief = {**task["data"], "id": number, "decided_label": label, "annotator": 1, "annotation_id": number}
            exported.append(brief if minimal else full)
        path = Path(folder, "export.json")
        path.write_text(json.dumps(exported), encoding="utf-8")
        examples = {(one.sha256, one.filename): one.label for one in decisions}
        assert read_decisions(path, examples, classes, reviewer="anna") == {"anna": decisions}


@pytest.mark.parametrize("name", ["label-studio.json", "label-studio-min.json", "label-studio-snapshot.json"])
@given(data=st.data())
@settings(deadline=None)
def test_an_export_with_a_mistake_anywhere_is_read_or_refused(name: str, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "export.json")
        content = json.loads((EXPORTS / name).read_text(encoding="utf-8"))
        wrong = data.draw(mutated(content).map(encode) | torn(encode(content)))
        read_or_refuse(lambda path: read_decisions(path, EXAMPLES, CLASSES), path, wrong)
