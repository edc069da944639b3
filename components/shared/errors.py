"""Errors that a user can act on, and the entry points at which they become a sentence and an exit code."""

import codecs
import contextlib
import errno
import functools
import inspect
import io
import itertools
import locale
import os
import re
import reprlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from components.shared.process import exit_on_signals, leave_nothing_behind

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from pydantic import ValidationError

Parameters = ParamSpec("Parameters")

# A step prints this line before the sentence that it ends with, so that its reader, and the tools, find that among all
# that its libraries print.
STOPS = "The step stops:"
# Tokens of Google, tokens in three parts as OpenID Connect has them, and whatever is sent as one.
TOKEN = re.compile(r"\bya29\.[\w.-]+|\beyJ[\w-]{10,}(\.[\w-]+)*|(?<=\b[Bb]earer )[\w.~+/=-]{8,}")
BLOT = "[token]"
# Escape sequences, line breaks, halves of characters, and what turns the direction of the text around it.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# By these, git's hooks and `git rebase --exec` name their repository. That of a command is the one its folders are in.
REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
# What writing to an open file may say; Python's error does not name the file then.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class UserError(Exception):
    """A mistake that the user can fix; its text is the sentence to show."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a stack trace, which says nothing to the user of a notebook."""
        return [str(self)]


