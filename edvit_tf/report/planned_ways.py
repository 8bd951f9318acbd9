"""What the ways to use some devices cost, by a plan: what is known before anything is trained."""

import textwrap
from dataclasses import dataclass

from edvit_tf.config import PlanConfig
from edvit_tf.errors import PlanError
from edvit_tf.models import ModelConfig, architecture, costs
from edvit_tf.planning.fleets import common_share, plan_of_all
from edvit_tf.planning.plan import Plan
from edvit_tf.report.known import KNOWN
from edvit_tf.report.tables import wrapped


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


def planned_ways(plan: Plan, base: ModelConfig, config: PlanConfig) -> list[PlannedWay]:
    """One model on each device, copies of it with views, the class split of the plan, a joint
    fleet, and the whole base on each device. Devices without room for a model count for nothing.
    """
    count = len(plan.devices)
    whole = costs(base)["macs"]

    kept = common_share(plan, base, config.pruning.heads)
    one = base.pruned(kept, base.num_classes, config.pruning.heads)
    size = architecture(one).file_bytes(one, plan.flavour)
    macs = costs(one)["macs"]
    base_size = architecture(base).file_bytes(base, plan.flavour)

    held = [plan.held_by(device.name) for device in plan.devices]
    split_macs = max(sum(sub.macs for sub in own) for own in held)
    split_bytes = max(sum(sub.size_bytes for sub in own) for own in held)

    fits, side_by_side = _members_of_all(plan, base, kept, config)
    base_fits = sum(plan.could_hold(device, base) for device in plan.devices)
    rate = whole / macs

    def alike(key: str, name: str, answers: float) -> PlannedWay:
        return PlannedWay(key, name, size, fits * size, macs, answers, count, fits)

    return [
        alike("single", "one model on each device", fits * rate),
        alike("copies", "copies of it, a view each", side_by_side * rate),
        PlannedWay(
            "classes",
            "class split",
            split_bytes,
            plan.deployed_bytes,
            split_macs,
            plan.replicas * whole / split_macs,
            count,
            count - len(plan.idle),
        ),
        alike("joint", "joint fleet", side_by_side * rate),
        PlannedWay(
            "base",
            "the whole base on each",
            base_size,
            base_fits * base_size,
            whole,
            float(base_fits),
            count,
            base_fits,
        ),
    ]


def _members_of_all(
    plan: Plan, base: ModelConfig, kept: int, config: PlanConfig
) -> tuple[int, int]:
    """How many devices can hold the one model, and how many answers they give side by side where
    each takes all members of a fleet: by the plan that a run of as many members would have.
    """
    try:
        found = plan_of_all(plan, base, kept, config, "copies", None)
    except PlanError:  # no device, or no budget, has room for one
        return 0, 0
    return sum(len(sub.devices) for sub in found.sub_models), found.replicas


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

    by = {way.key: way for way in ways}
    for key, name in (("single", "the one model"), ("base", "the whole base")):
        if by[key].fits < by[key].devices:
            lines.append(f"{name} fits {by[key].fits} of {by[key].devices} devices")
    split = by["classes"]
    if split.fits < split.devices:
        lines.append(f"the class split uses {split.fits} of {split.devices} devices")
    lines.append("answers/s: of all devices together, by MACs; the base on one device has 1")
    lines.append("with fewer useful views than devices the replicas answer side by side: then more")
    lines.append(
        wrapped(
            "accuracy: a fleet can gain about what the base has more than the one model, which is "
            "known once that is trained"
        )
    )
    names = {way.key: way.name for way in ways}
    for key, told in KNOWN.items():
        known = f"{names[key]}: {told}"
        lines.append(textwrap.fill(known, 100, initial_indent="  ", subsequent_indent="    "))
    return "\n".join(lines)
