"""Writes docs/api.md from the docstrings of pipelines/api: `python -m pipelines.api.reference [FILE]`."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import is_typeddict

from components.shared.errors import command_line
from components.shared.files import new_file
from components.shared.formats.changes import Change
from components.shared.formats.comparison import (
    AccuracyChange,
    Comparison,
    FigureChange,
    LeftOut,
    SeedChange,
    SplitComparison,
)
from components.shared.formats.evaluation import Evaluation, SplitFigures
from components.shared.formats.examples import ExampleSet, ExamplesManifest, ImageExample
from components.shared.formats.findings import Finding
from components.shared.formats.issues import Issue
from components.shared.formats.statistics import FeatureStatistics
from components.shared.formats.training import Epoch, Training
from components.shared.formats.transformed_images import TransformedImage
from pipelines.api import cluster, decide, machine, packages, run, show
from pipelines.cluster.checks import Check
from pipelines.submission.request import RunOptions

RETURNED = (
    ExampleSet,
    ExamplesManifest,
    ImageExample,
    FeatureStatistics,
    Finding,
    TransformedImage,
    Training,
    Epoch,
    Evaluation,
    SplitFigures,
    Issue,
    Change,
    Comparison,
    SplitComparison,
    AccuracyChange,
    FigureChange,
    SeedChange,
    LeftOut,
    Check,
)
TARGET = Path(__file__).parents[2] / "docs" / "api.md"
HEAD = """\
# The project in Python

Made by `make docs` from the docstrings of `pipelines/api`: edit those, and make it again.

Run Python in the project's folder, or put that first on `sys.path`. `make notebook` installs what shows tables and
pictures; without it, all but those works in the environment of `make setup-tools`.

"""
RETURNS = """\
What has keys in its table is a dictionary: `run.comparison()["splits"]`. What has attributes is an object:
`run.issues()[0].filename`."""


def main() -> None:
    """Writes the page to the file that is named on the command line, and prints its path."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with new_file(target) as path:
        path.write_text(write_reference(), encoding="utf-8")
    print(target)


def write_reference() -> str:
    """The page in Markdown."""
    sections = [HEAD.rstrip(), _write_section("RunOptions", RunOptions)]
    for module in (machine, cluster, run, show, decide, packages):
        sections.append(f"## {module.__name__}\n\n{_write_text(inspect.getdoc(module) or '')}")
        sections += [_write_section(name, thing) for name, thing in _list_own(module)]
    sections += [
        f"## What the methods return\n\n{RETURNS}",
        *(_write_section(kind.__name__, kind) for kind in RETURNED),
    ]
    return "\n\n".join(sections) + "\n"


def _list_own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields the public classes and functions that a module defines."""
    for name, thing in vars(module).items():
        if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__:
            yield name, thing


def _write_section(name: str, thing: Any) -> str:
    """A class with its fields and its public methods, or a function."""
    if inspect.isfunction(thing):
        return f"### {_write_signature(name, thing)}\n\n{_write_text(inspect.getdoc(thing) or '')}"
    parts = [f"### {name}", _write_text(inspect.getdoc(thing) or ""), _write_fields(thing)]
    if thing in (machine.Machine, cluster.Cluster, show.Gallery, decide.Decisions):  # the others are found, not made
        parts.append(_write_member(name, thing.__init__))
    parts += [_write_member(name, member) for name, member in _list_members(thing)]
    return "\n\n".join(filter(None, parts))


def _write_fields(thing: type) -> str:
    """The keys of a dictionary, or the attributes of an object, as the comments beside them have it."""
    if not (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields") or is_typeddict(thing)):
        return ""
    fields = re.findall(r"^    (\w+): (.+?)(?: = [^#\n]+?)?(?:  # (.*))?$", inspect.getsource(thing), re.MULTILINE)
    rows = [f"| `{name}` | {_simplify_type(kind)} | {meaning} |" for name, kind, meaning in fields]
    access = "key" if is_typeddict(thing) else "attribute"
    return "\n".join([f"| {access} | type | meaning |", "| --- | --- | --- |", *rows])


def _simplify_type(annotation: str) -> str:
    """The type without what checks it, and with words that a table can have."""
    bare = re.sub(r"(?:Not)?Required\[(.*)\]", r"\1", re.sub(r"Annotated\[([^,]+), .*\]", r"\1", annotation))
    return bare.replace("|", "or")


def _list_members(thing: type) -> Iterator[tuple[str, Any]]:
    """Yields the members that the class itself documents; of a subclass of Run, those that are its own."""
    for name, member in vars(thing).items():
        documented = inspect.isfunction(member) or isinstance(inspect.unwrap(member), property) or _is_cached(member)
        text = inspect.getdoc(member) or ""
        if documented and not name.startswith("_") and text != "See Run.":
            yield name, member


def _is_cached(member: Any) -> bool:
    return hasattr(member, "attrname")  # functools.cached_property


def _write_member(name: str, member: Any) -> str:
    heading = _write_signature(name, member) if inspect.isfunction(member) else name
    return f"#### {heading}\n\n{_write_text(inspect.getdoc(member) or '')}"


def _write_signature(name: str, function: Any) -> str:
    """The names of the parameters with their defaults, and what comes back."""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values() if each.name != "self"]
    back = signature.return_annotation
    shown = re.sub(r"\b[a-z_]+\.|'", "", back if isinstance(back, str) else inspect.formatannotation(back))
    return f"`{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}`" + (
        f" → {shown}" if back not in (None, signature.empty) else ""
    )


def _write_text(docstring: str) -> str:
    """A docstring in Google's style as Markdown: its sections become lists."""
    lines = []
    in_section = False
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            in_section = True
            lines += [f"*{line}*", ""]
        elif in_section and re.match(r"    \S", line):
            lines.append(f"- {line.strip()}")
        elif in_section and line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            in_section &= not line.strip() or line.startswith(" ")
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    with command_line():
        main()
