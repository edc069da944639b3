"""Errors that a user can act on, and the entry points at which they become a sentence and an exit code."""

import codecs
import contextlib
import functools
import inspect
import io
import locale
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

Parameters = ParamSpec("Parameters")

# A step prints this line before the sentence that it ends with, so that its reader, and the tools, find that among all
# that its libraries print.
STOPS = "The step stops:"


class UserError(Exception):
    """A mistake that the user can fix; its text is the sentence to show."""


def exit_on_user_error(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorates the function of a component: a UserError ends the step with its sentence and exit code 1."""

    @functools.wraps(function)
    def step(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except UserError as error:
            print(STOPS, file=sys.stderr)
            sys.exit(str(error))

    # kfp's executor reads the arguments with inspect.getfullargspec, which does not look through a decorator.
    step.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return step


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Runs a command: what goes wrong inside the block becomes a sentence and an exit code.

    A UserError exits with 1, Ctrl-C with 130; a package that is missing is named together with the command to run.
    Warnings are not shown: those of the libraries are about versions of Python, for which a user can do nothing.
    Names of files are read as UTF-8, and what the terminal cannot show is replaced by a question mark.
    """
    _use_utf8()
    try:
        with warnings.catch_warnings(), explain_missing_packages():
            warnings.simplefilter("ignore")
            yield
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if not error.filename:
            raise
        sys.exit(f"{error.filename}: cannot be read or written ({error.strerror}).")


@contextlib.contextmanager
def explain_missing_packages() -> Iterator[None]:
    """Lets an import of a package that is not there exit with the command that installs it."""
    try:
        yield
    except ImportError as error:
        name = error.name or str(error)
        sys.exit(f"{name} is not installed for {sys.executable}; run: make setup-tools && . .venv/bin/activate")


def _use_utf8() -> None:
    """Starts the command again in Python's UTF-8 mode if the locale has another encoding.

    In that, the names of files would be misread, and a data version would not be that of DVC.
    """
    encoding = locale.getencoding()
    if not sys.flags.utf8_mode and codecs.lookup(encoding).name != "utf-8":
        os.environ["PYTHONIOENCODING"] = f"{encoding}:replace"  # the terminal's own
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def shorten(error: object) -> str:
    """Returns an error's message, on one line and without the full stop, to be put in brackets."""
    return " ".join(str(error).split()).rstrip(".")


def shorten_to_sentence(error: object) -> str:
    """The first sentence of what an error says, on one line and without a full stop."""
    return shorten(getattr(error, "message", error)).split(". ")[0]


def name_unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does and the list."""
    import difflib  # here, since every component imports this module and none of them needs it

    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what} '{name}' does not exist.{hint} There are: {', '.join(known)}."
