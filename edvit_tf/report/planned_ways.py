"""What the ways to use some devices cost, by a plan: what is known before anything is trained."""

import textwrap
from dataclasses import dataclass

from edvit_tf.models import ModelConfig, architecture, costs
from edvit_tf.planning.fleets import common_share
from edvit_tf.planning.plan import Plan
from edvit_tf.report.known import KNOWN


@dataclass(frozen=True)
class PlannedWay:
    """What one way costs, by a plan: bytes and MACs of the fullest device, bytes of all files, and
    answers a second of all devices together where the base on one of them has 1 (by MACs).
    """

    key: str
    name: str
    device_bytes: int
    total_bytes: int
    device_macs: int
    answers: float
    devices: int
    fits: int  # of the devices, those that have room for it


def planned_ways(plan: Plan, base: ModelConfig, cut_heads: str) -> list[PlannedWay]:
    """One model on each device, copies of it with views, the class split of the plan, a joint
    fleet, and the whole base on each device.
    """
    count = len(plan.devices)
    whole = costs(base)["macs"]

    kept = common_share(plan, base, cut_heads)
    one = base.pruned(kept, base.num_classes, cut_heads)
    size = architecture(one).file_bytes(one, plan.flavour)
    macs = costs(one)["macs"]
    base_size = architecture(base).file_bytes(base, plan.flavour)

    held = [plan.held_by(device.name) for device in plan.devices]
    split_macs = max(sum(sub.macs for sub in own) for own in held)
    split_bytes = max(sum(sub.size_bytes for sub in own) for own in held)

    fitting = count, _fitting(plan, size, macs)
    alike = size, count * size, macs, whole / macs, *fitting
    return [
        PlannedWay(
            "single", "one model on each device", *alike[:3], count * whole / macs, *fitting
        ),
        PlannedWay("copies", "copies of it, a view each", *alike),
        PlannedWay(
            "classes",
            "class split",
            split_bytes,
            plan.deployed_bytes,
            split_macs,
            plan.replicas * whole / split_macs,
            count,
            count,
        ),
        PlannedWay("joint", "joint fleet", *alike),
        PlannedWay(
            "base",
            "the whole base on each",
            base_size,
            count * base_size,
            whole,
            float(count),
            count,
            _fitting(plan, base_size, whole),
        ),
    ]


def _fitting(plan: Plan, size_bytes: int, macs: int) -> int:
    """How many devices of the plan could hold a file of this size and spend these MACs."""
    able = 0
    for device in plan.devices:
        has_room = device.usable_bytes is None or size_bytes <= device.usable_bytes
        if has_room and (device.compute_macs is None or plan.samples * macs <= device.compute_macs):
            able += 1
    return able


def planned_ways_table(ways: list[PlannedWay]) -> str:
    """Text: what each costs, and what is known of its accuracy."""
    lines = [
        f"{'ways to use the devices':<28}{'MiB/device':>11}{'MiB in all':>12}{'M MACs/device':>15}"
        f"{'answers/s':>11}"
    ]
    for way in ways:
        lines.append(
            f"{way.name:<28}{way.device_bytes / 2**20:>11.2f}{way.total_bytes / 2**20:>12.2f}"
            f"{way.device_macs / 1e6:>15.1f}{way.answers:>11.1f}"
        )

    base = ways[-1]
    if base.fits < ways[0].fits:
        lines.append(f"the whole base fits {base.fits} of {base.devices} devices")
    lines.append("answers/s: of all devices together, by MACs; the base on one device has 1")
    lines.append(
        "accuracy: a fleet can gain about what the base has more than the one model, which is "
        "known once that is trained"
    )
    names = {way.key: way.name for way in ways}
    for key, told in KNOWN.items():
        known = f"{names[key]}: {told}"
        lines.append(textwrap.fill(known, 100, initial_indent="  ", subsequent_indent="    "))
    return "\n".join(lines)
