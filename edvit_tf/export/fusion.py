"""How the sub-models' answers become one, as a Keras model and as a graph for a device.

A further kind of fusion is a further class here with the same fields and methods, and its name in
`KINDS` and in `edvit_tf.config.FUSIONS`.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edvit_tf.config import RunConfig, TrainConfig
from edvit_tf.planning.plan import Plan
from edvit_tf.training.batches import weight_of_other

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Fusion:
    """Sub-models of these widths, classes and order -> probabilities of all classes.

    Every kind takes `features` (B, sum d_j) and `present` (B, N), and leaves out what is not
    present.
    """

    widths: tuple[int, ...]  # d_j
    groups: tuple[tuple[int, ...], ...]  # C_j
    num_classes: int
    hidden_share: float  # lambda: hidden width of the tower = ceil(lambda * sum d_j)

    is_fitted: ClassVar[bool]  # on the sub-models' features, by labels

    def build(self):
        """A Keras model with weights of its own."""
        raise NotImplementedError

    def to_fit(self):
        """The Keras model that is fitted; `fitted` makes the one of `build` of it."""
        return self.build()

    def fitted(self, model):
        """The model of `build`, of the one of `to_fit` after its fit."""
        return model

    def graph(self, weights: Weights) -> tuple[Callable, list]:
        """The same of one window for a device, and its signature (`edvit_tf.export.convert`)."""
        raise NotImplementedError

    @property
    def macs(self) -> int:
        """Multiply-accumulates that training counts for one window, forward."""
        raise NotImplementedError

    @property
    def window_macs(self) -> int:
        """Multiply-accumulates of one window's answer."""
        return self.macs

    @property
    def params(self) -> int:
        """Weights in its file."""
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights in the file."""
        return 4 * self.params

    def weights_from(self, sub_models: list[Weights]) -> Weights:
        """Weights that follow from those of the sub-models, where the fusion is not fitted."""
        raise NotImplementedError


class Tower(Fusion):
    """An MLP over all features side by side."""

    is_fitted = True

    def build(self):
        from edvit_tf.training.fuse import build_fusion

        return build_fusion(self.widths, self.num_classes, self.hidden_share)

    def graph(self, weights: Weights) -> tuple[Callable, list]:
        from edvit_tf.export.fusion_graphs import fusion_graph

        return fusion_graph(weights, self.widths)

    @property
    def macs(self) -> int:
        return self._hidden * (sum(self.widths) + self.num_classes)

    @property
    def params(self) -> int:
        return self.macs + self._hidden + self.num_classes

    @property
    def _hidden(self) -> int:
        return math.ceil(self.hidden_share * sum(self.widths))


class Linear(Fusion):
    """One matrix over all features side by side."""

    is_fitted = True

    @property
    def rank(self) -> int | None:
        """Of the matrix; None: as it comes."""
        return None

    def build(self):
        from edvit_tf.training.fuse import build_linear

        return build_linear(self.widths, self.num_classes, self.rank)

    def graph(self, weights: Weights) -> tuple[Callable, list]:
        from edvit_tf.export.fusion_graphs import fusion_graph

        return fusion_graph(weights, self.widths)

    @property
    def macs(self) -> int:
        return sum(self.widths) * self.num_classes

    @property
    def params(self) -> int:
        return self.macs + self.num_classes


class LowRank(Linear):
    """The same of half the rank, as two matrices: smaller where there are many classes."""

    @property
    def rank(self) -> int:
        return math.ceil(min(sum(self.widths), self.num_classes) / 2)

    @property
    def macs(self) -> int:
        return self.rank * (sum(self.widths) + self.num_classes)


class DeepLinear(Linear):
    """One matrix, fitted as NNFacet and EC-SNN fit it: Dense 384 N, 192 N, n N and n for N
    sub-models and n classes, without activation, and dropout between the first three. What is kept
    is their product: the same function, in less than a hundredth of the bytes.
    """

    def to_fit(self):
        from edvit_tf.training.fuse import build_deep_linear

        return build_deep_linear(self.widths, self.num_classes, self.hidden)

    def fitted(self, model):
        from edvit_tf.training.fuse import collapsed

        return collapsed(model, self.build())

    @property
    def hidden(self) -> tuple[int, int, int]:
        """Widths of the layers before the last one."""
        count = len(self.widths)
        return 384 * count, 192 * count, self.num_classes * count

    @property
    def macs(self) -> int:
        sides = (sum(self.widths), *self.hidden, self.num_classes)
        return sum(read * width for read, width in itertools.pairwise(sides))

    @property
    def window_macs(self) -> int:
        return sum(self.widths) * self.num_classes

    @property
    def params(self) -> int:
        return self.window_macs + self.num_classes


class Average(Fusion):
    """The mean of the sub-models' softmaxes, by their own heads."""

    is_fitted = False

    def build(self):
        from edvit_tf.training.fuse import build_average

        return build_average(self.widths, list(self.groups), self.num_classes)

    def graph(self, weights: Weights) -> tuple[Callable, list]:
        from edvit_tf.export.fusion_graphs import average_graph

        return average_graph(weights, self.widths, list(self.groups), self.num_classes)

    @property
    def macs(self) -> int:
        return 0

    @property
    def window_macs(self) -> int:
        return sum(width * rows for width, rows in zip(self.widths, self._rows, strict=True))

    @property
    def params(self) -> int:
        return self.window_macs + sum(self._rows) + 1  # biases and a temperature

    @property
    def _rows(self) -> list[int]:
        """Of each sub-model's head: "other" where there are others."""
        return [len(group) + (len(group) < self.num_classes) for group in self.groups]

    def weights_from(self, sub_models: list[Weights]) -> Weights:
        weights = {"average.temperature": np.ones(1, np.float32)}

        # each sub-model's own head, under names that say whose
        for j, own in enumerate(sub_models):
            for part in ("kernel", "bias"):
                weights[f"average.{part}_{j:02d}"] = own[f"head.{part}"]

        return weights

    def with_prior(self, weights: Weights, train: TrainConfig) -> Weights:
        """Weights whose sub-models take "other" for as many classes as it stands for.

        In their own fit, `train`, "other" came `weight_of_other` times as often as one class; among
        all data it comes n - |C_j| times as often. Its logit is raised by the logarithm of the
        ratio.
        """
        changed = dict(weights)
        for j, group in enumerate(self.groups):
            others = self.num_classes - len(group)
            if others:
                bias = weights[f"average.bias_{j:02d}"].copy()
                fitted = weight_of_other(train, len(group), others)
                bias[-1] += np.float32(np.log(others / fitted))
                changed[f"average.bias_{j:02d}"] = bias
        return changed


