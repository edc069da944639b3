"""The first page of a run: what it was, its figures beside those of the run before, its reports."""

import itertools
import re
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from components.shared.files import new_file
from components.shared.formats.comparison import DIFFERENCES, Comparison, list_verdicts
from components.shared.formats.evaluation import Evaluation, list_measured_splits
from components.shared.formats.training import Settings, find_changed_settings
from components.shared.seeds import format_seeds
from pipelines.output.results import REPORTS, name_report

FILE = "index.html"
PAGE = Path(__file__).parents[2] / "components/shared/report.html.j2"  # of all reports; the style is taken from it
DESCRIPTIONS = {
    "validate": "what the images are like, and what is unusual about them",
    "train": "how the training went, epoch by epoch",
    "evaluate": "how often the model is right, what it gets wrong, and which images to look at first",
    "audit": "which labels are doubted, and why",
    "curate": "what the next version changes",
    "compare": "what the new version changed: both models on the same images",
    "review": "decide on the doubted images, one by one",
    "disputed": "decide on the images that people disagree about",
    "issues": "all images as a table, for a spreadsheet, those that are doubted first",
    "schema": "what the images must be like; keep it with them, correct it, and give it to later runs with --schema",
    "yardstick": "the new model on the images and labels of before, for the comparison; its own are in after-evaluate",
}
PARTS = {"before": "the images as they were: ", "after": "the new images: "}


class TaskOutput(NamedTuple):
    """An output that a run has."""

    task: str  # before-train
    stage: str  # train
    output: str  # report


class EarlierFigures(NamedTuple):
    """What the run before has measured."""

    run: str  # its name
    page: str  # the address of its first page
    evaluation: Evaluation


class RunOverview(NamedTuple):
    """What the page says of a run, wherever that took place."""

    pipeline: str
    run: str
    end: str  # when it started, and how it ended
    failures: dict[str, str]  # what each task that failed said
    origin: dict[str, str]  # by what each is called: the images, the data version, the config, the command
    outputs: list[TaskOutput]  # in the order of the tasks
    figures: Evaluation | None  # of its model, if it has measured one
    comparison: Comparison | None  # with the data version before, if it has made one
    details: dict[str, str]  # where there is more: words and addresses
    doubt: str = ""  # what makes the comparison doubtful, as a sentence


