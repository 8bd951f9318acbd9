"""Training of members of all classes as one, and of the rival that has as much: the one model,
trained on from where the members start on as many samples as all of them got together.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.evaluation.accuracy import group_accuracy
from edvit_tf.models import ModelConfig
from edvit_tf.pipeline.budget import training_macs
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.member import WEIGHTS
from edvit_tf.pipeline.stage import EQUAL, TOGETHER, Run
from edvit_tf.pipeline.starts import STARTS, cut_alike
from edvit_tf.pipeline.store import stage_seed
from edvit_tf.pipeline.views import seen


def together(run: Run, folder: Path) -> dict:
    """Members of all classes that start from the one model, or where `starts` put them, trained on
    as one, each with its own view; distilled from the base.
    """
    training = fleet_training(run)
    widths = [member.widths for member in run.sub_models]
    start = _starts(run)
    weights, history = _trained(run, TOGETHER, widths, start, run.given_views, training)

    # Each sample goes through every member, forward and backward.
    history["macs"] = 0
    accuracies = {}
    found = zip(run.sub_models, run.given_views, start, weights, strict=True)
    for member, view, first, own in found:
        history["macs"] += training_macs(member.widths, training, history["samples"])
        accuracies[member.name] = _accuracies(run, member.widths, first, own, view)
        np.savez(folder / member.weights_file, **own)
    return {"history": history, "accuracy": accuracies}


def equal(run: Run, folder: Path) -> dict:
    """The rival: by the same fit without a view, as many epochs longer as there are members."""
    training = fleet_training(run)
    longer = training.replace(epochs=training.epochs * len(run.sub_models))
    widths = run.single.widths
    start = _equal_start(run)
    fitted, history = _trained(run, EQUAL, [widths], [start], [AS_IT_IS], longer)

    own = fitted[0]
    history["macs"] = training_macs(widths, longer, history["samples"])
    np.savez(folder / WEIGHTS, **own)
    return {
        "config": widths.to_dict(),
        "history": history,
        "accuracy": _accuracies(run, widths, start, own, AS_IT_IS),
    }


def fleet_training(run: Run) -> TrainConfig:
    """The fit of members that are trained together."""
    return run.config.fleet_training or run.config.stage_training


def checkpoint_of(run: Run, stage: str) -> Path:
    """Where a long fit keeps what it has; a stage's own folder is emptied when a killed run is
    started again.
    """
    return run.stages.folder / f"{stage}.checkpoint"


def _trained(
    run: Run,
    stage: str,
    widths: Sequence[ModelConfig],
    start: Sequence[dict],
    views: Sequence[View],
    training: TrainConfig,
) -> tuple[list[dict], dict]:
    """Weights of all, and the history of their fit; one alone is never missing."""
    from edvit_tf.training.batches import group_targets, repeated_epoch
    from edvit_tf.training.together import fit_together

    seed = stage_seed(run.config, stage)
    train = Split(run.stages, "train")
    stored = run.stages.arrays("teacher", "teacher.npz")
    count = run.base.num_classes
    return fit_together(
        widths,
        start,
        train.x,
        group_targets(
            train.labels,
            stored["train_probabilities"],
            tuple(range(count)),
            count,
            training.distillation,
            training.label_smoothing,
        ),
        views,
        training,
        own_weight=run.config.own_weight,
        missing_rate=run.config.fleet_missing_rate if len(widths) > 1 else 0.0,
        epoch_indices=lambda epoch: repeated_epoch(
            len(train.labels), len(train.labels), seed, epoch
        ),
        seed=seed,
        features=stored["train_features"],
        checkpoint=checkpoint_of(run, stage),
        title=stage,
    )


def _starts(run: Run) -> list[dict]:
    """The weights with which each member begins."""
    if run.config.fleet_start == "model":
        return [run.fitted_weights(run.single)] * len(run.sub_models)
    return [run.stages.arrays(STARTS, member.weights_file) for member in run.sub_models]


def _equal_start(run: Run) -> dict:
    """The weights with which the rival begins: the members' own, or of members that keep other
    units each the cut that keeps the best for all classes.
    """
    return cut_alike(run) if run.config.fleet_start == "units" else _starts(run)[0]


def _accuracies(run: Run, widths: ModelConfig, first: dict, own: dict, view: View) -> dict:
    """Validation accuracies of one model under its view, before and after the fit."""
    before = _alone(run, widths, first, view)
    return {"before": before, "cut": before, "fit": _alone(run, widths, own, view)}


def _alone(run: Run, widths: ModelConfig, weights: dict, view: View) -> dict:
    """Validation accuracy of a model of all classes, as `group_accuracy` gives it."""
    from edvit_tf.training.train import predict

    validation = Split(run.stages, "validation")
    logits = predict(widths, weights, seen(validation.x, view))["logits"]
    return group_accuracy(logits, validation.labels, tuple(range(run.base.num_classes)))
