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
    """(N, B, d), the class token after the final norm, of inputs (B, H, W, C), or (N, B, H, W, C)
    where each model sees its own; each weight has a first axis N.

    With `kept` (B, K) int32 the blocks see these patches alone. Products and activations are of the
    weights' type, norms are computed in float32; the answer is float32.
    """
    kind = w["patch_embedding.kernel"].dtype
    d = config.hidden_dim
    views = x.shape[0] if len(x.shape) == 5 else 1  # N, or one for all
    patches = tf.cast(vit.patches(config, x), kind)  # (views * B, P, p p C)
    patches = tf.reshape(patches, (views, -1, *patches.shape[1:]))
    positions = w["position_embedding.embedding"][:, 0]  # (N, T, d)
    models = positions.shape[0]

    # patches and positions, all of them or those of `kept`
    count = config.num_patches
    places = positions[:, tf.newaxis, 1:]  # (N, 1, P, d)
    if kept is not None:
        count = kept.shape[1]
        # the choice is a product with a matrix of 0 and 1
        chosen = tf.one_hot(kept, config.num_patches, dtype=kind)  # (B, K, P)
        patches = tf.matmul(chosen[tf.newaxis], patches)  # (views, B, K, p p C)
        rows = tf.reshape(chosen, (1, -1, config.num_patches))  # (1, B K, P)
        places = tf.reshape(tf.matmul(rows, positions[:, 1:]), (models, -1, count, d))

    # tokens: the patches of all samples go through one product a model
    kernel = tf.reshape(w["patch_embedding.kernel"], (models, -1, d))
    y = tf.matmul(tf.reshape(patches, (views, -1, kernel.shape[1])), kernel)
    y = y + w["patch_embedding.bias"][:, tf.newaxis]
    y = tf.reshape(y, (models, -1, count, d)) + places  # (N, B, P, d)

    token = w["class_token.token"] + positions[:, tf.newaxis, :1]  # (N, 1, 1, d)
    x = tf.concat([tf.repeat(token, tf.shape(y)[1], axis=1), y], axis=2)  # (N, B, T, d)

    for i in range(config.num_layers):
        # pre-norm, as in `keras_model`
        block = vit.block_weights(w, i)
        x = x + _attention(config, block, _norm(config, block, x, "attention.norm"))
        hidden = gelu(_dense(block, _norm(config, block, x, "mlp.norm"), "mlp.expand"))
        x = x + _dense(block, hidden, "mlp.contract")

    # the class token alone goes through the last norm
    return tf.cast(_norm(config, w, x[:, :, :1], "norm")[:, :, 0], tf.float32)


def _dense(w: Mapping, y, name: str):
    """(N, B, T, k) -> (N, B, T, m)."""
    # one product a model over all rows: (N, B T, k) @ (N, k, m)
    kernel = w[f"{name}.kernel"]
    bias = w[f"{name}.bias"]
    out = tf.matmul(tf.reshape(y, (y.shape[0], -1, y.shape[3])), kernel) + bias[:, tf.newaxis]
    return tf.reshape(out, (y.shape[0], -1, y.shape[2], kernel.shape[2]))


def _norm(config: ViTConfig, w: Mapping, y, name: str):
    """LayerNorm over the last axis, computed in float32, given in the type of `y`."""
    # (N, 1, 1, d)
    gamma = tf.cast(w[f"{name}.gamma"], tf.float32)[:, tf.newaxis, tf.newaxis]
    beta = tf.cast(w[f"{name}.beta"], tf.float32)[:, tf.newaxis, tf.newaxis]

    wide = tf.cast(y, tf.float32)
    wide = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True)
    wide = wide * tf.math.rsqrt(variance + config.layer_norm_epsilon)
    return tf.cast(wide * gamma + beta, y.dtype)


def _attention(config: ViTConfig, w: Mapping, y):
    """softmax(q k^T / sqrt(hd)) v of every head and model: (N, B, T, d) -> (N, B, T, d)."""
    models = y.shape[0]
    tokens = y.shape[2]

    def heads(part):  # -> (N * B, h, T, hd)
        out = _dense(w, y, f"attention.{part}")
        out = tf.reshape(out, (-1, tokens, config.num_heads, config.head_dim))
        return tf.transpose(out, (0, 2, 1, 3))

    q, k, v = heads("query"), heads("key"), heads("value")
    weights = tf.nn.softmax(tf.matmul(q * config.head_dim**-0.5, k, transpose_b=True))
    out = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))
    out = tf.reshape(out, (models, -1, tokens, config.attention_dim))
    return _dense(w, out, "attention.output")
