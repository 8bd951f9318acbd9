"""The three cuts of a BERT, by scores: those of attention and FFN are a ViT's, since the layers
have the same names; a residual channel goes from the three tables, each LayerNorm, and whatever
writes or reads the stream.

Channels alone, and no directions: each LayerNorm stands on the stream, and a rotation of it would
leave gamma on the way past the blocks, where a BERT has no matrix.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from edvit_tf.config import PruneConfig
from edvit_tf.models.bert.config import BertConfig, is_cut
from edvit_tf.models.vit.cuts import cut_attention, cut_ffn, kept_dims, top, unit_groups

__all__ = ["Cut", "cut_residual", "cut_stage", "group_head", "magnitude", "unit_groups"]

Weights = dict[str, np.ndarray]
Scoring = Callable[..., Mapping[str, np.ndarray]]

_TABLES = ("token_embedding", "position_embedding", "type_embedding")
_WRITERS = ("attention.output", "mlp.contract")
_READERS = ("attention.query", "attention.key", "attention.value", "mlp.expand")


class Cut(NamedTuple):
    """A model after a cut, and what its repair has to know of the one before."""

    config: BertConfig
    weights: Weights
    before: tuple[BertConfig, Mapping[str, np.ndarray]]
    channels: np.ndarray | None = None  # of the old stream, that stayed


def cut_residual(
    config: BertConfig, weights: Mapping[str, np.ndarray], keep: np.ndarray
) -> tuple[BertConfig, Weights]:
    """Keeps the residual channels `keep` everywhere; of a pooler, which writes the features, also
    its columns.
    """
    out = dict(weights)
    for name, value in weights.items():
        layer, part = name.rsplit(".", 1)
        if layer in _TABLES or layer.endswith("norm") or layer.endswith(_WRITERS):
            out[name] = value[..., keep]
        elif layer.endswith(_READERS) and part == "kernel":
            out[name] = value[keep]
        elif layer == "pooler":
            out[name] = value[keep][:, keep] if part == "kernel" else value[keep]
        elif name == "head.kernel":
            out[name] = value[keep]
    return config.replace(hidden_dim=len(keep)), out


def cut_stage(
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    cut: str,
    target: BertConfig,
    options: PruneConfig,
    score: Scoring,
    samples: np.ndarray,
) -> Cut:
    """Cuts one of CUTS to the widths of `target`. Channels go by score, in options.rounds, whatever
    options.residual says: there is no other way.
    """
    before = (config, weights)
    if is_cut(config, cut, target):
        return Cut(config, dict(weights), before)
    if cut == "residual":
        return _cut_channels(config, weights, target, options, score)

    scores = score(config, weights)
    if cut == "attention":
        kept = kept_dims(config, scores, target, options.heads)
        return Cut(*cut_attention(config, weights, kept), before)

    blocks = range(config.num_layers)
    units = [top(scores[f"block_{i:02d}.ffn"], target.mlp_dim) for i in blocks]
    return Cut(*cut_ffn(config, weights, units), before)


def _cut_channels(
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    target: BertConfig,
    options: PruneConfig,
    score: Scoring,
) -> Cut:
    """The weakest channels go, in rounds, scored anew before each."""
    keep = np.arange(config.hidden_dim)
    small, after = config, dict(weights)
    rounds = np.linspace(config.hidden_dim, target.hidden_dim, options.rounds + 1)
    for width in rounds[1:].round().astype(int):
        chosen = top(score(small, after)["residual"], int(width))
        small, after = cut_residual(small, after, chosen)
        keep = keep[chosen]
    return Cut(small, after, (config, weights), channels=keep)


def group_head(
    config: BertConfig, weights: Mapping[str, np.ndarray], classes: tuple[int, ...]
) -> tuple[BertConfig, Weights]:
    """The head's rows of one class group, and "other" as the mean of the rest."""
    rest = [c for c in range(config.num_classes) if c not in classes]
    if len(set(classes)) != len(classes) or not set(classes) <= set(range(config.num_classes)):
        raise ValueError(
            f"classes {classes} must be distinct rows of the head, 0..{config.num_classes - 1}."
        )
    out = dict(weights)
    for name in ("head.kernel", "head.bias"):
        rows = [weights[name][..., list(classes)]]
        if rest:
            rows.append(weights[name][..., rest].mean(axis=-1, keepdims=True))
        out[name] = np.concatenate(rows, axis=-1)
    return config.replace(num_classes=len(classes) + bool(rest)), out


def magnitude(
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    cut: str,
    basis: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Scores from the weights alone: of a channel the norm of all that writes it, else the norm of
    what writes a unit times that of what reads it.
    """

    def length(name: str, axis: int) -> np.ndarray:
        return np.linalg.norm(weights[name].astype(np.float64), axis=axis)

    if cut == "residual":
        names = ("token_embedding.embeddings", "attention.output.kernel", "mlp.contract.kernel")
        squares = [length(name, 0) ** 2 for name in weights if name.endswith(names)]
        return {"residual": np.sqrt(np.sum(squares, axis=0))}

    scores = {}
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        if cut == "ffn":
            read = length(f"{block}.mlp.contract.kernel", 1)
            scores[f"{block}.ffn"] = length(f"{block}.mlp.expand.kernel", 0) * read
            continue
        name = f"{block}.attention"
        query, key = length(f"{name}.query.kernel", 0), length(f"{name}.key.kernel", 0)
        scores[f"{block}.qk"] = query * key
        output = length(f"{name}.output.kernel", 1)
        scores[f"{block}.v"] = length(f"{name}.value.kernel", 0) * output
    return scores
