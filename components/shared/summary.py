"""The Markdown summary of a stage, which Kubeflow Pipelines shows on the page of its task."""

import re
from collections.abc import Mapping

from components.shared.files import new_file

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&])")  # what Markdown, or HTML within it, may take for markup inside a line


def write_summary(output: str, result: str, figures: Mapping[str, int | float | str], next_step: str) -> None:
    """Writes what a stage has done: a sentence, a list of figures, and what a person does next.

    Args:
        output: The file to write.
        result: The sentence.
        figures: By what they are; text may be of the data.
        next_step: What to look at or to do, in a sentence or two.
    """
    lines = [f"**{_escape(result)}**", ""]
    lines += [f"- {_escape(name)}: {_escape(_format(value))}" for name, value in figures.items()]
    lines += ["", f"Next: {_escape(next_step)}", ""]
    with new_file(output) as path:
        path.write_text("\n".join(lines), encoding="utf-8")


def _escape(text: str) -> str:
    """The text on one line, as it is to be read."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _format(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun: 1 image, 1,200 images."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
