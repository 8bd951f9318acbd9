"""The deployment graph of a BERT: what a device runs, over numpy constants, with a batch of 1.

Its targets and their operators are those of `models/vit/deployed.py`; the tables are looked up by
GATHER, and what fills a text up is masked by NOT_EQUAL. All of them are TFLite's own.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import TARGETS
from edvit_tf.models.bert.config import BertConfig
from edvit_tf.models.vit.gelu import SCALE, scaled_gelu

MASKED = np.float32(-1e4)


def graph(
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    input_name: str,
    dtype: str,
    target: str = "portable",
) -> tuple[Callable, list]:
    """A function of one input (1, T) of this name and dtype, numbers of pieces, and its signature;
    it returns {"features": (1, d), "logits": (1, num_classes)}. ValueError for another target.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; it must be one of: {', '.join(TARGETS)}.")
    w = _scaled(config, weights, target)

    # places and type are the same for every text
    fixed = w["position_embedding.embedding"][: config.length] + w["type_embedding.embedding"][:1]

    def answer(x):
        is_piece = tf.cast(tf.not_equal(x, 0), tf.float32)  # (1, T)
        masked = (1 - is_piece) * MASKED
        x = tf.gather(w["token_embedding.embeddings"], tf.cast(x[0], tf.int32))  # (T, d)
        x = _norm(x + fixed, config, w, "embedding_norm", target)
        for i in range(config.num_layers):
            x = _block(x, masked, config, w, f"block_{i:02d}", target)

        if config.pool == "mean":
            count = tf.maximum(tf.reduce_sum(is_piece, axis=1, keepdims=True), 1.0)
            features = tf.matmul(is_piece, x) / count  # (1, d)
        else:
            features = tf.tanh(_dense(x[:1], w, "pooler"))
        return {"features": features, "logits": _dense(features, w, "head")}

    return answer, [tf.TensorSpec((1, config.length), dtype, name=input_name)]


def _scaled(config: BertConfig, weights: Mapping[str, np.ndarray], target: str) -> dict:
    """The weights with what a device need not compute: the root of head_dim is in the query, and
    `scaled_gelu`'s factor in what stands before and behind it.
    """
    w = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        for part in ("kernel", "bias"):
            query = f"{block}.attention.query.{part}"
            w[query] = w[query] * np.float32(config.head_dim**-0.5)
            if target == "portable":
                expand = f"{block}.mlp.expand.{part}"
                w[expand] = w[expand] * np.float32(SCALE)
        if target == "portable":
            contract = f"{block}.mlp.contract.kernel"
            w[contract] = w[contract] / np.float32(SCALE)
    return w


def _block(x, masked, config: BertConfig, w: Mapping, name: str, target: str):
    """One block, (T, d) -> (T, d); `masked` (1, T) is added to the scores."""

    def heads(part, order=(1, 0, 2)):
        out = _dense(x, w, f"{name}.attention.{part}")
        out = tf.reshape(out, (config.length, config.num_heads, config.head_dim))
        return tf.transpose(out, order)

    q, v = heads("query"), heads("value")  # (h, T, hd)
    if target == "portable":
        scores = tf.matmul(q, heads("key", (1, 2, 0)))
    else:
        scores = tf.matmul(q, heads("key"), adjoint_b=True)
    y = tf.matmul(tf.nn.softmax(scores + masked), v)
    y = tf.reshape(tf.transpose(y, (1, 0, 2)), (config.length, config.attention_dim))
    x = _norm(
        x + _dense(y, w, f"{name}.attention.output"), config, w, f"{name}.attention.norm", target
    )

    y = _dense(x, w, f"{name}.mlp.expand")
    y = scaled_gelu(y) if target == "portable" else tf.nn.gelu(y, approximate=False)
    return _norm(x + _dense(y, w, f"{name}.mlp.contract"), config, w, f"{name}.mlp.norm", target)


def _norm(x, config: BertConfig, w: Mapping, name: str, target: str):
    """LayerNorm of rows (T, d)."""
    epsilon = np.float32(config.layer_norm_epsilon)
    if target == "litert":
        x = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        x = x * tf.math.rsqrt(variance + epsilon)
    else:
        # means as products with a column, and a division by a root: what tflite-runtime delegates
        mean = np.full((config.hidden_dim, 1), 1 / config.hidden_dim, np.float32)
        x = x - tf.matmul(x, mean)
        root = tf.sqrt(tf.matmul(tf.square(x), mean) + epsilon)
        x = x / tf.maximum(root, np.float32(1e-30))
    return x * w[f"{name}.gamma"] + w[f"{name}.beta"]


def _dense(x, w: Mapping, name: str):
    return tf.matmul(x, w[f"{name}.kernel"]) + w[f"{name}.bias"]
