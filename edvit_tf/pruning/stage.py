"""One pruning stage as a run does it: score the units, cut the weakest, repair what follows. Trains
nothing.

A pure function of weights, calibration samples, options and a seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edvit_tf.config import PruneConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.importance import Scores, importance

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pruned:
    """Result of a stage: the smaller config, the weights right after the cut, and after the repair
    (None without).
    """

    config: ModelConfig
    cut: Weights
    repaired: Weights | None

    @property
    def weights(self) -> Weights:
        return self.cut if self.repaired is None else self.repaired


def prune_stage(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stage: str,
    target: ModelConfig,
    options: PruneConfig,
    seed: int = 0,
    repair_inputs: np.ndarray | None = None,
) -> Pruned:
    """Cuts `stage`, one of the architecture's CUTS, to `target`'s widths; `inputs` (n, ...) are the
    group's calibration samples, on which scores are taken, and repairs and directions too unless
    `repair_inputs` gives more of them (a repair is one forward pass, a score one backward pass a
    class). Where the widths are the target's already, nothing is done. Raises ValueError on an
    unknown stage, ConfigError where the architecture cannot make the cut.
    """
    known = architecture(config)
    if known.is_cut(config, stage, target):
        return Pruned(config, dict(weights), None)

    # the scoring that the architecture may ask for several times, of models on their way
    def score(scored: ModelConfig, its_weights: Mapping, basis: np.ndarray | None = None) -> Scores:
        return importance(scored, its_weights, inputs, stage, options.score, basis=basis, seed=seed)

    # what needs no labels and no gradients can do with more samples
    mending = inputs if repair_inputs is None else repair_inputs
    done = known.cut_stage(config, weights, stage, target, options, score, mending)
    if not options.repair:
        return Pruned(done.config, done.weights, None)

    repaired = known.repair_stage(done, stage, options, mending)
    return Pruned(done.config, done.weights, repaired)
