"""The summary of compare: whether the next version is better."""

from components.shared.formats.comparison import DIFFERENCES, Comparison
from components.shared.summary import write_summary


def write_comparison_summary(output: str, comparison: Comparison) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        comparison: The content of comparison.json.
    """
    sentences = []
    figures: dict[str, int | str] = {}
    for split, of_split in comparison["splits"].items():
        sentences += [each["verdict"] for each in (of_split, of_split["corrected"]) if each]
        if left_out := of_split.get("left_out"):
            sentences.append(left_out["why"])
        figures |= {
            f"images of {split} that are newly right": of_split["newly_right"],
            f"images of {split} that are newly wrong": of_split["newly_wrong"],
        }
    figures |= {f"images {name}": comparison["data"][name] for name in DIFFERENCES}
    versions: dict[str, int | str] = {
        "data version before": comparison["before"]["data_version"],
        "data version": comparison["after"]["data_version"],
    }
    write_summary(
        output,
        " ".join([*sentences, comparison["training_length"]]),
        figures | versions,
        "look at the images that are newly wrong in the report. If the next version is better, adopt.py keeps it.",
    )
