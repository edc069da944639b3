"""The validation report: counts, distributions, findings with their pictures."""

from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from components.shared.formats import examples as columns
from components.shared.formats.examples import ExampleSet
from components.shared.formats.findings import KINDS, Finding
from components.shared.report import render_svg, write_report
from components.shared.thumbnails import draw_thumbnails
from components.validate.anomalies import Statistics

SHOWN = 60  # images shown per kind of finding, or a few more
LISTED = 1000  # the most rows of a table of files, or of findings
NAMED = 20  # the most images that are named in a row


def write_validation_report(
    output: str, *, examples: ExampleSet, statistics: Statistics, findings: list[Finding], is_inferred: bool
) -> None:
    """Writes the page.

    Args:
        output: The path of the HTML file.
        examples: The images.
        statistics: Those of each split, as TFDV computed them.
        findings: What was found, each with its severity.
        is_inferred: Whether the schema was inferred from these images.
    """
    groups: list[dict[str, Any]] = []
    for kind, title in KINDS.items():
        of_kind = [finding for finding in findings if finding["kind"] == kind]
        if of_kind:
            groups.append({"kind": kind, "title": title, "findings": of_kind, "pictured": _pick_pictured(of_kind)})
    shown = {name for group in groups for name, _ in group["pictured"]}
    write_report(
        output,
        "validate/report.html.j2",
        manifest=examples.manifest,
        is_inferred=is_inferred,
        groups=groups,
        listed=LISTED,
        named=NAMED,
        pictures=draw_thumbnails(examples, shown),
        histograms=[
            _plot_histogram(statistics, name, has_legend=not place) for place, name in enumerate(columns.SCALARS)
        ],
    )


def _pick_pictured(findings: list[Finding]) -> list[tuple[str, str]]:
    """The images of the first findings, each with what was found, until there are SHOWN."""
    pictured: list[tuple[str, str]] = []
    for finding in findings:
        if len(pictured) < SHOWN:
            pictured += [(name, finding["message"]) for name in finding["images"][:SHOWN]]
    return pictured


def _plot_histogram(statistics: Statistics, name: str, *, has_legend: bool) -> Markup:
    """The distribution of a scalar in each split, as TFDV counted it, each with area 1."""
    figure = Figure(figsize=(2.5, 2.0), layout="constrained")
    axis = figure.subplots()
    for split, split_statistics in statistics.items():
        features = split_statistics.datasets[0].features
        feature = next(feature for feature in features if feature.path.step[0] == name)
        buckets = feature.num_stats.histograms[0].buckets
        total = sum(bucket.sample_count for bucket in buckets)
        edges = [bucket.low_value for bucket in buckets] + [buckets[-1].high_value]
        widths = [bucket.high_value - bucket.low_value or 1 for bucket in buckets]
        density = [bucket.sample_count / total / width for bucket, width in zip(buckets, widths, strict=True)]
        axis.stairs(density, edges, label=split, linewidth=1.5)
    axis.set_title(name.removeprefix("image/").replace("_", " "), fontsize=10)
    axis.tick_params(labelsize=8)
    axis.set_yticks([])
    if has_legend:
        axis.legend(frameon=False, fontsize=8)
    return render_svg(figure)
