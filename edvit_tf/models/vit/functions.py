"""The ViT as plain functions of its weights, with a mask on every unit that can be cut.

The same arithmetic as `edvit_tf.models.vit.keras_model.build_vit`, in the pieces that scores and
repairs need: `embed`, `attention` and `mlp` of one block, `read_out`; `forward` is all of them.
Scores are derivatives with respect to the masks.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit.config import ViTConfig, check_cut

# (y (B, T, units), name) -> y with removed units set to zero; name: "residual", "qk", "v" or "ffn"
Cut = Callable


def mask_shapes(config: ViTConfig, stage: str, basis: np.ndarray | None = None) -> dict[str, int]:
    """Names and widths of the masks of one stage: {"residual": d}, or per block {"block_00.qk": h *
    hd, ...}.

    With `basis` (d, m) the residual mask is over its m directions. Raises ValueError on an unknown
    stage.
    """
    check_cut(stage)
    if stage == "residual":
        return {"residual": config.hidden_dim if basis is None else basis.shape[1]}

    # q and k are one unit, since a product needs both; v dims are another
    parts = {"attention": ("qk", "v"), "ffn": ("ffn",)}[stage]
    width = config.attention_dim if stage == "attention" else config.mlp_dim

    shapes = {}
    for i in range(config.num_layers):
        for part in parts:
            shapes[f"block_{i:02d}.{part}"] = width

    return shapes


def block_weights(weights: Mapping, index: int) -> dict:
    """The weights of one block, named from "attention.norm.gamma" on: the same names for every
    block.
    """
    prefix = f"block_{index:02d}."
    return {
        name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
    }


def outer_weights(weights: Mapping) -> dict:
    """The weights that belong to no block: embeddings, final norm, head."""
    return {name: value for name, value in weights.items() if not name.startswith("block_")}


def as_constants(weights: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """float32 tensors of numpy weights."""
    return {name: tf.constant(value, tf.float32) for name, value in weights.items()}


def no_cut(y, name):
    """The mask that removes nothing."""
    return y


def dense(weights: Mapping, y, name: str):
    """y @ kernel + bias."""
    return tf.matmul(y, weights[f"{name}.kernel"]) + weights[f"{name}.bias"]


def norm(config: ViTConfig, weights: Mapping, y, name: str):
    """LayerNorm over the last axis, with gamma and beta."""
    mean, variance = tf.nn.moments(y, axes=[-1], keepdims=True)
    y = (y - mean) * tf.math.rsqrt(variance + config.layer_norm_epsilon)
    return y * weights[f"{name}.gamma"] + weights[f"{name}.beta"]


def patches(config: ViTConfig, x):
    """Normalised patches of inputs (B, H, W, C): (B, T - 1, p * p * C), in the order of the
    flattened patch kernel.
    """
    x = (tf.cast(x, tf.float32) - tf.constant(config.input_mean, tf.float32)) / tf.constant(
        config.input_std, tf.float32
    )

    height, width, channels = config.image_shape
    p = config.patch_size
    # by rows and columns of patches, each laid flat: (B, H/p, W/p, p, p, C)
    x = tf.reshape(x, (-1, height // p, p, width // p, p, channels))
    return tf.reshape(
        tf.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, config.num_patches, p * p * channels)
    )


def embed(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """Tokens (B, T, d) of inputs (B, H, W, C): patch embedding, class token, positions."""
    # a convolution whose stride is its kernel is one product: (B, T - 1, p p C) @ (p p C, d)
    kernel = tf.reshape(weights["patch_embedding.kernel"], (-1, config.hidden_dim))
    x = tf.matmul(patches(config, x), kernel) + weights["patch_embedding.bias"]

    # the class token stands at 0
    token = tf.repeat(weights["class_token.token"], tf.shape(x)[0], axis=0)
    return cut(tf.concat([token, x], axis=1) + weights["position_embedding.embedding"], "residual")


def split_heads(config: ViTConfig, y):
    """(B, T, h * hd) -> (B, h, T, hd)."""
    y = tf.reshape(y, (-1, y.shape[1], config.num_heads, config.head_dim))
    return tf.transpose(y, (0, 2, 1, 3))


def join_heads(config: ViTConfig, y):
    """(B, h, T, hd) -> (B, T, h * hd)."""
    return tf.reshape(tf.transpose(y, (0, 2, 1, 3)), (-1, y.shape[2], config.attention_dim))


def attend(config: ViTConfig, query, key, value):
    """softmax(q k^T / sqrt(hd)) v of split heads: (B, h, T, hd) each -> (B, h, T, hd)."""
    scores = tf.matmul(query, key, transpose_b=True) * config.head_dim**-0.5
    return tf.matmul(tf.nn.softmax(scores), value)


def attended(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """What the output matrix of a block (weights of `block_weights`) reads: (B, T, d) -> (B, T, h *
    hd).
    """
    y = cut(norm(config, weights, x, "attention.norm"), "residual")

    # the mask of a q/k pair is on q: either alone makes the product zero
    query = split_heads(config, cut(dense(weights, y, "attention.query"), "qk"))
    key = split_heads(config, dense(weights, y, "attention.key"))
    value = split_heads(config, cut(dense(weights, y, "attention.value"), "v"))

    return join_heads(config, attend(config, query, key, value))


def attention(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """The attention branch of one block, the addition not done: (B, T, d) -> (B, T, d)."""
    return cut(dense(weights, attended(config, weights, x, cut), "attention.output"), "residual")


def hidden(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """The FFN's hidden activations of one block, after GELU: (B, T, d) -> (B, T, c)."""
    y = cut(norm(config, weights, x, "mlp.norm"), "residual")
    return cut(tf.nn.gelu(dense(weights, y, "mlp.expand"), approximate=False), "ffn")


