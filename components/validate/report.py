"""The validation report: counts, distributions, findings with their pictures."""

from typing import TYPE_CHECKING, Any

from components.shared.formats import examples
from components.shared.formats.examples import ExampleSet
from components.shared.formats.findings import KINDS, Finding
from components.shared.report import svg, thumbnails, write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from components.validate.anomalies import Statistics

SHOWN = 60  # images shown per kind of finding


def write_validation_report(
    output: str,
    images: ExampleSet,
    statistics: "Statistics",
    found: list[Finding],
) -> None:
    groups: list[dict[str, Any]] = []
    for kind, title in KINDS.items():
        findings = [finding for finding in found if finding["kind"] == kind]
        if findings:
            groups.append({"kind": kind, "title": title, "findings": findings, "pictured": _first_images(findings)})
    shown = {name for group in groups for finding in group["pictured"] for name in finding["images"]}
    write_report(
        output,
        "validate/report.html.j2",
        manifest=images.manifest,
        groups=groups,
        pictures=thumbnails(images, shown),
        histograms=svg(_histograms(statistics)),
    )


def _first_images(findings: list[Finding]) -> list[Finding]:
    """The findings about images, as many as hold SHOWN of them."""
    pictured, count = [], 0
    for finding in findings:
        if finding["images"] and count < SHOWN:
            pictured.append(finding)
            count += len(finding["images"])
    return pictured


def _histograms(statistics: "Statistics") -> "Figure":
    """Each scalar's distribution per split, as TFDV counted it, each with area 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    axes = figure.subplots(2, 4).flat
    for axis, name in zip(axes, examples.SCALARS, strict=False):
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
    last = list(figure.axes)[len(examples.SCALARS)]
    last.legend(*figure.axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    last.axis("off")
    return figure
