"""Joules of one question to a planned fleet: estimates, with the range that their sources allow."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edvit_tf.checked import Checked
from edvit_tf.config import DeviceSpec
from edvit_tf.planning.boards import Range, boards
from edvit_tf.planning.energy import Spent, spent, spent_on
from edvit_tf.planning.plan import Plan
from edvit_tf.report.tables import wrapped

LEFT_OUT = (
    "Estimates from published figures; nobody has put a meter on a Pi here. The range is that of "
    "the sources. Left out: aggregator, network gear, losses of power supplies, files read from a "
    "card, and that computing on fewer than four threads draws less and takes longer. Joules of "
    "the network are a bound: as if the board worked while bytes pass. `edvit study energy "
    '--boards` has every figure with its source; speed = "... GMAC" in devices.toml takes a '
    "measured one."
)


@dataclass(frozen=True)
class DeviceEnergy(Checked):
    """What one device spends on a question."""

    device: str
    board: str
    spent: Spent


@dataclass(frozen=True)
class FleetEnergy(Checked):
    """What a fleet spends on a question: every device that holds a sub-model, and all of them."""

    devices: tuple[DeviceEnergy, ...]
    computing_joules: Range
    network_joules: float | None  # at most; None: of one of the boards no Wi-Fi rate is published
    idle_watts: Range
    unknown: tuple[str, ...]  # devices without a board


def planned_energy(plan: Plan) -> FleetEnergy | None:
    """The energy of a plan; None where no device with a sub-model has a board."""
    found = []
    unknown = []
    alike: dict[tuple, Spent | None] = {}  # of a thousand devices most are the same
    for device in plan.devices:
        held = tuple(sub.config for sub in plan.held_by(device.name))
        if not held:
            continue
        kind = (held, device.board, device.macs_per_second)
        if kind not in alike:
            alike[kind] = spent(device, held)
        spends = alike[kind]
        if spends is None or device.board is None:
            unknown.append(device.name)
        else:
            found.append(DeviceEnergy(device.name, device.board, spends))
    if not found:
        return None

    return FleetEnergy(
        devices=tuple(found),
        computing_joules=_sum([one.spent.computing_joules for one in found]),
        network_joules=_sum_known([one.spent.network_joules for one in found]),
        idle_watts=_sum([one.spent.idle_watts for one in found]),
        unknown=tuple(unknown),
    )


def computing_joules(device: Mapping[str, Any], macs_full: int) -> Range | None:
    """What a device of a manifest's plan spends by computing so many MACs, products of attention
    too; None where its board is not known here.
    """
    if device.get("board") not in boards():
        return None
    spec = DeviceSpec(
        device["name"], board=device["board"], macs_per_second=device.get("macs_per_second")
    )
    spends = spent_on(spec, macs_full, 0)
    return None if spends is None else spends.computing_joules


def any_of(ranges: Sequence[Range | None]) -> Range | None:
    """What one of several spends, whichever it is; None where one of them is not known."""
    known = [one for one in ranges if one is not None]
    if not known or len(known) < len(ranges):
        return None
    middle = statistics.median(one.middle for one in known)
    return Range(min(one.low for one in known), middle, max(one.high for one in known))


def _sum_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _sum(ranges: Sequence[Range]) -> Range:
    total = Range(0.0, 0.0, 0.0)
    for one in ranges:
        total = total + one
    return total


def energy_text(energy: FleetEnergy) -> str:
    """Text: a line for each board (its device that spends most), and the fleet."""
    lines = [
        f"{'joules of one question':<24}{'devices':>9}{'s':>9}{'J computing':>22}"
        f"{'J network <=':>14}{'W idle':>18}"
    ]
    for key in dict.fromkeys(one.board for one in energy.devices):
        of_board = [one.spent for one in energy.devices if one.board == key]
        most = max(of_board, key=lambda one: one.computing_joules.middle)
        lines.append(
            f"{boards()[key].name:<24}{len(of_board):>9}{most.seconds.middle:>9.3f}"
            f"{range_text(most.computing_joules):>22}{_at_most(most.network_joules):>14}"
            f"{range_text(most.idle_watts):>18}"
        )
    lines.append(
        f"{'all devices':<24}{len(energy.devices):>9}{'':>9}"
        f"{range_text(energy.computing_joules):>22}{_at_most(energy.network_joules):>14}"
        f"{range_text(energy.idle_watts):>18}"
    )
    if energy.unknown:
        lines.append(wrapped(f"not counted, without a board: {', '.join(energy.unknown)}"))
    if len(energy.devices) > 1:
        lines.append("of each board the device that spends most")
    return "\n".join([*lines, wrapped(LEFT_OUT)])


def _at_most(joules: float | None) -> str:
    return "-" if joules is None else f"{joules:.2g}"


def range_text(found: Range) -> str:
    """As "0.53 (0.42-0.69)"; the least and the most only where they differ."""
    low, middle, high = (f"{value:.3g}" for value in (found.low, found.middle, found.high))
    return middle if low == high else f"{middle} ({low}-{high})"
