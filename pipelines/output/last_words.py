"""The last words of a stage that failed: its sentence, or the end of all that it and its libraries printed."""

import re

from components.shared.errors import STOPS

ESCAPES = re.compile(r"\x1b\[[\d;]*[A-Za-z]")  # colours, and what else a terminal obeys
# Lines that are not a stage's own last words: kfp's, Kubernetes', TensorFlow's, and the dump of the executor's input.
_LOGGED = (
    r"\d{4}-\d\d-\d\d |\d\d:\d\d:\d\d\.\d{3} - |(WARNING|[IWE]0000|To enable the following)"
    r'|[IWEF]\d{4} \d\d:\d\d|time="\d|Error: exit status'
)
_NOISE = re.compile(rf"$|[\[{{}}\"\]]|{_LOGGED}")
_NOISE_AFTER_SENTENCE = re.compile(_LOGGED)
_TRACE = "Traceback (most recent call last):"
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Failure)\b")  # how Python ends a trace
_LAST_WORDS = 30  # lines


def find_sentence(lines: list[str]) -> str:
    """The sentence with which a stage failed; empty if it did not say any."""
    if STOPS not in lines:
        return ""
    sentence = lines[len(lines) - lines[::-1].index(STOPS) :]
    return "\n".join(line for line in sentence if not _NOISE_AFTER_SENTENCE.match(line))


def find_last_lines(lines: list[str], *, stage: str, log: str) -> str:
    """The error of its trace, or the last lines of a stage; empty if there are none.

    Args:
        lines: what was printed.
        stage: its name, with which the lines begin that show how far it is.
        log: what the reader calls the place of the whole log.
    """
    words = [line for line in lines if not _NOISE.match(line) and not line.startswith(f"{stage}: ")]
    if _TRACE in words:
        error = max((number for number, line in enumerate(words) if _ERROR.match(line)), default=-1)
        words = [f"unexpected, {log} has the trace: {words[error]}", *words[error:][1:]]
    return "\n".join(words[-_LAST_WORDS:])
