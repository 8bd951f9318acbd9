"""Cuts of one model for the members of a fleet, so that each keeps others of its units: the
strongest few are everybody's, the rest are dealt out in turn, each member by the scores of its own
class group. `edvit_tf.study.fleet.cutting` is the same in torch.

What all of a model reads and writes, the residual stream of a ViT, is cut alike for all.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from edvit_tf.config import PruneConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.importance import Scores, importance
from edvit_tf.pruning.stage import prune_stage

Weights = dict[str, np.ndarray]

SHARED = 0.3  # of what a member keeps: the units that are best on average are everybody's
ALIKE = ("residual",)  # cuts that are the same for all members


def dealt_cuts(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    target: ModelConfig,
    groups: Sequence[tuple[int, ...]],
    inputs: Sequence[np.ndarray],
    options: PruneConfig,
    *,
    mending: np.ndarray,
    seed: int = 0,
) -> list[Weights]:
    """Weights of all classes for every member, at `target`'s widths; nothing is trained.

    Member j scores its units on `inputs[j]` (n, ...), calibration samples of its class group
    `groups[j]`, by a head of these classes and "other"; `mending` are samples of all classes, for
    repairs and for the cuts that are alike.
    """
    known = architecture(config)
    members = [(config, dict(weights)) for _ in groups]
    for stage in known.CUTS:
        if stage in ALIKE:
            done = prune_stage(*members[0], mending, stage, target, options, seed)
            members = [(done.config, done.weights)] * len(groups)
            continue

        scores = []
        for (own, its_weights), group, x in zip(members, groups, inputs, strict=True):
            grouped = known.group_head(own, its_weights, group)
            scores.append(importance(*grouped, x, stage, options.score, seed=seed))
        orders = _dealt_masks(members[0][0], target, stage, scores, options.heads)

        cut = []
        for (own, its_weights), order in zip(members, orders, strict=True):
            cut.append(_cut(own, its_weights, stage, target, options, order, mending))
        members = cut
    return [own for _, own in members]


def dealt_scores(scores: Sequence[np.ndarray], shared: int) -> list[np.ndarray]:
    """For each member scores (units,) in the place of its own, of which the highest, however many,
    are what it is to keep: the `shared` units that are best on average, then what it was dealt.

    Members choose in turn, each its best that it has not yet, of those that have been chosen least
    often: none is chosen twice before all have been once.
    """
    members, units = len(scores), len(scores[0])
    mean = np.mean([own / max(own.sum(), 1e-300) for own in scores], axis=0)
    common = np.argsort(-mean, kind="stable")[:shared]

    best_first = [np.argsort(-own, kind="stable") for own in scores]
    chosen: list[list[int]] = [common.tolist() for _ in scores]
    has = np.zeros((members, units), bool)
    has[:, common] = True
    times = np.zeros(units, int)
    for turn in range(units - len(common)):
        # first and last change places, so that nobody always chooses first
        for member in range(members) if turn % 2 == 0 else reversed(range(members)):
            left = best_first[member][~has[member][best_first[member]]]
            unit = int(left[times[left].argmin()])  # the first of equals: its best
            chosen[member].append(unit)
            has[member, unit] = True
            times[unit] += 1

    found = []
    for order in chosen:
        worth = np.empty(units)
        worth[order] = np.arange(units, 0, -1)
        found.append(worth)
    return found


def _dealt_masks(
    config: ModelConfig, target: ModelConfig, stage: str, scores: Sequence[Scores], heads: str
) -> list[Scores]:
    """`dealt_scores` of every mask of a stage, by member: of those units apart from each other
    among which the cut chooses. One member alone keeps its own scores.
    """
    if len(scores) == 1:
        return list(scores)

    known = architecture(config)
    kept = known.mask_shapes(target, stage)
    out: list[Scores] = [{} for _ in scores]
    for name, groups in known.unit_groups(config, stage, target, heads).items():
        shared = int(SHARED * kept[name] / len(groups))
        for worth in out:
            worth[name] = np.empty(sum(map(len, groups)))
        for units in groups:
            dealt = dealt_scores([own[name][units] for own in scores], shared)
            for worth, own in zip(out, dealt, strict=True):
                worth[name][units] = own
    return out


def _cut(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    stage: str,
    target: ModelConfig,
    options: PruneConfig,
    scores: Scores,
    mending: np.ndarray,
) -> tuple[ModelConfig, Weights]:
    """A model after one cut by these scores, and its repair."""
    known = architecture(config)
    if known.is_cut(config, stage, target):
        return config, dict(weights)

    def given(*_, **__) -> Scores:
        return scores

    # what is dealt out are dims; directions are no units
    options = options.replace(attention="dims")
    done = known.cut_stage(config, weights, stage, target, options, given, mending)
    if not options.repair:
        return done.config, done.weights
    return done.config, known.repair_stage(done, stage, options, mending)
