"""VGG as plain functions of its weights, with a mask on every filter: the same arithmetic as
`keras_model.build_vgg` with the statistics of batch normalisation as they are stored.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.vgg.config import VGGConfig, check_cut, conv_name, dense_names, norm_name
from edvit_tf.models.vgg.keras_model import NORM

CHUNK = 64  # samples that are looked at together, whatever number there is
STATISTICS = ("moving_mean", "moving_variance")


def mask_shapes(config: VGGConfig, cut: str, basis: None = None) -> dict[str, int]:
    """{"conv_00": filters, ...}. Raises ValueError for an unknown cut."""
    check_cut(cut)
    return {conv_name(number): width for number, width in enumerate(config.filters)}


def normalised(config: VGGConfig, x):
    """(x - mean) / std, float32."""
    mean = tf.constant(config.input_mean, tf.float32)
    return (tf.cast(x, tf.float32) - mean) / tf.constant(config.input_std, tf.float32)


def convolved(w: Mapping, x, number: int):
    """A convolution and its batch normalisation: (B, H, W, C) -> (B, H, W, filters)."""
    layer, norm = conv_name(number), norm_name(number)
    x = tf.nn.conv2d(x, w[f"{layer}.kernel"], 1, "SAME")
    if f"{layer}.bias" in w:
        x = x + w[f"{layer}.bias"]
    scale = w[f"{norm}.gamma"] * tf.math.rsqrt(w[f"{norm}.moving_variance"] + NORM["epsilon"])
    return (x - w[f"{norm}.moving_mean"]) * scale + w[f"{norm}.beta"]


def masked(y, mask):
    """Maps (B, H, W, filters) whose filters are weighed by a mask (filters,) or (B, filters)."""
    if mask is None:
        return y
    return y * (mask[:, tf.newaxis, tf.newaxis, :] if len(mask.shape) == 2 else mask)


def features(config: VGGConfig, w: Mapping, x, masks: Mapping, seen: Callable | None = None):
    """Features (B, F) of inputs (B, H, W, C); `seen(number, maps)` is told each layer's maps after
    ReLU.
    """
    x = normalised(config, x)
    for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
        x = masked(tf.nn.relu(convolved(w, x, number)), masks.get(conv_name(number)))
        if seen is not None:
            seen(number, x)
        if is_pooled:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    return tf.reshape(x, (-1, config.feature_dim))


def read_out(config: VGGConfig, w: Mapping, x):
    """Logits (B, num_classes) of features (B, F)."""
    for name in dense_names(config):
        x = tf.matmul(x, w[f"{name}.kernel"])
        if f"{name}.bias" in w:
            x = x + w[f"{name}.bias"]
    return x


def forward(config: VGGConfig, w: Mapping, x, masks: Mapping | None = None, basis: None = None):
    """Logits (B, num_classes) of inputs (B, H, W, C); a masked filter equals one that was cut."""
    return read_out(config, w, features(config, w, x, masks or {}))


def stacked_features(config: VGGConfig, w: Mapping, x, kept: None = None, function=features):
    """(N, B, F) of inputs (B, H, W, C), or (N, B, H, W, C) where each model sees its own; each
    weight has a first axis N. One model after the other: convolutions do not stack.
    """
    of_each = []
    for i in range(w["conv_00.kernel"].shape[0]):
        own = {name: _trained(name, tf.cast(value[i], tf.float32)) for name, value in w.items()}
        seen = x[i] if len(x.shape) == 5 else x
        of_each.append(function(config, own, seen, {}))
    return tf.stack(of_each)


def _trained(name: str, value):
    """Statistics of batch normalisation stay what they are: their gradient is zero, and there is
    one, since an optimizer asks for it.
    """
    if name.endswith(STATISTICS):
        return tf.stop_gradient(value) + 0 * value
    return value


def activity(config: VGGConfig, weights: Mapping, inputs: np.ndarray, cut: str) -> dict:
    """{"conv_00": (filters,), ...}: the share of a filter's values that are above zero, over all
    places and inputs, float64: 1 - APoZ (Hu et al. 2016). Raises ValueError without inputs.
    """
    return counted_activity(config, weights, inputs, cut, _active)


def counted_activity(
    config: VGGConfig, weights: Mapping, inputs: np.ndarray, cut: str, active: Callable
) -> dict:
    """`activity` by a function of (config, weights, x) that gives each layer's (B, filters)."""
    widths = mask_shapes(config, cut)
    if not len(inputs):
        raise ValueError("no samples were given (0); zeros are counted over at least one.")

    call = tf.function(lambda w, x: active(config, w, x), reduce_retracing=True)
    constants = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
    totals = {name: np.zeros(width) for name, width in widths.items()}
    size = min(CHUNK, len(inputs))
    for start in range(0, len(inputs), size):
        x = np.asarray(inputs[start : start + size], np.float32)
        # the last chunk is filled up: one shape, one trace
        shares = call(constants, tf.constant(np.resize(x, (size, *x.shape[1:]))))
        for name, share in zip(totals, shares, strict=True):
            totals[name] += share.numpy()[: len(x)].astype(np.float64).sum(axis=0)
    return {name: total / len(inputs) for name, total in totals.items()}


def _active(config: VGGConfig, w: Mapping, x) -> list:
    shares: list = []

    def seen(number: int, maps) -> None:
        shares.append(tf.reduce_mean(tf.cast(maps > 0, tf.float32), axis=(1, 2)))

    features(config, w, x, {}, seen)
    return shares
