"""Attention heads of fewer dims by low rank: not the best of a head's own dims stay, but the best
directions among all that they span.

What a head computes does not change where its queries and keys are both turned, since softmax sees
their products alone, nor where its values are turned and the output matrix turns them back. So a
head may keep any r directions, and the best are those of a singular value decomposition, of what
the calibration samples make of its matrices and not of the matrices themselves:

    queries and keys   M = A B^T of rank r with the least sum of (q^T (I - M) k)^2: with S_q and S_k
                       the second moments of queries and of centred keys, and U S V^T the
                       decomposition of S_q^(1/2) S_k^(1/2),
                       A = S_q^(-1/2) U_r S_r,  B = S_k^(-1/2) V_r
    values             N of rank r with the least sum of |z^T (I - N) W_o|^2, z what the head
                       attended to, W_o its rows of the output matrix: from the decomposition of
                       S_z^(1/2) W_o

Keys count less their mean over a sample's tokens, and z less its mean, which the output's bias
takes over. Keys and values are turned by orthonormal columns, and queries and output take what else
there is: weights of another size would in effect be trained at another rate. Sources: NuWa's low
rank of W_q W_k^T, here weighted by activations; the theorem of Eckart and Young.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, np.ndarray]


@dataclass
class _Moments:
    """Of one block, summed over samples and tokens, a head each (h, head_dim, head_dim)."""

    queries: np.ndarray
    keys: np.ndarray  # centred
    attended: np.ndarray  # centred
    mean_attended: np.ndarray  # (h, head_dim)


def cut_to_directions(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    heads: list[np.ndarray],
    head_dim: int,
    inputs: np.ndarray,
    *,
    class_weight: float = 1.0,
    ridge: float = 1e-2,
    batch_size: int = 16,
) -> tuple[ViTConfig, Weights]:
    """Keeps of block i the heads `heads[i]`, ascending indices of as many in each block, and of
    each the best `head_dim` directions on `inputs` (n, H, W, C).

    Logits stay sums over sqrt(old head_dim): the change of the scale folds into the query. The
    class token's query counts `class_weight` times a patch token's.
    """
    scale = (head_dim / config.head_dim) ** 0.5  # the softmax will divide by the new one's root
    out = dict(weights)
    found = _moments(config, weights, inputs, class_weight, batch_size)
    for i, (block, kept) in enumerate(zip(found, heads, strict=True)):
        name = f"block_{i:02d}.attention"
        parts: dict[str, list[np.ndarray]] = {}
        bias = weights[f"{name}.output.bias"].astype(np.float64)

        for head in range(config.num_heads):
            own = slice(head * config.head_dim, (head + 1) * config.head_dim)
            output = weights[f"{name}.output.kernel"][own].astype(np.float64)  # (head_dim, d)

            # what the head adds on the mean stays, in the bias, whether the head stays or not
            mean = block.mean_attended[head]
            bias = bias + mean @ output
            if head not in kept:
                continue

            query, key = _products(block.queries[head], block.keys[head], head_dim, ridge)
            into, back = _values(block.attended[head], output, head_dim, ridge)
            bias = bias - mean @ into @ back
            for part, turn in (("query", scale * query), ("key", key), ("value", into)):
                for kind in ("kernel", "bias"):
                    old = weights[f"{name}.{part}.{kind}"][..., own]
                    parts.setdefault(f"{name}.{part}.{kind}", []).append(old @ turn)
            parts.setdefault(f"{name}.output.kernel", []).append(back)

        for part, pieces in parts.items():
            axis = 0 if part.endswith("output.kernel") else -1
            out[part] = np.concatenate(pieces, axis=axis).astype(np.float32)
        out[f"{name}.output.bias"] = bias.astype(np.float32)

    return config.replace(num_heads=len(heads[0]), head_dim=head_dim), out


def _products(
    queries: np.ndarray, keys: np.ndarray, rank: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """A, B (head_dim, rank), of which q^T A B^T k is the best product of that rank."""
    root_q, inverse_q = _roots(queries, ridge)
    root_k, inverse_k = _roots(keys, ridge)
    left, values, right = np.linalg.svd(root_q @ root_k)

    # A B^T = (A R^T) Q^T with B = Q R: keys are turned alone, so that a fit finds them as large as
    # they were, and the queries take the rest
    turn, rest = np.linalg.qr(inverse_k @ right[:rank].T)
    return inverse_q @ left[:, :rank] * values[:rank] @ rest.T, turn


def _values(
    attended: np.ndarray, output: np.ndarray, rank: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """(head_dim, rank) and (rank, d): the values' turn, and the output matrix that reads it."""
    root, inverse = _roots(attended, ridge)
    left = np.linalg.svd(root @ output)[0][:, :rank]

    # likewise values are turned alone, and the output matrix takes the rest
    turn, rest = np.linalg.qr(inverse @ left)
    return turn, rest @ left.T @ root @ output


