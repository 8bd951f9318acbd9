"""A member's way from the base: its head, then cuts, each by fresh scores and followed by a fit.

With a shared model (RunConfig.shared_training) that way is gone once for all classes, with one fit
after the last cut; every member then takes its group's head on it and one fit of its own.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.evaluation.accuracy import base_accuracy, group_accuracy
from edvit_tf.models import ModelConfig, architecture, config_from_dict
from edvit_tf.pipeline.budget import Budget, training_macs
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.member import GROUP, HEAD, PLAIN, Member
from edvit_tf.pipeline.stage import OUTSIDE, Run, Stage
from edvit_tf.pipeline.store import stage_seed
from edvit_tf.progress import tell

_READ = ("data", "base", "teacher", "plan")


def stages_of(member: Member) -> list[Stage]:
    """The stages of a member, in order."""
    # those that fit a model do it in parts
    parts = {GROUP: specialise}

    found = []
    before: tuple[str, ...] = ()
    for step in member.steps:
        if step == GROUP:
            # Its weights come from the member that it starts from, which may be another one.
            before = (_start(member),)
        name = member.stage(step)
        if member.is_given or step == HEAD:
            build = take_given if member.is_given else take_head
            before = (OUTSIDE,) if member.is_given else before
            found.append(Stage(name, (*_READ, *before), partial(build, member=member)))
        else:
            made = partial(parts.get(step) or partial(cut_and_fit, cut=step), member=member)
            found.append(Stage(name, (*_READ, *before), partial(_alone, made), made))
        before = (name,)
    return found


def _alone(parts: Callable[..., Generator], run: Run, folder: Path) -> dict:
    """A stage that is made in parts, with each of its fits as soon as it is wanted."""
    made = parts(run, folder)
    answer = None
    while True:
        try:
            wanted = made.send(answer)
        except StopIteration as end:
            return end.value
        answer = wanted.fit()


def take_head(run: Run, folder: Path, member: Member) -> dict:
    """The base with a head of the member's classes, and "other" where there are more."""
    validation = Split(run.stages, "validation")
    fitting = Fitting(run, member, HEAD, _training(run, member, HEAD))

    group_head = architecture(run.base).group_head
    widths, weights = group_head(run.base, run.stages.arrays("base"), member.classes)

    # What the base says of these classes, beside what its new head says.
    said = fitting.stored["validation_probabilities"]
    accuracy = {
        "before": base_accuracy(said, validation.labels, member.classes),
        "cut": fitting.headed_accuracy(widths, weights, validation),
    }

    # "other" is trained before scores are taken, and so is a head that reads fewer features now.
    narrower = widths.feature_dim < run.base.feature_dim
    if widths.num_classes > len(member.classes) or narrower:
        rows = fitting.rows(0)
        seen = fitting.stored["train_features"][rows, : widths.feature_dim]
        fitting.fit_head(weights, rows, seen)

    accuracy["fit"] = fitting.headed_accuracy(widths, weights, validation)
    return _stored(folder, widths, weights, {}, accuracy)


def cut_and_fit(run: Run, folder: Path, member: Member, cut: str) -> Generator:
    """One cut by fresh scores, its repair, and the fit that mends the rest, which is asked for."""
    from edvit_tf.pruning.stage import prune_stage

    name = member.stage(cut)
    before = member.stage(member.way[member.way.index(cut) - 1])
    previous = run.stages.result(before)
    validation = Split(run.stages, "validation")
    fitting = Fitting(run, member, cut, _training(run, member, cut))

    # Scores are taken on fewer samples than repairs are fitted on: each costs more.
    config = run.config
    scored = fitting.sample(config.calibration_samples)
    if config.pruning.score == "apoz":
        scored = own_rows(fitting.train.labels, member.classes, config.calibration_samples)
    mending = fitting.sample(config.repair_samples or config.calibration_samples)
    pruned = prune_stage(
        config_from_dict(previous["config"]),
        run.stages.arrays(before),
        fitting.train.x[scored],
        cut,
        member.widths,
        config.pruning,
        fitting.seed,
        fitting.train.x[mending],
    )

    widths = pruned.config
    accuracy = {
        "before": previous["accuracy"]["fit"],
        "cut": _accuracy(widths, pruned.cut, validation, member),
    }
    if pruned.repaired is not None:
        accuracy["repair"] = _accuracy(widths, pruned.repaired, validation, member)

    weights, history = yield Wanted(fitting, widths, pruned.weights)
    if fitting.training.epochs:
        accuracy["fit"] = _accuracy(widths, weights, validation, member)
        tell_a_loss(name, accuracy, fitting.training)
    else:
        accuracy["fit"] = accuracy.get("repair", accuracy["cut"])  # no fit follows

    return _stored(folder, widths, weights, history, accuracy)


