"""Deciding on doubted images in a notebook; review.html does the same in a browser, for more images at a time."""

import datetime
from html import escape
from pathlib import Path
from typing import Any

from components.shared.errors import UserError
from components.shared.formats.decisions import WORDS, SavedDecision, write_decisions
from components.shared.formats.examples import ImageExample
from components.shared.formats.issues import Issue
from pipelines.api.run import Run


class Decisions:
    """The doubted images of an audit, one after another, and what a person decides about them.

    As the last value of a cell it is shown with buttons; `decide` does what they do. Each decision is saved at once, so
    that `Machine.start(pipeline="improvement", decisions=...)` can use the file, which is named after the person where
    several decide: decisions-anna.csv.
    """

    def __init__(self, run: Run, path: str | Path = "decisions.csv", *, limit: int = 30) -> None:
        """Takes the images that the audit of a run doubts.

        Args:
            run: it has an audit.
            path: the file to save; one that is there must not be.
            limit: the most images, from the first rank on.

        Raises:
            UserError: the run has no audit, or the file is there.
        """
        self.path = Path(path)
        if self.path.exists():
            raise UserError(f"{self.path}: is there already; move it, or name another file.")
        examples = run.audited_examples()
        self.classes = examples.manifest.classes
        self.issues = run.doubted_issues(limit)
        wanted = {issue.filename for issue in self.issues}
        self._images: dict[str, ImageExample] = {
            image.filename: image
            for split in examples.manifest.splits
            for image in examples.read(split)
            if image.filename in wanted
        }
        self.saved: dict[str, SavedDecision] = {}  # by file name
        self.position = 0
        write_decisions(self.path, [])  # so that it is there even if nothing is decided

    @property
    def issue(self) -> Issue | None:
        """What the audit says of the image whose turn it is; None if all have had theirs."""
        return self.issues[self.position] if self.position < len(self.issues) else None

    def decide(self, decision: str, new_label: str = "") -> None:
        """Decides about the image whose turn it is, saves that, and goes on to the next.

        Args:
            decision: keep, relabel, drop or skip.
            new_label: the class, with relabel.

        Raises:
            UserError: there is no image left, or the decision or the class is none.
        """
        issue = self.issue
        if issue is None:
            raise UserError(f"all {len(self.issues)} images have been decided about; {self.path} has the decisions.")
        if decision not in WORDS:
            raise UserError(f"the decision '{decision}' is unknown; it must be one of {', '.join(WORDS)}.")
        if decision == "relabel" and new_label not in self.classes:
            raise UserError(f"the class '{new_label}' is unknown; the classes are {', '.join(self.classes)}.")
        self.saved[issue.filename] = SavedDecision(
            sha256=issue.sha256,
            filename=issue.filename,
            label=issue.label,
            decision=decision,
            new_label=new_label if decision == "relabel" else "",
            decided_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        write_decisions(self.path, self.saved.values())
        self.position += 1

    def _ipython_display_(self) -> None:
        """Shows the image whose turn it is with its buttons."""
        from IPython.display import display  # which only notebooks have

        display(self._make_widget())

    def _make_widget(self) -> Any:
        import ipywidgets as widgets  # likewise

        picture = widgets.Image(layout=widgets.Layout(width="200px"))
        words = widgets.HTML()
        label = widgets.Dropdown(options=self.classes, description="class")
        buttons = [widgets.Button(description=word) for word in WORDS]
        box = widgets.VBox([words, picture, label, widgets.HBox(buttons)])

        def show() -> None:
            issue = self.issue
            if issue is None:
                words.value = f"All {len(self.issues)} images have been decided about; {self.path} has the decisions."
                box.children = (words,)
                return
            image = self._images[issue.filename]
            picture.value, picture.format = image.encoded, image.format
            label.value = issue.new_label or issue.label
            words.value = _write_issue(issue, f"{self.position + 1} of {len(self.issues)}")

        def take(button: Any) -> None:
            self.decide(button.description, label.value if button.description == "relabel" else "")
            show()

        for button in buttons:
            button.on_click(take)
        show()
        return box


def _write_issue(issue: Issue, position: str) -> str:
    """What the audit says of an image, as HTML."""
    return f"<b>{escape(issue.suggestion)}</b> {escape(issue.why)}<br>{position}, {escape(issue.filename)}"
