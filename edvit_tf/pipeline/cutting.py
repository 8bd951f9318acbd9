"""A sub-model's way from the base: its head, then three cuts, each by fresh scores and followed by
a fit.

With a shared model (RunConfig.shared_training) that way is gone once for all classes, with one fit
after the last cut; every member then takes its group's head on it and one fit of its own.
"""

import json
from pathlib import Path

import numpy as np

from edvit_tf.config import RunConfig, SubModelPlan, TrainConfig, ViTConfig
from edvit_tf.models.vit import cost
from edvit_tf.pipeline.budget import training_macs
from edvit_tf.pipeline.fleet import label_of, shared_of
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.rivals import PLAIN
from edvit_tf.pipeline.store import Stages, stage_seed

PRUNING_STAGES = ("head", "residual", "attention", "ffn")
GROUP = "group"  # the stage of a member that starts from a shared model


def cut_and_fit(
    folder: Path,
    stages: Stages,
    config: RunConfig,
    base_config: ViTConfig,
    sub: SubModelPlan,
    stage: str,
    name: str,
    samples: int,
) -> dict:
    """One stage of one member: the group's head, or a cut by fresh scores; then the fit that mends
    it.

    A model on no device gets `samples` an epoch, of all classes. With config.shared_training a
    model is cut three times without a fit, and then trained as that says.
    """
    from edvit_tf.models.vit.cuts import group_head
    from edvit_tf.pruning.stage import prune_stage
    from edvit_tf.training.batches import group_epoch, repeated_epoch

    seed, classes, num_classes = stage_seed(config, name), sub.classes, base_config.num_classes
    training = config.shared_training or config.stage_training
    if config.shared_training is not None and stage != "ffn":
        training = training.replace(epochs=0)
    fitting = _Fitting(stages, training, sub, num_classes, seed, samples)
    train, validation = fitting.train, Split(stages, "validation")

    accuracy: dict[str, dict] = {}
    if stage == "head":
        widths, weights = group_head(base_config, stages.arrays("base"), classes)
        accuracy["before"] = _base_accuracy(
            fitting.stored["validation_probabilities"], validation.labels, classes
        )
        accuracy["cut"] = _group_accuracy(widths, weights, validation, classes)
        if widths.num_classes > len(classes) or base_config.pool != "cls":
            # "other" is trained before scores are taken, and a head that had the mean of the patch
            # tokens beside it
            rows = fitting.rows(0)
            fitting.fit_head(
                weights, rows, fitting.stored["train_features"][rows, : widths.hidden_dim]
            )
        history: dict = {}
    else:
        before = f"{label_of(sub)}.{PRUNING_STAGES[PRUNING_STAGES.index(stage) - 1]}"
        previous = json.loads(stages.path(before, "stage.json").read_text())["result"]
        mixture = (
            group_epoch(train.labels, classes, num_classes, seed, 0)
            if sub.devices
            else repeated_epoch(len(train.labels), len(train.labels), seed, 0)
        )
        chosen, mending = (
            np.sort(mixture[:count])
            for count in (
                config.calibration_samples,
                config.repair_samples or config.calibration_samples,
            )
        )
        pruned = prune_stage(
            ViTConfig.from_dict(previous["config"]),
            stages.arrays(before),
            train.x[chosen],
            stage,
            sub.config,
            config.pruning,
            seed,
            train.x[mending],
        )
        widths, accuracy["before"] = pruned.config, previous["accuracy"]["fit"]
        accuracy["cut"] = _group_accuracy(widths, pruned.cut, validation, classes)
        if pruned.repaired is not None:
            accuracy["repair"] = _group_accuracy(widths, pruned.repaired, validation, classes)
        weights, history = fitting.fit(widths, pruned.weights, name)
    accuracy["fit"] = (
        _group_accuracy(widths, weights, validation, classes)
        if stage == "head" or training.epochs
        else accuracy.get("repair", accuracy["cut"])
    )
    if stage != "head" and training.epochs:
        _tell_a_loss(name, accuracy, training)
    np.savez(folder / "weights.npz", **weights)
    return {
        "config": widths.to_dict(),
        "params": cost.params(widths),
        "macs": cost.macs(widths),
        "history": history,
        "accuracy": accuracy,
    }


def specialise(
    folder: Path, stages: Stages, config: RunConfig, sub: SubModelPlan, name: str, samples: int
) -> dict:
    """A member made from the shared model of its width: its group's head, fitted on the shared
    features, then a fit.

    Without distillation it starts from one of its own that was trained so.
    """
    from edvit_tf.models.vit.cuts import group_head
    from edvit_tf.training.precision import resolved
    from edvit_tf.training.train import predict, softmax

    before = f"{PLAIN if label_of(sub) == PLAIN else shared_of(sub)}.ffn"
    shared = ViTConfig.from_dict(
        json.loads(stages.path(before, "stage.json").read_text())["result"]["config"]
    )
    num_classes, weights = shared.num_classes, stages.arrays(before)
    fitting = _Fitting(
        stages, config.stage_training, sub, num_classes, stage_seed(config, name), samples
    )
    validation = Split(stages, "validation")
    said = predict(shared, weights, validation.x)
    accuracy = {"before": _base_accuracy(softmax(said["logits"]), validation.labels, sub.classes)}
    widths, weights = group_head(shared, weights, sub.classes)
    accuracy["cut"] = _head_accuracy(weights, said["features"], validation, sub.classes)
    if widths.num_classes > len(sub.classes):
        rows = np.sort(fitting.rows(0))
        precision = resolved(config.stage_training.precision)
        features = predict(widths, weights, fitting.train.x[rows], precision=precision)["features"]
        fitting.fit_head(weights, rows, features)
        accuracy["repair"] = _head_accuracy(weights, said["features"], validation, sub.classes)
    weights, history = fitting.fit(widths, weights, name)
    accuracy["fit"] = _group_accuracy(widths, weights, validation, sub.classes)
    _tell_a_loss(name, accuracy, config.stage_training)
    np.savez(folder / "weights.npz", **weights)
    return {
        "config": widths.to_dict(),
        "params": cost.params(widths),
        "macs": cost.macs(widths),
        "history": history,
        "accuracy": accuracy,
    }


