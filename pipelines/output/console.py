"""Lines and links on the terminal. It loads little, because commands that are done in a moment print links too."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

Item = TypeVar("Item")


class OutputConsole(Console):
    """rich's console on the present stdout, whose lines the width of the terminal does not break."""

    def __init__(self, *, markup: bool = True, soft_wrap: bool = True) -> None:
        """Binds stdout now: it is redirected while kfp.local runs."""
        super().__init__(
            file=sys.stdout,
            soft_wrap=soft_wrap,
            highlight=False,
            markup=markup,
            emoji=False,
            # In a notebook rich would make a block of HTML of each line, with links to files, which lead nowhere there.
            # Lines of plain text are one block.
            force_jupyter=False,
            force_terminal=False if is_notebook() else None,
        )

    def on_broken_pipe(self) -> None:
        """Leaves the error to the caller, as `print` does, where rich would end the process."""
        raise  # the BrokenPipeError that rich is handling when it calls this


def is_notebook() -> bool:
    """Whether what is printed stands below a cell of a notebook."""
    return Console().is_jupyter


def print_line(text: str, markup: bool = False) -> None:
    """A line, or several, never broken by the width of the terminal."""
    OutputConsole(markup=markup).print(text)


def count_on_terminal(items: Iterable[Item], shown: str) -> Iterator[Item]:
    """Passes items on; on a terminal, a line says meanwhile how many there were."""
    console = OutputConsole()
    if not console.is_terminal:
        yield from items
        return
    with console.status(escape(shown)) as status:
        for number, item in enumerate(items, start=1):
            if number % 1000 == 0:
                status.update(escape(f"{shown}: {number:,}"))
            yield item


def link_to(path: Path, shown: str = "") -> str:
    """A path with rich's markup: where the terminal knows links, a click opens the file.

    Args:
        path: the path.
        shown: how it is written; empty: as it is called from here.
    """
    return f"[link={path.resolve().as_uri()}]{escape(shown or os.path.relpath(path))}[/link]"
