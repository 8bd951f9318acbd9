"""Scores of all units from first derivatives: one forward pass, and one backward pass a class, for
every stage; of many classes a fixed number of backward passes.

With z the logits and m a unit's mask, removing the unit changes the logits by -dz/dm to first
order. `linearised` is KL(softmax(z) || softmax(z - dz/dm)); `fisher` is half of Var_{y ~
softmax(z)}(dz_y / dm), what that KL is to second order. Both are means over samples.

Of more than EXACT_CLASSES classes that variance, sum_c p_c (d_c - mean)^2 with d = dz/dm, is
estimated: for random signs s_c the square of sum_c s_c sqrt(p_c) (d_c - mean) has it as its
expectation (Hutchinson), and one backward pass gives that sum for all units. Classes drawn from p
would do as well on the whole, but where p is nearly all at one class hardly any draw tells a thing.
"""

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.divergence import half_variance, kl_divergence

EXACT_CLASSES = 32  # up to so many there is a backward pass for each
DRAWS = 16  # backward passes of more classes, each with signs of its own


def from_slopes(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stages: tuple[str, ...] | None = None,
    *,
    basis: np.ndarray | None = None,
    batch_size: int = 16,
    exact_classes: int = EXACT_CLASSES,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """{"linearised": scores, "fisher": scores} of every unit of `stages` (None: all cuts); scores
    as in `importance`.

    Costs one forward pass and `backward_passes` (derivatives of activations alone) over `inputs`,
    however many units there are. Memory: the activations of `batch_size` samples; take fewer for a
    model larger than ViT-Base. Of more than `exact_classes` classes both scores are one estimate
    of "fisher", whose signs `seed` draws.
    """
    known = architecture(config)
    widths: dict[str, int] = {}
    for stage in known.CUTS if stages is None else stages:
        widths |= known.mask_shapes(config, stage, basis)

    constants = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
    turned = None if basis is None else tf.constant(basis, tf.float32)
    is_exact = config.num_classes <= exact_classes
    slopes_of = _slopes(config, tuple(widths.items()), basis is not None, is_exact)
    # of each sample its own, whatever batch it falls into
    shape = (len(inputs), 0 if is_exact else DRAWS, config.num_classes)
    signs = 2 * np.random.default_rng(seed).integers(0, 2, shape, np.int8) - 1

    linearised = {name: np.zeros(width) for name, width in widths.items()}
    fisher = {name: np.zeros(width) for name, width in widths.items()}

    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        # the last batch is filled up: one shape, one trace
        size = min(batch_size, len(inputs))
        full = np.resize(x, (size, *x.shape[1:]))
        drawn = np.resize(signs[start : start + batch_size], (size, *shape[1:]))
        z, slopes = slopes_of(constants, tf.constant(full), turned, tf.constant(drawn, tf.float32))

        z = z.numpy()[: len(x)].astype(np.float64)[:, None, :]  # (B, 1, C)

        # both scores follow from the same slopes
        for name in widths:
            change = slopes[name].numpy()[:, : len(x)].astype(np.float64)
            both = _exactly(z, change) if is_exact else _estimated(change)
            linearised[name] += both[0]
            fisher[name] += both[1]

    return {
        "linearised": {name: total / len(inputs) for name, total in linearised.items()},
        "fisher": {name: total / len(inputs) for name, total in fisher.items()},
    }


def _exactly(z: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over samples of linearised and fisher scores (units,), of logits z (B, 1, C) and slopes
    (C, B, units).
    """
    change = np.moveaxis(change, 0, -1)  # (B, units, C)
    return kl_divergence(z, z - change).sum(axis=0), half_variance(z, change).sum(axis=0)


def _estimated(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same from the derivatives (K, B, units) of K signed sums."""
    estimate = 0.5 * (sums**2).mean(axis=0).sum(axis=0)
    return estimate, estimate


def backward_passes(num_classes: int, exact_classes: int = EXACT_CLASSES) -> int:
    """Backward passes over the inputs that scores of a model of so many classes take."""
    return num_classes if num_classes <= exact_classes else DRAWS


@functools.lru_cache(maxsize=8)
def _slopes(config: ModelConfig, widths: tuple[tuple[str, int], ...], turned: bool, is_exact: bool):
    """A function of (weights, x (B, ...), basis, signs (B, K, C)): logits z (B, C), and dz/dmask as
    (C, B, units) a mask; or, not exact, the derivatives of the K sums that `_signed` makes, (K, B,
    units).
    """
    forward = architecture(config).forward

    @tf.function(reduce_retracing=True)
    def slopes(weights, x, basis, signs):
        masks = {name: tf.ones((tf.shape(x)[0], width)) for name, width in widths}  # one a sample
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(masks)
            z = forward(config, weights, x, masks, basis if turned else None)
            # over samples, whose masks are their own: (C,) or (K,)
            total = tf.reduce_sum(z if is_exact else _signed(z, signs), axis=0)
        # one backward pass after another over one forward pass, traced once: the memory of one
        return z, tape.jacobian(total, masks, parallel_iterations=1, experimental_use_pfor=False)

    return slopes


def _signed(z, signs):
    """(B, K): for each draw the sum over classes of s_c sqrt(p_c) (z_c - mean), p and the mean's
    weights held fast.
    """
    p = tf.stop_gradient(tf.nn.softmax(z))[:, None, :]  # (B, 1, C)
    rooted = signs * tf.sqrt(p)  # (B, K, C)
    weights = rooted - p * tf.reduce_sum(rooted, axis=-1, keepdims=True)
    return tf.einsum("bkc,bc->bk", weights, z)
