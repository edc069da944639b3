"""YAML as people write it, read so that nothing of it is lost or misread without a word."""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from components.shared.errors import UserError, shorten

DEEPEST = 30  # levels of lists and mappings within each other
_MOST_VALUES = 100_000  # in a file, where an alias counts as all that it stands for


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: it cannot be read, has a key twice, or holds more than any file of this project needs.
    """
    text = _read_text(path)
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{path}, line {mark.line + 1 if mark else 1}: {shorten(problem)}; correct it.") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise UserError(f"{path}: cannot be read as YAML ({shorten(error)}); correct it.") from None
    except RecursionError:
        raise UserError(f"{path}: nested more than {DEEPEST} levels deep; write it flatter.") from None


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if b"\0" in data:  # UTF-16 and UTF-32
            raise UserError(f"{path}: not UTF-8; save it as UTF-8.")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there and may be read.") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's, but with the numbers of YAML 1.2, and with the line of a value that Python cannot hold."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a day that does not exist, or a number of thousands of digits
            is_long = len(node.value) > 100
            problem = f"a number of {len(node.value):,} digits" if is_long else f"{node.value}: {error}"
            raise ConstructorError(None, None, problem, node.start_mark) from None


# PyYAML reads YAML 1.1, where 010 is eight, 1:30 is ninety, and 1e-3 is text. These are the numbers of YAML 1.2.
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] not in (_INT, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor(_INT, _construct_int)


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        _check_keys(loader, root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuses what is nested too deeply, and aliases that stand for very much or for what they are part of."""
    measured: dict[yaml.Node, tuple[int, int]] = {}  # the values in each node and its levels; while that is open, none

    def measure(node: yaml.Node) -> tuple[int, int]:
        if node not in measured:
            measured[node] = (0, 0)
            inner = [measure(child) for child in _list_children(node)]
            measured[node] = (
                1 + sum(values for values, _ in inner),
                1 + max((levels for _, levels in inner), default=0),
            )
        elif measured[node] == (0, 0):
            raise ComposerError(None, None, "the alias stands for what it is part of", node.start_mark)
        return measured[node]

    values, levels = measure(root)
    if levels > DEEPEST:
        raise RecursionError
    if values > _MOST_VALUES:
        raise ComposerError(None, None, f"more than {_MOST_VALUES:,} values, with those of aliases", root.start_mark)


def _check_keys(loader: _Loader, root: yaml.Node) -> None:
    """Refuses keys that stand twice in a mapping: Python's dictionary would keep the last one alone."""
    waiting, known = [root], {root}
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            _check_keys_of(loader, node)
        new = [child for child in _list_children(node) if child not in known]
        known.update(new)
        waiting += reversed(new)  # in the order of the file


def _check_keys_of(loader: _Loader, mapping: yaml.MappingNode) -> None:
    lines: dict[Any, int] = {}
    for key in [key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)]:
        # Keys are the same if they are for Python, such as 1 and 01. <<, which merges another mapping, is no value.
        name = key.value if key.tag == "tag:yaml.org,2002:merge" else loader.construct_object(key)
        if name in lines:
            problem = f"{key.value} is there twice, first in line {lines[name]}"
            raise ComposerError(None, None, problem, key.start_mark)
        lines[name] = key.start_mark.line + 1


def _list_children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
