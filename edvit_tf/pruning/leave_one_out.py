"""Leave-one-out scores: how far the output distribution moves when one unit is removed.

The model runs once a unit. An architecture may know a cheaper way to the same logits (its
SHORTCUTS); else a unit is removed by its mask, in whole passes. Source: UP-ViT (Yu and Wu 2021),
the score of its section 3.
"""

import functools
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.divergence import kl_divergence


def exact(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stage: str,
    *,
    units: Mapping[str, np.ndarray] | None = None,
    basis: np.ndarray | None = None,
    sample_batch: int = 16,
    rows: int = 128,
) -> dict[str, np.ndarray]:
    """KL(P || Q) of every unit of a stage, removed alone; scores and `basis` as in `importance`.

    `units` names the indices to score, by mask name; the others come out as NaN, and a mask that is
    not named is left out. Memory: the activations of one block for `rows` samples times units,
    which run at once, and the tokens of `sample_batch` samples at every block.
    """

    known = architecture(config)
    widths = known.mask_shapes(config, stage, basis)

    # which units of each mask are to be scored
    wanted = {}
    for name, width in widths.items():
        if units is None:
            wanted[name] = np.arange(width)
        elif name in units:
            wanted[name] = np.asarray(units[name])

    constants = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
    totals = {name: np.zeros(len(chosen)) for name, chosen in wanted.items()}

    for start in range(0, len(inputs), sample_batch):
        x = tf.constant(np.asarray(inputs[start : start + sample_batch], np.float32))

        # units and samples share the `rows` that run at once
        at_once = max(1, rows // len(x))
        if stage in known.SHORTCUTS:
            whole, removed = known.removals(config, constants, x, wanted, at_once)
        else:
            whole, removed = _masked(config, constants, x, widths, wanted, at_once, basis)

        # in float64: the divergences of weak units are differences of close numbers
        p = whole.numpy().astype(np.float64)[np.newaxis]  # (1, B, C)
        for name, first, count, logits in removed:
            q = logits.numpy().astype(np.float64).reshape(count, len(x), -1)
            totals[name][first : first + count] += kl_divergence(p, q).sum(axis=1)

    # of units that were not asked for nothing is known: NaN, not 0
    scores = {}
    for name, chosen in wanted.items():
        scores[name] = np.full(widths[name], np.nan)
        scores[name][chosen] = totals[name] / len(inputs)
    return scores


def _masked(
    config: ModelConfig,
    weights: Mapping,
    x,
    widths: Mapping[str, int],
    wanted: Mapping[str, np.ndarray],
    at_once: int,
    basis: np.ndarray | None,
) -> tuple[tf.Tensor, Iterator[tuple[str, int, int, tf.Tensor]]]:
    """The same as `removals` of an architecture, by masks: a whole pass a unit."""
    passes = _passes(config, basis is not None)
    turned = None if basis is None else tf.constant(basis, tf.float32)

    def removed() -> Iterator[tuple[str, int, int, tf.Tensor]]:
        for name, chosen in wanted.items():
            for start in range(0, len(chosen), at_once):
                some = chosen[start : start + at_once]
                masks = 1 - tf.one_hot(some, widths[name])  # (U, units)
                yield name, start, len(some), passes(weights, x, {name: masks}, turned)

    # all masks whole, of one unit's shape
    name = next(iter(widths))
    whole = passes(weights, x, {name: tf.ones((1, widths[name]))}, turned)
    return whole, removed()


@functools.lru_cache(maxsize=4)
def _passes(config: ModelConfig, turned: bool):
    """A function of (weights, x (B, ...), {mask: (U, units)}, basis): logits (U * B, C)."""
    forward = architecture(config).forward

    @tf.function(reduce_retracing=True)
    def passes(weights, x, masks, basis):
        batch = tf.shape(x)[0]
        count = tf.shape(next(iter(masks.values())))[0]
        repeated = tf.tile(x, [count] + [1] * (x.shape.rank - 1))  # unit by unit
        each = {name: tf.repeat(mask, batch, axis=0) for name, mask in masks.items()}
        return forward(config, weights, repeated, each, basis if turned else None)

    return passes
