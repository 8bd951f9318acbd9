"""Dataclasses that check their own types, and their plain JSON form, whose sha256 names a
configuration.
"""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from edvit_tf.errors import ConfigError


class Checked:
    """Mixin for frozen dataclasses: checks field types, converts to and from plain dictionaries."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # every class of ours is a dataclass

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if not _matches(value, hint):
                raise ConfigError(
                    f"{type(self).__name__}.{field.name} is {value!r} ({type(value).__name__}); "
                    f"it must be of type {hint}. Change it where the configuration is built."
                )

        # After the types: `check` may compare numbers without asking what they are.
        self.check()

    def check(self) -> None:
        """Raises ConfigError if a value is out of range."""

    def _require(self, ok: bool, name: str, rule: str) -> None:
        if not ok:
            raise ConfigError(
                f"{type(self).__name__}.{name} is {getattr(self, name)!r}; {rule}. Change it "
                "where the configuration is built."
            )

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        known = getattr(self, name) in choices
        self._require(known, name, f"it must be one of {', '.join(choices)}")

    def to_dict(self) -> dict:
        """Plain dictionary of JSON types (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping) -> typing.Self:
        """The inverse of `to_dict`; raises ConfigError on an unknown or missing key."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in sorted(set(values) - set(known)):
            raise ConfigError(
                f"{cls.__name__} has no field {name!r}; its fields are: {', '.join(known)}."
            )

        for name, field in known.items():
            if name not in values and not _has_default(field):
                raise ConfigError(f"{cls.__name__} needs a value for {name!r}; none was given.")

        hints = typing.get_type_hints(cls)
        return cls(**{name: _revive(value, hints[name]) for name, value in values.items()})

    def replace(self, **changes: Any) -> typing.Self:
        """A copy with some fields changed; raises ConfigError on an unknown field."""
        names = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            if name not in names:
                raise ConfigError(
                    f"{type(self).__name__} has no field {name!r}; its fields are: {sorted(names)}."
                )

        return dataclasses.replace(self, **changes)


def _has_default(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _matches(value: Any, hint: Any) -> bool:
    """True if `value` is of the type `hint` (the few forms that are used below)."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True

    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, one) for one in args)

    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = _inner_hints(args, len(value))
        return len(value) == len(inner) and all(map(_matches, value, inner))

    if origin in (dict, Mapping):
        return isinstance(value, Mapping)

    # An int is a float's value too, but True is neither of the two.
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)

    return isinstance(value, hint)


def _inner_hints(args: tuple, length: int) -> tuple:
    """The hints of a tuple's places: `length` times the first where the hint is (X, ...)."""
    if len(args) == 2 and args[1] is Ellipsis:
        return (args[0],) * length
    return args


def _revive(value: Any, hint: Any) -> Any:
    """Turns lists back into tuples and dictionaries back into dataclasses, as `hint` says."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _revive(value, next(one for one in args if one is not types.NoneType))

    if origin is tuple and isinstance(value, list | tuple):
        inner = _inner_hints(args, len(value))
        return tuple(_revive(one, its) for one, its in zip(value, inner, strict=True))

    if isinstance(hint, type) and issubclass(hint, Checked) and isinstance(value, Mapping):
        return hint.from_dict(value)
    return value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the form whose sha256 is a digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Readable list of the leaves in which two nested dictionaries differ: "seed: 0 -> 1"."""
    found = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)

        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name}: {before!r} -> {after!r}"[:200])

    return found
