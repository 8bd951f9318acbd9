"""The deployment graphs: what a device runs, written over numpy constants with a static batch of 1.

The Keras model stays the reference; these graphs do the same arithmetic on (T, d) matrices, and the last block for
the class token only, which is exact, since no later layer reads the other rows.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import ViTConfig


def sub_model_graph(config: ViTConfig, weights: Mapping[str, np.ndarray], input_name: str) -> tuple[Callable, list]:
    """A function of one input named `input_name` ("image": uint8, "mel": float32), (1, H, W, C), and its signature.

    It returns {"features": (1, d), "logits": (1, num_classes)}. Raises ValueError for pool="cls_mean": a base is not
    deployed.
    """
    if config.pool != "cls":
        raise ValueError(f'pool is {config.pool!r}; only a sub-model (pool "cls") is exported. Prune the base first.')
    mean, std = np.float32(config.input_mean), np.float32(config.input_std)

    def graph(x):
        x = tf.cast(x, tf.float32) * (1 / std) - mean / std
        x = tf.nn.conv2d(x, weights["patch_embedding.kernel"], config.patch_size, "VALID")
        x = tf.reshape(x + weights["patch_embedding.bias"], (config.num_patches, config.hidden_dim))
        x = tf.concat([weights["class_token.token"][0], x], axis=0)  # (T, d)
        x = x + weights["position_embedding.embedding"][0]
        for i in range(config.num_layers):
            x = _block(x, config, weights, f"block_{i:02d}", class_token_only=i == config.num_layers - 1)
        features = _norm(x, config, weights, "norm")  # (1, d): the last block left the class token alone
        return {"features": features, "logits": _dense(features, weights, "head")}

    dtype = {"image": tf.uint8, "mel": tf.float32}[input_name]
    return graph, [tf.TensorSpec((1, *config.image_shape), dtype, name=input_name)]


def fusion_graph(weights: Mapping[str, np.ndarray], widths: tuple[int, ...]) -> tuple[Callable, list]:
    """The tower MLP over `features` (1, sum d_j) and `present` (1, N) -> {"probabilities": (1, classes)}.

    `weights` are those of `edvit_tf.training.fuse.build_fusion`, by name.
    """
    spread = np.repeat(np.eye(len(widths), dtype=np.float32), widths, axis=1)  # (N, sum d_j): present -> one a feature

    def graph(features, present):
        x = features * tf.matmul(present, spread)
        x = tf.nn.gelu(_dense(x, weights, "tower.hidden"), approximate=False)
        return {"probabilities": tf.nn.softmax(_dense(x, weights, "probabilities"))}

    return graph, [
        tf.TensorSpec((1, sum(widths)), tf.float32, name="features"),
        tf.TensorSpec((1, len(widths)), tf.float32, name="present"),
    ]


def _block(x, config: ViTConfig, weights: Mapping, name: str, class_token_only: bool):
    """One encoder block, (T, d) -> (T, d), or -> (1, d) when only the class token is needed afterwards."""
    y = _norm(x, config, weights, f"{name}.attention.norm")
    kept = y[:1] if class_token_only else y  # rows that ask: (Tq, d)
    x = x[:1] if class_token_only else x

    def heads(rows, part, order):
        out = tf.reshape(_dense(rows, weights, f"{name}.attention.{part}"),
                         (rows.shape[0], config.num_heads, config.head_dim))
        return tf.transpose(out, order)

    q = heads(kept, "query", (1, 0, 2))  # (h, Tq, hd)
    k = heads(y, "key", (1, 2, 0))  # (h, hd, T): transposed first, which runs faster than an adjoint product
    v = heads(y, "value", (1, 0, 2))  # (h, T, hd)
    attention = tf.nn.softmax(tf.matmul(q * config.head_dim**-0.5, k))
    y = tf.reshape(tf.transpose(tf.matmul(attention, v), (1, 0, 2)), (kept.shape[0], config.attention_dim))
    x = x + _dense(y, weights, f"{name}.attention.output")
    y = _dense(_norm(x, config, weights, f"{name}.mlp.norm"), weights, f"{name}.mlp.expand")
    return x + _dense(tf.nn.gelu(y, approximate=False), weights, f"{name}.mlp.contract")


def _norm(x, config: ViTConfig, weights: Mapping, name: str):
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    scaled = centred * tf.math.rsqrt(variance + config.layer_norm_epsilon)
    return scaled * weights[f"{name}.gamma"] + weights[f"{name}.beta"]


def _dense(x, weights: Mapping, name: str):
    return tf.matmul(x, weights[f"{name}.kernel"]) + weights[f"{name}.bias"]
