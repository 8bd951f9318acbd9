"""Least-squares repair after a cut: what follows the removed units is fitted again on calibration
activations.

Two streams of tokens run side by side, block by block: that of the model before the cut (the
reference) and that of the model after it. Each weight matrix that reads or follows what was cut is
replaced by the ridge solution

    W = W0 + (X^T X + r I)^-1 X^T (Y - X W0),    r = ridge * mean(diag X^T X)

with X the cut model's own activations (of the blocks repaired so far), Y what the reference gives
there, and W0 the sliced weights, to which it shrinks. What writes to the residual stream is fitted
to the reference's stream less the cut model's, so that errors of earlier blocks are made up for.
Source: NuWa's repair of following weights; nothing here sees a label or trains.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig

Weights = dict[str, np.ndarray]

QKV = ("attention.query", "attention.key", "attention.value")


def repair(
    before: tuple[ViTConfig, Mapping[str, np.ndarray]],
    after: tuple[ViTConfig, Mapping[str, np.ndarray]],
    inputs: np.ndarray,
    stage: str,
    *,
    spread: np.ndarray | None = None,
    ridge: float = 1e-2,
    class_weight: float = 1.0,
    batch_size: int = 16,
) -> Weights:
    """Weights of `after` with the matrices behind the cut of `stage` refitted on `inputs` (n, H, W,
    C).

    "ffn" refits each contract matrix, "attention" each output matrix, "residual" every Dense of
    every block (`spread` (d, d') says how the old stream stands in the new one); embeddings and
    head stay. The class token counts `class_weight` times a patch token. Memory: both streams'
    tokens of all inputs, twice, and the activations of `batch_size`.
    """
    old_config, old_weights = before
    config, weights = after
    old = vit.as_constants(old_weights)
    new = vit.as_constants(weights)
    out = dict(weights)

    # rows are scaled by the root of what they count for: X^T X has its square
    row_scale = tf.sqrt(tf.constant([class_weight] + [1.0] * config.num_patches))[:, tf.newaxis]
    turn = None if spread is None else tf.constant(spread, tf.float32)

    # both streams, (B, T, d) and (B, T, d') a batch
    reference = []
    stream = []
    for start in range(0, len(inputs), batch_size):
        x = tf.constant(np.asarray(inputs[start : start + batch_size], np.float32))
        reference.append(vit.embed(old_config, old, x))
        stream.append(vit.embed(config, new, x))

    for i in range(config.num_layers):
        told = vit.block_weights(old, i)
        mine = vit.block_weights(new, i)

        def refit(names: tuple[str, ...], pairs: Iterable[tuple], block=mine, index=i) -> None:
            fitted = least_squares(block, names, pairs, row_scale, ridge)
            for name, value in fitted.items():
                out[f"block_{index:02d}.{name}"] = value
                block[name] = tf.constant(value)

        # attention: what reads the stream, then what writes it
        if stage == "residual":
            readers = ("attention.norm", QKV)
            refit(QKV, _read(old_config, told, reference, config, mine, stream, *readers))
        reference = [r + vit.attention(old_config, told, r) for r in reference]

        if stage in ("residual", "attention"):
            read = (vit.attended(config, mine, s) for s in stream)
            refit(("attention.output",), zip(read, _missing(reference, stream, turn), strict=True))
        stream = [s + vit.attention(config, mine, s) for s in stream]

        # MLP, likewise, on what the repaired attention has made of the stream
        if stage == "residual":
            readers = ("mlp.norm", ("mlp.expand",))
            refit(readers[1], _read(old_config, told, reference, config, mine, stream, *readers))
        reference = [r + vit.mlp(old_config, told, r) for r in reference]

        if stage in ("residual", "ffn"):
            read = (vit.hidden(config, mine, s) for s in stream)
            refit(("mlp.contract",), zip(read, _missing(reference, stream, turn), strict=True))
        stream = [s + vit.mlp(config, mine, s) for s in stream]

    return out


def _read(
    old_config: ViTConfig,
    told: Mapping,
    reference: list,
    config: ViTConfig,
    mine: Mapping,
    stream: list,
    norm: str,
    names: tuple[str, ...],
) -> Iterator[tuple]:
    """(X, Y) of each batch: what the cut model's Dense layers `names` read behind a norm, and what
    the reference's give there, side by side.
    """
    for told_tokens, tokens in zip(reference, stream, strict=True):
        y = vit.norm(old_config, told, told_tokens, norm)
        given = tf.concat([vit.dense(told, y, name) for name in names], axis=-1)
        yield vit.norm(config, mine, tokens, norm), given


def _missing(reference: list, stream: list, turn) -> Iterator:
    """Of each batch the reference's stream as it stands in the cut model's, less that one."""
    for r, s in zip(reference, stream, strict=True):
        yield (r if turn is None else tf.matmul(r, turn)) - s


def least_squares(
    block: Mapping, names: tuple[str, ...], pairs: Iterable[tuple], row_scale, ridge: float
) -> Weights:
    """Kernels and biases of the Dense layers `names`, which read one X, from pairs (X, Y) of
    batches.
    """
    # X^T X and X^T Y, summed over batches: nothing else is kept of them
    gram = 0.0
    cross = 0.0
    for x, y in pairs:
        x = tf.concat([x, tf.ones_like(x[..., :1])], axis=-1) * row_scale  # the last: the bias
        x = tf.reshape(x, (-1, x.shape[-1]))
        y = tf.reshape(y * row_scale, (-1, y.shape[-1]))
        gram = gram + tf.matmul(x, x, transpose_a=True).numpy().astype(np.float64)
        cross = cross + tf.matmul(x, y, transpose_a=True).numpy().astype(np.float64)

    # W0 with the bias as its last row, as X has its ones
    start = []
    for name in names:
        start.append(np.concatenate([block[f"{name}.kernel"], block[f"{name}.bias"][np.newaxis]]))
    whole = np.concatenate(start, axis=1).astype(np.float64)
    solved = ridge_solution(gram, cross, whole, ridge).astype(np.float32)

    # back into one kernel and one bias a layer
    fitted = {}
    ends = np.cumsum([part.shape[1] for part in start])[:-1]
    for name, part in zip(names, np.split(solved, ends, axis=1), strict=True):
        fitted[f"{name}.kernel"] = part[:-1]
        fitted[f"{name}.bias"] = part[-1]

    return fitted


def ridge_solution(
    gram: np.ndarray, cross: np.ndarray, start: np.ndarray, ridge: float
) -> np.ndarray:
    """start + (gram + r I)^-1 (cross - gram start), r = ridge * mean(diag gram): least squares that
    shrink to start.
    """
    shrink = ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    return start + np.linalg.solve(gram + shrink, cross - gram @ start)
