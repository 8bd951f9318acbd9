"""A plan whose sub-models keep the filters under a threshold of zeros, as NNFacet and EC-SNN choose
them, in the place of one share of every layer.
"""

import numpy as np

from edvit_tf.config import RunConfig
from edvit_tf.errors import ConfigError, PlanError
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pipeline.cutting import own_rows
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.planning.assign import place
from edvit_tf.planning.energy import joules_of
from edvit_tf.planning.fleets import most_kept
from edvit_tf.planning.placement import make_problem
from edvit_tf.planning.plan import Plan, SubModelPlan
from edvit_tf.progress import tell


def check_threshold(config: RunConfig, base: ModelConfig) -> None:
    """Raises ConfigError where a threshold is asked for and cannot be."""
    if config.pruning.zeta is None:
        return
    if not hasattr(architecture(base), "by_threshold"):
        raise ConfigError(
            f"zeta is {config.pruning.zeta:g}: a threshold of zeros after ReLU, or of spikes; "
            f"{architecture(base).TITLE} has none. Leave it out, or take a vgg or snn --model."
        )
    if config.shared_training is not None:
        raise ConfigError(
            f"zeta is {config.pruning.zeta:g}: zeros are counted in the base, and with "
            "shared_training the cuts are made of another model. Leave one of the two out."
        )


def by_threshold(run: Run, split: Plan) -> Plan:
    """The plan with the widths that config.pruning.zeta leaves by the zeros of each group's own
    samples, or a lower threshold where a device or the budget holds no more; sub-models stay where
    they are planned.

    Raises PlanError where not even the floors fit.
    """
    train = Split(run.stages, "train")
    weights = run.stages.arrays("base")
    known = architecture(run.base)
    zeta = run.config.pruning.zeta

    sub_models = []
    for sub in split.sub_models:
        rows = own_rows(train.labels, sub.classes, run.config.calibration_samples)
        active = known.activity(run.base, weights, np.asarray(train.x[rows]), known.CUTS[0])
        most = _room(split, sub)
        widths = known.by_threshold(run.base, active, sub.config.num_classes, zeta, most)
        if widths is None:
            raise PlanError(
                f"No plan: with the fewest filters that may be left {sub.name} takes more than its "
                f"{most} bytes. Give its device more memory, or take a smaller base."
            )
        tell(f"[plan] {sub.name}: filters of up to {widths.zeta:g} % zeros stay")
        sub_models.append(_of_widths(run, sub, widths))

    found = split.replace(sub_models=tuple(sub_models))
    _check_places(found)
    return found


def _of_widths(run: Run, sub: SubModelPlan, widths: ModelConfig) -> SubModelPlan:
    known = architecture(widths)
    size = known.file_bytes(widths)
    # the share that is as large: rivals are cut by it
    kept = max(1, most_kept(run.base, size, run.config.pruning.heads))
    return sub.replace(config=widths, kept=kept, size_bytes=size, macs=known.macs(widths))


def _room(split: Plan, sub: SubModelPlan) -> int | None:
    """Bytes that a sub-model may take: the part of its fullest device, and of the budget."""
    rooms = []
    for device in split.devices:
        if device.name in sub.devices and device.usable_bytes is not None:
            rooms.append(device.usable_bytes // len(split.held_by(device.name)))
    if split.budget_bytes is not None:
        rooms.append(split.budget_bytes // (split.replicas * len(split.sub_models)))
    return min(rooms, default=None)


def _check_places(split: Plan) -> None:
    """Raises PlanError where the devices have not the compute for these widths."""
    sizes = [sub.size_bytes for sub in split.sub_models]
    macs = [sub.macs for sub in split.sub_models]
    joules = None
    if split.objective == "joules":
        widths = [sub.config for sub in split.sub_models]
        joules = joules_of(widths, split.devices, split.samples)
    problem = make_problem(
        sizes, macs, split.devices, split.samples, split.replicas, split.assignment, joules
    )
    if place(problem, split.assignment) is None:
        raise PlanError(
            f"No plan: sub-models of {min(macs)} to {max(macs)} MACs, as zeta leaves them, go on "
            "no devices of this compute. Lower zeta, or give the devices more."
        )
