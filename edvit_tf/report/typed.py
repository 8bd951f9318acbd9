"""JSON as frozen dataclasses: a missing key or another type is an error that names its place, a key
that nobody knows is left alone.
"""

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


class ResultsError(ValueError):
    """A value of results.json is missing or of another type; the message names its place."""


def typed(kind: Any, value: Any, place: str) -> Any:
    """A JSON value as `kind`: a dataclass, tuple[X, ...], dict[str, X], "X | None" or a plain type.

    `place` is told in a ResultsError, where the value is of another type or lacks something.
    """
    origin = typing.get_origin(kind)
    if kind is Any:
        return value

    # All our unions are "X | None".
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return typed(typing.get_args(kind)[0], value, place)

    if is_dataclass(kind):
        return _object(kind, value, place)

    if origin is tuple:
        _must_be(value, list, "a list", place)
        inner = typing.get_args(kind)[0]
        return tuple(typed(inner, one, f"{place}[{i}]") for i, one in enumerate(value))

    if origin is dict:
        _must_be(value, dict, "an object", place)
        inner = typing.get_args(kind)[1]
        return {name: typed(inner, one, f"{place}.{name}") for name, one in value.items()}

    # JSON writes 1.0 as 1 in other programs, and Python takes True as an int.
    if kind is float:
        # what was no number: null since NaN is not JSON's; older files have NaN
        if value is None:
            return float("nan")
        _must_be(value, (int, float), "a number", place)
    elif isinstance(value, bool) and kind is not bool:
        raise ResultsError(f"{place} is {value}; it must be of type {kind.__name__}")
    else:
        _must_be(value, kind, f"of type {kind.__name__}", place)
    return value


def _object(kind: Any, value: Any, place: str) -> Any:
    _must_be(value, dict, "an object", place)
    hints = typing.get_type_hints(kind)

    given = {}
    for each in fields(kind):
        where = f"{place}.{each.name}" if place else each.name
        if each.name in value:
            given[each.name] = typed(hints[each.name], value[each.name], where)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ResultsError(f"{place or 'it'} lacks {each.name}")

    return kind(**given)


def _must_be(value: Any, kind: Any, words: str, place: str) -> None:
    if not isinstance(value, kind):
        raise ResultsError(f"{place} is {value!r:.60}; it must be {words}")
