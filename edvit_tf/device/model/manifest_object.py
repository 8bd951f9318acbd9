"""A JSON object of a manifest, whose values are taken out by key, each of one type."""

import math
from typing import Any


class ManifestError(ValueError):
    """A value of a manifest is missing or of another type; the message names its place."""


_REQUIRED: Any = object()


class ManifestObject:
    """`values` as JSON has them; `place` is how messages name the object, "" for the whole."""

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, dict):
            raise ManifestError(f"{place or 'it'} is {_short(values)}; it must be an object")
        self.values = values
        self._place = place

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        return self._take(key, str, "a text", default)

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        return self._take(key, int, "a whole number", default)

    def number(self, key: str) -> float:
        return self._take(key, (int, float), "a number", _REQUIRED)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        return self._take(key, bool, "true or false", default)

    def mapping(self, key: str, default: Any = _REQUIRED) -> dict[str, Any]:
        return self._take(key, dict, "an object", default)

    def object(self, key: str) -> "ManifestObject":
        return ManifestObject(self._take(key, dict, "an object", _REQUIRED), self.at(key))

    def objects(self, key: str) -> list["ManifestObject"]:
        listed = self._take(key, list, "a list of objects", _REQUIRED)
        return [ManifestObject(value, f"{self.at(key)}[{i}]") for i, value in enumerate(listed)]

    def texts(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        return self._list(key, str, "a list of texts", default)

    def integers(self, key: str) -> tuple[int, ...]:
        return self._list(key, int, "a list of whole numbers", _REQUIRED)

    def interval(self, key: str) -> tuple[float, float]:
        """Two finite numbers, the least first."""
        found = self._list(key, (int, float), "the least and the most, two numbers", _REQUIRED)
        if len(found) != 2 or not all(map(_is_finite, found)) or found[0] > found[1]:
            raise ManifestError(
                f"{self.at(key)} is {_short(list(found))}; it must be the least and the most, two "
                "finite numbers"
            )

        return float(found[0]), float(found[1])

    def _list(self, key: str, kind: Any, words: str, default: Any) -> tuple:
        listed = self._take(key, list, words, default)
        for value in listed:
            if not _is(value, kind):
                raise ManifestError(f"{self.at(key)} holds {_short(value)}; it must be {words}")

        return tuple(listed)

    def _take(self, key: str, kind: Any, words: str, default: Any) -> Any:
        if key not in self.values:
            if default is _REQUIRED:
                raise ManifestError(f"{self._place or 'it'} lacks {key!r}")
            return default

        value = self.values[key]
        if not _is(value, kind):
            raise ManifestError(f"{self.at(key)} is {_short(value)}; it must be {words}")
        return value

    def at(self, key: str) -> str:
        """The place of a key, as messages name it."""
        return f"{self._place}.{key}" if self._place else key


def _is(value: Any, kind: Any) -> bool:
    """As isinstance, but true and false are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is no float
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
