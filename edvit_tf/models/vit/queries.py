"""Repair of cut q/k pairs: what the removed keys said is carried by the kept ones, through the
query weights.

A head's softmax does not see what all its keys have in common, so keys count less their mean over
the tokens of a sample. With K the centred keys of an old head and R the least-squares map from its
kept dims to all of them, the old scores Q K^T are about (Q R^T) K_kept^T: exact where the kept keys
determine the others.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, np.ndarray]


def repair_queries(
    before: tuple[ViTConfig, Mapping[str, np.ndarray]],
    after: tuple[ViTConfig, Mapping[str, np.ndarray]],
    kept: list[tuple[np.ndarray, np.ndarray]],
    inputs: np.ndarray,
    ridge: float = 1e-2,
    batch_size: int = 16,
) -> Weights:
    """Weights of `after` with every query refitted; kept[i][0] (new heads, new head_dim) are the
    q/k pairs of `before` that stayed in block i (`edvit_tf.models.vit.cuts.kept_dims`); `inputs`
    (n, H, W, C).

    Where a new head took dims of several old ones, each old head's part is fitted on its own.
    """
    config, weights = before
    cut_config, cut_weights = after

    # the cut model divides by the root of another head_dim, as in `cuts.cut_attention`
    scale = (cut_config.head_dim / config.head_dim) ** 0.5
    out = dict(cut_weights)
    for i, gram in enumerate(key_grams(config, weights, inputs, batch_size)):
        name = f"block_{i:02d}.attention.query"
        for new, dims in enumerate(kept[i][0]):
            of_head = dims // config.head_dim
            within = dims % config.head_dim

            # a new head may hold dims of several old ones, each with keys of its own
            for head in np.unique(of_head):
                if not gram[head].any():
                    continue  # keys that are all alike say nothing: no query can mend that
                places = np.flatnonzero(of_head == head)
                carry = _carried(gram[head], within[places], ridge)  # R: (kept, head_dim)

                # the old scores through the kept keys: Q R^T
                old = slice(head * config.head_dim, (head + 1) * config.head_dim)
                columns = new * cut_config.head_dim + places
                for part in ("kernel", "bias"):
                    fitted = np.array(out[f"{name}.{part}"])
                    fitted[..., columns] = scale * weights[f"{name}.{part}"][..., old] @ carry.T
                    out[f"{name}.{part}"] = fitted

    return out


def _carried(gram: np.ndarray, kept: np.ndarray, ridge: float) -> np.ndarray:
    """R (kept, head_dim): the least-squares map from the kept dims of a head's keys to all."""
    # the ridge is a share of the keys' mean square
    size = len(gram)
    shrunk = gram + ridge * np.trace(gram) / size * np.eye(size)
    return np.linalg.solve(shrunk[np.ix_(kept, kept)], shrunk[kept])


def key_grams(
    config: ViTConfig, weights: Mapping[str, np.ndarray], inputs: np.ndarray, batch_size: int
) -> list[np.ndarray]:
    """Per block K^T K of every head, (h, head_dim, head_dim), of keys less their mean over a
    sample's tokens.
    """
    constants = vit.as_constants(weights)
    own = [vit.block_weights(constants, i) for i in range(config.num_layers)]
    grams = [np.zeros((config.num_heads, config.head_dim, config.head_dim)) for _ in own]

    for start in range(0, len(inputs), batch_size):
        x = vit.embed(config, constants, np.asarray(inputs[start : start + batch_size], np.float32))
        for gram, block in zip(grams, own, strict=True):
            # (B, h, T, hd), less what all keys of a sample have in common
            keys = vit.dense(block, vit.norm(config, block, x, "attention.norm"), "attention.key")
            keys = vit.split_heads(config, keys - tf.reduce_mean(keys, axis=1, keepdims=True))
            gram += tf.reduce_sum(tf.matmul(keys, keys, transpose_a=True), axis=0).numpy()

            x = x + vit.attention(config, block, x)
            x = x + vit.mlp(config, block, x)
    return grams
