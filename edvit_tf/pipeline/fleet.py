"""The plan of a run: class groups from its base's confusions, Algorithms 1 and 3, and the rival on one device."""

import numpy as np

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.errors import DataError
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning import cost

SINGLE = "single"  # the baseline: one model of the per-device size, all classes


def plan_fleet(config: RunConfig, base_config: ViTConfig, stages: Stages) -> dict:
    """The plan; groups by similarity follow the base's confusions on validation data, symmetrised."""
    similarity = None
    if config.strategy != "random":
        labels = Split(stages, "validation").labels
        p = stages.arrays("teacher", "teacher.npz")["validation_probabilities"]
        confusions = np.stack([p[labels == c].mean(axis=0) for c in range(base_config.num_classes)])
        similarity = confusions + confusions.T
    return {"plan": plan_groups(config, base_config, similarity).to_dict()}


def check_strategy(config: RunConfig, dataset) -> None:
    """DataError unless the validation split has every class, where groups are made by the base's confusions on it."""
    seen = {recording.label for recording in dataset.recordings("validation")}
    missing = [name for label, name in enumerate(dataset.labels) if label not in seen]
    if config.strategy != "random" and missing:
        raise DataError(f"strategy is {config.strategy!r}, which needs validation samples of every class; "
                        f"{', '.join(missing)} have none. Add recordings of them, or take --strategy random.")


def plan_groups(config: RunConfig, base_config: ViTConfig, similarity: np.ndarray | None) -> Plan:
    """Algorithms 1 and 3 over the run's class groups; without `similarity` the groups are random ones, of the same
    sizes and so of the same cost. Raises PlanError.
    """
    from edvit_tf.planning.partition import partition
    from edvit_tf.planning.plan import plan

    devices = config.device_specs
    strategy = "random" if similarity is None else config.strategy
    groups = partition(base_config.num_classes, config.group_count, strategy, config.seed, similarity)
    return plan(base_config, groups, devices, config.budget_bytes, config.samples, config.assignment, strategy,
                config.replicas, cut_heads=config.pruning.heads)


def single_plan(plan: Plan, base_config: ViTConfig, cut_heads: str = "merge") -> SubModelPlan:
    """One model of all classes, as large as what the fullest device holds: the rival on one device.

    With one sub-model a device it has the largest sub-model's widths; where a device holds several, the most heads
    whose file is no more bytes than theirs together.
    """
    held: dict[str, int] = {}
    for sub in plan.sub_models:
        for device in sub.devices:
            held[device] = held.get(device, 0) + sub.size_bytes
    num_classes, kept = base_config.num_classes, max(sub.kept_heads for sub in plan.sub_models)
    while kept < base_config.num_heads and (
        cost.file_bytes(base_config.pruned(kept + 1, num_classes, cut_heads)) <= max(held.values())
    ):
        kept += 1
    widths = base_config.pruned(kept, num_classes, cut_heads)
    return SubModelPlan(len(plan.sub_models), tuple(range(num_classes)), kept, widths, cost.file_bytes(widths),
                        cost.macs(widths), ())


def shared_plans(members: list[SubModelPlan], base_config: ViTConfig, cut_heads: str) -> dict[str, SubModelPlan]:
    """The all-class models from which `members` start, one for each number of kept heads, by stage name (`shared_of`).

    They are on no device, and their index is below zero.
    """
    num_classes, plans = base_config.num_classes, {}
    for kept in sorted({sub.kept_heads for sub in members}):
        widths = base_config.pruned(kept, num_classes, cut_heads)
        sub = SubModelPlan(-kept, tuple(range(num_classes)), kept, widths, cost.file_bytes(widths),
                           cost.macs(widths), ())
        plans[label_of(sub)] = sub
    return plans


def shared_of(sub: SubModelPlan) -> str:
    """Stage name of the shared model of a member's width."""
    return f"shared-{sub.kept_heads}"


def label_of(sub: SubModelPlan) -> str:
    """Stage name of a sub-model, of the single baseline (which is on no device), or of a shared model."""
    if sub.index < 0:
        return shared_of(sub)
    return sub.name if sub.devices else SINGLE


def fitted_stage(config: RunConfig, sub: SubModelPlan) -> str:
    """Name of the stage that holds a member's weights before a joint training."""
    return f"{label_of(sub)}.{'ffn' if config.shared_training is None else 'group'}"


def final_weights(stages: Stages, config: RunConfig, sub: SubModelPlan) -> dict[str, np.ndarray]:
    """A member's weights as they are deployed."""
    if config.fusion == "joint" and sub.devices:
        return stages.arrays("joint", f"{sub.name}.npz")
    return stages.arrays(fitted_stage(config, sub))