def write_index(folder: Path, overview: RunOverview, earlier: EarlierFigures | None = None) -> None:
    """Writes the page into the folder of the run.

    Args:
        folder: of the run, with its reports.
        overview: of the run.
        earlier: the figures of the run before of that experiment, if there is one; those of other classes are left out,
            and all where the run has a comparison of its own, which is the fair one.
    """
    classes = sorted(overview.figures["classes"]) if overview.figures else []
    if overview.comparison or (earlier and sorted(earlier.evaluation["classes"]) != classes):
        earlier = None
    style = re.search(r"<style>.*?</style>", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(f"{overview.pipeline} {overview.run}")}</title>
{style[0] if style else ""}
</head>
<body>
<main>
<h1>Run of the pipeline {escape(overview.pipeline)}</h1>
<p class="soft">{escape(overview.end)}</p>
{_list_failures(overview)}
{_tabulate_origin(overview)}
{_write_verdicts(overview.comparison, overview.doubt) if overview.comparison else ""}
{_tabulate_figures(overview.figures, earlier) if overview.figures else ""}
<h2>Reports, in their order</h2>
<ol>
{_list_reports(folder, overview)}
</ol>
<p>{_link_details(overview)}</p>
</main>
</body>
</html>
"""
    with new_file(folder / FILE) as path:
        path.write_text(text, encoding="utf-8")


def _list_failures(overview: RunOverview) -> str:
    return "\n".join(
        f'<p><b class="bad">{escape(task)} failed:</b> {escape(said)}</p>' for task, said in overview.failures.items()
    )


def _tabulate_origin(overview: RunOverview) -> str:
    cells = "\n".join(
        f'<tr><th>{escape(name)}</th><td style="text-align: left"><code>{escape(text)}</code></td></tr>'
        for name, text in {"run": overview.run, **overview.origin}.items()
        if text
    )
    return f'<div class="scroll"><table>\n{cells}\n</table></div>'


def _write_verdicts(comparison: Comparison, doubt: str) -> str:
    """What the next version changed, in sentences, as the report of the comparison has them."""
    counts = ", ".join(f"{comparison['data'][name]:,} {name}" for name in DIFFERENCES if comparison["data"][name])
    sentences = [f"Images: {counts or 'none changed'}.", *list_verdicts(comparison), *filter(None, [doubt])]
    items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>What has changed</h2>\n<ul>\n{items}\n</ul>"


def _tabulate_figures(figures: Evaluation, earlier: EarlierFigures | None) -> str:
    before = list_measured_splits(earlier.evaluation) if earlier else {}
    is_same_version = earlier is not None and earlier.evaluation["data_version"] == figures["data_version"]
    heading = "<th></th><th>accuracy</th>" + ("<th>run before</th><th>change</th>" if earlier else "")
    measured = list_measured_splits(figures)
    has_seeds = any("accuracies" in of_split for of_split in measured.values())
    heading += "<th>95 % interval</th><th>macro F1</th><th>log loss</th><th>images</th>"
    heading += "<th>accuracy, all seeds</th>" if has_seeds else ""
    rows = []
    for split, of_split in measured.items():
        low, high = of_split["accuracy_interval"]
        row = f"<td>{split}</td><td><b>{of_split['accuracy']:.3f}</b></td>"
        if split in before:
            change = of_split["accuracy"] - before[split]["accuracy"]
            tone = ("good" if change > 0 else "bad") if change and is_same_version else "soft"
            row += f'<td>{before[split]["accuracy"]:.3f}</td><td class="{tone}">{change:+.3f}</td>'
        elif earlier:
            row += "<td></td><td></td>"
        row += f"<td>{low:.3f} to {high:.3f}</td><td>{of_split['macro_f1']:.3f}</td><td>{of_split['log_loss']:.3f}</td>"
        row += f"<td>{of_split['images']:,}</td>"
        row += f"<td>{format_seeds(of_split['accuracies'])}</td>" if has_seeds else ""
        rows.append(f"<tr>{row}</tr>")
    table = f'<div class="scroll"><table>\n<tr>{heading}</tr>\n' + "\n".join(rows) + "\n</table></div>"
    explanation = f"\n<p>{_explain_comparison(figures, earlier)}</p>" if earlier else ""
    return f"<h2>Figures</h2>\n{table}{explanation}"


def _explain_comparison(figures: Evaluation, earlier: EarlierFigures) -> str:
    link = f'<a href="{escape(earlier.page)}">{escape(earlier.run)}</a>'
    version = earlier.evaluation["data_version"]
    settings = _list_other_settings(figures["settings"], earlier.evaluation["settings"])
    trained = f" It was trained with other settings: {escape(settings)}." if settings else ""
    if version == figures["data_version"]:
        return f"The run before is {link}, on the same data version.{trained}"
    return (
        f"The run before is {link}, on another data version, <code>{escape(version)}</code>: its images and labels may "
        "be others, so the change is no fair comparison of the two models; the pipelines improvement and comparison "
        f"make one.{trained}"
    )


def _list_other_settings(now: Settings, before: Settings) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {earlier} (now {later})"
        for name, (earlier, later) in find_changed_settings(before, now).items()
    )


def _list_reports(folder: Path, overview: RunOverview) -> str:
    items = []
    tasks = dict.fromkeys((task, stage) for task, stage, _ in overview.outputs)
    for (task, stage), output in itertools.product(tasks, REPORTS):
        file = name_report(task, output)
        if (task, stage, output) in overview.outputs and (folder / file).is_file():
            items.append(
                f'<li><a href="{quote(file)}">{escape(file)}</a>: {_describe_report(task, stage, output)}</li>'
            )
    return "\n".join(items) or "<li>none: no stage that writes one has ended well</li>"


def _link_details(overview: RunOverview) -> str:
    links = (
        f'{escape(words)} <a href="{escape(address)}">{escape(address)}</a>'
        for words, address in overview.details.items()
    )
    return f"{', '.join(links)}."


def _describe_report(task: str, stage: str, output: str) -> str:
    if output != "report":
        return DESCRIPTIONS[output]
    part = task.partition("-")[0]
    return PARTS.get(part, "") + DESCRIPTIONS.get(task, DESCRIPTIONS.get(stage, escape(stage)))
