"""A run, and what it has made, each artifact opened as what it is."""

import datetime
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from components.shared.errors import UserError, name_unknown
from components.shared.formats.changes import Change, read_changes
from components.shared.formats.comparison import Comparison, read_comparison
from components.shared.formats.evaluation import Evaluation, read_evaluation
from components.shared.formats.examples import ExampleSet, open_examples
from components.shared.formats.findings import Finding, read_findings
from components.shared.formats.issues import Issue, read_issues
from components.shared.formats.predictions import read_predictions
from components.shared.formats.statistics import FeatureStatistics, read_statistics
from components.shared.formats.training import Epoch, Training, read_history, read_training
from components.shared.formats.transformed_images import TransformedImage, read_transformed
from pipelines.api.show import Page

if TYPE_CHECKING:
    import pandas as pd


class Task(NamedTuple):
    """What became of a task of a run."""

    name: str  # before-train
    stage: str  # the component that it runs: train
    state: str  # waiting, running, succeeded, failed, cancelled or skipped
    seconds: float | None  # that it took, or has been running; None if it has not begun
    message: str = ""  # with which it failed on this machine; on a cluster its log has it


class Run(ABC):
    """A run on this machine or on a cluster.

    The methods that open an artifact take the name of the `task` that made it, such as before-train. Without one they
    open the one that a later run would continue from: the output of the last task that makes it, not counting
    `yardstick`.

    Attributes:
        name: its name.
        experiment: the runs that it belongs with.
        folder: where its pages are on this machine.
    """

    def __init__(self, name: str, experiment: str, folder: Path) -> None:
        """Names the run."""
        self.name, self.experiment, self.folder = name, experiment, folder

    def __repr__(self) -> str:
        """Its name and its state."""
        return f"<{type(self).__name__} {self.name}: {self.state}>"

    @property
    @abstractmethod
    def state(self) -> str:
        """Its state in one word: waiting, running, succeeded, failed or cancelled."""

    @property
    @abstractmethod
    def pipeline(self) -> str:
        """The name of its pipeline."""

    @property
    @abstractmethod
    def started(self) -> datetime.datetime:
        """When it was started, with the time zone."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """How long it took, or has been running."""

    @property
    @abstractmethod
    def tasks(self) -> list[Task]:
        """Its tasks: those of a run on a cluster in the order in which they began."""

    @property
    @abstractmethod
    def outputs(self) -> dict[tuple[str, str], str]:
        """The path or address of each artifact, by the names of its task and of the output."""

    @abstractmethod
    def find_output(self, output: str) -> str | None:
        """The path or address of the run's own artifact of that name; None if it has none."""

    @abstractmethod
    def fetch(self, uri: str) -> Path:
        """The artifact at a path or an address, on this machine."""

    def locate(self, output: str, task: str = "") -> Path:
        """The file or folder of an artifact on this machine, which is fetched from where it lies.

        Raises:
            UserError: the run has made none of that name.
        """
        made = self.outputs
        uri = made.get((task, output)) if task else self.find_output(output)
        if uri is None:
            tasks = {each.name: each.state for each in self.tasks}
            if task and task not in tasks:
                raise UserError(name_unknown(f"run {self.name}: the task", task, tasks))
            if task and tasks[task] != "succeeded":
                raise UserError(f"run {self.name}: {task} has made no artifact '{output}'; its state is {tasks[task]}.")
            if self.state != "succeeded":
                raise UserError(f"run {self.name}: has no artifact '{output}', since it has {self.state}.")
            known = {name for maker, name in made if task in ("", maker)}
            raise UserError(name_unknown(f"run {self.name}: the artifact", output, known))
        return self.fetch(uri)

    def examples(self, task: str = "") -> ExampleSet:
        """The images as ingest wrote them: `examples.manifest`, and `examples.read("train")` for one after another."""
        return open_examples(self.locate("examples", task))

    def statistics(self, task: str = "") -> list[FeatureStatistics]:
        """What TensorFlow Data Validation has counted; needs tensorflow-metadata."""
        return read_statistics(self.locate("statistics", task))

    def findings(self, task: str = "") -> list[Finding]:
        """What validate found to be unusual or wrong."""
        return read_findings(self.locate("findings", task))

    def transformed_images(self, split: str, task: str = "") -> Iterator[TransformedImage]:
        """What the model sees of each image of a split; needs tensorflow-metadata."""
        graph = self.locate("transform_graph", task)
        return read_transformed(self.locate("transformed_examples", task), graph, split)

    def training(self, task: str = "") -> Training:
        """What the model was trained on, how, and which epoch was kept."""
        return read_training(self.locate("model", task))

    def history(self, task: str = "") -> list[Epoch]:
        """A row of figures for each epoch of the training."""
        return read_history(self.locate("history", task))

    def evaluation(self, task: str = "") -> Evaluation:
        """The figures of the model on val and test."""
        return read_evaluation(self.locate("evaluation", task))

    def predictions(self, task: str = "") -> "pd.DataFrame":
        """What the model predicts for each image, by file name; needs pandas, and of very many images pyarrow."""
        return read_predictions(self.locate("predictions", task))

    def issues(self) -> list[Issue]:
        """What the audit says of each image, beginning with what to look at first."""
        return [issue for _, issue in read_issues(self.locate("issues"))]

    def doubted_issues(self, limit: int) -> list[Issue]:
        """What the audit says of the images that it doubts, of no more than these many, the most doubted first.

        Raises:
            UserError: the run has no audit, or `limit` is below 1.
        """
        if limit < 1:
            raise UserError(f"limit is {limit}; it must be 1 or more.")
        return [issue for issue in self.issues() if issue.kinds][:limit]

    def audited_examples(self) -> ExampleSet:
        """The images that the audit is about: in a turn of the loop those of before."""
        return self.examples(next((task for task, output in self.outputs if output == "examples"), ""))

    def export_issues(
        self, tool: Literal["label-studio", "fiftyone"], folder: str | Path, *, limit: int = 1000
    ) -> Path:
        """Writes the images that the audit doubts for another tool; `decisions` of a run takes what that exports.

        Args:
            tool: label-studio for tasks.json, with the audit's predictions, and config.xml, a labelling interface for
                the classes; fiftyone for a data set that it knows as FiftyOneImageClassificationDataset.
            folder: where to; it must not be there.
            limit: the most images, from the first rank on.

        Returns:
            The folder.

        Raises:
            UserError: the run has no audit, the folder is there, or there is no such tool.
        """
        from components.shared.labelling import export_issues  # here, since it needs Pillow

        return export_issues(tool, Path(folder), self.doubted_issues(limit), self.audited_examples())

    def changes(self) -> list[Change]:
        """What curate has done with each image."""
        return read_changes(self.locate("changes"))

    def comparison(self) -> Comparison:
        """What the next version has changed."""
        return read_comparison(self.locate("comparison"))

    @property
    def pages(self) -> list[str]:
        """The names of the pages that a browser opens: index, and its reports."""
        return sorted(path.stem for path in self.folder.glob("*.html"))

    def page(self, name: str = "index") -> Page:
        """A page, which a notebook shows.

        Raises:
            UserError: the run has none of that name.
        """
        if not self.pages:
            raise UserError(f"run {self.name}: has no pages in {self.folder}; `wait` fetches those of a cluster's run.")
        if name not in self.pages:
            raise UserError(name_unknown(f"run {self.name}: the page", name, self.pages))
        return Page(self.folder / f"{name}.html")
