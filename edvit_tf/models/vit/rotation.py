"""The residual stream turned before it is cut: directions go in the place of channels (SliceGPT,
Ashkboos et al. 2024).

LayerNorm's gamma and beta fold into what reads it and its centring into what writes the stream
(`fold_norms`); what is left of the norm does not change when the stream is rotated.
`principal_basis` gives the directions, the highest scores choose among them, and `cut_directions`
writes the smaller stream so that the smaller model is an ordinary ViT again: d' - 1 directions are
laid into d' channels that sum to zero, so that its LayerNorm finds nothing to centre.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, np.ndarray]

WRITERS = ("attention.output", "mlp.contract")  # per block; the embeddings write too
READERS = {
    "attention.norm": ("attention.query", "attention.key", "attention.value"),
    "mlp.norm": ("mlp.expand",),
}


def fold_norms(config: ViTConfig, weights: Mapping[str, np.ndarray]) -> Weights:
    """The same function with every gamma 1 and beta 0, and every writer of the residual stream
    centred.

    Gamma and beta fold into the Dense layers after each norm (the head after the last one);
    subtracting the mean over channels from every writer's output changes no LayerNorm. Equal to
    float32 rounding.
    """
    out = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def fold(norm, readers, times=1):
        gamma = np.tile(out[f"{norm}.gamma"], times)
        beta = np.tile(out[f"{norm}.beta"], times)
        for reader in readers:
            out[f"{reader}.bias"] = out[f"{reader}.bias"] + beta @ out[f"{reader}.kernel"]
            out[f"{reader}.kernel"] = gamma[:, None] * out[f"{reader}.kernel"]
        out[f"{norm}.gamma"] = np.ones(config.hidden_dim)
        out[f"{norm}.beta"] = np.zeros(config.hidden_dim)

    # what follows a norm takes over its gamma and beta
    for block in _blocks(config):
        for norm, readers in READERS.items():
            fold(f"{block}.{norm}", [f"{block}.{reader}" for reader in readers])
    fold("norm", ["head"], 2 if config.pool == "cls_mean" else 1)

    # every norm takes the mean away again, so the stream may lose it where it is written
    for name in _written(config):
        out[name] = out[name] - out[name].mean(axis=-1, keepdims=True)

    return {name: value.astype(np.float32) for name, value in out.items()}


def principal_basis(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    class_weight: float = 1.0,
    batch_size: int = 16,
) -> np.ndarray:
    """Orthonormal directions (d, d - 1), float64: principal components of what every norm gives,
    largest first.

    `weights` are folded (`fold_norms`), so the direction (1, ..., 1) is empty and left out. The
    class token counts `class_weight` times a patch token; `inputs` (n, H, W, C).
    """
    covariance = np.zeros((config.hidden_dim, config.hidden_dim))
    constants = vit.as_constants(weights)
    own = [vit.block_weights(constants, i) for i in range(config.num_layers)]
    scale = tf.sqrt(tf.constant([class_weight] + [1.0] * config.num_patches))[:, tf.newaxis]

    def add(y):
        y = tf.reshape(y * scale, (-1, config.hidden_dim))
        covariance[:] += tf.matmul(y, y, transpose_a=True).numpy()

    # what every norm gives, which is what the layers read
    for start in range(0, len(inputs), batch_size):
        x = vit.embed(config, constants, np.asarray(inputs[start : start + batch_size], np.float32))
        for block in own:
            add(vit.norm(config, block, x, "attention.norm"))
            x = x + vit.attention(config, block, x)
            add(vit.norm(config, block, x, "mlp.norm"))
            x = x + vit.mlp(config, block, x)
        add(vit.norm(config, constants, x, "norm"))

    # the largest first, without the direction (1, ..., 1) itself, or what rounding left of it
    centred = np.eye(config.hidden_dim) - 1 / config.hidden_dim
    _, vectors = np.linalg.eigh(centred @ covariance @ centred)
    ones = np.full((config.hidden_dim, 1), config.hidden_dim**-0.5)
    vectors = vectors[:, ::-1]
    empty = np.argmax(np.abs(ones.T @ vectors))
    others = np.delete(vectors, empty, axis=1)
    orthonormal, _ = np.linalg.qr(np.concatenate([ones, others], axis=1))
    return orthonormal[:, 1:]


def cut_directions(
    config: ViTConfig, weights: Mapping[str, np.ndarray], basis: np.ndarray
) -> tuple[ViTConfig, Weights, np.ndarray]:
    """Keeps the directions `basis` (d, d' - 1) of the residual stream of folded weights; width d'.

    Returns config, weights, and M (d, d'): a token x of the old stream stands as x M in the new
    one. Gammas are sqrt(d / d'), since both norms have root mean square 1 over their own number of
    channels. All d - 1 directions change nothing but rounding (and epsilon). With pool="cls_mean"
    the class token's half of the head stays.
    """
    width = basis.shape[1] + 1
    spread = basis @ zero_sum_basis(width).T  # (d, d')

    # what writes the stream, what reads it, and the head
    out = dict(weights)
    for name in _written(config):
        out[name] = weights[name] @ spread
    for block in _blocks(config):
        for readers in READERS.values():
            for reader in readers:
                out[f"{block}.{reader}.kernel"] = spread.T @ weights[f"{block}.{reader}.kernel"]
    out["head.kernel"] = spread.T @ weights["head.kernel"][: config.hidden_dim]

    # norms of fewer channels, scaled so that what they give is as large as before
    norms = ["norm"]
    for block in _blocks(config):
        norms += [f"{block}.{norm}" for norm in READERS]
    for norm in norms:
        out[f"{norm}.gamma"] = np.full(width, (config.hidden_dim / width) ** 0.5)
        out[f"{norm}.beta"] = np.zeros(width)
    out = {name: np.asarray(value, np.float32) for name, value in out.items()}
    return config.replace(hidden_dim=width, pool="cls"), out, spread


def zero_sum_basis(width: int) -> np.ndarray:
    """Orthonormal (width, width - 1) whose columns sum to zero: the cosine basis without its
    constant.
    """
    steps = np.pi * (np.arange(width)[:, None] + 0.5) * np.arange(1, width)[None] / width
    return np.sqrt(2 / width) * np.cos(steps)


def _blocks(config: ViTConfig) -> list[str]:
    return [f"block_{i:02d}" for i in range(config.num_layers)]


def _written(config: ViTConfig) -> list[str]:
    """Names of the weights whose last axis is the residual stream."""
    names = [
        "patch_embedding.kernel",
        "patch_embedding.bias",
        "class_token.token",
        "position_embedding.embedding",
    ]
    for block in _blocks(config):
        for writer in WRITERS:
            names += [f"{block}.{writer}.kernel", f"{block}.{writer}.bias"]
    return names
