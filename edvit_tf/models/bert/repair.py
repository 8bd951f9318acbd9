"""Least-squares repair of a BERT after a cut, block by block, as `models/vit/repair.py` has it.

What a Dense layer writes is added to the stream and then normalised (post-LN). So it is fitted to
the reference's stream before its LayerNorm, less the cut model's. After a cut of channels, whose
LayerNorms take mean and variance over fewer of them, gamma and beta of each are fitted too. Only
the tokens of texts count, and not what fills them up.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import PruneConfig
from edvit_tf.models.bert import functions as bert
from edvit_tf.models.bert.cuts import Cut, Weights
from edvit_tf.models.vit.functions import as_constants, block_weights, dense
from edvit_tf.models.vit.repair import QKV, least_squares

_BATCH = 16


class _Streams:
    """The tokens of the model before a cut and of the one after it, (B, T, d) a batch."""

    def __init__(self, done: Cut, samples: np.ndarray) -> None:
        self.channels = done.channels
        self.masks = []
        self.reference = []
        self.mine = []
        old = as_constants(done.before[1])
        new = as_constants(done.weights)
        for start in range(0, len(samples), _BATCH):
            x = tf.constant(np.asarray(samples[start : start + _BATCH], np.float32))
            self.masks.append(bert.token_mask(x))
            self.reference.append(bert.sums(done.before[0], old, x))
            self.mine.append(bert.sums(done.config, new, x))

    def of_texts(self, per_batch: list) -> list:
        """(tokens, width) of each batch, without what fills texts up."""
        return [tf.boolean_mask(y, m > 0) for y, m in zip(per_batch, self.masks, strict=True)]

    def kept(self, per_batch: list) -> list:
        """The channels that stayed."""
        if self.channels is None:
            return per_batch
        return [tf.gather(y, self.channels, axis=-1) for y in per_batch]


def repair_stage(done: Cut, cut: str, options: PruneConfig, samples: np.ndarray) -> Weights:
    """The weights of a cut with what follows it refitted on `samples` (n, T), numbers of pieces;
    those of a cut that took nothing as they are.
    """
    if done.config == done.before[0]:
        return dict(done.weights)

    out = dict(done.weights)
    streams = _Streams(done, samples)
    outer_old, outer = as_constants(done.before[1]), as_constants(done.weights)
    _through_norm(streams, done, (outer_old, outer), "embedding_norm", "", cut, options, out)

    for index in range(done.config.num_layers):
        told = block_weights(as_constants(done.before[1]), index)
        mine = block_weights(as_constants(done.weights), index)
        _repair_block(streams, done, told, mine, f"block_{index:02d}.", cut, options, out)
    return out


def _repair_block(
    streams: _Streams,
    done: Cut,
    told: dict,
    mine: dict,
    prefix: str,
    cut: str,
    options: PruneConfig,
    out: Weights,
) -> None:
    """One block of `out`, in place; both streams are brought behind it."""
    old_config, config = done.before[0], done.config

    def refit(names: tuple[str, ...], read: list, goals: list) -> None:
        pairs = zip(streams.of_texts(read), streams.of_texts(goals), strict=True)
        for name, value in least_squares(mine, names, pairs, 1.0, options.ridge).items():
            out[f"{prefix}{name}"] = value
            mine[name] = tf.constant(value)

    def read_by(names: tuple[str, ...]) -> list:
        return [
            tf.concat([dense(told, r, name) for name in names], axis=-1) for r in streams.reference
        ]

    # attention: what reads the stream, then what writes it
    if cut == "residual":
        refit(QKV, streams.mine, read_by(QKV))
    pairs = list(zip(streams.reference, streams.masks, strict=True))
    before = [
        r + dense(told, bert.attended(old_config, told, r, m), "attention.output") for r, m in pairs
    ]
    pairs = list(zip(streams.mine, streams.masks, strict=True))
    read = [bert.attended(config, mine, s, m) for s, m in pairs]
    if cut in ("residual", "attention"):
        refit(("attention.output",), read, _missing(streams, before))
    streams.mine = [
        s + dense(mine, y, "attention.output") for s, y in zip(streams.mine, read, strict=True)
    ]
    streams.reference = before
    _through_norm(streams, done, (told, mine), "attention.norm", prefix, cut, options, out)

    # MLP, likewise
    if cut == "residual":
        refit(("mlp.expand",), streams.mine, read_by(("mlp.expand",)))
    before = [r + dense(told, bert.hidden(told, r), "mlp.contract") for r in streams.reference]
    read = [bert.hidden(mine, s) for s in streams.mine]
    if cut in ("residual", "ffn"):
        refit(("mlp.contract",), read, _missing(streams, before))
    streams.mine = [
        s + dense(mine, y, "mlp.contract") for s, y in zip(streams.mine, read, strict=True)
    ]
    streams.reference = before
    _through_norm(streams, done, (told, mine), "mlp.norm", prefix, cut, options, out)


def _missing(streams: _Streams, before: list) -> list:
    """Of each batch the reference's stream before a LayerNorm, less the cut model's so far."""
    return [r - s for r, s in zip(streams.kept(before), streams.mine, strict=True)]


def _through_norm(
    streams: _Streams,
    done: Cut,
    weights: tuple[Mapping, dict],
    name: str,
    prefix: str,
    cut: str,
    options: PruneConfig,
    out: Weights,
) -> None:
    """Brings both streams through a LayerNorm; after a cut of channels its gamma and beta are
    fitted to what the reference's gives.
    """
    told, mine = weights
    streams.reference = [bert.norm(done.before[0], told, r, name) for r in streams.reference]
    rows = [bert.normalised(done.config, s) for s in streams.mine]
    if cut == "residual":
        x = np.concatenate(streams.of_texts(rows)).astype(np.float64)
        y = np.concatenate(streams.of_texts(streams.kept(streams.reference))).astype(np.float64)
        start = np.stack([mine[f"{name}.gamma"], mine[f"{name}.beta"]]).astype(np.float64)
        gamma, beta = affine(x, y, start, options.ridge).astype(np.float32)
        for part, value in (("gamma", gamma), ("beta", beta)):
            out[f"{prefix}{name}.{part}"] = value
            mine[f"{name}.{part}"] = tf.constant(value)
    streams.mine = [y * mine[f"{name}.gamma"] + mine[f"{name}.beta"] for y in rows]


def affine(x: np.ndarray, y: np.ndarray, start: np.ndarray, ridge: float) -> np.ndarray:
    """(2, d): factor and offset of each column of x (n, d) towards that of y, ridge least squares
    that shrink to `start` (2, d).
    """
    count = np.full(x.shape[1], len(x), np.float64)
    total, square = x.sum(axis=0), np.square(x).sum(axis=0)
    # (d, 2, 2) and (d, 2)
    gram = np.stack([np.stack([square, total], -1), np.stack([total, count], -1)], axis=-2)
    cross = np.stack([(x * y).sum(axis=0), y.sum(axis=0)], axis=-1)
    shrink = ridge * (square + count)[:, np.newaxis, np.newaxis] / 2 * np.eye(2)
    missing = cross - (gram @ start.T[..., np.newaxis])[..., 0]
    solved = np.linalg.solve(gram + shrink, missing[..., np.newaxis])[..., 0]
    return start + solved.T
