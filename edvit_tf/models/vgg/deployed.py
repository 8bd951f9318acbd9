"""The deployment graph: what a device runs, written over numpy constants with a static batch of 1.

Batch normalisation is folded into its convolution, and ReLU becomes part of it; pools, one product
and nothing else follow. A base keeps its Dense layers as they are.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import TARGETS
from edvit_tf.models.vgg.config import VGGConfig, conv_name, dense_names, norm_name
from edvit_tf.models.vgg.keras_model import NORM

Weights = dict[str, np.ndarray]


def folded(config: VGGConfig, weights: Mapping[str, np.ndarray]) -> Weights:
    """Kernel and bias of each convolution with batch normalisation in them, float32; the Dense
    layers as they are.
    """
    names = [f"{name}.{part}" for name in dense_names(config) for part in ("kernel", "bias")]
    out = {name: weights[name] for name in names if name in weights}
    for number in range(len(config.filters)):
        layer, norm = conv_name(number), norm_name(number)
        gamma, beta, mean, variance = (
            weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + NORM["epsilon"])
        bias = weights.get(f"{layer}.bias", np.zeros(len(mean))).astype(np.float64)
        out[f"{layer}.kernel"] = (weights[f"{layer}.kernel"] * scale).astype(np.float32)
        out[f"{layer}.bias"] = ((bias - mean) * scale + beta).astype(np.float32)

    # the deviation goes into the first kernel; the mean cannot, since padding is zeros behind it
    channels = np.broadcast_to(np.float32(config.input_std), config.image_shape[2])
    first = conv_name(0)
    out[f"{first}.kernel"] = out[f"{first}.kernel"] / channels[:, None]
    return out


def graph(
    config: VGGConfig,
    weights: Mapping[str, np.ndarray],
    input_name: str,
    dtype: str,
    target: str = "portable",
) -> tuple[Callable, list]:
    """A function of one input (1, H, W, C) of this name and dtype, and its signature.

    It returns {"features": (1, F), "logits": (1, num_classes)}. Both targets are one graph. Raises
    ValueError for another target.
    """
    check_target(target)
    w = folded(config, weights)

    def answer(x):
        x = tf.cast(x, tf.float32) - np.float32(config.input_mean)
        for number, (_, _, _, is_pooled) in enumerate(config.convolutions()):
            x = tf.nn.conv2d(x, w[f"{conv_name(number)}.kernel"], 1, "SAME")
            x = tf.nn.relu(x + w[f"{conv_name(number)}.bias"])
            if is_pooled:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return answers(config, w, tf.reshape(x, (1, config.feature_dim)))

    return answer, [tf.TensorSpec((1, *config.image_shape), dtype, name=input_name)]


def answers(config: VGGConfig, w: Mapping, features) -> dict:
    """{"features": (1, F), "logits": (1, num_classes)}."""
    x = features
    for name in dense_names(config):
        x = tf.matmul(x, w[f"{name}.kernel"])
        if f"{name}.bias" in w:
            x = x + w[f"{name}.bias"]
    return {"features": features, "logits": x}


def check_target(target: str) -> None:
    """Raises ValueError unless it is one of TARGETS."""
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; it must be one of: {', '.join(TARGETS)}.")
