"""KL(P || Q) of output distributions, and the quadratic form it equals to second order."""

import numpy as np


def kl_divergence(p_logits: np.ndarray, q_logits: np.ndarray) -> np.ndarray:
    """KL(softmax(p) || softmax(q)) over the last axis, in nats."""
    log_p = log_softmax(p_logits)
    log_q = log_softmax(q_logits)

    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def half_variance(p_logits: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Half of Var_{y ~ softmax(p)}(change_y) over the last axis: KL(P || Q) of q = p - change to
    second order.
    """
    p = np.exp(log_softmax(p_logits))

    # the variance in its centred form, which loses no digits to a large mean
    mean = (p * change).sum(axis=-1, keepdims=True)
    return 0.5 * (p * (change - mean) ** 2).sum(axis=-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log of the softmax over the last axis, stable."""
    # by the largest logit, so that no exponential overflows
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
