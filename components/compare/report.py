"""The report of the comparison: what changed by class and slice, on which images, and how the data changed."""

from collections.abc import Collection

from markupsafe import Markup
from matplotlib.figure import Figure

from components.shared.errors import UserError
from components.shared.formats.comparison import (
    ClassChange,
    ClassCounts,
    Comparison,
    FigureChange,
    is_relabelled,
    list_notes,
)
from components.shared.formats.examples import ExampleSet
from components.shared.formats.training import find_changed_settings
from components.shared.report import render_svg, write_report
from components.shared.thumbnails import draw_thumbnails

PLOTTED = 60  # the most classes in a plot
GOOD, BAD, NEUTRAL = "#2e7d32", "#c62828", "#5d6b7a"  # as in report.html.j2


def write_comparison_report(output: str, examples: ExampleSet, comparison: Comparison, *, gallery_size: int) -> None:
    """Writes the report.

    Args:
        output: The HTML file to write.
        examples: The images of the previous version.
        comparison: The content of `comparison.json`.
        gallery_size: The most images that a gallery shows.

    Raises:
        UserError: `examples` lacks an image that is to be shown.
    """
    galleries = {
        split: {
            "right": figures["newly_right_images"][:gallery_size],
            "wrong": figures["newly_wrong_images"][:gallery_size],
        }
        for split, figures in comparison["splits"].items()
    }
    shown = {row["filename"] for gallery in galleries.values() for rows in gallery.values() for row in rows}
    pictures = draw_thumbnails(examples, shown)
    for missing in sorted(shown - pictures.keys()):
        raise UserError(f"examples lack {missing} of before_predictions; give the examples that were predicted.")
    write_report(
        output,
        "compare/report.html.j2",
        result=comparison,
        is_relabelled=is_relabelled,
        notes=list_notes(comparison),
        level=f"{100 * comparison['confidence_level']:g} %",
        plots={split: _plot_classes(figures["classes"]) for split, figures in comparison["splits"].items()},
        galleries=galleries,
        pictures=pictures,
        settings_before=comparison["before"]["settings"],
        settings_changed=find_changed_settings(comparison["before"]["settings"], comparison["after"]["settings"]),
        data_totals={split: _sum_counts(counts.values()) for split, counts in comparison["data"]["images"].items()},
    )


def _sum_counts(of_classes: Collection[ClassCounts]) -> ClassCounts:
    return {
        "before": sum(counts["before"] for counts in of_classes),
        "after": sum(counts["after"] for counts in of_classes),
        "augmented_before": sum(counts["augmented_before"] for counts in of_classes),
        "augmented_after": sum(counts["augmented_after"] for counts in of_classes),
    }


def _plot_classes(classes: dict[str, ClassChange]) -> list[Markup]:
    """Plots the changes of F1 and recall, each so narrow that a phone shows it without shrinking the text."""
    f1 = {name: change["f1"] for name, change in classes.items() if change["f1"]}
    recall = {name: change["recall"] for name, change in classes.items() if change["recall"]}
    return [_plot_forest("F1", f1), _plot_forest("recall", recall)]


def _plot_forest(title: str, of_classes: dict[str, FigureChange]) -> Markup:
    most = sorted(of_classes, key=lambda name: -abs(of_classes[name]["change"]))[:PLOTTED]
    changes = {name: of_classes[name] for name in of_classes if name in most}
    title += f", the {len(changes)} largest" if len(changes) < len(of_classes) else ""
    figure = Figure(figsize=(4.6, 0.9 + 0.27 * len(changes)))
    axis = figure.subplots()
    axis.axvline(0, color=NEUTRAL, linewidth=1)
    rows, shown = range(len(changes)), changes.values()
    colors = [GOOD if change["low"] > 0 else BAD if change["high"] < 0 else NEUTRAL for change in shown]
    lows, highs = [change["low"] for change in shown], [change["high"] for change in shown]
    axis.hlines(rows, lows, highs, colors=colors, linewidth=2)
    axis.scatter([change["change"] for change in shown], rows, c=colors, s=36, zorder=3)
    # A class may be called "$5", which matplotlib would take for mathematics.
    axis.set_yticks(rows, labels=[*changes], parse_math=False)
    axis.set(title=f"Change of {title}", ylim=(len(changes) - 0.4, -0.6))
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return render_svg(figure)
