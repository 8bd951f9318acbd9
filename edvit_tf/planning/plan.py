"""Algorithm 1: heads go, one at a time from the biggest sub-model, until the budget and the devices
hold.
"""

from collections.abc import Sequence

import numpy as np

from edvit_tf.config import DeviceSpec, Plan, PlanConfig, SubModelPlan, ViTConfig
from edvit_tf.errors import ConfigError, PlanError
from edvit_tf.models.vit import cost
from edvit_tf.planning.assign import place
from edvit_tf.planning.explain import certain, explain
from edvit_tf.planning.partition import partition
from edvit_tf.planning.problem import Problem, make_problem


def plan_groups(
    config: PlanConfig,
    base: ViTConfig,
    similarity: np.ndarray | None = None,
    flavour: str = "float32",
) -> Plan:
    """The plan of a base as a configuration asks for it: class groups, then Algorithms 1 and 3.

    Without `similarity` (num_classes, num_classes) the groups are random ones, of the same sizes
    and so of the same cost. Bytes are those of files in `flavour`. Raises PlanError.
    """
    strategy = "random" if similarity is None else config.strategy
    groups = partition(base.num_classes, config.group_count, strategy, config.seed, similarity)

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
    )


def plan(
    base: ViTConfig,
    groups: Sequence[Sequence[int]],
    devices: Sequence[DeviceSpec],
    budget_bytes: int | None = None,
    samples: int = 1,
    assignment: str = "greedy",
    strategy: str = "random",
    replicas: int = 1,
    single_outputs: bool = True,
    flavour: str = "float32",
    cut_heads: str = "merge",
    start_heads: int | None = None,
) -> Plan:
    """Widths and devices of one sub-model a class group; `strategy` is only recorded in the Plan.

    Every sub-model starts with k = ceil(h / N) heads, N groups (any number: devices may hold
    several, or none), or with `start_heads` if that is more, for devices with room for more than
    the paper's Nth part; the biggest (the first of equals) loses one head until the files of all
    deployed copies (a replica counts again) take at most `budget_bytes` and an assignment exists.
    Bytes are those of the files in `flavour` (cost.file_bytes). Sub-model j is `base.pruned(k_j,
    |C_j| + 1)`, the last row being "other"; a single group has no "other" while `single_outputs`;
    `cut_heads` is how heads go (PruneConfig.heads). MACs are the paper's (cost.macs).

    Raises PlanError when one head each is still too much (which constraint failed, by how much,
    what would fit) and ConfigError for another flavour or `start_heads` that the base does not
    have. Source: ED-ViT, Algorithm 1.
    """
    groups = tuple(tuple(int(c) for c in group) for group in groups)
    if not groups or not all(groups):
        raise PlanError(
            f"The class groups are {groups}; each group needs at least one class. Ask for fewer "
            "groups."
        )
    other = 0 if len(groups) == 1 and single_outputs else 1
    heads = [starting_heads(base, len(groups), start_heads)] * len(groups)
    while True:
        configs = [
            base.pruned(k, len(group) + other, cut_heads)
            for k, group in zip(heads, groups, strict=True)
        ]
        sizes = [cost.file_bytes(config, flavour) for config in configs]
        macs = [cost.macs(config) for config in configs]
        problem = make_problem(sizes, macs, devices, samples, replicas, assignment)
        within = budget_bytes is None or replicas * sum(sizes) <= budget_bytes
        placement = place(problem, assignment) if within else None
        if placement is not None:
            break
        prunable = [j for j, k in enumerate(heads) if k > 1]
        if not prunable:
            raise PlanError(
                _nothing_left(base, problem, assignment, None if within else budget_bytes, flavour)
            )
        heads[max(prunable, key=lambda j: (sizes[j], -j))] -= 1
    return Plan(
        sub_models=tuple(
            SubModelPlan(
                index=j,
                classes=groups[j],
                kept_heads=heads[j],
                config=configs[j],
                size_bytes=sizes[j],
                macs=macs[j],
                devices=tuple(problem.devices[i].name for i in placement[j]),
            )
            for j in range(len(groups))
        ),
        devices=problem.devices,
        budget_bytes=budget_bytes,
        strategy=strategy,
        assignment=assignment,
        samples=samples,
        replicas=replicas,
        flavour=flavour,
    )


def starting_heads(base: ViTConfig, groups: int, start_heads: int | None = None) -> int:
    """k of each sub-model before Algorithm 1 takes any: ceil(h / N), or `start_heads` (1 to h:
    ConfigError) if more.
    """
    share = -(-base.num_heads // groups)
    if start_heads is None:
        return share
    if not 1 <= start_heads <= base.num_heads:
        raise ConfigError(
            f"start_heads is {start_heads}; it must be between 1 and the base's {base.num_heads} "
            "heads. "
            f"Leave it out for {share}, the part of {groups} sub-models."
        )
    return max(share, start_heads)


def _nothing_left(
    base: ViTConfig, problem: Problem, assignment: str, budget_bytes: int | None, flavour: str
) -> str:
    """The message when every sub-model is down to one head and still does not fit the budget, or
    (None) the devices.
    """
    start = f"No plan: all {len(problem.sizes)} sub-models are down to 1 of {base.num_heads} heads and do not fit. "
    if budget_bytes is None:
        return start + explain(problem, assignment)
    need = problem.replicas * sum(problem.sizes)
    copies = f"{problem.replicas} copies each" if problem.replicas > 1 else "one copy each"
    smaller = {"float32": " or a smaller flavour", "float16": " or flavour int8"}.get(flavour, "")
    return start + (
        f"budget: they take {need / 2**20:.2f} MiB ({need} bytes, {copies}, {flavour} files), the "
        "budget is "
        f"{budget_bytes / 2**20:.2f} MiB ({budget_bytes} bytes): {need - budget_bytes} bytes over. "
        f"Give a budget of {need} bytes or more, ask for fewer sub-models or replicas{smaller}, or "
        "take a smaller base." + "".join(f" {reason}" for reason in [certain(problem)] if reason)
    )
