"""The ViT as a plain function of its weights, with a mask on every unit that can be cut.

The same arithmetic as `edvit_tf.models.vit.build_vit`; scores are derivatives with respect to the masks.
"""

from collections.abc import Mapping

import tensorflow as tf

from edvit_tf.config import ViTConfig

STAGES = ("residual", "attention", "ffn")  # Appendix B, in this order


def mask_shapes(config: ViTConfig, stage: str) -> dict[str, int]:
    """Names and widths of the masks of one stage: {"residual": d}, or per block {"block_00.qk": h * hd, ...}."""
    if stage == "residual":
        return {"residual": config.hidden_dim}
    parts = {"attention": ("qk", "v"), "ffn": ("ffn",)}[stage]
    width = config.attention_dim if stage == "attention" else config.mlp_dim
    return {f"block_{i:02d}.{part}": width for i in range(config.num_layers) for part in parts}


def forward(config: ViTConfig, weights: Mapping, x, masks: Mapping | None = None):
    """Logits (B, num_classes) of inputs (B, H, W, C); `masks` are (units,) or (B, units), 1 = kept, 0 = removed.

    A residual channel is removed wherever it is written or read: embeddings, both branches of each block, and the
    normalised inputs of each Dense. LayerNorm statistics still run over all d channels, which is why a masked residual
    channel and a sliced one are not equal; masked q/k pairs (on q), v dims and FFN units equal sliced ones.
    """
    masks = masks or {}

    def cut(y, name):  # (B, T, units) times the mask
        mask = masks.get(name)
        if mask is None:
            return y
        return y * (mask[:, tf.newaxis, :] if len(mask.shape) == 2 else mask)

    def dense(y, name):
        return tf.matmul(y, weights[f"{name}.kernel"]) + weights[f"{name}.bias"]

    def norm(y, name):
        mean, variance = tf.nn.moments(y, axes=[-1], keepdims=True)
        y = (y - mean) * tf.math.rsqrt(variance + config.layer_norm_epsilon)
        return cut(y * weights[f"{name}.gamma"] + weights[f"{name}.beta"], "residual")

    def heads(y):  # (B, T, h * hd) -> (B, h, T, hd)
        y = tf.reshape(y, (-1, config.num_tokens, config.num_heads, config.head_dim))
        return tf.transpose(y, (0, 2, 1, 3))

    x = ((tf.cast(x, tf.float32) - tf.constant(config.input_mean, tf.float32))
         / tf.constant(config.input_std, tf.float32))
    kernel = weights["patch_embedding.kernel"]
    x = tf.nn.conv2d(x, kernel, config.patch_size, "VALID") + weights["patch_embedding.bias"]
    x = tf.reshape(x, (-1, config.num_patches, config.hidden_dim))
    token = tf.repeat(weights["class_token.token"], tf.shape(x)[0], axis=0)
    x = cut(tf.concat([token, x], axis=1) + weights["position_embedding.embedding"], "residual")
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        y = norm(x, f"{block}.attention.norm")
        q = heads(cut(dense(y, f"{block}.attention.query"), f"{block}.qk"))
        k = heads(dense(y, f"{block}.attention.key"))
        v = heads(cut(dense(y, f"{block}.attention.value"), f"{block}.v"))
        attention = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * config.head_dim**-0.5)
        y = tf.reshape(tf.transpose(tf.matmul(attention, v), (0, 2, 1, 3)),
                       (-1, config.num_tokens, config.attention_dim))
        x = x + cut(dense(y, f"{block}.attention.output"), "residual")
        y = dense(norm(x, f"{block}.mlp.norm"), f"{block}.mlp.expand")
        y = cut(tf.nn.gelu(y, approximate=False), f"{block}.ffn")
        x = x + cut(dense(y, f"{block}.mlp.contract"), "residual")
    x = norm(x, "norm")
    features = x[:, 0]
    if config.pool == "cls_mean":
        features = tf.concat([features, tf.reduce_mean(x[:, 1:], axis=1)], axis=-1)
    return dense(features, "head")
