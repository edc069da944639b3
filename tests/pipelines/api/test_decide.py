"""What the buttons of a notebook do, on the run of test_export.py."""

import csv
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import UserError
from components.shared.formats.decisions import read_decisions
from pipelines.api.decide import Decisions
from pipelines.api.machine import MachineRun
from tests.test_export import known, run

__all__ = ["run"]  # the fixture


class Widget:
    """The widget of a cell, as a person uses it."""

    def __init__(self, decisions: Decisions) -> None:
        self._words, self._choice, self._back, self._problem = decisions._make_widget().children

    def click(self, word: str, label: str = "") -> None:
        picture, classes, buttons = self._choice.children
        if label:
            classes.value = label
        (button,) = [each for each in (*buttons.children, self._back) if each.description == word]
        button.click()

    @property
    def offered(self) -> str:
        """The class that the list of classes begins with."""
        return str(self._choice.children[1].value)

    @property
    def shown(self) -> str:
        return str(self._words.value)

    @property
    def picture(self) -> bytes:
        return bytes(self._choice.children[0].value)

    @property
    def problem(self) -> str:
        return str(self._problem.value)

    @property
    def has_picture(self) -> bool:
        return self._choice.layout.display != "none"


def read(path: Path) -> list[tuple[str, str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["filename"], row["decision"], row["new_label"]) for row in csv.DictReader(file)]


def test_a_button_decides_about_the_image_that_is_shown(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    decisions = Decisions(run, path, limit=3)
    names = [issue.filename for issue in decisions.issues]
    encoded = {image.filename: image.encoded for image in run.examples().read("train")}
    widget, other = Widget(decisions), Widget(decisions)
    assert widget.shown.endswith(f"1 of 3, {names[0]}")
    assert widget.picture == encoded[names[0]]
    decisions.decide("skip")  # as the next cell may
    for each in (widget, other):
        assert each.shown.endswith(f"2 of 3, {names[1]}")
        assert each.picture == encoded[names[1]]
    widget.click("drop")
    assert other.offered == "x"  # what the audit's networks say, as it suggests nothing
    other.click("relabel", "x")
    assert read(path) == [(names[0], "skip", ""), (names[1], "drop", ""), (names[2], "relabel", "x")]
    assert widget.shown == f"All 3 images have had their turn; {path} has the decisions."
    assert not widget.has_picture
    assert [one.outcome for one in read_decisions(path, known(run), decisions.classes)[""]] == ["", "x"]


def test_one_goes_back_to_decide_again(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    decisions = Decisions(run, path, limit=1)
    widget = Widget(decisions)
    widget.click("drop")
    widget.click("back")
    assert widget.has_picture
    assert widget.shown.endswith(", decided: drop")
    widget.click("back")  # there is none before it
    widget.click("keep")
    assert read(path) == [(decisions.issues[0].filename, "keep", "")]


def test_the_label_that_an_image_has_keeps_it(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    decisions = Decisions(run, path, limit=2)
    names, labels = zip(*((issue.filename, issue.label) for issue in decisions.issues), strict=True)
    decisions.decide("relabel", labels[0])
    Widget(decisions).click("relabel", labels[1])
    assert read(path) == [(name, "keep", "") for name in names]


def test_a_file_is_continued(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    first = Decisions(run, path, limit=2)
    assert read(path) == []
    first.decide("relabel", "v")
    again = Decisions(run, path, limit=3)
    assert (again.position, again.saved) == (1, first.saved)
    again.decide("keep")
    names = [issue.filename for issue in again.issues]
    assert read(path) == [(names[0], "relabel", "v"), (names[1], "keep", "")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            f"sha256,filename,label,decision,new_label,decided_at\n{'e' * 64},train/i/9.png,i,keep,,\n",
            ": has a decision about 'train/i/9.png', which this run did not audit; move it, or name another file.",
        ),
        ("filename,label\ntrain/i/9.png,i\n", ": no column sha256, decision, new_label, decided_at; move it, or"),
    ],
)
def test_a_file_of_something_else_is_kept(content: str, sentence: str, run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        Decisions(run, path)
    assert str(refused.value).startswith(f"{path}{sentence}")
    assert path.read_text() == content


def test_what_cannot_be_decided_is_a_sentence(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    decisions = Decisions(run, path, limit=1)
    attempts: list[Any] = [("relabel", "z"), ("fix",), ("keep",), ("keep",)]
    said = []
    for attempt in attempts:
        try:
            decisions.decide(*attempt)
        except UserError as error:
            said.append(str(error))
    assert said == [
        "the class 'z' is unknown; the classes are i, v, x.",
        "the decision 'fix' is unknown; it must be one of keep, relabel, drop, skip.",
        f"all 1 images have had their turn; {path} has the decisions.",
    ]


def test_a_file_that_cannot_be_written_is_named_beside_the_buttons(run: MachineRun, tmp_path: Path) -> None:
    path = tmp_path / "folder/decisions.csv"
    widget = Widget(Decisions(run, path, limit=1))
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file in the place of the folder")
    widget.click("drop")
    assert str(path.parent) in widget.problem
    assert widget.shown.endswith(f"1 of 1, {run.doubted_issues(1)[0].filename}")
