"""The plan of a run: class groups from its base's confusions, Algorithms 1 and 3; where its members
start.
"""

import json
from pathlib import Path

import numpy as np

from edvit_tf.config import STAGES, Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.errors import DataError
from edvit_tf.models.vit import cost
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.rivals import Rival
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.plan import plan_groups


def plan_fleet(config: RunConfig, base_config: ViTConfig, stages: Stages) -> dict:
    """The plan; groups by similarity follow the base's confusions on validation data,
    symmetrised.
    """
    similarity = None
    if config.strategy != "random":
        labels = Split(stages, "validation").labels
        p = stages.arrays("teacher", "teacher.npz")["validation_probabilities"]
        confusions = np.stack([p[labels == c].mean(axis=0) for c in range(base_config.num_classes)])
        similarity = confusions + confusions.T
    return {"plan": plan_groups(config, base_config, similarity).to_dict()}


def check_strategy(config: RunConfig, dataset) -> None:
    """DataError unless the validation split has every class, where groups are made by the base's
    confusions on it.
    """
    seen = {recording.label for recording in dataset.recordings("validation")}
    missing = [name for label, name in enumerate(dataset.labels) if label not in seen]
    if config.strategy != "random" and missing:
        raise DataError(
            f"strategy is {config.strategy!r}, which needs validation samples of every class; "
            f"{', '.join(missing)} have none. Add recordings of them, or take --strategy random."
        )


def lost_with_device(plan: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """(device, indices of the sub-models that no other one holds): what is missing without it, for
    each in use.
    """
    used = sorted({name for sub in plan.sub_models for name in sub.devices})
    return [
        (name, tuple(sub.index for sub in plan.sub_models if set(sub.devices) == {name}))
        for name in used
    ]


def shared_plans(
    members: list[SubModelPlan], base_config: ViTConfig, cut_heads: str
) -> dict[str, SubModelPlan]:
    """The all-class models from which `members` start, one for each number of kept heads, by stage
    name (`shared_of`).

    They are on no device, and their index is below zero.
    """
    num_classes, plans = base_config.num_classes, {}
    for kept in sorted({sub.kept_heads for sub in members}):
        widths = base_config.pruned(kept, num_classes, cut_heads)
        sub = SubModelPlan(
            -kept,
            tuple(range(num_classes)),
            kept,
            widths,
            cost.file_bytes(widths),
            cost.macs(widths),
            (),
        )
        plans[label_of(sub)] = sub
    return plans


def shared_stages(config: RunConfig, plan: Plan, other: Path) -> list[str]:
    """Names of the stages of shared models that the run of another work folder has made of widths
    of this plan, for widths that its own sub-models have: trained on all samples, which a rival's
    own shared model is not.
    """
    stored = other / "plan" / "stage.json"
    if config.shared_training is None or not stored.is_file():
        return []
    theirs = Plan.from_dict(json.loads(stored.read_text(encoding="utf-8"))["result"]["plan"])
    widths = {sub.kept_heads for sub in theirs.sub_models} & {
        sub.kept_heads for sub in plan.sub_models
    }
    return [f"shared-{kept}.{stage}" for kept in sorted(widths) for stage in ("head", *STAGES)]


def shared_of(sub: SubModelPlan) -> str:
    """Stage name of the shared model of a member's width."""
    return f"shared-{sub.kept_heads}"


def label_of(sub: SubModelPlan) -> str:
    """Stage name of a sub-model, of a rival (which is on no device), or of a shared model."""
    if isinstance(sub, Rival):
        return sub.kind
    return shared_of(sub) if sub.index < 0 else sub.name


def fitted_stage(config: RunConfig, sub: SubModelPlan) -> str:
    """Name of the stage that holds a member's weights before a joint training."""
    return f"{label_of(sub)}.{'ffn' if config.shared_training is None else 'group'}"


def final_weights(stages: Stages, config: RunConfig, sub: SubModelPlan) -> dict[str, np.ndarray]:
    """A member's weights as they are deployed."""
    if config.fusion == "joint" and sub.devices:
        return stages.arrays("joint", f"{sub.name}.npz")
    return stages.arrays(fitted_stage(config, sub))
