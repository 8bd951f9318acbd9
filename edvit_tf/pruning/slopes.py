"""Scores of all units from first derivatives: one forward pass, and one backward pass a class, for
every stage.

With z the logits and m a unit's mask, removing the unit changes the logits by -dz/dm to first
order. `linearised` is KL(softmax(z) || softmax(z - dz/dm)); `fisher` is half of Var_{y ~
softmax(z)}(dz_y / dm), what that KL is to second order. Both are means over samples.
"""

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.divergence import half_variance, kl_divergence


def from_slopes(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stages: tuple[str, ...] | None = None,
    *,
    basis: np.ndarray | None = None,
    batch_size: int = 16,
) -> dict[str, dict[str, np.ndarray]]:
    """{"linearised": scores, "fisher": scores} of every unit of `stages` (None: all cuts); scores
    as in `importance`.

    Costs one forward pass and num_classes backward passes (derivatives of activations alone) over
    `inputs`, however many units there are. Memory: the activations of `batch_size` samples; take
    fewer for a model larger than ViT-Base.
    """
    known = architecture(config)
    widths: dict[str, int] = {}
    for stage in known.CUTS if stages is None else stages:
        widths |= known.mask_shapes(config, stage, basis)

    constants = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
    turned = None if basis is None else tf.constant(basis, tf.float32)
    slopes_of = _slopes(config, tuple(widths.items()), basis is not None)

    linearised = {name: np.zeros(width) for name, width in widths.items()}
    fisher = {name: np.zeros(width) for name, width in widths.items()}

    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        # the last batch is filled up: one shape, one trace
        full = np.resize(x, (min(batch_size, len(inputs)), *x.shape[1:]))
        z, slopes = slopes_of(constants, tf.constant(full), turned)

        z = z.numpy()[: len(x)].astype(np.float64)[:, None, :]  # (B, 1, C)

        # both scores follow from the same slopes
        for name in widths:
            change = slopes[name].numpy()[:, : len(x)].astype(np.float64)
            change = np.moveaxis(change, 0, -1)  # (B, units, C)
            linearised[name] += kl_divergence(z, z - change).sum(axis=0)
            fisher[name] += half_variance(z, change).sum(axis=0)

    return {
        "linearised": {name: total / len(inputs) for name, total in linearised.items()},
        "fisher": {name: total / len(inputs) for name, total in fisher.items()},
    }


@functools.lru_cache(maxsize=8)
def _slopes(config: ModelConfig, widths: tuple[tuple[str, int], ...], turned: bool):
    """A function of (weights, x (B, ...), basis): logits z (B, C), and dz/dmask as (C, B, units) a
    mask.
    """
    forward = architecture(config).forward

    @tf.function(reduce_retracing=True)
    def slopes(weights, x, basis):
        masks = {name: tf.ones((tf.shape(x)[0], width)) for name, width in widths}  # one a sample
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(masks)
            z = forward(config, weights, x, masks, basis if turned else None)
            total = tf.reduce_sum(z, axis=0)  # over samples, whose masks are their own: (C,)
        # one backward pass after another over one forward pass, traced once: the memory of one
        return z, tape.jacobian(total, masks, parallel_iterations=1, experimental_use_pfor=False)

    return slopes
