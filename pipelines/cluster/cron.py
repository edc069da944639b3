"""The times of a recurring run: six fields, which the server reads as robfig/cron does, seconds first and in UTC."""

from typing import NamedTuple

from components.shared.errors import UserError

EXAMPLE = "such as '0 30 2 * * *' for 2:30 every night"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTH = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))


class Field(NamedTuple):
    """One of the six."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()  # that stand for its numbers, from `low` on


FIELDS = (
    Field("seconds", 0, 59),
    Field("minutes", 0, 59),
    Field("hours", 0, 23),
    Field("days of the month", 1, 31),
    Field("months", 1, 12, MONTHS),
    Field("days of the week", 0, 6, WEEKDAYS),
)


def check_cron(cron: str) -> None:
    """Checks that the server takes the times, and that one of them ever comes.

    Raises:
        UserError: it is not so.
    """
    texts = cron.split()
    if len(texts) != len(FIELDS):
        raise UserError(f"--cron '{cron}': needs six fields, seconds first, {EXAMPLE}.")
    try:
        *_, days, months, _ = [_list_numbers(text, field) for text, field in zip(texts, FIELDS, strict=True)]
    except ValueError as error:
        raise UserError(f"--cron '{cron}': {error}; six fields, seconds first, {EXAMPLE}.") from None
    # A day of the week beside the day of the month is another day on which the run is due.
    if texts[5][0] in "*?" and not any(day <= LONGEST_MONTH[month] for month in months for day in days):
        raise UserError(f"--cron '{cron}': no month that it names has such a day, so the run would never start.")


def _list_numbers(text: str, field: Field) -> set[int]:
    """The numbers that a field stands for.

    Raises:
        ValueError: it stands for none, or says something else; the message is the middle of a sentence.
    """
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        span, slash, step = part.partition("/")
        first, hyphen, last = span.partition("-")
        low = field.low if first in ("*", "?") else _read_number(first, field)
        high = field.high if first in ("*", "?") or (slash and not hyphen) else _read_number(last or first, field)
        if hyphen and (not last or low > high):
            raise ValueError(f"'{part}' is no span of {field.name}")
        if slash and not (step.isascii() and step.isdigit() and int(step)):
            raise ValueError(f"'{part}' has no step of 1 or more behind its slash")
        numbers |= set(range(low, high + 1, int(step or 1)))
    if not numbers:
        raise ValueError(f"'{text}' names no {field.name}")
    return numbers


def _read_number(text: str, field: Field) -> int:
    if text.lower() in field.words:
        return field.low + field.words.index(text.lower())
    if not (text.isascii() and text.isdigit() and field.low <= int(text) <= field.high):
        words = f" or {field.words[0]} to {field.words[-1]}" if field.words else ""
        raise ValueError(f"'{text}' is none of the {field.name}, {field.low} to {field.high}{words}")
    return int(text)
