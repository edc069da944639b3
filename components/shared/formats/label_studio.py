"""A project of Label Studio: `config.xml` and `tasks.json` go out, and its exports as JSON and JSON-MIN come back.

`config.xml` is the labelling interface: a picture, what the audit says of it, and one button for each class and one to
drop the image. `tasks.json` has a task for each image; its prediction is what Label Studio selects beforehand. Both
exports are as https://labelstud.io/guide/export describes them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired
from xml.etree import ElementTree

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from components.shared.errors import UserError, quote, show_key
from components.shared.formats.documents import read_document, write_document
from components.shared.formats.given_labels import ExportedIssue, GivenLabel, describe_issue, name_drop
from components.shared.formats.issues import Issue, find_spare_copies
from components.shared.formats.tables import parse_row

TASKS = "tasks.json"
CONFIG = "config.xml"
CHOICE = "decided_label"  # the name of the choice; JSON-MIN puts it beside the data, so that none of these may have it
IMAGE = "image"
ADVICE = "export the project from Label Studio as JSON"
_SET_UP = "label with the config.xml that export.py writes"


class TaskData(ExportedIssue):
    """What a task shows, and by which its image is found again."""

    image: str  # a data: address
    label: str  # the class that it has in the data version


class ChoiceValue(TypedDict):
    """What was chosen."""

    choices: list[str]


class ChoiceResult(TypedDict):
    """A choice as Label Studio has it."""

    from_name: str
    to_name: str
    type: str
    value: ChoiceValue


class Prediction(TypedDict):
    """What is selected before a person looks."""

    model_version: str
    score: float  # 0 .. 1; Label Studio sorts by it
    result: list[ChoiceResult]


class Task(TypedDict):
    """A task as Label Studio imports it."""

    data: TaskData
    predictions: list[Prediction]


class Person(TypedDict):
    """Who annotated, as some versions write it."""

    id: NotRequired[int]
    email: NotRequired[str | None]


class Result(TypedDict):
    """A part of an annotation: a choice, or something else."""

    type: str
    from_name: NotRequired[str]  # the control with which it was made
    value: NotRequired[dict[str, Any]]


class Annotation(TypedDict):
    """What a person did with a task."""

    id: NotRequired[int | str]
    completed_by: NotRequired[Person | int | str | None]
    was_cancelled: NotRequired[bool | None]
    result: list[Result]


class ImageName(TypedDict):
    """The data of a task by which its image is found again."""

    sha256: NotRequired[str]
    filename: str


class ExportedTask(TypedDict):
    """A task in an export as JSON."""

    data: ImageName
    annotations: list[Annotation]


class ExportedAnnotation(ImageName):
    """An annotation in an export as JSON-MIN, which leaves out what was cancelled."""

    annotator: Person | int | str | None
    annotation_id: NotRequired[int | str | None]
    decided_label: NotRequired[Any]  # the class alone; a list or an object of several


def write_project(
    folder: Path, issues: Sequence[Issue], *, pictures: Mapping[str, str], classes: list[str], data_version: str
) -> None:
    """Writes what Label Studio needs to ask about images.

    Args:
        folder: Where the two files are written.
        issues: What the audit says of the images, best first.
        pictures: Their pictures as data: addresses, by file name.
        classes: The names of the classes.
        data_version: Of the images; the predictions are named after it.

    Raises:
        KeyError: The picture of an image is missing.
    """
    (folder / CONFIG).write_text(_make_config(classes), encoding="utf-8")
    drop, spare = name_drop(classes), find_spare_copies(issues)
    tasks = [
        _make_task(
            issue,
            pictures[issue.filename],
            _list_predictions(issue, drop, is_spare=issue.filename in spare),
            model_version=f"audit of {data_version}",
        )
        for issue in issues
    ]
    write_document(folder / TASKS, tasks)


def _make_config(classes: list[str]) -> str:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$suggestion")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
    ElementTree.SubElement(view, "Text", name="why", value="$why")
    control = {"name": CHOICE, "toName": IMAGE, "choice": "single", "required": "true", "showInline": "true"}
    choices = ElementTree.SubElement(view, "Choices", control)
    for name in [*classes, name_drop(classes)]:
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _make_task(issue: Issue, picture: str, predictions: Iterable[tuple[str, float]], *, model_version: str) -> Task:
    return {
        "data": {**describe_issue(issue), "image": picture, "label": issue.label},
        "predictions": [
            {"model_version": model_version, "score": score, "result": [make_choice(choice)]}
            for choice, score in predictions
        ],
    }


def _list_predictions(issue: Issue, drop: str, *, is_spare: bool) -> Iterator[tuple[str, float]]:
    """What the audit suggests, and how sure it is; else what its networks see, if the image was judged.

    Of copies it suggests to keep one, here the first of them, and to drop the others, which are `is_spare`.
    """
    if issue.action == "drop" or is_spare:
        yield drop, issue.confidence
    elif issue.action == "relabel":
        yield issue.new_label, issue.confidence
    elif issue.prediction and issue.probability is not None:
        yield issue.prediction, issue.probability


def make_choice(label: str) -> ChoiceResult:
    """The choice of a label, as Label Studio has it in predictions and annotations."""
    return {"from_name": CHOICE, "to_name": IMAGE, "type": "choices", "value": {"choices": [label]}}


def read_export(path: str | Path, *, shown: str = "") -> Iterator[GivenLabel]:
    """Reads what people chose, from an export as JSON or JSON-MIN.

    Args:
        path: The file.
        shown: What messages call it, if not by its path.

    Yields:
        Each annotation that was not cancelled. Predictions and drafts are no decisions, and no more is anything that is
        annotated beside the choice.

    Raises:
        UserError: The file is no such export, or has no choice of a label, or an annotation has several.
    """
    place = shown or str(path)
    tasks = read_document(Path(path), list[dict[str, Any]], ADVICE, shown=place)
    numbered = [(f"task {show_key(str(task.get('id', number)))}", task) for number, task in enumerate(tasks, 1)]
    control = _find_control(tasks, place)
    for where, task in numbered:
        data = task if _is_minimal(task) else task.get("data")
        if isinstance(data, dict) and "filename" not in data:
            raise UserError(
                f"{place}, {where}: does not say which image it is about; import the tasks.json that export.py writes,"
                " and decide about those."
            )
        try:
            if _is_minimal(task):
                yield from _read_minimal(task, place, where)
            else:
                yield from _read_task(task, place, where, control)
        except ValueError as error:
            raise UserError(f"{place}, {where}: {error}; annotate it again with one choice.") from None


def _is_minimal(task: dict[str, Any]) -> bool:
    return "annotator" in task and "annotations" not in task


def _find_control(tasks: list[dict[str, Any]], place: str) -> str:
    """The name of the choice that gives an image its label: that of config.xml, or else the only one there is.

    Raises:
        UserError: It cannot be told.
    """
    annotated = [task for task in tasks if _is_minimal(task) and task.get("annotation_id") is not None]
    if annotated and not any(CHOICE in task for task in annotated):
        raise UserError(f"{place}: has no choice that is called {CHOICE}; {_SET_UP}, or export the project as JSON.")
    controls = {str(part.get("from_name", "")) for task in tasks for part in _list_choices(task)}
    if CHOICE in controls or len(controls) < 2:
        return CHOICE if CHOICE in controls else next(iter(controls), CHOICE)
    names = ", ".join(map(quote, sorted(controls)))
    raise UserError(f"{place}: has several choices ({names}), and none that is called {CHOICE}; {_SET_UP}.")


def _list_choices(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields what was chosen in a task, as far as it has the right form."""
    for annotation in _list_objects(task.get("annotations")):
        for part in _list_objects(annotation.get("result")):
            if part.get("type") == "choices":
                yield part


