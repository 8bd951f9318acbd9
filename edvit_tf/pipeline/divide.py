"""The stage that turns a training budget into epochs of every fit, once the widths are known."""

import time
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig, TrainConfig
from edvit_tf.export.fusion import AUTO
from edvit_tf.models import architecture
from edvit_tf.pipeline.budget import Budget
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.member import single_kept
from edvit_tf.pipeline.stage import BUDGET, Run, Stage
from edvit_tf.planning.fleets import planned_fleet
from edvit_tf.planning.training_budget import JOINT_PART, divided, in_epochs
from edvit_tf.progress import tell

# Batches of two fits that are timed: their difference is free of what tracing takes.
TIMED = (4, 16)


def with_budget(run: Run) -> Run:
    """The run whose fits take its training budget; the same run where it has none."""
    if run.config.training_budget is None:
        return run
    run.make(Stage(BUDGET, ("data", "base", "teacher", "plan"), divide))
    return Run(run.stages, RunConfig.from_dict(run.stages.result(BUDGET)["config"]))


def divide(run: Run, folder: Path) -> dict:
    """The configuration with the epochs that the budget allows, what an epoch of the one model
    takes where that was asked, and the epochs that members trained together would get.
    """
    asked = run.config.training_budget
    seconds = _epoch_seconds(run) if asked.endswith("m") else None
    epochs = in_epochs(asked, seconds)

    members, shares = 1, None
    if run.splits_classes:
        labels = Split(run.stages, "train").labels
        shares = Budget(run.config, run.base, run.split, labels).shares()
    else:
        members = len(planned_fleet(run.config, run.base, run.split).sub_models)
    cuts = len(architecture(run.base).CUTS)
    # what is not to be trained has no part of it
    joint = run.config.joint_training
    if run.config.fusion == AUTO and not run.may_try_joint:
        joint = None
    found = divided(run.config.replace(joint_training=joint), epochs, cuts, members, shares)
    config = found.config
    if joint is None:  # a run says why it tries none
        config = config.replace(joint_training=run.config.joint_training)

    tell(
        f"budget: {asked} is {epochs:.3g} epochs of the one model{_joint_said(run, config, joint)}"
    )
    return {
        "config": config.to_dict(),
        "epochs": epochs,
        "epoch_seconds": seconds,
        "member_epochs": found.member_epochs,
    }


def _joint_said(run: Run, divided: RunConfig, joint: TrainConfig | None) -> str:
    """What is left for a joint training as one of the ways of fusing to choose from."""
    if run.config.fusion != AUTO or joint is None:
        return ""
    if divided.joint_training is None:
        return (
            f"; fusion: joint is not tried, an epoch of it takes more than the {JOINT_PART:.0%} "
            "that it may"
        )
    return f"; {divided.joint_training.epochs} epochs of joint training are in it"


def _epoch_seconds(run: Run) -> float:
    """What an epoch of the one model takes here, by a few steps of it."""
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.training.batches import group_targets
    from edvit_tf.training.train import fit

    training = run.config.shared_training or run.config.stage_training
    count = run.base.num_classes
    kept = single_kept(run.config, run.split, run.base)
    widths = run.base.pruned(kept, count, run.config.pruning.heads)

    train = Split(run.stages, "train")
    stored = run.stages.arrays("teacher", "teacher.npz")
    targets = group_targets(train.labels, stored["train_probabilities"], tuple(range(count)), count)
    spent = []
    for steps in TIMED:
        rows = np.resize(np.arange(len(train.labels)), steps * training.batch_size)
        started = time.perf_counter()
        fit(
            widths,
            initial_weights(widths, 0),
            train.x,
            targets,
            training.replace(epochs=1),
            epoch_indices=lambda epoch, rows=rows: rows,
            seed=0,
            features=stored["train_features"],
            title="budget",
        )
        spent.append(time.perf_counter() - started)

    samples = (TIMED[1] - TIMED[0]) * training.batch_size
    # a machine that stood still in the first of them would make an epoch free
    each = max(spent[1] - spent[0], 0.1 * spent[1]) / samples
    return each * len(train.labels)
