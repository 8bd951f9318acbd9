"""One pruning stage as a run does it: score the units, cut the weakest, repair what follows. Trains
nothing.

A pure function of weights, calibration samples, options and a seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edvit_tf.config import PruneConfig, ViTConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit import rotation
from edvit_tf.models.vit.cuts import cut, cut_attention, cut_residual, kept_dims, top
from edvit_tf.models.vit.queries import repair_queries
from edvit_tf.models.vit.repair import repair
from edvit_tf.pruning.importance import importance

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pruned:
    """Result of a stage: the smaller config, the weights right after the cut, and after the repair
    (None without).
    """

    config: ViTConfig
    cut: Weights
    repaired: Weights | None

    @property
    def weights(self) -> Weights:
        return self.cut if self.repaired is None else self.repaired


def prune_stage(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stage: str,
    target: ViTConfig,
    options: PruneConfig,
    seed: int = 0,
    repair_inputs: np.ndarray | None = None,
) -> Pruned:
    """Cuts `stage` ("residual", "attention", "ffn") to `target`'s widths; `inputs` (n, H, W, C) are
    the group's calibration samples, on which scores are taken, and repairs and directions too
    unless `repair_inputs` gives more of them (a repair is one forward pass, a score one backward
    pass a class). Where the widths are the target's already, nothing is done. Raises ValueError on
    an unknown stage, ConfigError for fewer than 3 channels made of directions.
    """
    mending = inputs if repair_inputs is None else repair_inputs
    if _uncut(config, stage, target):
        return Pruned(config, dict(weights), None)
    before: tuple[ViTConfig, Mapping] = (config, weights)
    spread, kept = None, None
    if stage == "residual":
        before, (small, after), spread = _residual(
            config, weights, inputs, mending, target, options, seed
        )
    else:
        scores = importance(config, weights, inputs, stage, options.score, seed=seed)
        if stage == "attention":
            kept = kept_dims(config, scores, target, options.heads)
            small, after = cut_attention(config, weights, kept)
        else:
            small, after = cut(config, weights, scores, stage, target)
    if not options.repair:
        return Pruned(small, after, None)
    fitted = after
    if kept is not None and options.heads == "keep":
        fitted = repair_queries(before, (small, after), kept, mending, options.ridge)
    repaired = repair(
        before,
        (small, fitted),
        mending,
        stage,
        spread=spread,
        ridge=options.ridge,
        class_weight=_class_weight(config, options),
    )
    return Pruned(small, after, repaired)


def _residual(config, weights, inputs, mending, target, options, seed):
    """(config, weights) to compare with, the same after the cut, and how the old stream stands in
    the new one.
    """
    if options.residual == "channels":
        keep = np.arange(config.hidden_dim)
        small, after = config, dict(weights)
        for width in _widths(config.hidden_dim, target.hidden_dim, options.rounds):
            scores = importance(small, after, inputs, "residual", options.score, seed=seed)[
                "residual"
            ]
            chosen = top(scores, width)
            small, after = cut_residual(small, after, chosen)
            keep = keep[chosen]
        return (
            (config, weights),
            (small, after),
            np.eye(config.hidden_dim, dtype=np.float32)[:, keep],
        )
    if target.hidden_dim < 3:
        raise ConfigError(
            f"the residual stage is to leave {target.hidden_dim} channels; directions need 3 or "
            'more (one is spent on their zero sum). Keep more heads, or take residual = "channels".'
        )
    folded = rotation.fold_norms(config, weights)
    basis = rotation.principal_basis(config, folded, mending, _class_weight(config, options))
    chosen = np.arange(basis.shape[1])
    if options.residual == "scored_directions":
        scores = importance(
            config, folded, inputs, "residual", options.score, basis=basis, seed=seed
        )["residual"]
        chosen = top(scores, target.hidden_dim - 1)
    small, after, spread = rotation.cut_directions(
        config, folded, basis[:, chosen[: target.hidden_dim - 1]]
    )
    return (config, folded), (small, after), spread.astype(np.float32)


def _uncut(config: ViTConfig, stage: str, target: ViTConfig) -> bool:
    """True if the stage has nothing to take away."""
    if stage == "residual":
        return config.hidden_dim == target.hidden_dim and config.pool == target.pool
    if stage == "attention":
        return (config.num_heads, config.head_dim) == (target.num_heads, target.head_dim)
    return stage == "ffn" and config.mlp_dim == target.mlp_dim


def _widths(wide: int, narrow: int, rounds: int) -> list[int]:
    """Widths after each of `rounds` removals, in equal ratios, the last being `narrow`."""
    return [round(wide * (narrow / wide) ** (r / rounds)) for r in range(1, rounds)] + [narrow]


def _class_weight(config: ViTConfig, options: PruneConfig) -> float:
    """Patch tokens that the class token counts for: all of them together, or one."""
    return float(config.num_patches) if options.class_token_counts_as_all else 1.0
