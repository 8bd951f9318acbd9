"""All members of a run, cut and fitted in turn: shared models, the fleet's sub-models, the rivals
beside them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.pipeline import cutting, fleet
from edvit_tf.pipeline.budget import Budget
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.rivals import PLAIN, SINGLE, Rival
from edvit_tf.pipeline.store import Stages


@dataclass(frozen=True)
class Task:
    """One stage of one member: its name in the work folder, and what makes it there."""

    stage: str
    name: str
    build: Callable[[Path], dict]


def tasks(
    stages: Stages,
    config: RunConfig,
    base_config: ViTConfig,
    plan: Plan,
    members: list[SubModelPlan],
) -> tuple[dict[str, list[Task]], dict[str, list[Task]]]:
    """The stages of the shared models and those of the members, each in their order, by
    `fleet.label_of`.

    Members need what the shared models end with, and nothing of each other. A rival's fits cost
    together what all of the fleet's training does (`budget`).
    """
    labels = Split(stages, "train").labels
    budget, whole = Budget(config, base_config, plan, labels), len(labels)

    def cut(sub: SubModelPlan, stage: str, samples: int) -> Task:
        name = f"{fleet.label_of(sub)}.{stage}"
        return Task(
            stage,
            name,
            lambda folder: cutting.cut_and_fit(
                folder, stages, config, base_config, sub, stage, name, samples
            ),
        )

    def own(sub: SubModelPlan, samples: int) -> Task:
        name = f"{fleet.label_of(sub)}.{cutting.GROUP}"
        return Task(
            cutting.GROUP,
            name,
            lambda folder: cutting.specialise(folder, stages, config, sub, name, samples),
        )

    def samples(sub: SubModelPlan, stage: str) -> int:
        return (
            budget.rival(sub.config, stage) if isinstance(sub, Rival) and stage != "head" else whole
        )

    if config.shared_training is None:
        return {}, {
            fleet.label_of(sub): [
                cut(sub, stage, samples(sub, stage)) for stage in cutting.PRUNING_STAGES
            ]
            for sub in members
        }
    shared, each = {}, {}
    for label, sub in fleet.shared_plans(
        [one for one in members if not _is(one, PLAIN)], base_config, config.pruning.heads
    ).items():
        shared[label] = [
            cut(sub, stage, budget.rival_shared(sub)) for stage in cutting.PRUNING_STAGES
        ]
    for sub in members:
        before = (
            [cut(sub, stage, budget.rival_shared(sub)) for stage in cutting.PRUNING_STAGES]
            if _is(sub, PLAIN)
            else []
        )
        each[fleet.label_of(sub)] = [
            *before,
            own(sub, budget.rival_own(sub) if isinstance(sub, Rival) else whole),
        ]
    return shared, each


def fit_members(
    stages: Stages,
    config: RunConfig,
    base_config: ViTConfig,
    plan: Plan,
    members: list[SubModelPlan],
    jobs: int = 1,
) -> tuple[dict[str, list], dict[str, list]]:
    """Results of the stages of every member, by `fleet.label_of`, and those of the shared models.

    Shared models come first, here. Then members are fitted by `jobs` processes at once, which share
    the cores (`fitting_process`), or here, stage by stage and not member by member: one compiled
    model serves all of a width.
    """
    from edvit_tf.pipeline.fitting_process import fit_in_processes

    shared, each = tasks(stages, config, base_config, plan, members)
    started = _run(stages, shared)
    if jobs > 1:
        fit_in_processes(
            stages,
            min(jobs, len(each)),
            {label: [task.name for task in todo] for label, todo in each.items()},
        )
    return _run(stages, each), started


def _run(stages: Stages, todo: dict[str, list[Task]]) -> dict[str, list]:
    """Runs the stages of all, the first of each, then the second; their results by label."""
    done: dict[str, list] = {label: [] for label in todo}
    for row in zip_longest(*todo.values()):
        for label, task in zip(todo, row, strict=True):
            if task is not None:
                done[label].append({"stage": task.stage, **stages.run(task.name, task.build)})
    return done


def training_macs_of(
    shared: dict, histories: dict, members: list[SubModelPlan], last: list[dict]
) -> dict:
    """MACs of all fits after the cuts, by "fleet" and kind of rival ("single": None where there is
    none).

    `last` are the results of the fusion and of a joint training, which are the fleet's. A shared
    model counts once for each that starts from it.
    """

    def spent(rows: list) -> int:
        return sum(row["history"].get("macs", 0) for row in rows)

    def started(subs: list) -> int:
        labels = sorted({fleet.shared_of(sub) for sub in subs if not _is(sub, PLAIN)})
        return sum(spent(shared[label]) for label in labels) if shared else 0

    subs = [sub for sub in members if not isinstance(sub, Rival)]
    own = sum(spent(histories[sub.name]) for sub in subs) + spent(last)
    return {
        "fleet": started(subs) + own,
        SINGLE: None,
        **{
            one.kind: started([one]) + spent(histories[one.kind])
            for one in members
            if isinstance(one, Rival)
        },
    }


def _is(sub: SubModelPlan, kind: str) -> bool:
    return isinstance(sub, Rival) and sub.kind == kind
