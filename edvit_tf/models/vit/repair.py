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

from collections.abc import Iterable, Mapping

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
    (old_config, old_weights), (config, weights) = before, after
    old, new, out = vit.as_constants(old_weights), vit.as_constants(weights), dict(weights)
    batches = [
        tf.constant(np.asarray(inputs[i : i + batch_size], np.float32))
        for i in range(0, len(inputs), batch_size)
    ]
    reference = [vit.embed(old_config, old, x) for x in batches]
    stream = [vit.embed(config, new, x) for x in batches]
    del batches
    spread = None if spread is None else tf.constant(spread, tf.float32)
    row_scale = tf.sqrt(tf.constant([class_weight] + [1.0] * config.num_patches))[:, tf.newaxis]

    for i in range(config.num_layers):
        told, mine = vit.block_weights(old, i), vit.block_weights(new, i)

        def refit(
            names: tuple[str, ...], pairs: Iterable[tuple], block: dict = mine, index: int = i
        ) -> None:
            for name, value in _least_squares(block, names, pairs, row_scale, ridge).items():
                out[f"block_{index:02d}.{name}"] = value
                block[name] = tf.constant(value)

        if stage == "residual":
            refit(
                QKV,
                (
                    (
                        vit.norm(config, mine, s, "attention.norm"),
                        _readings(old_config, told, r, "attention.norm", QKV),
                    )
                    for r, s in zip(reference, stream, strict=True)
                ),
            )
        reference = [r + vit.attention(old_config, told, r) for r in reference]
        if stage in ("residual", "attention"):
            refit(
                ("attention.output",),
                (
                    (vit.attended(config, mine, s), _turned(r, spread) - s)
                    for r, s in zip(reference, stream, strict=True)
                ),
            )
        stream = [s + vit.attention(config, mine, s) for s in stream]
        if stage == "residual":
            refit(
                ("mlp.expand",),
                (
                    (
                        vit.norm(config, mine, s, "mlp.norm"),
                        _readings(old_config, told, r, "mlp.norm", ("mlp.expand",)),
                    )
                    for r, s in zip(reference, stream, strict=True)
                ),
            )
        reference = [r + vit.mlp(old_config, told, r) for r in reference]
        if stage in ("residual", "ffn"):
            refit(
                ("mlp.contract",),
                (
                    (vit.hidden(config, mine, s), _turned(r, spread) - s)
                    for r, s in zip(reference, stream, strict=True)
                ),
            )
        stream = [s + vit.mlp(config, mine, s) for s in stream]
    return out


def _turned(tokens, spread):
    """The reference's tokens as they stand in the cut model's stream."""
    return tokens if spread is None else tf.matmul(tokens, spread)


def _readings(config: ViTConfig, weights: Mapping, tokens, norm: str, names: tuple[str, ...]):
    """What the Dense layers `names` give behind a norm, side by side."""
    y = vit.norm(config, weights, tokens, norm)
    return tf.concat([vit.dense(weights, y, name) for name in names], axis=-1)


def _least_squares(
    block: Mapping, names: tuple[str, ...], pairs: Iterable[tuple], row_scale, ridge: float
) -> Weights:
    """Kernels and biases of the Dense layers `names`, which read one X, from pairs (X, Y) of
    batches.
    """
    gram, cross = 0.0, 0.0
    for x, y in pairs:
        x = tf.concat([x, tf.ones_like(x[..., :1])], axis=-1) * row_scale
        x, y = (tf.reshape(z, (-1, z.shape[-1])) for z in (x, y * row_scale))
        gram = gram + tf.matmul(x, x, transpose_a=True).numpy().astype(np.float64)
        cross = cross + tf.matmul(x, y, transpose_a=True).numpy().astype(np.float64)
    start = [
        np.concatenate([block[f"{name}.kernel"], block[f"{name}.bias"][np.newaxis]])
        for name in names
    ]
    solved = ridge_solution(
        gram, cross, np.concatenate(start, axis=1).astype(np.float64), ridge
    ).astype(np.float32)
    fitted = {}
    for name, part in zip(
        names, np.split(solved, np.cumsum([s.shape[1] for s in start])[:-1], axis=1), strict=True
    ):
        fitted[f"{name}.kernel"], fitted[f"{name}.bias"] = part[:-1], part[-1]
    return fitted


def ridge_solution(
    gram: np.ndarray, cross: np.ndarray, start: np.ndarray, ridge: float
) -> np.ndarray:
    """start + (gram + r I)^-1 (cross - gram start), r = ridge * mean(diag gram): least squares that
    shrink to start.
    """
    shrink = ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    return start + np.linalg.solve(gram + shrink, cross - gram @ start)
