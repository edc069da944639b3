"""The values of parameters: what Kubeflow Pipelines can hold, and what a contract allows."""

import datetime
import json
import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from components.shared.artifacts import PLACEHOLDER
from components.shared.errors import cut, show_key
from components.shared.fixed_models import list_models
from components.shared.formats.documents import find_repeated_key
from pipelines.compiler.config import Strict
from pipelines.compiler.yaml_files import DEEPEST

PYTHON_TYPES = {"String": str, "Integer": int, "Float": float, "Boolean": bool, "JsonArray": list, "JsonObject": dict}
LARGEST_INTEGER = 2**53  # Kubeflow Pipelines keeps numbers as doubles, which hold no larger one exactly
_JSON_TYPES = {"string": str, "array": list, "object": dict}
_NAMES = {
    bool: "a truth value (as yes, no, on and off are in YAML)",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    str: "text",
}

Bound = int | float | str  # a number, or the name of the parameter that holds it


class Limits(Strict):
    """What a parameter may be, in the words of JSON Schema; a contract has it under `annotations`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["string", "array", "object"] | None = None  # of what is in a list or an object
    enum: list[str] | Literal["models"] | None = None  # the values; "models": the names of those in models/
    minimum: Bound | None = None
    maximum: Bound | None = None
    exclusive_minimum: Bound | None = Field(default=None, alias="exclusiveMinimum")
    exclusive_maximum: Bound | None = Field(default=None, alias="exclusiveMaximum")
    items: "Limits | None" = None  # of each value of a list
    unique_items: bool | None = Field(default=None, alias="uniqueItems")  # of a list: none is there twice
    properties: "dict[str, Limits]" = {}  # of the value of an object's key, by the key
    property_names: "Limits | None" = Field(default=None, alias="propertyNames")  # of each key of an object
    additional_properties: "Limits | None" = Field(default=None, alias="additionalProperties")  # of each value of one
    # Not a word of JSON Schema: another parameter, which must be 0 or empty unless this one is.
    not_with: str | None = Field(default=None, alias="notWith")

    @property
    def bounds(self) -> list[Bound]:
        """The smallest and largest numbers, or the names of the parameters that hold them."""
        given = (self.minimum, self.maximum, self.exclusive_minimum, self.exclusive_maximum)
        return [bound for bound in given if bound is not None]


def parse_json(text: str) -> Any:
    """The value that JSON text stands for.

    Raises:
        ValueError: it is no JSON, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_make_object)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (key := find_repeated_key(pairs)) is not None:
        raise ValueError(f"the key {key} is there twice")
    return dict(pairs)


def check_value(value: Any, kind: str) -> Any:
    """The value of a parameter as Python has it, if it is of the parameter's type.

    Args:
        value: as JSON or YAML has it.
        kind: the type in the contract, such as Integer.

    Raises:
        ValueError: it is not; the text goes on after the parameter's name: "is 'many'; it must be of type Integer".
    """
    check_holdable(value)
    try:
        return TypeAdapter(PYTHON_TYPES[kind]).validate_python(value, strict=True)
    except ValidationError:
        quotes = "; put text in quotes" if kind == "String" else ""
        raise ValueError(f"is {show(value)}; it must be of type {kind}{quotes}") from None