class _Fitting:
    """What a fit of one member reads: training inputs, targets, the base's features, and which rows
    an epoch has.
    """

    def __init__(
        self,
        stages: Stages,
        training: TrainConfig,
        sub: SubModelPlan,
        num_classes: int,
        seed: int,
        samples: int,
    ):
        from edvit_tf.training.batches import group_targets

        if label_of(sub) == PLAIN:
            training = training.replace(distillation=0.0, feature_distillation=0.0)
        self.train, self.stored = Split(stages, "train"), stages.arrays("teacher", "teacher.npz")
        self.training, self.sub, self.num_classes, self.seed = training, sub, num_classes, seed
        self.count = samples  # an epoch of a model on no device
        self.targets = group_targets(
            self.train.labels,
            self.stored["train_probabilities"],
            sub.classes,
            num_classes,
            training.distillation,
            training.label_smoothing,
        )

    def rows(self, epoch: int) -> np.ndarray:
        """Indices of an epoch: the group's mixture, or for a model of all classes on no device so
        many of all.
        """
        from edvit_tf.training.batches import group_epoch, repeated_epoch

        if not self.sub.devices:
            return repeated_epoch(len(self.train.labels), self.count, self.seed, epoch)
        return group_epoch(
            self.train.labels,
            self.sub.classes,
            self.num_classes,
            self.seed,
            epoch,
            self.training.other_weight,
        )

    def fit_head(self, weights: dict, rows: np.ndarray, features: np.ndarray) -> None:
        """Trains the head in `weights` on the features (len(rows), d)."""
        from edvit_tf.training.train import fit_head

        weights["head.kernel"], weights["head.bias"] = fit_head(
            features, self.targets[rows], weights["head.kernel"], weights["head.bias"]
        )

    def fit(self, widths: ViTConfig, weights: dict, title: str) -> tuple[dict, dict]:
        from edvit_tf.training.train import fit

        weights, history = fit(
            widths,
            weights,
            self.train.x,
            self.targets,
            self.training,
            epoch_indices=self.rows,
            seed=self.seed,
            features=self.stored["train_features"],
            title=title,
        )
        history["macs"] = training_macs(widths, self.training, history["samples"])
        return weights, history


def _group_accuracy(
    widths: ViTConfig, weights: dict, split: Split, classes: tuple[int, ...]
) -> dict:
    """Accuracy of a sub-model on a split's windows, as `_accuracies` gives it."""
    from edvit_tf.training.train import predict

    return _accuracies(
        _truth(split, classes),
        predict(widths, weights, split.x)["logits"].argmax(axis=1),
        len(classes),
    )


def _head_accuracy(
    weights: dict, features: np.ndarray, split: Split, classes: tuple[int, ...]
) -> dict:
    """The same of a head alone, on the split's features (n, d) that are known."""
    answers = (features @ weights["head.kernel"] + weights["head.bias"]).argmax(axis=1)
    return _accuracies(_truth(split, classes), answers, len(classes))


def _truth(split: Split, classes: tuple[int, ...]) -> np.ndarray:
    """The split's labels as rows of a group's head; all other classes are "other", the row after
    its own.
    """
    rows = {c: i for i, c in enumerate(classes)}
    return np.array([rows.get(int(label), len(classes)) for label in split.labels])


def _tell_a_loss(name: str, accuracy: dict[str, dict], training: TrainConfig) -> None:
    """Prints that a fit lost more than a point of balanced accuracy against the weights it started
    from.
    """
    start, end = accuracy.get("repair", accuracy["cut"])["all"], accuracy["fit"]["all"]
    if end < start - 0.01:
        print(
            f"[{name}] the fit lost {100 * (start - end):.1f} points of balanced accuracy on the "
            "validation split "
            f"({100 * start:.1f} -> {100 * end:.1f} %). A learning rate lower than "
            f"{training.learning_rate:g} may "
            "keep them.",
            flush=True,
        )


def _base_accuracy(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]) -> dict:
    """The same of the base, its answers outside the group taken for "other"."""
    place = np.full(probabilities.shape[1], len(classes))
    place[list(classes)] = np.arange(len(classes))
    return _accuracies(place[labels], place[probabilities.argmax(axis=1)], len(classes))


def _accuracies(truth: np.ndarray, answers: np.ndarray, group_size: int) -> dict:
    """ "group": share of the samples of the group's own classes that is named right (None: there
    are no such samples); "all": the mean recall over the group's classes and "other", into which
    all other classes fall.
    """
    right, inside = truth == answers, truth < group_size
    return {
        "group": float(right[inside].mean()) if inside.any() else None,
        "all": float(np.mean([right[truth == row].mean() for row in np.unique(truth)])),
    }
