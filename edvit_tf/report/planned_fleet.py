"""The plan of a fleet as a person reads it before a run: the sub-models, which kind of fleet they
are of, and what is decided only once models are trained.
"""

from edvit_tf.config import PlanConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.fleets import BREAK_EVEN_EPOCHS, planned_fleet, splits_classes
from edvit_tf.planning.plan import Plan
from edvit_tf.report.tables import plan_table, wrapped

_VIEWS = (
    "Views are chosen on validation data, once the one model is trained. There are no more copies "
    "than views that are worth a device each: devices beyond hold one of them again, as replicas. "
    "Which these are is not known yet; they are not idle."
)
_AUTO = (
    "The one model is trained first, and what the base has more than it on validation data is "
    "told. Then the run takes the kind of fleet: copies, as far as was measured."
)
_JOINT = (
    "A member a device, each trained with a view of its own: none is a replica unless --replicas "
    "or --groups ask for it. Views are chosen on validation data, once the one model is trained. "
    f"Where a training budget leaves a member less than {BREAK_EVEN_EPOCHS:g} epoch, the run makes "
    "copies."
)


def fleet_text(
    config: PlanConfig, base: ModelConfig, split: Plan, labels: list[str] | None = None
) -> str:
    """The table of the fleet that is asked for, given the class split that guides its widths, and
    what is decided later. Raises PlanError where no device can hold a model of all classes.
    """
    fleet = planned_fleet(config, base, split)
    lines = [plan_table(fleet, labels), "", wrapped(_kind(config, base, split, fleet))]
    lines += [wrapped(f"decided later: {said}") for said in decided_later(config, split)]
    return "\n".join(lines)


def decided_later(config: PlanConfig, split: Plan) -> list[str]:
    """What a run decides by trained models, first things first; nothing of a class split."""
    if splits_classes(config, split):
        return []
    if getattr(config, "views", "auto") == "none":
        alone = "Without views (--views none) all copies are one sub-model and its replicas."
        return [_AUTO, alone] if config.fleet == "auto" else [alone]
    return {"copies": [_VIEWS], "joint": [_JOINT], "auto": [_AUTO, _VIEWS]}[config.fleet]


def one_model_said(base: ModelConfig, fleet: Plan) -> str:
    """How large the one model of all classes is that a fleet is made of."""
    one = fleet.sub_models[0]
    return (
        f"one model of all classes with {one.kept} of {base.shares} "
        f"{architecture(base).SHARE_NAME} "
        f"({one.size_bytes / 2**20:.2f} MiB and {one.macs / 1e6:.1f} M MACs a device)"
    )


def _kind(config: PlanConfig, base: ModelConfig, split: Plan, fleet: Plan) -> str:
    if config.fleet == "classes":
        return "fleet: classes, as planned above"
    if splits_classes(config, split):
        return "fleet: classes, as planned above: there is one device, which holds all classes"

    count = len(fleet.devices) - len(fleet.idle)
    room = " (no room for it on the others, or in the budget)" if fleet.idle else ""
    return (
        f"fleet: {config.fleet}, of {one_model_said(base, fleet)} on {count} devices{room}; it is "
        "as wide as a class split on these devices lets it be"
    )
