"""What a parameter may be, and the words for what it may not."""

import datetime
from typing import Any

import pytest

from pipelines.compiler.values import Limits, check_limits, check_value, list_texts, parse_json

TRUTH = "a truth value (as yes, no, on and off are in YAML)"


def problem(value: Any, kind: str) -> str:
    """What check_value says against a value, empty if nothing."""
    try:
        check_value(value, kind)
    except ValueError as error:
        return str(error)
    return ""


def limit(value: Any, others: dict[str, Any] | None = None, **annotations: Any) -> str:
    """What check_limits says against a value, empty if nothing."""
    try:
        check_limits(value, Limits.model_validate(annotations), others or {})
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (["i", "v"], ""),
        (["", "v", ""], "holds '' twice; leave one"),
        ([{"a": 1, "b": [2]}, {"b": [2], "a": 1}], "holds {'a': 1, 'b': [2]} twice; leave one"),
    ],
)
def test_what_is_twice_in_a_list_is_named(value: list[Any], sentence: str):
    assert limit(value, uniqueItems=True) == sentence
    assert limit([*value, *value]) == ""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, "Integer"),
        (2**53, "Integer"),
        (0.5, "Float"),
        (1, "Float"),
        ("a", "String"),
        (True, "Boolean"),
        ([1], "JsonArray"),
    ],
)
def test_a_value_of_the_type_is_taken(value: Any, kind: str):
    assert check_value(value, kind) == value


@pytest.mark.parametrize(
    ("value", "kind", "sentence"),
    [
        ("many", "Integer", "is 'many'; it must be of type Integer"),
        (True, "Integer", "is true; it must be of type Integer"),
        (False, "String", "is false; it must be of type String; put text in quotes"),
        (None, "String", "is null, which is no value; put text in quotes"),
        (float("nan"), "Float", "is nan; it must be a finite number"),
        ({"a": [float("-inf")]}, "JsonObject", "holds -inf; it must be a finite number"),
        (2**53 + 1, "Integer", "is 9007199254740993; Kubeflow Pipelines holds integers up to 9007199254740992"),
        (
            10**400,
            "Integer",
            "is a number of about 400 digits; Kubeflow Pipelines holds integers up to 9007199254740992",
        ),
        ([datetime.date(2024, 1, 1)], "JsonArray", "holds 2024-01-01, which is a date; put text in quotes"),
        ([b"a"], "JsonArray", "holds b'a', which is of the type bytes; put text in quotes"),
        ({1: "a"}, "JsonObject", "has the key 1, which is a number; put it in quotes"),
        ([{True: "a"}], "JsonArray", f"has the key true, which is {TRUTH}; put it in quotes"),
        (
            ["x{{$}}"],
            "JsonArray",
            "holds 'x{{$}}'; Kubeflow Pipelines replaces what begins with {{$, so rename it",
        ),
        (
            {"{{$.x}}": 1},
            "JsonObject",
            "has the key '{{$.x}}'; Kubeflow Pipelines replaces what begins with {{$, so rename it",
        ),
        ("\udcff", "String", r"is '\udcff', which is not Unicode text; rename it"),
    ],
)
def test_what_kubeflow_pipelines_cannot_hold_is_refused(value: Any, kind: str, sentence: str):
    assert problem(value, kind) == sentence


def test_what_is_nested_too_deeply_is_refused():
    assert (
        problem(parse_json("[" * 40 + "]" * 40), "JsonArray") == "is nested more than 30 levels deep; write it flatter"
    )
    with pytest.raises(ValueError, match=r"^nested more than 30 levels deep$"):
        parse_json("[" * 100_000 + "]" * 100_000)


def test_json_with_a_key_twice_is_refused():
    with pytest.raises(ValueError, match=r"^the key a is there twice$"):
        parse_json('[{"b": 1, "a": 1, "a": 1}]')


@pytest.mark.parametrize(
    ("value", "annotations", "sentence"),
    [
        (0, {"minimum": 1}, "is 0; it must be 1 or more"),
        (1, {"minimum": 1}, ""),
        (7, {"minimum": 1, "maximum": 6}, "is 7; it must be from 1 to 6"),
        (7, {"maximum": 6}, "is 7; it must be 6 or less"),
        (0, {"exclusiveMinimum": 0}, "is 0; it must be above 0"),
        (1.0, {"exclusiveMinimum": 0, "exclusiveMaximum": 1}, "is 1.0; it must be above 0 and below 1"),
        (0.5, {"exclusiveMinimum": 0, "exclusiveMaximum": 1}, ""),
        (1, {"minimum": 0, "exclusiveMaximum": 1}, "is 1; it must be 0 or more and below 1"),
        ("x", {"minimum": 0}, "is 'x', which is text; it must be a number"),
        ("x", {"enum": ["drop", "keep"]}, "is 'x'; it must be drop or keep"),
        ([0], {"items": {"type": "string"}}, "holds 0, which is a number; put text in quotes"),
        ([False], {"items": {"type": "string"}}, f"holds false, which is {TRUTH}; put text in quotes"),
        (["a", "b"], {"items": {"enum": ["a", "c"]}}, "holds 'b'; it may be a or c"),
        ([3], {"items": {"minimum": 4}}, "holds 3; it must be 4 or more"),
        ({"x": 1}, {"propertyNames": {"enum": ["a", "b", "c"]}}, "has the key 'x'; it may be a, b or c"),
        ({"x": "b"}, {"additionalProperties": {"enum": ["a"]}}, "has for x 'b'; it may be a"),
        ({"x": "b"}, {"properties": {"x": {"enum": ["a"]}}}, "has for x 'b'; it may be a"),
        ({"x": "b"}, {"properties": {"y": {"enum": ["a"]}}}, ""),
        ({"x": "b"}, {"additionalProperties": {"type": "array"}}, "has for x 'b', which is text; it must be a list"),
    ],
)
def test_limits_in_the_words_of_json_schema(value: Any, annotations: dict[str, Any], sentence: str):
    assert limit(value, **annotations) == sentence


def test_a_limit_may_be_another_parameter():
    assert limit(9, {"most": 8}, minimum=0, maximum="most") == "is 9; it must be from 0 to most, 8"
    assert limit(8, {"most": 8}, minimum=0, maximum="most") == ""
    assert limit(9, {"most": None}, minimum=0, maximum="most") == ""


def test_a_parameter_may_exclude_another_one():
    assert limit(0.5, {"other": ["a"]}, notWith="other") == "is 0.5, but other is ['a']; leave out one of the two"
    for value, other in ((0, ["a"]), (0.5, []), (0.5, None)):
        assert limit(value, {"other": other}, notWith="other") == ""


def test_every_text_is_found_wherever_it_stands():
    assert list(list_texts(["a", {"b": [1, {"c": "d"}]}, None])) == ["a", "b", "c", "d"]
