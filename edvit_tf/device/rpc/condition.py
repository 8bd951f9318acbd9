"""How warm a device is, and whether its board holds it back: as the worker says it beside what a
model is, and as the aggregator hears it.

What a device does not tell is absent, never 0: a laptop has no word of its supply.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from edvit_tf.device.rpc.metrics import Sample

TEMPERATURE = "temperature_c"
NOW = "throttled_now"
SINCE_BOOT = "throttled_since_boot"
# By the bits of the firmware's word: bit n is now, bit 16 + n since boot.
REASONS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
HOT_C = 80.0  # from here on a Pi lowers its clock
# What no board that answers has: a sensor that is not ready says such things.
_COLDEST_C, _HOTTEST_C = -60.0, 200.0
_DIGITS = 12  # of a temperature as text


class Condition(NamedTuple):
    """What is known of a device; a reason that nobody tells of is absent."""

    temperature_c: float | None = None  # of its hottest zone
    now: Mapping[str, bool] = {}  # by reason
    since_boot: Mapping[str, bool] = {}

    def reasons(self) -> list[str]:
        """What holds the device back now."""
        return [reason for reason, holds in self.now.items() if holds]


def said(condition: Condition) -> dict[str, str]:
    """The properties that tell of a condition."""
    properties = {}
    if condition.temperature_c is not None:
        properties[TEMPERATURE] = f"{condition.temperature_c:.1f}"
    for key, flags in ((NOW, condition.now), (SINCE_BOOT, condition.since_boot)):
        if flags:
            properties[key] = ",".join(f"{name}:{int(holds)}" for name, holds in flags.items())
    return properties


def heard(properties: Mapping[str, str]) -> Condition:
    """The condition that properties tell of. What is no reason or no temperature is left out: a
    device may send anything.
    """
    return Condition(
        plausible(properties.get(TEMPERATURE, "")),
        _flags(properties.get(NOW, "")),
        _flags(properties.get(SINCE_BOOT, "")),
    )


def plausible(text: str) -> float | None:
    """Degrees, or None for what no board can have."""
    try:
        degrees = float(text[:_DIGITS])
    except ValueError:
        return None
    if math.isfinite(degrees) and _COLDEST_C < degrees < _HOTTEST_C:
        return degrees
    return None


def _flags(text: str) -> dict[str, bool]:
    found = {}
    for reason in REASONS:
        for holds in (False, True):
            if f",{reason}:{int(holds)}," in f",{text},":
                found[reason] = holds
    return found


def throttled_samples(labels: dict[str, str], condition: Condition) -> list[Sample]:
    """A sample for each reason that is known, now and since boot."""
    samples: list[Sample] = []
    for when, flags in (("now", condition.now), ("since boot", condition.since_boot)):
        for reason, holds in flags.items():
            samples.append(({**labels, "reason": reason, "when": when}, holds))
    return samples
