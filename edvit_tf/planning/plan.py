"""What a plan is, and Algorithm 1: shares of the base (of a ViT: its heads) go, one at a time from
the biggest sub-model, until the budget and the devices hold.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from edvit_tf.checked import Checked
from edvit_tf.config import DeviceSpec, PlanConfig
from edvit_tf.errors import ConfigError, PlanError
from edvit_tf.models import ModelConfig, architecture, config_from_dict
from edvit_tf.planning.assign import place
from edvit_tf.planning.energy import joules_of, no_limits_in_joules
from edvit_tf.planning.explain import certain, explain
from edvit_tf.planning.narrow import Narrowing, Room
from edvit_tf.planning.partition import partition
from edvit_tf.planning.placement import Problem, make_problem


@dataclass(frozen=True)
class SubModelPlan(Checked):
    """One sub-model of a plan: its classes, widths, deployed bytes, MACs, and the devices that hold
    it.
    """

    index: int
    classes: tuple[int, ...]  # class indices, C_j
    kept: int  # k of the base's shares; of a ViT these are its heads
    config: ModelConfig
    size_bytes: int  # of the deployed file in the plan's flavour, at most (file_bytes)
    macs: int  # the paper's convention: without the attention matmuls
    devices: tuple[str, ...]  # one name a replica

    @property
    def name(self) -> str:
        """File stem and model name on the wire: submodel-00 ..."""
        return f"submodel-{self.index:02d}"

    @classmethod
    def from_dict(cls, values: Mapping) -> Self:
        """The inverse of `to_dict`; reads what plans were written as when there were ViTs alone."""
        values = dict(values)

        # files of before there were other architectures
        if "kept_heads" in values:
            values["kept"] = values.pop("kept_heads")

        if isinstance(values.get("config"), Mapping):
            values["config"] = config_from_dict(values["config"])

        return super().from_dict(values)


@dataclass(frozen=True)
class Plan(Checked):
    """Result of Algorithms 1 and 3: every sub-model with its widths and its device."""

    sub_models: tuple[SubModelPlan, ...]
    devices: tuple[DeviceSpec, ...]
    budget_bytes: int | None
    strategy: str  # how classes were grouped
    assignment: str  # one of ASSIGNMENTS
    samples: int = 1  # L of Eq. 1
    replicas: int = 1  # devices that hold each sub-model
    flavour: str = "float32"  # of the files that were counted: "float32", "float16" or "int8"
    objective: str = "macs"  # of Eq. 1, one of OBJECTIVES

    @property
    def total_bytes(self) -> int:
        """Bytes of all sub-models, each counted once."""
        return sum(s.size_bytes for s in self.sub_models)

    @property
    def deployed_bytes(self) -> int:
        """Bytes of all copies on all devices: what the budget limits."""
        return sum(s.size_bytes * len(s.devices) for s in self.sub_models)

    @property
    def idle(self) -> tuple[str, ...]:
        """Devices that hold nothing, in order."""
        return tuple(name for name, count in self._held().items() if not count)

    @property
    def warning(self) -> str:
        """What to know of a device that is idle while another holds two sub-models or more; empty
        where there is none.
        """
        held = self._held()
        idle = [device for device in self.devices if not held[device.name]]
        fullest = max(held, key=held.__getitem__)
        if not idle or held[fullest] < 2:
            return ""

        hint = "no room for any there, or none that leaves room for the others elsewhere"
        # of a thousand sub-models few differ in their widths
        widths = {sub.config for sub in self.sub_models}
        has_room = any(self.could_hold(device, one) for device in idle for one in widths)
        if has_room and self.assignment == "greedy":
            hint = "so does Algorithm 3 with unequal devices; --assignment spread gives each one"
        elif has_room and self.assignment == "optimal":
            what = "energy" if self.objective == "joules" else "compute"
            hint = (
                f"that leaves most {what} where there is least; --assignment spread gives each one"
            )
        names = ", ".join(device.name for device in idle)
        return f"WARNING: {names} idle while {fullest} holds {held[fullest]} sub-models: {hint}."

    def _held(self) -> dict[str, int]:
        """How many sub-models each device holds, in the order of the devices."""
        copies = Counter(name for sub in self.sub_models for name in set(sub.devices))
        return {device.name: copies[device.name] for device in self.devices}

    def could_hold(self, device: DeviceSpec, widths: ModelConfig) -> bool:
        """Whether a device has room for a model of these widths, with nothing else on it."""
        joules = None
        if self.objective == "joules":
            joules = joules_of([widths], [device], self.samples)
        cost = architecture(widths)
        size = cost.file_bytes(widths, self.flavour)
        return make_problem(
            [size], [cost.macs(widths)], [device], self.samples, joules=joules
        ).fits(0, 0)

    def held_by(self, device: str) -> tuple[SubModelPlan, ...]:
        """The sub-models on a device."""
        return tuple(sub for sub in self.sub_models if device in sub.devices)


def plan_groups(
    config: PlanConfig,
    base: ModelConfig,
    similarity: np.ndarray | None = None,
    flavour: str = "float32",
) -> Plan:
    """The plan of a base as a configuration asks for it: class groups, then Algorithms 1 and 3.

    Without `similarity` (num_classes, num_classes) the groups are random ones, of the same sizes
    and so of the same cost. Bytes are those of files in `flavour`. Raises PlanError.
    """
    strategy = config.strategy
    if similarity is None:
        strategy = "random"

    count = config.groups_of(base.num_classes)
    groups = partition(base.num_classes, count, strategy, config.seed, similarity)

    return plan(
        base,
        groups,
        config.device_specs,
        budget_bytes=config.budget_bytes,
        samples=config.samples,
        assignment=config.assignment,
        strategy=strategy,
        replicas=config.replicas,
        flavour=flavour,
        cut_heads=config.pruning.heads,
        start_heads=config.start_heads,
        objective=config.objective,
    )


def plan(
    base: ModelConfig,
    groups: Sequence[Sequence[int]],
    devices: Sequence[DeviceSpec],
    budget_bytes: int | None = None,
    samples: int = 1,
    assignment: str = "spread",
    strategy: str = "random",
    replicas: int = 1,
    single_outputs: bool = True,
    flavour: str = "float32",
    cut_heads: str = "merge",
    start_heads: int | None = None,
    objective: str = "macs",
) -> Plan:
    """Widths and devices of one sub-model a class group; `strategy` is only recorded in the Plan.

    A base has n shares (of a ViT: its heads), and a sub-model keeps k of them. Every sub-model
    starts with k = ceil(n / N), N groups (any number: devices may hold several, or none), or with
    `start_heads` if that is more, for devices with room for more than the paper's Nth part; the
    biggest (the first of equals) loses one share until the files of all deployed copies (a replica
    counts again) take at most `budget_bytes` and an assignment exists. Bytes are those of the files
    in `flavour` (file_bytes of the architecture). Sub-model j is `base.pruned(k_j, |C_j| + 1)`, the
    last row being "other"; a single group has no "other" while `single_outputs`; `cut_heads` is how
    heads go (PruneConfig.heads). MACs are the paper's. Where each goes is `assignment`'s
    (planning.assign), by what `objective` says that a device spends.

    Raises PlanError when one share each is still too much (which constraint failed, by how much,
    what would fit) and ConfigError for another flavour or `start_heads` that the base does not
    have. Source: ED-ViT, Algorithm 1.
    """
    chosen = _whole_groups(groups)
    if objective == "macs":
        no_limits_in_joules(devices)

    # a single sub-model has all classes, and no others to tell apart
    other = 1
    if len(chosen) == 1 and single_outputs:
        other = 0

    rows = [len(group) + other for group in chosen]
    start = starting_heads(base, len(chosen), start_heads)
    sub_models = Narrowing(base, rows, start, flavour, cut_heads)

    def asked() -> Problem:
        sizes = [cost.size_bytes for cost in sub_models.costs]
        macs = [cost.macs for cost in sub_models.costs]
        joules = None
        if objective == "joules":
            joules = joules_of([cost.config for cost in sub_models.costs], devices, samples)
        return make_problem(sizes, macs, devices, samples, replicas, assignment, joules)

    # what is out of range is told here, before anything is tried
    room = Room(devices, samples, replicas, asked().joules)
    while True:
        # budget and sums are quick to look at; only what they allow is placed
        within = budget_bytes is None or replicas * sub_models.size_bytes <= budget_bytes
        placement = None
        if within and not room.rules_out(sub_models):
            problem = asked()
            placement = place(problem, assignment)
        if placement is not None:
            break

        # one share less of the biggest, the first of equals; a last share stays
        if not sub_models.narrow():
            missed = None if within else budget_bytes
            raise PlanError(_nothing_left(base, asked(), assignment, missed, flavour))

    planned = []
    for j, (group, cost) in enumerate(zip(chosen, sub_models.costs, strict=True)):
        planned.append(
            SubModelPlan(
                index=j,
                classes=group,
                kept=sub_models.kept[j],
                config=cost.config,
                size_bytes=cost.size_bytes,
                macs=cost.macs,
                devices=tuple(problem.devices[i].name for i in placement[j]),
            )
        )
    return Plan(
        sub_models=tuple(planned),
        devices=problem.devices,
        budget_bytes=budget_bytes,
        strategy=strategy,
        assignment=assignment,
        samples=samples,
        replicas=replicas,
        flavour=flavour,
        objective=objective,
    )


def _whole_groups(groups: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """The class groups in plain integers; PlanError for none, or for an empty one."""
    chosen = []
    for group in groups:
        chosen.append(tuple(int(c) for c in group))

    if not chosen or not all(chosen):
        raise PlanError(
            f"The class groups are {tuple(chosen)}; each group needs at least one class. Ask for "
            "fewer groups."
        )
    return tuple(chosen)


def starting_heads(base: ModelConfig, groups: int, start_heads: int | None = None) -> int:
    """k of each sub-model before Algorithm 1 takes any: ceil(n / N), or `start_heads` (1 to n:
    ConfigError) if more.
    """
    # rounded up: N sub-models have the base's shares between them, or a few more
    share = -(-base.shares // groups)
    if start_heads is None:
        return share

    if not 1 <= start_heads <= base.shares:
        raise ConfigError(
            f"start_heads is {start_heads}; it must be between 1 and the base's {base.shares} "
            f"{architecture(base).SHARE_NAME}. Leave it out for {share}, the part of {groups} "
            "sub-models."
        )
    return max(share, start_heads)


def _nothing_left(
    base: ModelConfig, problem: Problem, assignment: str, budget_bytes: int | None, flavour: str
) -> str:
    """The message when every sub-model is down to one share and still does not fit the budget, or
    (None) the devices.
    """
    start = (
        f"No plan: all {len(problem.sizes)} sub-models are down to 1 of {base.shares} "
        f"{architecture(base).SHARE_NAME} and do not fit. "
    )
    if budget_bytes is None:
        return start + explain(problem, assignment)

    need = problem.replicas * sum(problem.sizes)
    copies = "one copy each"
    if problem.replicas > 1:
        copies = f"{problem.replicas} copies each"

    # more files fit in a smaller flavour, where there is one
    smaller = {"float32": " or a smaller flavour", "float16": " or flavour int8"}.get(flavour, "")
    message = start + (
        f"budget: they take {need / 2**20:.2f} MiB ({need} bytes, {copies}, {flavour} files), the "
        f"budget is {budget_bytes / 2**20:.2f} MiB ({budget_bytes} bytes): {need - budget_bytes} "
        f"bytes over. Give a budget of {need} bytes or more, ask for fewer sub-models or "
        f"replicas{smaller}, or take a smaller base."
    )

    # when devices are short as well, both are told at once
    devices_too = certain(problem)
    if devices_too is None:
        return message
    return f"{message} {devices_too}"
