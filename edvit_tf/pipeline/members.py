"""All members of a run, cut and fitted in turn: shared models, the fleet's sub-models, the rivals beside them."""

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.pipeline import cutting, fleet
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.rivals import PLAIN, SINGLE, Rival, equal_samples
from edvit_tf.pipeline.store import Stages


def fit_members(
    stages: Stages, config: RunConfig, base_config: ViTConfig, plan: Plan, members: list[SubModelPlan]
) -> tuple[dict[str, list], dict[str, list]]:
    """Results of the stages of every member, by `fleet.label_of`, and those of the shared models.

    A rival of a sub-model's size sees as many samples as the fleet's sub-models together, one of another size as many
    as cost the same MACs. Stage by stage, not member by member: one compiled model serves all of a width.
    """
    histories: dict[str, list] = {fleet.label_of(sub): [] for sub in members}
    shared: dict[str, list] = {}
    largest = max(plan.sub_models, key=lambda sub: sub.kept_heads)
    scale, whole = cutting.fleet_samples(stages, config, plan), len(Split(stages, "train").labels)

    def cut(sub: SubModelPlan, stage: str, samples: int, into: list) -> None:
        name = f"{fleet.label_of(sub)}.{stage}"
        result = stages.run(name, lambda folder: cutting.cut_and_fit(
            folder, stages, config, base_config, sub, stage, name, samples))
        into.append({"stage": stage, **result})

    def samples(sub: SubModelPlan) -> int:
        return scale if sub.kept_heads == largest.kept_heads else equal_samples(scale, largest.macs, sub.macs)

    if config.shared_training is None:
        for stage in cutting.PRUNING_STAGES:
            for sub in members:
                cut(sub, stage, samples(sub), histories[fleet.label_of(sub)])
        return histories, shared
    fleets = {sub.kept_heads for sub in plan.sub_models}
    for label, sub in fleet.shared_plans(
            [one for one in members if not _is(one, PLAIN)], base_config, config.pruning.heads).items():
        shared[label] = []
        count = whole if sub.kept_heads in fleets else equal_samples(whole, largest.macs, sub.macs)
        for stage in cutting.PRUNING_STAGES:
            cut(sub, stage, count, shared[label])
    for sub in members:
        label = fleet.label_of(sub)
        for stage in cutting.PRUNING_STAGES if _is(sub, PLAIN) else ():
            cut(sub, stage, whole, histories[label])
        name = f"{label}.{cutting.GROUP}"
        result = stages.run(name, lambda folder, s=sub, n=name: cutting.specialise(
            folder, stages, config, s, n, samples(s)))
        histories[label].append({"stage": cutting.GROUP, **result})
    return histories, shared


def training_macs_of(shared: dict, histories: dict, members: list[SubModelPlan], joint: dict | None) -> dict:
    """MACs of all fits after the cuts, by "fleet" and kind of rival ("single": None where there is none).

    A shared model counts once for each that starts from it.
    """
    def spent(rows: list) -> int:
        return sum(row["history"].get("macs", 0) for row in rows)

    def started(subs: list) -> int:
        labels = sorted({fleet.shared_of(sub) for sub in subs if not _is(sub, PLAIN)})
        return sum(spent(shared[label]) for label in labels) if shared else 0

    subs = [sub for sub in members if not isinstance(sub, Rival)]
    own = sum(spent(histories[sub.name]) for sub in subs) + (joint["history"]["macs"] if joint else 0)
    return {"fleet": started(subs) + own, SINGLE: None, **{one.kind: started([one]) + spent(histories[one.kind])
                                              for one in members if isinstance(one, Rival)}}


def _is(sub: SubModelPlan, kind: str) -> bool:
    return isinstance(sub, Rival) and sub.kind == kind