def check_holdable(value: Any, verb: str = "is", level: int = 0) -> None:
    """Checks that Kubeflow Pipelines hands a value on as it is.

    Args:
        value: as Python has it.
        verb: how the sentence goes on after the parameter's name.
        level: how many lists and objects the value is within.

    Raises:
        ValueError: as check_value says it.
    """
    if level > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} levels deep; write it flatter")
    if isinstance(value, str):
        _check_text(value, verb)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{verb} {value}; it must be a finite number")
    elif isinstance(value, int) and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        raise ValueError(f"{verb} {show(value)}; Kubeflow Pipelines holds integers up to {LARGEST_INTEGER}")
    elif isinstance(value, list):
        for each in value:
            check_holdable(each, "holds", level + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise ValueError(f"has the key {show(key)}, which is {_name_type(key)}; put it in quotes")
            _check_text(key, "has the key")
            check_holdable(each, "holds", level + 1)
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{verb} {show(value)}, which is {_name_type(value)}; put text in quotes")


def _check_text(text: str, verb: str) -> None:
    if PLACEHOLDER in text:
        raise ValueError(
            f"{verb} {show(text)}; Kubeflow Pipelines replaces what begins with {PLACEHOLDER}, so rename it"
        )
    if not text.isprintable():  # quick, and so is most text
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{verb} {show(text)}, which is not Unicode text; rename it") from None


def list_texts(value: Any) -> Iterator[str]:
    """Every text within a value, the keys of objects included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from list_texts(each)
    elif isinstance(value, dict):
        yield from list_texts([*value, *value.values()])


def check_limits(value: Any, limits: Limits, others: Mapping[str, Any], verb: str = "is") -> None:
    """Checks that the contract allows a value.

    Args:
        value: of the parameter, and of its type.
        limits: what the contract allows.
        others: the values of the stage's other parameters, to which the limits may refer.
        verb: how the sentence goes on after the parameter's name.

    Raises:
        ValueError: it does not; the text goes on after the parameter's name: "is 0; it must be 1 or more".
    """
    if limits.type and not isinstance(value, _JSON_TYPES[limits.type]):
        wanted = _NAMES[_JSON_TYPES[limits.type]]
        advice = "put text in quotes" if limits.type == "string" else f"it must be {wanted}"
        raise ValueError(f"{verb} {show(value)}, which is {_name_type(value)}; {advice}")
    allowed = list_models() if limits.enum == "models" else limits.enum
    if allowed is not None and value not in allowed:
        raise ValueError(f"{verb} {show(value)}; it {'must be' if verb == 'is' else 'may be'} {_join(allowed)}")
    _check_bounds(value, limits, others, verb)
    if value and limits.not_with and (other := others.get(limits.not_with)):
        raise ValueError(f"{verb} {show(value)}, but {limits.not_with} is {show(other)}; leave out one of the two")
    if isinstance(value, list) and limits.items:
        for each in value:
            check_limits(each, limits.items, others, "holds")
    if isinstance(value, list) and limits.unique_items:
        counts = Counter(json.dumps(each, sort_keys=True) for each in value)  # lists and objects have no hash
        if twice := next((text for text, count in counts.items() if count > 1), None):
            raise ValueError(f"holds {show(json.loads(twice))} twice; leave one")
    if isinstance(value, dict):
        for key, each in value.items():
            check_limits(key, limits.property_names or Limits(), others, "has the key")
            own = limits.properties.get(key, limits.additional_properties or Limits())
            check_limits(each, own, others, f"has for {key}")


def _check_bounds(value: Any, limits: Limits, others: Mapping[str, Any], verb: str) -> None:
    if limits.bounds and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{verb} {show(value)}, which is {_name_type(value)}; it must be a number")
    numbers = {bound: others.get(bound) if isinstance(bound, str) else bound for bound in limits.bounds}
    comparisons = (
        (operator.ge, limits.minimum, "{} or more"),
        (operator.gt, limits.exclusive_minimum, "above {}"),
        (operator.le, limits.maximum, "{} or less"),
        (operator.lt, limits.exclusive_maximum, "below {}"),
    )
    given = [(fits, bound, words) for fits, bound, words in comparisons if bound is not None]
    known = [(fits, numbers[bound]) for fits, bound, _ in given]
    if all(number is None or fits(value, number) for fits, number in known):
        return
    shown = {bound: f"{bound}, {number}" if isinstance(bound, str) else str(bound) for bound, number in numbers.items()}
    if limits.minimum is not None and limits.maximum is not None:
        allowed = f"from {shown[limits.minimum]} to {shown[limits.maximum]}"
    else:
        allowed = " and ".join(words.format(shown[bound]) for _, bound, words in given)
    raise ValueError(f"{verb} {show(value)}; it must be {allowed}")


def show(value: Any) -> str:
    """A value for a sentence: as JSON has it, but with text in single quotes, and not all of it if it is long."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int) and abs(value) > 10**80:
        return f"a number of about {math.log10(abs(value)):.0f} digits"
    text = value.isoformat() if isinstance(value, datetime.date) else repr(value)
    return cut(text)


def _name_type(value: Any) -> str:
    if value is None:
        return "no value"
    if isinstance(value, datetime.date):
        return "a date"
    return _NAMES.get(type(value), f"of the type {type(value).__name__}")


def _join(words: list[str]) -> str:
    words = [show_key(word) for word in words]  # which somebody may have written into a contract
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
