"""Quantities in the units that people say: one function for each. KB, MB and GB are 10^3, 10^6 and
10^9 bytes, as file managers have them.

Two digits are said, three in tables (`digits`); what is infinite or no number is said as it is.
"""

import math
from collections.abc import Sequence

from edvit_tf.report.figures import number

_SIZES = ((1, "B"), (1e3, "KB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_MILLISECONDS = ((1, "ms"), (1e3, "s"))
_COUNTS = ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))

# (seconds of the unit, its name, below how many seconds it is said): 119 s stay seconds
_SECONDS = ((1, "s", 2 * 60), (60, "min", 2 * 3600), (3600, "h", math.inf))


def size(size_bytes: float, digits: int = 2) -> str:
    """ "78 KB", "2.6 MB"."""
    return _said(size_bytes, _SIZES, digits, whole="B")


def milliseconds(value_ms: float, digits: int = 2) -> str:
    """ "0.04 ms", "1.4 ms", "1.2 s"."""
    return _said(value_ms, _MILLISECONDS, digits)


def seconds(value_s: float, digits: int = 2) -> str:
    """ "0.04 s", "42 s", "3.1 min", "2.4 h"."""
    for scale, name, limit in _SECONDS:
        if abs(value_s) < limit:
            return f"{_digits(value_s / scale, digits)} {name}"
    return f"{value_s} s"


def macs(count: float, digits: int = 3) -> str:
    """ "30.7 M", "1.07 G": multiply-accumulates."""
    return _said(count, _COUNTS, digits)


def count(value: float, digits: int = 2) -> str:
    """A rate or another number without a unit: "0.04", "730"."""
    return _digits(value, digits)


def _said(value: float, scales: Sequence[tuple[float, str]], digits: int, whole: str = "") -> str:
    """In the largest unit of which there is at least one, once rounded; `whole` has no decimals."""
    scale, unit = scales[0]
    if math.isfinite(value):
        for larger, name in scales[1:]:
            # 999.6 KB would be said as "1,000 KB"
            if abs(value) / larger * (1 + 5e-4) >= 1:
                scale, unit = larger, name
    shown = f"{value:,.0f}" if unit == whole else _digits(value / scale, digits)
    return f"{shown} {unit}".rstrip()


def _digits(value: float, digits: int) -> str:
    if digits >= 3 or not math.isfinite(value) or value == 0:
        return number(value)

    # 0.037 is said as 0.04, 0.13 as it is, 0.0036 as 0.004: the first digit is never lost
    power = math.floor(math.log10(abs(value)) + 1e-9)
    decimals = max(0, digits - 1 - power)
    if power < -1:
        decimals = -power
    text = f"{value:,.{decimals}f}"
    # 9.97 comes out as "10.0": a digit too many
    if decimals and len(text.replace("-", "").replace(".", "").lstrip("0")) > digits:
        text = text[:-1].rstrip(".")
    return text