def own_rows(labels: np.ndarray, classes: tuple[int, ...], count: int) -> np.ndarray:
    """Ascending indices of at most `count` samples of the classes alone, evenly from all of them:
    those on which zeros are counted, for a plan and for a cut the same.
    """
    rows = np.flatnonzero(np.isin(labels, classes))
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def take_given(run: Run, folder: Path, member: Member) -> dict:
    """A model of all classes as it was trained elsewhere."""
    validation = Split(run.stages, "validation")
    stored = run.stages.arrays("teacher", "teacher.npz")
    weights = run.stages.arrays(OUTSIDE)

    said = stored["validation_probabilities"]
    accuracy = {"before": base_accuracy(said, validation.labels, member.classes)}
    accuracy["cut"] = accuracy["fit"] = _accuracy(member.widths, weights, validation, member)
    return _stored(folder, member.widths, weights, {}, accuracy)


def specialise(run: Run, folder: Path, member: Member) -> Generator:
    """A member made from the model of all classes where it starts: its group's head, fitted on the
    features as they are, then a fit, which is asked for.
    """
    from edvit_tf.training.precision import resolved
    from edvit_tf.training.train import predict, softmax

    start = _start(member)
    shared = config_from_dict(run.stages.result(start)["config"])
    weights = run.stages.arrays(start)

    validation = Split(run.stages, "validation")
    fitting = Fitting(run, member, GROUP, run.config.stage_training)

    # The features stay what they are until the fit: a head is measured on them alone.
    said = predict(shared, weights, validation.x)
    truth = validation.labels, member.classes
    accuracy = {"before": base_accuracy(softmax(said["logits"]), *truth)}

    # The group's head, before and after it is fitted.
    widths, weights = architecture(shared).group_head(shared, weights, member.classes)
    accuracy["cut"] = head_accuracy(weights, said["features"], *truth)
    if widths.num_classes > len(member.classes):
        rows = np.sort(fitting.rows(0))
        precision = resolved(fitting.training.precision)
        seen = predict(widths, weights, fitting.train.x[rows], precision=precision)["features"]
        fitting.fit_head(weights, rows, seen)
        accuracy["repair"] = head_accuracy(weights, said["features"], *truth)

    weights, history = yield Wanted(fitting, widths, weights)
    accuracy["fit"] = _accuracy(widths, weights, validation, member)
    tell_a_loss(fitting.name, accuracy, fitting.training)

    return _stored(folder, widths, weights, history, accuracy)


def _start(member: Member) -> str:
    """Name of the stage with the cut model of all classes where a member starts."""
    return f"{member.starts_from}.{member.way[-1]}"


def _training(run: Run, member: Member, step: str) -> TrainConfig:
    """The fit after a step on the way from the base: with shared models one after the last cut."""
    shared = run.config.shared_training
    if shared is None:
        return run.config.stage_training

    # Until the last cut nothing is fitted: the shared training comes once, after it.
    return shared if step == member.way[-1] else shared.replace(epochs=0)


