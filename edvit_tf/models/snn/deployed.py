"""The deployment graph of a spiking VGG: numpy constants, T on the batch axis, builtin operators.

Batch normalisation and 1 / tau are folded into the convolutions, so that a step of a neuron is v =
(1 - 1 / tau) v + x, a comparison, and a subtraction. The weights stand in the file once, and each
convolution is one operator of batch T; the first, whose input is the same at each step, of batch 1.
An interpreter multiplies by the zeros too: no device gains by a spike that is not there. Spikes an
inference are reported as the energy proxy that neuromorphic hardware would see.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.snn.config import SNNConfig
from edvit_tf.models.snn.functions import features
from edvit_tf.models.snn.neurons import TAU
from edvit_tf.models.vgg.config import conv_name
from edvit_tf.models.vgg.deployed import answers, check_target, folded


def graph(
    config: SNNConfig,
    weights: Mapping[str, np.ndarray],
    input_name: str,
    dtype: str,
    target: str = "portable",
) -> tuple[Callable, list]:
    """A function of one input (1, H, W, C) of this name and dtype, and its signature.

    It returns {"features": (1, F), "logits": (1, num_classes)}, means over the steps. Both targets
    are one graph. Raises ValueError for another target.
    """
    check_target(target)
    run = _running(config, weights)
    w = folded(config, weights)

    def answer(x):
        spikes = run(x, lambda number, fired: None)
        mean = tf.reduce_mean(spikes, axis=0, keepdims=True)
        return answers(config, w, mean)

    return answer, [tf.TensorSpec((1, *config.image_shape), dtype, name=input_name)]


def _running(config: SNNConfig, weights: Mapping[str, np.ndarray]) -> Callable:
    """A function of (x (1, H, W, C), seen): flattened spikes (T, F); `seen` is told each layer's
    spikes.
    """
    w = folded(config, weights)

    def run(x, seen: Callable):
        x = tf.cast(x, tf.float32) - np.float32(config.input_mean)
        for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
            name = conv_name(number)
            x = tf.nn.conv2d(x, w[f"{name}.kernel"] / np.float32(TAU), 1, "SAME")
            x = x + w[f"{name}.bias"] / np.float32(TAU)
            x = _fired(x, config.steps)
            seen(number, x)
            if is_pooled:
                x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
        return tf.reshape(x, (config.steps, config.feature_dim))

    return run


def _fired(x, steps: int):
    """Spikes (T, H, W, filters) of currents over tau, of each step, or of one that is the same at
    all (1, H, W, filters).
    """
    currents = tf.split(x, steps) if x.shape[0] == steps else [x] * steps
    v = None
    spikes = []
    for current in currents:
        v = current if v is None else v * np.float32(1 - 1 / TAU) + current
        spikes.append(tf.cast(v >= np.float32(1), tf.float32))
        v = v - spikes[-1]
    return tf.concat(spikes, axis=0)


def spike_graph(
    config: SNNConfig, weights: Mapping[str, np.ndarray], input_name: str, dtype: str
) -> tuple[Callable, list]:
    """The graph with the spikes of each convolution as its outputs, {"conv_00": (1, T, H, W,
    filters), ...}: for a look at what a file computes.
    """
    run = _running(config, weights)

    def answer(x):
        fired: dict = {}

        def seen(number: int, spikes) -> None:
            fired[conv_name(number)] = spikes[tf.newaxis]

        run(x, seen)
        return fired

    return answer, [tf.TensorSpec((1, *config.image_shape), dtype, name=input_name)]


def spike_maps(
    config: SNNConfig, weights: Mapping[str, np.ndarray], inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """The same of inputs (n, H, W, C) as Keras computes them: (n, T, H, W, filters) each."""
    found = {}

    def seen(number: int, spikes) -> None:
        by_step = np.asarray(spikes).reshape(config.steps, len(inputs), *spikes.shape[1:])
        found[conv_name(number)] = np.moveaxis(by_step, 0, 1)

    features(config, weights, inputs, {}, seen)
    return found
