"""The deployment graphs: what a device runs, written over numpy constants with a static batch of 1.

The Keras model stays the reference. These graphs work on (T, d) matrices over folded weights
(`fold.py`); where the class token alone is read after the last block (pool "cls"), that block runs
for it only, which is exact. Their operators differ by target, by what the XNNPACK delegate of a
runtime takes over (docs/figures/latency.md):

    portable  GELU by a sigmoid, means as fully-connected layers, division by a root, keys
              transposed before the product
    litert    native GELU, means as such, product with a reciprocal root, adjoint product with the
              keys
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import TARGETS
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.vit.fold import fold
from edvit_tf.models.vit.gelu import SCALE, scaled_gelu


def graph(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    input_name: str,
    dtype: str,
    target: str = "portable",
) -> tuple[Callable, list]:
    """A function of one input (1, H, W, C) of this name and dtype, and its signature.

    It returns {"features": (1, d), "logits": (1, num_classes)}, features (1, 2 d) for
    pool="cls_mean". `target` "portable" is of operators that tflite-runtime delegates too (within
    1e-3 of Keras); "litert" of those that are faster in ai-edge-litert, and slow in tflite-runtime
    (within 1e-5). Raises ValueError for another target.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; it must be one of: {', '.join(TARGETS)}.")

    w = fold(config, weights)

    # `scaled_gelu` takes and gives its argument times SCALE
    if target == "portable":
        for i in range(config.num_layers):
            name = f"block_{i:02d}.mlp"
            for part in ("kernel", "bias"):
                w[f"{name}.expand.{part}"] = w[f"{name}.expand.{part}"] * np.float32(SCALE)
            w[f"{name}.contract.kernel"] = w[f"{name}.contract.kernel"] / np.float32(SCALE)

    def answer(x):
        x = tf.cast(x, tf.float32)

        # tokens
        x = tf.nn.conv2d(x, w["patch_embedding.kernel"], config.patch_size, "VALID")
        x = tf.reshape(x, (config.num_patches, config.hidden_dim))
        x = x + w["position_embedding.embedding"]
        x = tf.concat([w["class_token.token"], x], axis=0)  # (T, d)

        for i in range(config.num_layers):
            alone = config.pool == "cls" and i == config.num_layers - 1
            x = _block(x, config, w, f"block_{i:02d}", target, class_token_only=alone)

        # features and logits
        features = _NORM[target](x, config) * w["norm.gamma"] + w["norm.beta"]  # (1, d), or (T, d)
        if config.pool == "cls_mean":
            mean = tf.reduce_mean(features[1:], axis=0, keepdims=True)
            features = tf.concat([features[:1], mean], axis=1)

        return {"features": features, "logits": _dense(features, w, "head")}

    return answer, [tf.TensorSpec((1, *config.image_shape), dtype, name=input_name)]


def _block(x, config: ViTConfig, w: Mapping, name: str, target: str, class_token_only: bool):
    """One encoder block, (T, d) -> (T, d), or -> (1, d) when only the class token is needed
    afterwards.
    """
    # attention; with the class token alone Tq = 1, but keys and values are of all tokens
    norm = _NORM[target]
    gelu = _GELU[target]
    y = norm(x, config)
    kept = y[:1] if class_token_only else y  # rows that ask: (Tq, d)
    x = x[:1] if class_token_only else x

    def heads(rows, part, order=(1, 0, 2)):
        out = tf.reshape(
            _dense(rows, w, f"{name}.attention.{part}"),
            (rows.shape[0], config.num_heads, config.head_dim),
        )
        return tf.transpose(out, order)

    # no division by the root of head_dim: it is in the query matrix
    q, v = heads(kept, "query"), heads(y, "value")  # (h, Tq, hd), (h, T, hd)
    if target == "portable":
        # 2.14 transposes slowly within an adjoint product
        scores = tf.matmul(q, heads(y, "key", (1, 2, 0)))
    else:
        scores = tf.matmul(q, heads(y, "key"), adjoint_b=True)

    y = tf.matmul(tf.nn.softmax(scores), v)
    y = tf.reshape(tf.transpose(y, (1, 0, 2)), (kept.shape[0], config.attention_dim))
    x = x + _dense(y, w, f"{name}.attention.output")

    # MLP
    y = gelu(_dense(norm(x, config), w, f"{name}.mlp.expand"))
    return x + _dense(y, w, f"{name}.mlp.contract")


# Rows of mean zero, divided by their root mean square: LayerNorm without the parts that are folded
# away.


def _norm_portable(x, config: ViTConfig):
    # a mean as a product with a column: the delegate takes it over, a reduction it does not
    mean = np.full((config.hidden_dim, 1), 1 / config.hidden_dim, np.float32)

    root = tf.sqrt(tf.matmul(tf.square(x), mean) + np.float32([config.layer_norm_epsilon]))
    # The maximum changes nothing; without it the converter makes a product with rsqrt, which 2.14
    # does not delegate.
    return x / tf.maximum(root, np.float32(1e-30))


def _norm_litert(x, config: ViTConfig):
    mean = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(mean + np.float32(config.layer_norm_epsilon))


def _dense(x, w: Mapping, name: str):
    return tf.matmul(x, w[f"{name}.kernel"]) + w[f"{name}.bias"]


def _native_gelu(x):
    return tf.nn.gelu(x, approximate=False)


_NORM = {"portable": _norm_portable, "litert": _norm_litert}
_GELU = {"portable": scaled_gelu, "litert": _native_gelu}