def exit_on_user_error(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorates the function of a component: a mistake ends the step with exit code 1 and a sentence.

    However the step ends, it leaves no process and no temporary file behind (process.py).
    """

    @functools.wraps(function)
    def step(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            with leave_nothing_behind():
                function(*args, **kwargs)
        except UserError as error:
            _stop(str(error))
        except Exception as error:
            if sentence := explain_limit(error):
                _stop(sentence)
            raise

    # kfp's executor reads the arguments with inspect.getfullargspec, which does not look through a decorator.
    step.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return step


def _stop(sentence: str) -> NoReturn:
    print(STOPS, file=sys.stderr)
    sys.exit(sentence)


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Runs a command: what goes wrong inside the block becomes a sentence and an exit code.

    A UserError exits with 1, Ctrl-C with 130; a package that is missing is named together with the command to run.
    Warnings are not shown: those of the libraries are about versions of Python, for which a user can do nothing.
    Names of files are read as UTF-8, and what the terminal cannot show is replaced by a question mark.
    """
    _open_closed_streams()
    _use_utf8()
    for name in REPOSITORY:
        os.environ.pop(name, None)
    try:
        with warnings.catch_warnings(), exit_on_interrupt(), explain_missing_packages():
            warnings.simplefilter("ignore")
            try:
                yield
            finally:
                _flush_output()
    except UserError as error:
        sys.exit(str(error))
    except BrokenPipeError:  # who read the output has enough, as `head` does
        _drop_output()
        sys.exit(128 + signal.SIGPIPE)
    except (OSError, MemoryError) as error:
        if sentence := explain_limit(error):
            sys.exit(sentence)
        raise


@contextlib.contextmanager
def delay_interrupt() -> Iterator[None]:
    """Delays Ctrl-C until the block, which imports packages, has ended: those written in Rust panic otherwise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_closed_streams() -> None:
    """Gives the numbers of stdin, stdout and stderr that the shell has closed to /dev/null.

    The first files that are opened would get them otherwise, and what a library or a child prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
            os.set_inheritable(number, True)


def _flush_output() -> None:
    try:
        if sys.stdout:  # Python has none if the shell closed it
            sys.stdout.flush()
    except OSError as error:
        error.filename = "the output"
        _drop_output()
        raise


def _drop_output() -> None:
    """Lets what Python still has to write to stdout at its end go nowhere, where it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_options(parser: "ArgumentParser") -> "Namespace":
    """Parses the command line; a value that is empty, as of a shell's variable that is not set, is refused.

    Left to the commands, an empty path would be the working folder, and an empty name the default. What is wrong with
    the options is said in one sentence, without argparse's usage above it, which --help shows.
    """
    parser.error = _refuse_options  # type: ignore[method-assign]
    for before, argument in itertools.pairwise(sys.argv):
        if argument == "" or re.fullmatch(r"--[a-z-]+=", argument):
            option = argument.rstrip("=") or (before if before.startswith("-") else "an argument")
            parser.error(f"{option} is empty; give it a value or leave it out")
    _check_options_are_known(parser)
    return parser.parse_args()


def _refuse_options(message: str) -> NoReturn:
    print(message if message.endswith((".", "?")) else f"{message}.", file=sys.stderr)
    sys.exit(2)


def _check_options_are_known(parser: "ArgumentParser") -> None:
    """Checks the names first: argparse would rather say that a required option is missing, which was misspelt."""
    import difflib  # here, as in name_unknown

    known = ["--help", *re.findall(r"--[a-z][a-z-]*", parser.format_usage())]  # where that is called -h
    arguments = itertools.takewhile(lambda argument: argument != "--", sys.argv[1:])
    for option in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
        # What has a blank is a value for argparse, and the beginning of a name stands for it.
        if " " in option or any(name.startswith(option) for name in known):
            continue
        near = difflib.get_close_matches(option, known, 1)
        advice = f"did you mean {near[0]}?" if near else "--help lists those that there are."
        parser.error(f"there is no option {show_key(option)}; {advice}")


def explain_limit(error: Exception) -> str | None:
    """The sentence for a limit of the machine: memory, or a file or folder that cannot be read or written; else None.

    A full disk and a lack of memory are also recognized by their messages, which are all that TensorFlow, Beam and kfp
    pass on.
    """
    if isinstance(error, MemoryError) or re.search(r"^MemoryError\b|\bOOM when allocating\b", str(error)):
        said = re.search(r"OOM when allocating[^\n]*", str(error))
        detail = f" ({cut(said[0])})" if said else ""
        advice = "close other programs, lower batch_size, or run where there is more"
        return f"there is not enough memory{detail}; {advice}."
    place = getattr(error, "filename", None)
    for reason in map(os.strerror, DISK_ERRORS):
        if line := next((line for line in str(error).splitlines() if reason in line), ""):
            named = re.search(rf"(/[^:;]+)[:;] {reason}", line)
            place = place or (named[1] if named else "a file")
            return f"{place}: cannot be written ({reason}); make room there, and run again."
    if isinstance(error, OSError) and place:
        return f"{place}: cannot be read or written ({error.strerror})."
    return None


@contextlib.contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Lets Ctrl-C exit with 130 and without a trace; SIGTERM and SIGHUP unwind the block, too, so that it cleans up."""
    try:
        with exit_on_signals():
            yield
    except KeyboardInterrupt:
        sys.exit(130)


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
    """Returns an error's message, on one line, without tokens and the full stop, to be put in brackets."""
    return clean(blot(" ".join(str(error).split()))).rstrip(".")


def clean(text: str) -> str:
    """The text without what a terminal would obey, and on one line."""
    return UNPRINTABLE.sub("\ufffd", text)


def blot(text: str) -> str:
    """The text without what looks like a token."""
    return TOKEN.sub(BLOT, text)


def shorten_to_sentence(error: object) -> str:
    """The first sentence of what an error says, on one line and without a full stop."""
    return shorten(getattr(error, "message", error)).split(". ")[0]


def describe_validation(error: "ValidationError", words: Mapping[str, str] | None = None) -> str:
    """Says where the first mistake that pydantic found is, and what it is, as the middle of a sentence.

    Args:
        error: What pydantic raised.
        words: What to say of mistakes, by pydantic's name of their type, where there is something better to say.
    """
    first = error.errors(include_url=False)[0]
    place = ".".join(show_key(part) for part in first["loc"] if part != "[key]")
    shown = reprlib.repr(first["input"])
    match first["type"]:
        case known if words and known in words:
            reason = words[known]
        case "missing":
            reason = "is missing"
        case "json_invalid":
            reason = f"is not JSON ({first['ctx']['error']})"
        case "value_error":
            reason = str(first["ctx"]["error"])
        case "finite_number":
            reason = f"is {shown}, which is no finite number"
        case _:
            reason = re.sub(r"^\w+ should", lambda _: f"is {shown}, but should", first["msg"])
    return f"{place}: {reason}" if place else reason


def show_key(key: str | int) -> str:
    """A key or a word of a document as messages show it: as it is, unless it is long or would break the line."""
    text = str(key)
    return cut(text if text.isprintable() else repr(text))


def cut(text: str) -> str:
    """The text for a sentence; of a long one the beginning and the end, which of a path says more."""
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"


def quote(value: object) -> str:
    """A value that came from a person or a file, for a sentence: in quotes if it is text, and not too long."""
    return cut(repr(value))


def name_unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does and the list."""
    import difflib  # here, since every component imports this module and none of them needs it

    known = sorted(known)
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    hint = f" Did you mean {by_lower[near[0]]}?" if near else ""
    return f"{what} '{show_key(name)}' does not exist.{hint} There are: {', '.join(known)}."
