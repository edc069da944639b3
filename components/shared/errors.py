"""Errors that a user can act on, and the entry points at which they become a sentence and an exit code."""

import contextlib
import functools
import inspect
import re
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from pydantic import ValidationError

Parameters = ParamSpec("Parameters")


class UserError(Exception):
    """A mistake that the user can fix; its text is the sentence to show."""


def exit_on_user_error(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorates the function of a component: a UserError ends the step with its sentence and exit code 1."""

    @functools.wraps(function)
    def step(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except UserError as error:
            sys.exit(str(error))

    # kfp's executor reads the arguments with inspect.getfullargspec, which does not look through a decorator.
    step.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return step


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Runs a command: what goes wrong inside the block becomes a sentence and an exit code.

    A UserError exits with 1, Ctrl-C with 130; a package that is missing is named together with the command to run.
    Warnings are not shown: those of the libraries are about versions of Python, for which a user can do nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except ImportError as error:
        name = error.name or str(error)
        sys.exit(f"{name} is not installed for {sys.executable}; run: make setup-tools && . .venv/bin/activate")
    except OSError as error:
        if not error.filename:
            raise
        sys.exit(f"{error.filename}: cannot be read or written ({error.strerror}).")


def shorten(error: object) -> str:
    """Returns an error's message, on one line and without the full stop, to be put in brackets."""
    return " ".join(str(error).split()).rstrip(".")


def shorten_to_sentence(error: object) -> str:
    """The first sentence of what an error says, on one line and without a full stop."""
    return shorten(getattr(error, "message", error)).split(". ")[0]


def describe_validation(error: "ValidationError") -> str:
    """Says where the first mistake that pydantic found is, and what it is, as the middle of a sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(_show_key(part) for part in first["loc"] if part != "[key]")
    shown = reprlib.repr(first["input"])
    match first["type"]:
        case "missing":
            reason = "is missing"
        case "extra_forbidden":
            reason = "is unknown"
        case "json_invalid":
            reason = f"is not JSON ({first['ctx']['error']})"
        case "value_error":
            reason = str(first["ctx"]["error"])
        case "finite_number":
            reason = f"is {shown}, which is no finite number"
        case _:
            reason = re.sub(r"^\w+ should", lambda _: f"is {shown}, but should", first["msg"])
    return f"{place}: {reason}" if place else reason


def _show_key(key: str | int) -> str:
    """A key of a document as messages show it: as it is, unless it is long or would break the line."""
    text = str(key)
    return text if text.isprintable() and len(text) <= 60 else reprlib.repr(text)


def name_unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does and the list."""
    import difflib  # here, since every component imports this module and none of them needs it

    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what} '{name}' does not exist.{hint} There are: {', '.join(known)}."
