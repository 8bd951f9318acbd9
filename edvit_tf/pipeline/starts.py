"""Where the members of a fleet start that is trained together, if not from the one model: from its
cut before any fit, or each from a cut of its own that keeps other units of the base.
"""

from pathlib import Path

import numpy as np

from edvit_tf.models import architecture
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import stage_seed

STARTS = "starts"  # the stage


def starts(run: Run, folder: Path) -> dict:
    """Weights of every member, cut from the base as config.fleet_start says; nothing is trained."""
    # members follow the class groups of the split: who deals by them deals what differs most
    groups = [tuple(range(run.base.num_classes))]
    if run.config.fleet_start == "units":
        split = [sub.classes for sub in run.split.sub_models]
        groups = [split[j % len(split)] for j in range(len(run.sub_models))]

    cut = _cuts(run, groups)
    if len(cut) == 1:
        cut = cut * len(run.sub_models)
    for member, own in zip(run.sub_models, cut, strict=True):
        np.savez(folder / member.weights_file, **own)
    return {"start": run.config.fleet_start, "groups": [list(group) for group in groups]}


def cut_alike(run: Run) -> dict:
    """Weights of one model that keeps the units that are best for all classes."""
    return _cuts(run, [tuple(range(run.base.num_classes))])[0]


def _cuts(run: Run, groups: list[tuple[int, ...]]) -> list[dict]:
    """Weights of a cut for each of these groups of classes, at the one model's widths."""
    from edvit_tf.pruning.dealt import dealt_cuts
    from edvit_tf.training.batches import group_epoch, repeated_epoch

    config = run.config
    seed = stage_seed(config, STARTS)
    train = Split(run.stages, "train")
    count = run.base.num_classes

    def inputs(rows: np.ndarray, most: int) -> np.ndarray:
        return np.asarray(train.x[np.sort(rows[:most])])

    scored = []
    for group in groups:
        rows = group_epoch(train.labels, group, count, seed, 0)
        scored.append(inputs(rows, config.calibration_samples))
    rows = repeated_epoch(len(train.labels), len(train.labels), seed, 0)
    mending = inputs(rows, config.repair_samples or config.calibration_samples)

    widths, weights = _with_head(run, tuple(range(count)))
    target = run.single.widths
    return dealt_cuts(
        widths, weights, target, groups, scored, config.pruning, mending=mending, seed=seed
    )


def _with_head(run: Run, every: tuple[int, ...]) -> tuple:
    """The base with a head of all classes that reads what a member's will: of one that read the
    patches' mean too, fitted again on the class token alone.
    """
    from edvit_tf.training.batches import group_targets
    from edvit_tf.training.train import fit_head

    widths, weights = architecture(run.base).group_head(run.base, run.stages.arrays("base"), every)
    if widths.feature_dim < run.base.feature_dim:
        labels = Split(run.stages, "train").labels
        seen = run.stages.arrays("teacher", "teacher.npz")["train_features"]
        weights["head.kernel"], weights["head.bias"] = fit_head(
            seen[:, : widths.feature_dim],
            group_targets(labels, None, every, len(every)),
            weights["head.kernel"],
            weights["head.bias"],
        )
    return widths, weights