def mlp(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """The FFN branch of one block, the addition not done: (B, T, d) -> (B, T, d)."""
    return cut(dense(weights, hidden(config, weights, x, cut), "mlp.contract"), "residual")


def pooled(config: ViTConfig, x):
    """Features of normalised tokens: the class token (B, d), beside the mean of the others for
    "cls_mean" (B, 2 d).
    """
    if config.pool == "cls_mean":
        return tf.concat([x[:, 0], tf.reduce_mean(x[:, 1:], axis=1)], axis=-1)

    return x[:, 0]


def read_out(config: ViTConfig, weights: Mapping, x, cut: Cut = no_cut):
    """Logits (B, num_classes) of the last block's tokens (B, T, d)."""
    return dense(weights, pooled(config, cut(norm(config, weights, x, "norm"), "residual")), "head")


def mask_cut(masks: Mapping, block: str = "", basis=None) -> Cut:
    """The `Cut` of masks (units,) or (B, units), 1 = kept, 0 = removed, for one block's name
    ("block_03").

    With `basis` (d, m), orthonormal columns, the residual mask is over directions: y -> y - y V (1
    - mask) V^T.
    """

    def cut(y, name):
        mask = masks.get(name if name == "residual" else f"{block}.{name}")
        if mask is None:
            return y

        # a mask a sample is the same for all of its tokens: (B, 1, units)
        mask = mask[:, tf.newaxis, :] if len(mask.shape) == 2 else mask

        if name == "residual" and basis is not None:
            return y - tf.matmul(tf.matmul(y, basis) * (1 - mask), basis, transpose_b=True)

        return y * mask

    return cut


def forward(config: ViTConfig, weights: Mapping, x, masks: Mapping | None = None, basis=None):
    """Logits (B, num_classes) of inputs (B, H, W, C); `masks` and `basis` as in `mask_cut`, by
    `mask_shapes` names.

    A residual channel is removed wherever it is written or read: embeddings, both branches of each
    block, and the normalised inputs of each Dense. LayerNorm statistics still run over all d
    channels, which is why a masked residual channel and a sliced one are not equal; masked q/k
    pairs (on q), v dims and FFN units equal sliced ones.
    """
    masks = masks or {}
    x = embed(config, weights, x, mask_cut(masks, basis=basis))
    for index in range(config.num_layers):
        cut = mask_cut(masks, f"block_{index:02d}", basis)
        own = block_weights(weights, index)
        x = x + attention(config, own, x, cut)
        x = x + mlp(config, own, x, cut)

    return read_out(config, weights, x, mask_cut(masks, basis=basis))
