"""How far a spiking net's golden answers may move on another machine: measured at export.

A neuron fires where its potential reaches 1. Machines add in other orders, so that one whose
potential lies within rounding of 1 fires on one machine alone; so do those that read it, at times.
No golden input is far from every threshold: a net has up to millions of potentials. What can be
known is how much comes of it: every weight is moved by as much as rounding moves it, a few times,
and the answers' mean error is looked at.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.device.model.golden import TOLERANCES, Limit
from edvit_tf.device.model.manifest_checks import JUMPS_MOST
from edvit_tf.models import ModelConfig, architecture

DRAWS = 8  # of moved weights
MARGIN = 4.0  # over the worst of them

# Parts of itself by which a weight is moved, at most. float32: eight roundings, as sums of many
# products collect; float16: the one rounding of its file.
ROUNDING = {"float32": 2.0**-20, "float16": 2.0**-11}
INT8_STEP = 1 / 254  # half a step, in parts of a channel's largest weight


def jump_limit(
    config: ModelConfig, weights: Mapping[str, np.ndarray], x: np.ndarray, flavour: str
) -> Limit | None:
    """The limit of a file's golden answers to x (1, *input_shape): MARGIN times the largest error
    that moved weights make, at least the flavour's usual tolerance, JUMPS_MOST at most; None of an
    architecture whose units do not jump. The same for the same weights.
    """
    if not getattr(architecture(config), "JUMPS", False):
        return None

    rng = np.random.default_rng(0)
    drawn = [weights, *(moved(weights, flavour, rng) for _ in range(DRAWS))]
    expected, *others = answers_of(config, drawn, x)
    exact = Limit(0.0, jumps=True)
    worst = max(exact.error(other, expected) for other in others)
    least = TOLERANCES[flavour]
    return Limit(float(min(max(least, MARGIN * worst), JUMPS_MOST)), jumps=True)


def moved(
    weights: Mapping[str, np.ndarray], flavour: str, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Each weight moved at random, by as much as the rounding of a flavour may move it."""
    found = {}
    for name, value in weights.items():
        size = np.abs(value)
        if flavour != "int8":
            step = size * ROUNDING[flavour]
        elif value.ndim > 1:
            step = size.max(axis=tuple(range(value.ndim - 1))) * INT8_STEP
        else:
            step = size * ROUNDING["float32"]  # biases and normalisation stay float32
        found[name] = (value + step * rng.uniform(-1, 1, value.shape)).astype(np.float32)
    return found


def answers_of(config: ModelConfig, drawn: list[Mapping[str, np.ndarray]], x: np.ndarray) -> list:
    """{"features": (1, F), "logits": (1, classes)} by each set of weights, for one input."""
    stacked = {name: tf.constant(np.stack([w[name] for w in drawn])) for name in drawn[0]}
    inputs = tf.constant(x, tf.float32)
    features = architecture(config).stacked_features(config, stacked, inputs).numpy()
    return [
        {"features": f, "logits": f @ w["head.kernel"] + w["head.bias"]}
        for f, w in zip(features, drawn, strict=True)
    ]
