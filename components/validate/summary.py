"""The summary of validate: how many findings of each kind there are."""

from collections.abc import Mapping

from components.shared.formats.findings import KINDS
from components.shared.summary import count, write_summary


def write_validation_summary(output: str, counts: Mapping[str, int]) -> None:
    """Writes the Markdown file.

    Args:
        output: The file to write.
        counts: The number of findings by kind; all of them are warnings, since an error ends the step.
    """
    if total := sum(counts.values()):
        result = f"{count(total, 'finding')}, of which none stops the run."
        next_step = "look at these images in the report. The pipeline improvement says what to do with them."
    else:
        result = "Nothing is unusual about these images."
        next_step = "look at the report of evaluate for what the model gets wrong."
    write_summary(output, result, {KINDS[kind]: number for kind, number in counts.items() if number}, next_step)
