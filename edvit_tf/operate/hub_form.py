"""Whether a page has the form of an aggregator's: anybody may have that port."""

from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Any], bool]
_MOST = 1e15  # no number of a fleet comes near


def is_text(said: Any) -> bool:
    return isinstance(said, str)


def is_flag(said: Any) -> bool:
    return isinstance(said, bool)


def is_number(said: Any) -> bool:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return False
    return abs(said) < _MOST  # nor is NaN


def or_null(form: Form) -> Form:
    """So, or null, or not there."""
    return lambda said: said is None or form(said)


def list_of(form: Form) -> Form:
    return lambda said: isinstance(said, list) and all(map(form, said))


def dict_of(form: Form) -> Form:
    return lambda said: isinstance(said, dict) and all(map(form, said.values()))


def with_fields(fields: Mapping[str, Form]) -> Form:
    """An object with these fields, and any others."""
    return lambda said: (
        isinstance(said, dict) and all(form(said.get(key)) for key, form in fields.items())
    )


_CERTIFICATE = or_null(with_fields({"ends": is_text, "days_left": is_number, "expiring": is_flag}))
_DEVICE = {
    "device": is_text,
    "address": is_text,
    "state": is_text,
    "reason": or_null(is_text),
    "breaker": is_text,
    "breaker_reason": or_null(is_text),
    "hosts": list_of(is_text),
    "silent_seconds": or_null(is_number),
    "last_ms": or_null(is_number),
    "temperature_c": or_null(is_number),
    "throttled": or_null(list_of(is_text)),
    "certificate": _CERTIFICATE,
}
_FLEET = {
    "submodels": dict_of(is_flag),
    "devices": list_of(with_fields(_DEVICE)),
    "certificate": _CERTIFICATE,
}
_COUNTS = dict.fromkeys(("seconds", "answered", "degraded", "refused"), is_number)
_MINUTES = {**_COUNTS, "p50_ms": or_null(is_number), "p95_ms": or_null(is_number)}

is_health = with_fields({"status": is_text, **_FLEET})  # /healthz
is_state = with_fields(  # /live/state
    {
        "fleet": with_fields({"serving": is_flag, "alerts": list_of(is_text), **_FLEET}),
        "about": with_fields({"bundle": is_text, "digest": is_text}),
        "minutes": or_null(with_fields(_MINUTES)),
    }
)
