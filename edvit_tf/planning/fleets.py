"""Fleets whose members all know all classes: how wide they may be, which devices hold them, and
which kind of fleet a run takes when it is left to it.

The plan of a class split (`plan.py`) comes first and says what a device can hold; the members here
are as wide as one model of all classes on such a device can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edvit_tf.config import DeviceSpec, PlanConfig
from edvit_tf.errors import PlanError
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.plan import Plan, SubModelPlan

# Epochs of all images a member needs to win over the one model: below about one it loses.
BREAK_EVEN_EPOCHS = 1.0


@dataclass(frozen=True)
class Choice:
    """A kind of fleet, one of FLEETS but "auto", and why it was taken."""

    kind: str
    reason: str


def choose_fleet(gap: float | None) -> Choice:
    """The kind of fleet where the configuration leaves it open: copies of the one model, which cost
    no training of their own.

    Whatever was trained for a fleet had no more on validation data, with ten classes or hundreds
    and a gap to the base of -2 to 18 points (docs/lab_book/training.md): members trained
    together from a cut or from the one model, and class groups. A further kind that has is to be
    chosen here, by `gap`, the base's validation accuracy less that of the one model (0..1).
    """
    room = "" if gap is None else f"; the base is {100 * gap:+.1f} points from the one model"
    return Choice("copies", f"nothing that was trained for a fleet has had more{room}")


def too_short(member_epochs: float) -> Choice:
    """What is left where members would not be trained long enough to win over the one model."""
    return Choice(
        "copies",
        f"a member would be trained for {member_epochs:.2g} epochs; below {BREAK_EVEN_EPOCHS:g} "
        "the one model gains more by them",
    )


def splits_classes(config: PlanConfig, split: Plan) -> bool:
    """Whether the fleet is that of the class split: it was asked for, or there is one device."""
    return config.fleet == "classes" or len(split.devices) == 1


def planned_fleet(config: PlanConfig, base: ModelConfig, split: Plan) -> Plan:
    """The plan of the fleet that is asked for as far as it is known before training: the class
    split itself, or members of all classes, one a device. Raises PlanError as `plan_of_all`.
    """
    if splits_classes(config, split):
        return split
    kept = common_share(split, base, config.pruning.heads)
    return plan_of_all(split, base, kept, config, config.fleet, None)


def single_share(plan: Plan, base: ModelConfig, cut_heads: str) -> int:
    """Shares that one model of all classes keeps to be of a device's size: with one sub-model a
    device the most of any; where a device holds several, the most whose file is no more bytes than
    theirs together.
    """
    # device -> bytes of its files
    held: dict[str, int] = {}
    for sub in plan.sub_models:
        for device in sub.devices:
            held[device] = held.get(device, 0) + sub.size_bytes

    widest = max(sub.kept for sub in plan.sub_models)
    return max(widest, most_kept(base, max(held.values()), cut_heads))


def most_kept(base: ModelConfig, size_bytes: int, cut_heads: str) -> int:
    """The most shares of the base that an all-class model can keep in a file of at most
    `size_bytes`; 0: not even one.
    """
    # Bytes grow with the shares: the first that fits is the most.
    for kept in range(base.shares, 0, -1):
        widths = base.pruned(kept, base.num_classes, cut_heads)
        if architecture(base).file_bytes(widths) <= size_bytes:
            return kept
    return 0


def common_share(split: Plan, base: ModelConfig, cut_heads: str) -> int:
    """Shares that the one model keeps so that every device which the class split uses can hold it,
    of those that can hold any, and the budget as many copies: `single_share` or fewer, one at
    least. A class split with no more classes to deal out leaves devices for whom there is a model
    of all of them: these count as used.
    """
    used = [device for device in split.devices if split.held_by(device.name)]
    if len(split.sub_models) == base.num_classes:
        used = list(split.devices)
    # a device that cannot hold even the narrowest holds none, and keeps nobody narrow
    narrowest = base.pruned(1, base.num_classes, cut_heads)
    used = list(_holders(split.replace(budget_bytes=None), narrowest, used))
    if not used:
        return 1
    for kept in range(single_share(split, base, cut_heads), 1, -1):
        widths = base.pruned(kept, base.num_classes, cut_heads)
        if len(_holders(split, widths, used)) == len(used):
            return kept
    return 1


def plan_of_all(
    split: Plan, base: ModelConfig, kept: int, config: PlanConfig, kind: str, members: int | None
) -> Plan:
    """The plan of `members` sub-models of all classes, dealt out to the devices that can hold one:
    of more devices than members several hold the same. Members None: as many as there can be.

    There are no more than config.num_groups, and each is on config.replicas devices where there are
    as many. Raises PlanError where no device can hold one, or the budget none.
    """
    cost = architecture(base)
    widths = base.pruned(kept, base.num_classes, config.pruning.heads)
    holders = _holders(split, widths, split.devices)
    if not holders:
        size = cost.file_bytes(widths, split.flavour)
        raise PlanError(
            f"No device can hold a model of all {base.num_classes} classes: it takes {size} bytes "
            f"and {cost.macs(widths)} MACs at its narrowest. Give a device or the budget so much, "
            "or take --fleet classes."
        )

    most = max(1, len(holders) // config.replicas)
    count = min(most, config.num_groups or most, members or most)
    sub_models = []
    for j in range(count):
        sub_models.append(
            SubModelPlan(
                index=j,
                classes=tuple(range(base.num_classes)),
                kept=kept,
                config=widths,
                size_bytes=cost.file_bytes(widths, split.flavour),
                macs=cost.macs(widths),
                devices=tuple(device.name for device in holders[j::count]),
            )
        )
    return split.replace(
        sub_models=tuple(sub_models), strategy=kind, replicas=len(holders) // count
    )


def _holders(
    split: Plan, widths: ModelConfig, devices: Sequence[DeviceSpec]
) -> tuple[DeviceSpec, ...]:
    """Those of the devices that can hold a model of these widths, as many as the budget allows."""
    able = [device for device in devices if split.could_hold(device, widths)]
    if split.budget_bytes is not None:
        able = able[: split.budget_bytes // architecture(widths).file_bytes(widths, split.flavour)]
    return tuple(able)
