"""Dataclasses that check their own types, and their plain JSON form, whose sha256 names a
configuration.
"""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from edvit_tf.errors import ConfigError


def _matches(value: Any, hint: Any) -> bool:
    """True if `value` is of the type `hint` (the few forms that are used below)."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, h) for h in typing.get_args(hint))
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_matches(v, args[0]) for v in value)
        return len(value) == len(args) and all(
            _matches(v, a) for v, a in zip(value, args, strict=True)
        )
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


class Checked:
    """Mixin for frozen dataclasses: checks field types, converts to and from plain dictionaries."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if not _matches(value, hints[f.name]):
                raise ConfigError(
                    f"{type(self).__name__}.{f.name} is {value!r} ({type(value).__name__}); "
                    f"it must be of type {hints[f.name]}. Change it where the configuration is "
                    "built."
                )
        self.check()

    def check(self) -> None:
        """Raises ConfigError if a value is out of range."""

    def _require(self, ok: bool, name: str, rule: str) -> None:
        if not ok:
            raise ConfigError(
                f"{type(self).__name__}.{name} is {getattr(self, name)!r}; {rule}. "
                "Change it where the configuration is built."
            )

    def to_dict(self) -> dict:
        """Plain dictionary of JSON types (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping) -> typing.Self:
        """The inverse of `to_dict`; raises ConfigError on an unknown or missing key."""
        hints = typing.get_type_hints(cls)
        known = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are: {', '.join(known)}."
            )
        required = [
            name
            for name, f in known.items()
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        missing = [name for name in required if name not in values]
        if missing:
            raise ConfigError(f"{cls.__name__} needs a value for {missing[0]!r}; none was given.")
        return cls(**{name: _revive(value, hints[name]) for name, value in values.items()})

    def replace(self, **changes: Any) -> typing.Self:
        """A copy with some fields changed; raises ConfigError on an unknown field."""
        names = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in names:
                raise ConfigError(
                    f"{type(self).__name__} has no field {name!r}; its fields are: {sorted(names)}."
                )
        return dataclasses.replace(self, **changes)


def _revive(value: Any, hint: Any) -> Any:
    """Turns lists back into tuples and dictionaries back into dataclasses, as `hint` says."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _revive(value, next(h for h in typing.get_args(hint) if h is not type(None)))
    if origin is tuple and isinstance(value, list | tuple):
        args = typing.get_args(hint)
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        return tuple(_revive(v, h) for v, h in zip(value, inner, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
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
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name}: {a!r} -> {b!r}"[:200])
    return found
