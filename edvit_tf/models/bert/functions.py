"""A BERT as plain functions of its weights, with a mask on every unit that can be cut.

A masked unit is one that is not there: where a channel of the residual stream is masked, each
LayerNorm takes its mean and variance over the others, so that a mask and a cut are the same.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.bert.config import BertConfig
from edvit_tf.models.vit.functions import block_weights, dense, join_heads, split_heads
from edvit_tf.models.vit.functions import mask_shapes as vit_mask_shapes

MASKED = -1e4

Masks = Mapping[str, tf.Tensor]


def mask_shapes(config: BertConfig, stage: str, basis: np.ndarray | None = None) -> dict[str, int]:
    """Names and widths of the masks of one stage, as a ViT's; there are no directions."""
    return vit_mask_shapes(config, stage)


def token_mask(x) -> tf.Tensor:
    """(B, T) of 0 and 1, of numbers of pieces (B, T)."""
    return tf.cast(tf.not_equal(tf.cast(x, tf.int32), 0), tf.float32)


def sums(config: BertConfig, weights: Mapping, x) -> tf.Tensor:
    """(B, T, d): the three embeddings of numbers of pieces (B, T), before their LayerNorm."""
    tokens = tf.gather(weights["token_embedding.embeddings"], tf.cast(x, tf.int32))
    places = weights["position_embedding.embedding"][: config.length]
    return tokens + places + weights["type_embedding.embedding"][:1]


def normalised(config: BertConfig, y, mask=None) -> tf.Tensor:
    """Rows of mean 0 and variance 1, over the channels of `mask` (d,) or (B, 1, d) alone."""
    if mask is None:
        mean, variance = tf.nn.moments(y, axes=[-1], keepdims=True)
    else:
        count = tf.reduce_sum(mask, axis=-1, keepdims=True)
        mean = tf.reduce_sum(y * mask, axis=-1, keepdims=True) / count
        variance = tf.reduce_sum(mask * tf.square(y - mean), axis=-1, keepdims=True) / count
    return (y - mean) * tf.math.rsqrt(variance + config.layer_norm_epsilon)


def norm(config: BertConfig, weights: Mapping, y, name: str, mask=None) -> tf.Tensor:
    """LayerNorm over the last axis, with gamma and beta; nothing in what is masked."""
    y = normalised(config, y, mask) * weights[f"{name}.gamma"] + weights[f"{name}.beta"]
    return y if mask is None else y * mask


def attended(config: BertConfig, block: Mapping, x, tokens, cut: Callable | None = None):
    """What the output matrix of a block reads: (B, T, d) -> (B, T, h * hd). `tokens` (B, T) of 0
    and 1; `cut(y, name)` masks q/k pairs and v dims.
    """
    cut = cut or (lambda y, name: y)
    query = split_heads(config, cut(dense(block, x, "attention.query"), "qk"))
    key = split_heads(config, dense(block, x, "attention.key"))
    value = split_heads(config, cut(dense(block, x, "attention.value"), "v"))

    scores = tf.matmul(query * config.head_dim**-0.5, key, transpose_b=True)
    scores = scores + (1 - tokens[:, tf.newaxis, tf.newaxis, :]) * MASKED
    return join_heads(config, tf.matmul(tf.nn.softmax(scores), value))


def hidden(block: Mapping, x, cut: Callable | None = None):
    """What the contract matrix of a block reads: (B, T, d) -> (B, T, c)."""
    y = tf.nn.gelu(dense(block, x, "mlp.expand"))
    return y if cut is None else cut(y, "ffn")


def features_of(config: BertConfig, weights: Mapping, x, tokens, mask=None) -> tf.Tensor:
    """(B, d) of the last block's tokens (B, T, d)."""
    if config.pool == "mean":
        total = tf.reduce_sum(x * tokens[..., tf.newaxis], axis=1)
        return total / tf.maximum(tf.reduce_sum(tokens, axis=1, keepdims=True), 1.0)

    pooled = tf.tanh(dense(weights, x[:, 0], "pooler"))
    # the pooler writes the features that the head reads: a channel is one of them too
    return pooled if mask is None else pooled * (mask if len(mask.shape) == 1 else mask[:, 0])


def features(config: BertConfig, weights: Mapping, x, masks: Masks | None = None) -> tf.Tensor:
    """Features (B, d) of numbers of pieces (B, T)."""
    masks = masks or {}

    def mask_of(name: str):
        found = masks.get(name)
        # a mask a sample is the same for all of its tokens
        return found[:, tf.newaxis, :] if found is not None and len(found.shape) == 2 else found

    channels = mask_of("residual")
    tokens = token_mask(x)
    x = norm(config, weights, sums(config, weights, x), "embedding_norm", channels)
    for index in range(config.num_layers):
        own = block_weights(weights, index)
        prefix = f"block_{index:02d}"

        def cut(y, name, prefix=prefix):
            found = mask_of(f"{prefix}.{name}")
            return y if found is None else y * found

        read = attended(config, own, x, tokens, cut)
        x = norm(config, own, x + dense(own, read, "attention.output"), "attention.norm", channels)
        read = hidden(own, x, cut)
        x = norm(config, own, x + dense(own, read, "mlp.contract"), "mlp.norm", channels)
    return features_of(config, weights, x, tokens, channels)


def forward(config: BertConfig, weights: Mapping, x, masks: Masks | None = None, basis=None):
    """Logits (B, num_classes) of numbers of pieces (B, T); `masks` by the names of `mask_shapes`,
    (units,) or (B, units).
    """
    return dense(weights, features(config, weights, x, masks), "head")


def stacked_features(config: BertConfig, weights: Mapping, x, kept=None) -> tf.Tensor:
    """(N, B, d) of N models of one width, each weight with a first axis N; x (B, T) for all, or (N,
    B, T). One after the other: their tables are too large to be multiplied side by side.
    """
    count = weights["embedding_norm.gamma"].shape[0]
    found = []
    for one in range(count):
        own = {name: tf.cast(value[one], tf.float32) for name, value in weights.items()}
        found.append(features(config, own, x if len(x.shape) == 2 else x[one]))
    return tf.stack(found)
