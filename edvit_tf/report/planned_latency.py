"""Milliseconds of a planned fleet: each device's sub-models, one after the other, as a calibration
of its processor estimates them.
"""

from dataclasses import dataclass

from edvit_tf.checked import Checked
from edvit_tf.planning.latency import Calibration, Speed
from edvit_tf.planning.plan import Plan
from edvit_tf.report.tables import wrapped


@dataclass(frozen=True)
class PlannedLatency(Checked):
    """Of one runtime and number of threads, milliseconds of the base and of each device."""

    runtime: str
    threads: int
    target: str
    base_ms: float
    devices: tuple[tuple[str, float], ...]  # name, ms of all that it holds
    largest_error_percent: float  # of the calibration, on files that it had not seen


def planned_latency(plan: Plan, base, calibration: Calibration) -> list[PlannedLatency]:
    """For each runtime of the calibration; empty where nobody has counted the work of this
    architecture.
    """
    found = []
    for speed in calibration.speeds:
        base_ms = speed.milliseconds(base)
        if base_ms is None:
            return []

        alike: dict = {}  # of a thousand sub-models most have the widths of another
        devices = []
        for device in plan.devices:
            held = [sub.config for sub in plan.held_by(device.name)]
            if held:
                devices.append((device.name, sum(_ms(speed, one, alike) for one in held)))
        found.append(
            PlannedLatency(
                runtime=speed.runtime,
                threads=speed.threads,
                target=speed.target,
                base_ms=base_ms,
                devices=tuple(devices),
                largest_error_percent=speed.largest_error_percent,
            )
        )
    return found


def _ms(speed: Speed, config, alike: dict) -> float:
    if config not in alike:
        alike[config] = speed.milliseconds(config)
    return alike[config]


def latency_text(calibration: Calibration, found: list[PlannedLatency]) -> str:
    """A line for each runtime: the base, the slowest device, the fastest, and their ratio."""
    if not found:
        return "milliseconds: nobody has counted the work of this architecture's operators"

    lines = [
        f"{'milliseconds of one question':<40}{'base':>10}{'slowest':>10}{'fastest':>10}"
        f"{'of the base':>13}"
    ]
    for one in found:
        times = [ms for _, ms in one.devices]
        threads = f"{one.threads} thread{'s' * (one.threads > 1)}"
        lines.append(
            f"{f'{one.runtime}, {threads}, {one.target}':<40}{one.base_ms:>10.3f}"
            f"{max(times):>10.3f}{min(times):>10.3f}{max(times) / one.base_ms:>13.3f}"
        )
    worst = max(one.largest_error_percent for one in found)
    lines.append(
        wrapped(
            f"Estimates for {calibration.processor}, computing alone, as if nothing else ran "
            f"there; on files that the calibration had not seen it was off by {worst:.0f} % at "
            "most. A base wider than those files is further off."
        )
    )
    return "\n".join(lines)