# "joint" is a tower that is trained on together with its sub-models.
KINDS: dict[str, type[Fusion]] = {
    "tower": Tower,
    "joint": Tower,
    "average": Average,
    "linear": Linear,
    "low_rank": LowRank,
    "deep_linear": DeepLinear,
}
# What a run chooses, by validation data, from these; and from "joint", where a joint_training says
# how that is trained.
AUTO = "auto"
CHOSEN_FROM = ("average", "low_rank", "linear", "tower")
AS_GOOD = 0.001  # of accuracy under the best


def fusion_of(config: RunConfig, plan: Plan, num_classes: int, kind: str | None = None) -> Fusion:
    """The fusion of a run's sub-models; `kind` is what the run chose, where it does."""
    return KINDS[kind or config.fusion](
        widths=tuple(sub.config.feature_dim for sub in plan.sub_models),
        groups=tuple(sub.classes for sub in plan.sub_models),
        num_classes=num_classes,
        hidden_share=config.fusion_lambda,
    )


def fusions_of(config: RunConfig, plan: Plan, num_classes: int) -> dict[str, Fusion]:
    """What a run fits, by kind: one, or all that it chooses from."""
    kinds = CHOSEN_FROM if config.fusion == AUTO else (config.fusion,)
    return {kind: fusion_of(config, plan, num_classes, kind) for kind in kinds}


def has_joint(config: RunConfig, plan: Plan, num_classes: int) -> bool:
    """Whether a class split and its fusion are trained on together: because that was asked for, or
    as one of those to choose from, where its MLP is no more than a device can hold.
    """
    if config.joint_training is None:
        return False
    tower = fusion_of(config, plan, num_classes, "joint")
    smallest = min(sub.size_bytes for sub in plan.sub_models)
    return config.fusion != AUTO or tower.size_bytes < smallest


def chosen_kind(fusions: Mapping[str, Fusion], accuracy: Mapping[str, float], most: int) -> str:
    """The smallest that is within AS_GOOD of the best, by accuracy on validation data (0..1).

    Only those count whose weights are fewer than `most` bytes, a device's file: who holds a
    sub-model is to have room for the fusion. If none are, the smallest.
    """
    by_size = sorted(fusions, key=lambda kind: fusions[kind].size_bytes)
    allowed = [kind for kind in by_size if fusions[kind].size_bytes < most] or by_size[:1]

    best = max(accuracy[kind] for kind in allowed)
    # a hair wider, for differences that are 0.001 but for rounding
    return next(kind for kind in allowed if accuracy[kind] >= best - AS_GOOD - 1e-9)
