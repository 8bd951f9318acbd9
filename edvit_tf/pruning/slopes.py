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

from edvit_tf.config import STAGES, ViTConfig
from edvit_tf.models.vit.functions import as_constants, forward, mask_shapes
from edvit_tf.pruning.divergence import half_variance, kl_divergence


def from_slopes(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stages: tuple[str, ...] = STAGES,
    *,
    basis: np.ndarray | None = None,
    batch_size: int = 16,
) -> dict[str, dict[str, np.ndarray]]:
    """{"linearised": scores, "fisher": scores} of every unit of `stages`; scores as in
    `importance`.

    Costs one forward pass and num_classes backward passes (derivatives of activations alone) over
    `inputs`, however many units there are. Memory: the activations of `batch_size` samples; take
    fewer for a model larger than ViT-Base.
    """
    widths = {name: width for stage in stages for name, width in mask_shapes(config, stage).items()}
    if basis is not None and "residual" in widths:
        widths["residual"] = basis.shape[1]
    constants = as_constants(weights)
    rotation = None if basis is None else tf.constant(basis, tf.float32)
    slopes_of = _slopes(config, tuple(widths.items()), basis is not None)
    totals = {
        method: {name: np.zeros(width) for name, width in widths.items()}
        for method in ("linearised", "fisher")
    }
    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        full = tf.constant(
            np.resize(x, (min(batch_size, len(inputs)), *x.shape[1:]))
        )  # one shape: one trace
        z, slopes = slopes_of(constants, full, rotation)
        z = z.numpy()[: len(x)].astype(np.float64)[:, None, :]  # (B, 1, C)
        for name in widths:
            change = np.moveaxis(
                slopes[name].numpy()[:, : len(x)].astype(np.float64), 0, -1
            )  # (B, units, C)
            totals["linearised"][name] += kl_divergence(z, z - change).sum(axis=0)
            totals["fisher"][name] += half_variance(z, change).sum(axis=0)
    return {
        method: {name: total / len(inputs) for name, total in scores.items()}
        for method, scores in totals.items()
    }


@functools.lru_cache(maxsize=8)
def _slopes(config: ViTConfig, widths: tuple[tuple[str, int], ...], rotated: bool):
    """A function of (weights, x (B, H, W, C), basis): logits z (B, C), and dz/dmask as (C, B,
    units) a mask.
    """

    @tf.function(reduce_retracing=True)
    def slopes(weights, x, basis):
        masks = {name: tf.ones((tf.shape(x)[0], width)) for name, width in widths}  # one a sample
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(masks)
            z = forward(config, weights, x, masks, basis if rotated else None)
            total = tf.reduce_sum(z, axis=0)  # over samples, whose masks are their own: (C,)
        # one backward pass after another over one forward pass, traced once: the memory of one
        return z, tape.jacobian(total, masks, parallel_iterations=1, experimental_use_pfor=False)

    return slopes
