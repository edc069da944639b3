"""The comparison as a page: the verdict, what changed by class and slice, the images that changed sides, the data."""

from typing import TYPE_CHECKING, Any

from components.shared.errors import UserError
from components.shared.report import svg, thumbnails, write_report

if TYPE_CHECKING:
    from markupsafe import Markup

GOOD, BAD, NEUTRAL = "#2e7d32", "#c62828", "#5d6b7a"  # as in report.html.j2


def write_comparison_report(
    output: str, examples: str, manifest: dict[str, Any], result: dict[str, Any], gallery_size: int
) -> None:
    """Galleries show at most `gallery_size` images each, of those that `examples` hold.

    Raises:
        UserError: `examples` lacks an image that is to be shown.
    """
    galleries = {
        split: {name: figures[f"newly_{name}_images"][:gallery_size] for name in ("right", "wrong")}
        for split, figures in result["splits"].items()
    }
    shown = {row["filename"] for each in galleries.values() for rows in each.values() for row in rows}
    pictures = thumbnails(examples, manifest, shown)
    for missing in sorted(shown - pictures.keys()):
        raise UserError(f"examples: {missing} of before_predictions is not in them; give those that were predicted.")
    settings = [version["settings"] for version in (result["before"], result["after"])]
    write_report(
        output,
        "compare/report.html.j2",
        result=result,
        level=f"{100 * result['confidence_level']:g} %",
        plots={split: _class_plots(figures["classes"]) for split, figures in result["splits"].items()},
        galleries=galleries,
        pictures=pictures,
        settings_before=settings[0],
        settings_changed={
            name: tuple(each.get(name, "not set") for each in settings)
            for name in {**settings[0], **settings[1]}
            if settings[0].get(name) != settings[1].get(name)
        },
        data_totals={
            split: {
                name: sum(counts[name] for counts in of_classes.values())
                for name in ("before", "after", "augmented_before", "augmented_after")
            }
            for split, of_classes in result["data"]["images"].items()
        },
    )


def _class_plots(classes: dict[str, Any]) -> list["Markup"]:
    """The changes of F1 and recall as forest plots: narrow ones, that a phone can show without shrinking the text."""
    present = {name: each for name, each in classes.items() if each["images"]}
    return [
        _forest(title, {name: each[figure] for name, each in present.items()})
        for figure, title in (("f1", "F1"), ("recall", "recall"))
    ]


def _forest(title: str, changes: dict[str, dict[str, float]]) -> "Markup":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 0.9 + 0.27 * len(changes)))
    axis = figure.subplots()
    axis.axvline(0, color=NEUTRAL, linewidth=1)
    rows, shown = range(len(changes)), changes.values()
    colors = [GOOD if each["low"] > 0 else BAD if each["high"] < 0 else NEUTRAL for each in shown]
    axis.hlines(rows, [each["low"] for each in shown], [each["high"] for each in shown], colors=colors, linewidth=2)
    axis.scatter([each["change"] for each in shown], rows, c=colors, s=36, zorder=3)
    # A class may be called "$5".
    axis.set_yticks(rows, labels=[*changes], parse_math=False)
    axis.set(title=f"Change of {title}", ylim=(len(changes) - 0.4, -0.6))
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return svg(figure)
