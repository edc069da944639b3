"""Deciding on doubted images in a notebook; review.html does the same in a browser, for more images at a time."""

import datetime
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from components.shared.errors import UserError, quote
from components.shared.formats.decisions import WORDS, SavedDecision, read_saved_decisions, write_decisions
from components.shared.formats.examples import ImageExample
from components.shared.formats.issues import Issue
from pipelines.api.run import Run


class Decisions:
    """The doubted images of an audit, one after another, and what a person decides about them.

    As the last value of a cell it is shown with buttons; `decide` and `go_back` do what they do. Each decision is saved
    at once, so that `Machine.start(pipeline="improvement", decisions=...)` can use the file, which is named after the
    person where several decide: decisions-anna.csv.

    Attributes:
        path: the file.
        issues: what the audit says of the images, the most doubted first.
        classes: the names that an image may be given.
        saved: what was decided, by file name, with what the file had before.
        position: the index in `issues` of the current image.
    """

    def __init__(self, run: Run, path: str | Path = "decisions.csv", *, limit: int = 30) -> None:
        """Takes the images that the audit of a run doubts; a file that is there is continued.

        Args:
            run: it has an audit.
            path: the file to save.
            limit: the most images, from the first rank on.

        Raises:
            UserError: the run has no audit, or the file is no decisions.csv, or has decisions about other images.
        """
        self.path = Path(path)
        examples = run.audited_examples()
        self.classes = examples.manifest.classes
        self.issues = run.doubted_issues(limit)
        wanted = {issue.filename for issue in self.issues}
        self._images: dict[str, ImageExample] = {}
        known = set()
        for image in (image for split in examples.manifest.splits for image in examples.read(split)):
            known.add((image.sha256, image.filename))
            if image.filename in wanted:
                self._images[image.filename] = image
        saved = read_saved_decisions(self.path) if self.path.exists() else []
        for decision in saved:
            if (decision.sha256, decision.filename) not in known:
                raise UserError(
                    f"{self.path}: has a decision about {quote(decision.filename)}, which this run did not audit; move"
                    " it, or name another file."
                )
        self.saved = {decision.filename: decision for decision in saved}
        undecided = (at for at, issue in enumerate(self.issues) if issue.filename not in self.saved)
        self.position = next(undecided, len(self.issues))
        self._draw_again: list[Callable[[], None]] = []  # each of the places where the image is shown
        if not saved:
            write_decisions(self.path, [])  # so that it is there even if nothing is decided

    @property
    def issue(self) -> Issue | None:
        """What the audit says of the image whose turn it is; None if all have had theirs."""
        return self.issues[self.position] if self.position < len(self.issues) else None

    def decide(self, decision: str, new_label: str = "") -> None:
        """Decides about the image whose turn it is, saves that, and goes on to the next.

        Args:
            decision: keep, relabel, drop or skip.
            new_label: the class, with relabel; that which the image has makes it keep.

        Raises:
            UserError: there is no image left, or the decision or the class is none.
        """
        issue = self.issue
        if issue is None:
            raise UserError(f"all {len(self.issues)} images have had their turn; {self.path} has the decisions.")
        if decision not in WORDS:
            raise UserError(f"the decision '{decision}' is unknown; it must be one of {', '.join(WORDS)}.")
        if decision == "relabel" and new_label not in self.classes:
            raise UserError(f"the class '{new_label}' is unknown; the classes are {', '.join(self.classes)}.")
        if decision == "relabel" and new_label == issue.label:
            decision = "keep"  # as on the page, since nothing is to change
        self.saved[issue.filename] = SavedDecision(
            sha256=issue.sha256,
            filename=issue.filename,
            label=issue.label,
            decision=decision,
            new_label=new_label if decision == "relabel" else "",
            decided_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        write_decisions(self.path, self.saved.values())
        self._go_to(self.position + 1)

    def go_back(self) -> None:
        """Goes back to the image before, to decide about it again; what was decided stays until then."""
        self._go_to(max(self.position - 1, 0))

    def _go_to(self, position: int) -> None:
        self.position = position
        for draw in self._draw_again:
            draw()

    def _ipython_display_(self) -> None:
        """Shows the image whose turn it is with its buttons."""
        from IPython.display import display  # which only notebooks have

        display(self._make_widget())

    def _make_widget(self) -> Any:
        import ipywidgets as widgets  # likewise

        picture = widgets.Image(layout=widgets.Layout(width="200px"))
        words, problem = widgets.HTML(), widgets.HTML()
        label = widgets.Dropdown(options=self.classes, description="class")
        buttons = [widgets.Button(description=word) for word in WORDS]
        back = widgets.Button(description="back", icon="arrow-left")
        choice = widgets.VBox([picture, label, widgets.HBox(buttons)])
        box = widgets.VBox([words, choice, back, problem])

        def draw() -> None:
            problem.value = ""
            issue = self.issue
            choice.layout.display = "none" if issue is None else None
            if issue is None:
                words.value = f"All {len(self.issues)} images have had their turn; {self.path} has the decisions."
                return
            image = self._images[issue.filename]
            picture.value, picture.format = image.encoded, image.format
            label.value = issue.new_label or issue.prediction or issue.label
            words.value = self._describe(issue)

        def take(button: Any) -> None:
            try:
                self.decide(button.description, label.value if button.description == "relabel" else "")
            except (UserError, OSError) as error:  # which a notebook would not show
                problem.value = escape(str(error))

        for button in buttons:
            button.on_click(take)
        back.on_click(lambda _: self.go_back())
        self._draw_again.append(draw)
        draw()
        return box

    def _describe(self, issue: Issue) -> str:
        """What the audit says of the image whose turn it is, and what was decided about it, as HTML."""
        saved = self.saved.get(issue.filename)
        decided = f", decided: {saved.decision} {saved.new_label}".rstrip() if saved else ""
        place = f"{self.position + 1} of {len(self.issues)}, {issue.filename}{decided}"
        return f"<b>{escape(issue.suggestion)}</b> {escape(issue.why)}<br>{escape(place)}"
