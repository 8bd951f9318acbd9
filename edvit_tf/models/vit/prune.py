"""One cut of a ViT as a run makes it, and the repair of what follows.

The three cuts themselves are in cuts.py, the directions of the residual stream in rotation.py, the
least squares in repair.py and queries.py; here PruneConfig says which of them are taken.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from edvit_tf.config import PruneConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit import rotation
from edvit_tf.models.vit.config import ViTConfig, check_cut
from edvit_tf.models.vit.cuts import best_heads, cut, cut_attention, cut_residual, kept_dims, top
from edvit_tf.models.vit.low_rank import cut_to_directions
from edvit_tf.models.vit.queries import repair_queries
from edvit_tf.models.vit.repair import repair

Weights = dict[str, np.ndarray]
Scoring = Callable[..., Mapping[str, np.ndarray]]  # (config, weights, basis=None) -> by mask name


class Cut(NamedTuple):
    """A model after a cut, and what its repair has to know of the one before."""

    config: ViTConfig
    weights: Weights
    before: tuple[ViTConfig, Mapping[str, np.ndarray]]  # the function to come back to
    spread: np.ndarray | None = None  # (d, d'): how the old stream stands in the new one
    kept: list[tuple[np.ndarray, np.ndarray]] | None = None  # q/k pairs and v dims of each block


def cut_stage(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    stage: str,
    target: ViTConfig,
    options: PruneConfig,
    score: Scoring,
    samples: np.ndarray,
) -> Cut:
    """Cuts one of CUTS to the widths of `target`; `score(config, weights, basis=None)` gives the
    scores of this stage's units, `samples` (n, H, W, C) are those on which directions are found.

    Raises ValueError on an unknown stage, ConfigError for fewer than 3 channels made of directions.
    """
    check_cut(stage)
    if stage == "residual" and options.residual == "channels":
        return _cut_channels(config, weights, target, options, score)

    if stage == "residual":
        return _cut_directions(config, weights, target, options, score, samples)

    # these two are cut by scores alone
    scores = score(config, weights)
    if stage == "attention" and options.attention == "directions" and options.heads != "merge":
        return _cut_head_directions(config, weights, scores, target, options, samples)

    if stage == "attention":
        kept = kept_dims(config, scores, target, options.heads)
        small, after = cut_attention(config, weights, kept)
        return Cut(small, after, (config, weights), kept=kept)

    small, after = cut(config, weights, scores, stage, target)
    return Cut(small, after, (config, weights))


def repair_stage(done: Cut, stage: str, options: PruneConfig, samples: np.ndarray) -> Weights:
    """The weights of a cut with what follows it refitted on `samples` (n, H, W, C)."""
    weights = done.weights

    # narrower keys say less than those of the model before: first the queries make up for that
    if done.kept is not None and options.heads in ("keep", "half"):
        weights = repair_queries(
            done.before, (done.config, weights), done.kept, samples, options.ridge
        )

    return repair(
        done.before,
        (done.config, weights),
        samples,
        stage,
        spread=done.spread,
        ridge=options.ridge,
        class_weight=_class_weight(done.config, options),
    )


def _cut_channels(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    target: ViTConfig,
    options: PruneConfig,
    score: Scoring,
) -> Cut:
    """The weakest channels go, in rounds, scored anew before each."""
    # indices are of the small model in each round; `keep` says which channels of the first they are
    keep = np.arange(config.hidden_dim)
    small = config
    after = dict(weights)
    for width in _widths(config.hidden_dim, target.hidden_dim, options.rounds):
        chosen = top(score(small, after)["residual"], width)
        small, after = cut_residual(small, after, chosen)
        keep = keep[chosen]

    # the stream that is left: rows of the old channels, columns of the kept ones
    spread = np.eye(config.hidden_dim, dtype=np.float32)[:, keep]
    return Cut(small, after, (config, weights), spread=spread)


def _cut_directions(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    target: ViTConfig,
    options: PruneConfig,
    score: Scoring,
    samples: np.ndarray,
) -> Cut:
    """The principal directions stay, or the highest scores among them; one channel goes to their
    zero sum.
    """
    if target.hidden_dim < 3:
        raise ConfigError(
            f"the residual stage is to leave {target.hidden_dim} channels; directions need 3 or "
            'more (one is spent on their zero sum). Keep more heads, or take residual = "channels".'
        )

    # the norms are folded away, so that directions are those of the stream itself
    folded = rotation.fold_norms(config, weights)
    basis = rotation.principal_basis(config, folded, samples, _class_weight(config, options))

    chosen = np.arange(basis.shape[1])  # the largest first
    if options.residual == "scored_directions":
        scores = score(config, folded, basis=basis)["residual"]
        chosen = top(scores, target.hidden_dim - 1)
    kept = basis[:, chosen[: target.hidden_dim - 1]]

    small, after, spread = rotation.cut_directions(config, folded, kept)
    return Cut(small, after, (config, folded), spread=spread.astype(np.float32))


def _cut_head_directions(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    target: ViTConfig,
    options: PruneConfig,
    samples: np.ndarray,
) -> Cut:
    """The heads of the highest scores stay, and of each the directions that its products and its
    answers need most.
    """
    heads = []
    for i in range(config.num_layers):
        qk, v = (np.asarray(scores[f"block_{i:02d}.{part}"]) for part in ("qk", "v"))
        heads.append(best_heads(config, qk, v, target.num_heads))

    small, after = cut_to_directions(
        config,
        weights,
        heads,
        target.head_dim,
        samples,
        class_weight=_class_weight(config, options),
        ridge=options.ridge,
    )
    return Cut(small, after, (config, weights))


def _widths(wide: int, narrow: int, rounds: int) -> list[int]:
    """Widths after each of `rounds` removals, in equal ratios, the last being `narrow`."""
    between = [round(wide * (narrow / wide) ** (r / rounds)) for r in range(1, rounds)]
    return [*between, narrow]


def _class_weight(config: ViTConfig, options: PruneConfig) -> float:
    """Patch tokens that the class token counts for: all of them together, or one."""
    return float(config.num_patches) if options.class_token_counts_as_all else 1.0
