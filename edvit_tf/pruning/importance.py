"""Importance of units by KL(P || Q), P the unpruned output distribution and Q with the unit removed.

`linearised`: logits minus the first-order effect of the unit, then the exact KL of that (second-order equal to
UP-ViT's leave-one-out KL). One backward pass per class scores every unit of a stage at once.
"""

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import ViTConfig
from edvit_tf.pruning.forward import forward, mask_shapes


def linearised(
    config: ViTConfig, weights: Mapping[str, np.ndarray], inputs: np.ndarray, stage: str, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Scores of every unit of a stage, a 1-D float64 array a mask name, the mean over `inputs` (n, H, W, C).

    A higher score means that removing the unit moves the output distribution further. The scores do not depend on
    the batch size. Names and widths are those of `edvit_tf.pruning.forward.mask_shapes`.
    """
    if len(inputs) == 0:
        raise ValueError("no calibration samples were given (0); the scores are means over at least one.")
    shapes = mask_shapes(config, stage)
    constants = {name: tf.constant(value) for name, value in weights.items()}
    logits_and_slopes = _logits_and_slopes(config, stage)
    totals = {name: np.zeros(width) for name, width in shapes.items()}
    for start in range(0, len(inputs), batch_size):
        x = tf.constant(np.asarray(inputs[start : start + batch_size], np.float32))
        slopes: dict[str, list] = {name: [] for name in shapes}
        for row in range(config.num_classes):
            z, gradients = logits_and_slopes(constants, x, tf.constant(row))
            for name in shapes:
                slopes[name].append(gradients[name].numpy())
        z = z.numpy().astype(np.float64)  # (B, C)
        for name in shapes:
            effect = np.stack(slopes[name], axis=-1).astype(np.float64)  # (B, units, C)
            totals[name] += kl_divergence(z[:, None, :], z[:, None, :] - effect).sum(axis=0)
    return {name: total / len(inputs) for name, total in totals.items()}


@functools.lru_cache(maxsize=4)
def _logits_and_slopes(config: ViTConfig, stage: str):
    """A function of (weights, x (B, H, W, C), row): logits z (B, C), and d z[:, row] / d mask, (B, units) a mask."""
    shapes = mask_shapes(config, stage)

    @tf.function(reduce_retracing=True)
    def logits_and_slopes(weights, x, row):
        masks = {name: tf.ones((tf.shape(x)[0], width)) for name, width in shapes.items()}  # one a sample
        with tf.GradientTape() as tape:
            tape.watch(masks)
            z = forward(config, weights, x, masks)
            chosen = tf.reduce_sum(tf.gather(z, row, axis=1))
        return z, tape.gradient(chosen, masks)

    return logits_and_slopes


def kl_divergence(p_logits: np.ndarray, q_logits: np.ndarray) -> np.ndarray:
    """KL(softmax(p) || softmax(q)) over the last axis, in nats."""
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log of the softmax over the last axis, stable."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
