"""A spiking VGG as plain functions of its weights, with a mask on every filter: the same arithmetic
as `keras_model.build_snn` with the statistics of batch normalisation as they are stored.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import tensorflow as tf

from edvit_tf.models.snn.config import SNNConfig
from edvit_tf.models.snn.neurons import lif
from edvit_tf.models.vgg import functions as vgg
from edvit_tf.models.vgg.config import conv_name


def features(config: SNNConfig, w: Mapping, x, masks: Mapping, seen: Callable | None = None):
    """Features (B, F), spikes' means over the steps, of inputs (B, H, W, C); `seen(number, spikes)`
    is told each layer's spikes (T B, H, W, filters).
    """
    x = vgg.normalised(config, x)
    for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
        x = vgg.convolved(w, x, number)
        if not number:
            x = tf.tile(x, [config.steps, 1, 1, 1])
        mask = masks.get(conv_name(number))
        if mask is not None and len(mask.shape) == 2:
            mask = tf.tile(mask, [config.steps, 1])
        x = vgg.masked(lif(x, config.steps), mask)
        if seen is not None:
            seen(number, x)
        if is_pooled:
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    return tf.reduce_mean(tf.reshape(x, (config.steps, -1, config.feature_dim)), axis=0)


def forward(config: SNNConfig, w: Mapping, x, masks: Mapping | None = None, basis: None = None):
    """Logits (B, num_classes), means over the steps, of inputs (B, H, W, C)."""
    return vgg.read_out(config, w, features(config, w, x, masks or {}))


stacked_features = partial(vgg.stacked_features, function=features)


def activity(config: SNNConfig, weights: Mapping, inputs: np.ndarray, cut: str) -> dict:
    """{"conv_00": (filters,), ...}: the share of places and steps at which a filter fires, float64:
    1 - APoZ over all steps. Raises ValueError without inputs.
    """
    return vgg.counted_activity(config, weights, inputs, cut, rates)


def rates(config: SNNConfig, w: Mapping, x) -> list:
    """Of each convolution (B, filters): spikes over places and steps."""
    found: list = []

    def seen(number: int, spikes) -> None:
        by_step = tf.reshape(spikes, (config.steps, -1, *spikes.shape[1:]))
        found.append(tf.reduce_mean(by_step, axis=(0, 2, 3)))

    features(config, w, x, {}, seen)
    return found