def _list_objects(content: Any) -> list[dict[str, Any]]:
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []


def _read_task(task: dict[str, Any], place: str, where: str, control: str) -> Iterator[GivenLabel]:
    exported = parse_row(ExportedTask, task, place=f"{place}, {where}", advice=ADVICE)
    for annotation in exported["annotations"]:
        if not annotation.get("was_cancelled"):
            parts = [
                part
                for part in annotation["result"]
                if part["type"] == "choices" and part.get("from_name", "") == control
            ]
            choices = [_read_choices(part.get("value")) for part in parts]
            label = _choose_only([choice for each in choices for choice in each])
            named = f"{where}, annotation {show_key(str(annotation['id']))}" if "id" in annotation else where
            annotator = _name_annotator(annotation.get("completed_by"))
            yield GivenLabel(named, *_find_image(exported["data"]), label, annotator)


def _read_minimal(task: dict[str, Any], place: str, where: str) -> Iterator[GivenLabel]:
    exported = parse_row(ExportedAnnotation, task, place=f"{place}, {where}", advice=ADVICE)
    if exported.get("annotation_id") is not None:
        chosen = exported.get(CHOICE, [])
        label = _choose_only([chosen] if isinstance(chosen, str) else _read_choices(chosen))
        named = f"{where}, annotation {show_key(str(exported['annotation_id']))}"
        yield GivenLabel(named, *_find_image(exported), label, _name_annotator(exported["annotator"]))


def _read_choices(value: Any) -> list[str]:
    choices = value.get("choices", []) if isinstance(value, dict) else value
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ValueError(f"the choice is {quote(value)}, not the name of a class")
    return choices


def _choose_only(choices: list[str]) -> str:
    if len(choices) > 1:
        raise ValueError(f"has {len(choices)} choices ({', '.join(map(quote, choices[:3]))})")
    return choices[0] if choices else ""


def _find_image(data: ImageName) -> tuple[str, str]:
    return data.get("sha256", "").strip().lower(), data["filename"]


def _name_annotator(person: Person | int | str | None) -> str:
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return "" if person is None else str(person)
