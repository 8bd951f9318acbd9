"""Several ViTs of one width as one function: every weight stacked along a first axis N, every
product batched over it.

Keras's own models, ten side by side in one graph, take minutes to trace and 8 GB; this takes what
one model takes. The same arithmetic as `edvit_tf.models.vit.keras_model.build_vit` (a test holds
that); heads are left to the caller, since the groups' heads differ in their rows.
"""

from collections.abc import Mapping

import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.fused import gelu


def features(config: ViTConfig, w: Mapping, x, kept=None):
    """(N, B, d), the class token after the final norm, of inputs (B, H, W, C); each weight with a first axis N.

    With `kept` (B, K) int32 the blocks see these patches alone. Products and activations are of the
    weights' type, norms are computed in float32; the answer is float32.
    """
    kind = w["patch_embedding.kernel"].dtype
    patches = tf.cast(vit.patches(config, x), kind)  # (B, P, p p C)
    positions = w["position_embedding.embedding"][:, 0]  # (N, T, d)
    count = config.num_patches
    places = positions[:, tf.newaxis, 1:]  # (N, 1, P, d)
    if kept is not None:
        chosen = tf.one_hot(kept, count, dtype=kind)  # (B, K, P)
        patches = tf.matmul(chosen, patches)
        count = kept.shape[1]
        places = tf.reshape(
            tf.matmul(tf.reshape(chosen, (1, -1, config.num_patches)), positions[:, 1:]),
            (positions.shape[0], -1, count, config.hidden_dim),
        )
    models, d = positions.shape[0], config.hidden_dim
    kernel = tf.reshape(w["patch_embedding.kernel"], (models, -1, d))
    y = (
        tf.matmul(tf.reshape(patches, (1, -1, kernel.shape[1])), kernel)
        + w["patch_embedding.bias"][:, tf.newaxis]
    )
    y = tf.reshape(y, (models, -1, count, d)) + places  # (N, B, P, d)
    token = w["class_token.token"] + positions[:, tf.newaxis, :1]  # (N, 1, 1, d)
    x = tf.concat([tf.repeat(token, tf.shape(y)[1], axis=1), y], axis=2)  # (N, B, T, d)
    for i in range(config.num_layers):
        block = vit.block_weights(w, i)
        x = x + _attention(config, block, _norm(config, block, x, "attention.norm"))
        hidden = gelu(_dense(block, _norm(config, block, x, "mlp.norm"), "mlp.expand"))
        x = x + _dense(block, hidden, "mlp.contract")
    return tf.cast(_norm(config, w, x[:, :, :1], "norm")[:, :, 0], tf.float32)


def _dense(w: Mapping, y, name: str):
    """(N, B, T, k) -> (N, B, T, m)."""
    kernel, bias = w[f"{name}.kernel"], w[f"{name}.bias"]
    out = tf.matmul(tf.reshape(y, (y.shape[0], -1, y.shape[3])), kernel) + bias[:, tf.newaxis]
    return tf.reshape(out, (y.shape[0], -1, y.shape[2], kernel.shape[2]))


def _norm(config: ViTConfig, w: Mapping, y, name: str):
    gamma, beta = (
        tf.cast(w[f"{name}.{part}"], tf.float32)[:, tf.newaxis, tf.newaxis]
        for part in ("gamma", "beta")
    )
    wide = tf.cast(y, tf.float32)
    wide = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
    wide = wide * tf.math.rsqrt(
        tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True) + config.layer_norm_epsilon
    )
    return tf.cast(wide * gamma + beta, y.dtype)


def _attention(config: ViTConfig, w: Mapping, y):
    models, tokens = y.shape[0], y.shape[2]

    def heads(part):  # -> (N * B, h, T, hd)
        out = tf.reshape(
            _dense(w, y, f"attention.{part}"), (-1, tokens, config.num_heads, config.head_dim)
        )
        return tf.transpose(out, (0, 2, 1, 3))

    q, k, v = heads("query"), heads("key"), heads("value")
    weights = tf.nn.softmax(tf.matmul(q * config.head_dim**-0.5, k, transpose_b=True))
    out = tf.reshape(
        tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3)),
        (models, -1, tokens, config.attention_dim),
    )
    return _dense(w, out, "attention.output")