class Fitting:
    """What a fit of one member reads: training inputs, targets, the base's features, and which rows
    an epoch has.
    """

    def __init__(self, run: Run, member: Member, step: str, training: TrainConfig):
        from edvit_tf.training.batches import group_targets

        # PLAIN shows what distillation is worth: it has none.
        if member.kind == PLAIN:
            training = training.replace(distillation=0.0, feature_distillation=0.0)

        self.name = member.stage(step)
        self.member = member
        self.training = training
        self.seed = stage_seed(run.config, self.name)
        self.num_classes = run.base.num_classes
        self.teacher_precision = run.config.teacher_precision

        self.train = Split(run.stages, "train")
        self.stored = run.stages.arrays("teacher", "teacher.npz")

        budget = Budget(run.config, run.base, run.split, self.train.labels)
        self.count = budget.samples(member, step)  # an epoch of a model of all classes

        # (n, |C_j|), and a last column "other" where the group is not all classes
        self.targets = group_targets(
            self.train.labels,
            self.stored["train_probabilities"],
            member.classes,
            self.num_classes,
            training.distillation,
            training.label_smoothing,
        )

    def rows(self, epoch: int) -> np.ndarray:
        """Indices of an epoch: the group's mixture, or of a model beside the fleet so many of
        all.
        """
        if self.member.is_sub_model:
            return self._mixture(epoch)
        return self._all(self.count, epoch)

    def sample(self, count: int) -> np.ndarray:
        """Indices of so many inputs to score or mend a cut on, ascending: of the mixture that the
        group is fitted on, or of all.
        """
        drawn = self._mixture(0) if self.member.is_sub_model else self._all(None, 0)
        return np.sort(drawn[:count])  # a memory map is read in order

    def _mixture(self, epoch: int) -> np.ndarray:
        from edvit_tf.training.batches import own_epoch

        return own_epoch(
            self.training,
            self.train.labels,
            self.member.classes,
            self.num_classes,
            self.seed,
            epoch,
        )

    def _all(self, count: int | None, epoch: int) -> np.ndarray:
        from edvit_tf.training.batches import repeated_epoch

        total = len(self.train.labels)
        if count is None:
            count = total
        return repeated_epoch(total, count, self.seed, epoch)

    def fit_head(self, weights: dict, rows: np.ndarray, features: np.ndarray) -> None:
        """Trains the head in `weights` on the features (len(rows), d)."""
        from edvit_tf.training.train import fit_head

        weights["head.kernel"], weights["head.bias"] = fit_head(
            features, self.targets[rows], weights["head.kernel"], weights["head.bias"]
        )

    def headed_accuracy(self, widths: ModelConfig, weights: dict, validation: Split) -> dict:
        """Accuracy of the base with another head: of the base's stored features, where they are
        exact, instead of a pass of the whole base for each member.
        """
        if self.teacher_precision != "float32":
            return _accuracy(widths, weights, validation, self.member)
        seen = self.stored["validation_features"][:, : widths.feature_dim]
        return head_accuracy(weights, seen, validation.labels, self.member.classes)


@dataclass(frozen=True)
class Wanted:
    """A fit that a stage waits for."""

    fitting: Fitting
    widths: ModelConfig
    weights: dict

    def fit(self) -> tuple[dict, dict]:
        """Weights after the fit, and its history."""
        from edvit_tf.training.train import fit

        given = self.fitting
        weights, history = fit(
            self.widths,
            self.weights,
            given.train.x,
            given.targets,
            given.training,
            epoch_indices=given.rows,
            seed=given.seed,
            features=given.stored["train_features"],
            title=given.name,
        )
        return weights, self.with_macs(history)

    def with_macs(self, history: dict) -> dict:
        """And what was spent, at the widths that were trained."""
        macs = training_macs(self.widths, self.fitting.training, history["samples"])
        return history | {"macs": macs}


def head_accuracy(
    weights: dict, features: np.ndarray, labels: np.ndarray, classes: tuple[int, ...]
) -> dict:
    """Accuracy (`group_accuracy`) of a head alone, on features (n, d) that are known."""
    logits = features @ weights["head.kernel"] + weights["head.bias"]
    return group_accuracy(logits, labels, classes)


def tell_a_loss(name: str, accuracy: dict[str, dict], training: TrainConfig) -> None:
    """Prints that a fit lost more than a point of balanced accuracy against the weights it started
    from.
    """
    start = accuracy.get("repair", accuracy["cut"])["all"]
    end = accuracy["fit"]["all"]
    if end < start - 0.01:
        tell(
            f"[{name}] the fit lost {100 * (start - end):.1f} points of balanced accuracy on the "
            f"validation split ({100 * start:.1f} -> {100 * end:.1f} %). A learning rate lower "
            f"than {training.learning_rate:g} may keep them.",
        )


def _accuracy(widths: ModelConfig, weights: dict, split: Split, member: Member) -> dict:
    """Accuracy of a member on a split's windows, as `group_accuracy` gives it."""
    from edvit_tf.training.train import predict

    logits = predict(widths, weights, split.x)["logits"]
    return group_accuracy(logits, split.labels, member.classes)


def _stored(
    folder: Path, widths: ModelConfig, weights: dict, history: dict, accuracy: dict
) -> dict:
    """Writes the weights; returns what is told of the stage."""
    np.savez(folder / "weights.npz", **weights)
    return {
        "config": widths.to_dict(),
        "params": architecture(widths).params(widths),
        "macs": architecture(widths).macs(widths),
        "history": history,
        "accuracy": accuracy,
    }
