"""A sub-model's way from the base: its head, then three cuts, each by fresh scores and followed by a fit."""

import json
from pathlib import Path

import numpy as np

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.pipeline.fleet import SINGLE, label_of
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages, stage_seed
from edvit_tf.planning import cost

PRUNING_STAGES = ("head", "residual", "attention", "ffn")


def fleet_samples(stages: Stages, config: RunConfig, plan: Plan) -> int:
    """Training samples that the sub-models see together in an epoch: as many as the single baseline gets in one."""
    from edvit_tf.training.batches import group_epoch

    labels = Split(stages, "train").labels
    num_classes = int(labels.max()) + 1
    weight = config.stage_training.other_weight
    return sum(len(group_epoch(labels, sub.classes, num_classes, 0, 0, weight)) for sub in plan.sub_models)


def cut_and_fit(
    folder: Path, stages: Stages, config: RunConfig, base_config: ViTConfig, sub: SubModelPlan, stage: str, name: str,
    fleet_samples: int,
) -> dict:
    """One stage of one sub-model: the group's head, or a cut by fresh scores; then the fit that mends it."""
    from edvit_tf.pruning.prune import group_head
    from edvit_tf.pruning.stage import prune_stage
    from edvit_tf.training.batches import group_epoch, group_targets, repeated_epoch
    from edvit_tf.training.train import fit, fit_head

    seed, classes, num_classes = stage_seed(config, name), sub.classes, base_config.num_classes
    train, validation = Split(stages, "train"), Split(stages, "validation")
    stored = stages.arrays("teacher", "teacher.npz")
    training = config.stage_training
    targets = group_targets(train.labels, stored["train_probabilities"], classes, num_classes, training.distillation,
                            training.label_smoothing)

    def indices(epoch):
        if label_of(sub) == SINGLE:
            return repeated_epoch(len(train.labels), fleet_samples, seed, epoch)
        return group_epoch(train.labels, classes, num_classes, seed, epoch, training.other_weight)

    accuracy: dict[str, dict] = {}
    if stage == "head":
        widths, weights = group_head(base_config, stages.arrays("base"), classes)
        accuracy["before"] = _base_accuracy(stored["validation_probabilities"], validation.labels, classes)
        accuracy["cut"] = _group_accuracy(widths, weights, validation, classes)
        rows = indices(0)
        if widths.num_classes > len(classes) or base_config.pool != "cls":
            # "other" is trained before scores are taken, and a head that had the mean of the patch tokens beside it
            features = stored["train_features"][rows, : widths.hidden_dim]
            weights["head.kernel"], weights["head.bias"] = fit_head(
                features, targets[rows], weights["head.kernel"], weights["head.bias"])
        history: dict = {}
    else:
        before = f"{label_of(sub)}.{PRUNING_STAGES[PRUNING_STAGES.index(stage) - 1]}"
        previous = json.loads(stages.path(before, "stage.json").read_text())["result"]
        mixture = indices(0) if label_of(sub) == SINGLE else group_epoch(train.labels, classes, num_classes, seed, 0)
        chosen = np.sort(mixture[: config.calibration_samples])
        pruned = prune_stage(ViTConfig.from_dict(previous["config"]), stages.arrays(before), train.x[chosen], stage,
                             sub.config, config.pruning, seed)
        widths, accuracy["before"] = pruned.config, previous["accuracy"]["fit"]
        accuracy["cut"] = _group_accuracy(widths, pruned.cut, validation, classes)
        if pruned.repaired is not None:
            accuracy["repair"] = _group_accuracy(widths, pruned.repaired, validation, classes)
        weights, history = fit(widths, pruned.weights, train.x, targets, training, epoch_indices=indices, seed=seed,
                               title=name)
    accuracy["fit"] = _group_accuracy(widths, weights, validation, classes)
    np.savez(folder / "weights.npz", **weights)
    return {"config": widths.to_dict(), "params": cost.params(widths), "macs": cost.macs(widths), "history": history,
            "accuracy": accuracy}


def _group_accuracy(widths: ViTConfig, weights: dict, split: Split, classes: tuple[int, ...]) -> dict:
    """Accuracy of a sub-model on a split's windows, as `_accuracies` gives it."""
    from edvit_tf.training.train import predict

    rows = {c: i for i, c in enumerate(classes)}
    truth = np.array([rows.get(int(label), len(classes)) for label in split.labels])
    return _accuracies(truth, predict(widths, weights, split.x)["logits"].argmax(axis=1), len(classes))


def _base_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> dict:
    """The same of the base, its answers outside the group taken for "other"."""
    place = np.full(probabilities.shape[1], len(classes))
    place[list(classes)] = np.arange(len(classes))
    return _accuracies(place[labels], place[probabilities.argmax(axis=1)], len(classes))


def _accuracies(truth: np.ndarray, answers: np.ndarray, group_size: int) -> dict:
    """"group": share of the samples of the group's own classes that is named right (None: there are no such samples);
    "all": the mean recall over the group's classes and "other", into which all other classes fall.
    """
    right, inside = truth == answers, truth < group_size
    return {"group": float(right[inside].mean()) if inside.any() else None,
            "all": float(np.mean([right[truth == row].mean() for row in np.unique(truth)]))}