def _roots(moment: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric root of a moment with a share of its mean added to the diagonal, and the
    inverse of that root; of nothing at all: zeros.
    """
    size = len(moment)
    mean = np.trace(moment) / size
    if mean <= 0:
        return np.zeros((size, size)), np.zeros((size, size))
    values, vectors = np.linalg.eigh(moment + ridge * mean * np.eye(size))
    roots = np.sqrt(np.maximum(values, 1e-12 * mean))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _moments(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    class_weight: float,
    batch_size: int,
) -> list[_Moments]:
    """Of every block of the model as it is."""
    constants = vit.as_constants(weights)
    own = [vit.block_weights(constants, i) for i in range(config.num_layers)]
    shape = (config.num_heads, config.head_dim)
    square = (*shape, config.head_dim)
    sums = [
        _Moments(np.zeros(square), np.zeros(square), np.zeros(square), np.zeros(shape)) for _ in own
    ]

    counted = 0.0
    row_weight = np.array([class_weight] + [1.0] * config.num_patches, np.float32)
    for tokens, blocks in _streams(config, constants, own, inputs, batch_size):
        counted += tokens
        for i, (query, key, attended) in enumerate(blocks):
            # behind the last block the class token alone is read, and so it alone asks
            last = config.pool == "cls" and i == config.num_layers - 1
            asked = slice(0, 1) if last else slice(None)
            count = row_weight[asked, np.newaxis] / row_weight[asked].sum()

            sums[i].queries += _second(query[:, :, asked], count)
            sums[i].keys += _second(key, np.ones((1, 1), np.float32))
            sums[i].attended += _second(attended[:, :, asked], count)
            mean = tf.reduce_sum(attended[:, :, asked] * count, axis=(0, 2))
            sums[i].mean_attended += mean.numpy()

    for one in sums:
        one.attended /= counted
        one.mean_attended /= counted
        one.attended -= np.einsum("hi,hj->hij", one.mean_attended, one.mean_attended)
    return sums


def _second(rows, count: np.ndarray) -> np.ndarray:
    """Sum of the outer products of rows (B, h, T, head_dim), each counted so often (T, 1)."""
    return tf.reduce_sum(tf.matmul(rows * count, rows, transpose_a=True), axis=0).numpy()


def _streams(
    config: ViTConfig, constants: Mapping, own: list[dict], inputs: np.ndarray, batch_size: int
) -> Iterator[tuple[int, list[tuple]]]:
    """Of each batch its samples, and a block each queries, centred keys and what was attended to,
    (B, h, T, head_dim).
    """
    for start in range(0, len(inputs), batch_size):
        x = vit.embed(config, constants, np.asarray(inputs[start : start + batch_size], np.float32))
        blocks = []
        for block in own:
            y = vit.norm(config, block, x, "attention.norm")
            query, key, value = (
                vit.split_heads(config, vit.dense(block, y, f"attention.{part}"))
                for part in ("query", "key", "value")
            )
            attended = vit.attend(config, query, key, value)
            blocks.append((query, key - tf.reduce_mean(key, axis=2, keepdims=True), attended))

            x = x + vit.dense(block, vit.join_heads(config, attended), "attention.output")
            x = x + vit.mlp(config, block, x)
        yield len(x), blocks
