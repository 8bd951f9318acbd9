"""A ViT with one unit removed, at the cost of what that changes.

Every block's input is computed once and kept. Removing an FFN unit or a v dim changes its block's
output by a rank-one term, which is subtracted; removing a q/k pair changes one head's softmax,
which is computed again; the blocks after it run on a batch of units. Where only the class token is
read, the last block runs for that token alone. All of this is exact: the answers are those of
masked models, to float32 rounding. A residual channel is removed everywhere, so it takes a whole
pass, which is not our matter (SHORTCUTS).

Shapes: B samples, U units, T tokens, h heads, hd head_dim, d and c the widths of config.py.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from edvit_tf.models.vit import functions as vit
from edvit_tf.models.vit.config import ViTConfig

SHORTCUTS = ("attention", "ffn")


def removals(
    config: ViTConfig, weights: Mapping, x, units: Mapping[str, np.ndarray], at_once: int
) -> tuple[tf.Tensor, Iterator[tuple[str, int, int, tf.Tensor]]]:
    """Logits (B, C) of the model as it is, and an iterator over removed units.

    `weights` are constants (`functions.as_constants`), `units` the indices to remove, each alone,
    by mask name. Of the iterator each item is (mask name, start, count, logits (count * B, C)): the
    units from `start` on in units[name], unit by unit; `at_once` of them at most.
    """
    own = [vit.block_weights(weights, i) for i in range(config.num_layers)]
    outer = vit.outer_weights(weights)
    pieces = _compiled(config)

    inputs = [pieces.embed(outer, x)]  # of each block, and the last one's output
    for block in own:
        inputs.append(pieces.block(block, inputs[-1]))

    def removed() -> Iterator[tuple[str, int, int, tf.Tensor]]:
        last = config.num_layers - 1
        for i in range(config.num_layers):
            for part in PARTS:
                name = f"block_{i:02d}.{part}"
                chosen = units.get(name, np.zeros(0, int))
                for start in range(0, len(chosen), at_once):
                    some = chosen[start : start + at_once]
                    # the last call of a block is filled up, so that every call has one shape
                    filled = np.resize(some, min(at_once, len(chosen)))

                    y = pieces.without[part, i == last](own[i], inputs[i], tf.constant(filled))
                    # the blocks behind it, on (U * B, T, d)
                    for j in range(i + 1, config.num_layers):
                        y = (pieces.last_block if j == last else pieces.block)(own[j], y)
                    z = pieces.read_out(outer, y)
                    yield name, start, len(some), z[: len(some) * len(x)]

    return pieces.read_out(outer, inputs[-1]), removed()


class _Pieces(NamedTuple):
    """Compiled pieces of one config; a block takes (its weights, its input (B, T, d))."""

    embed: Callable
    block: Callable
    last_block: Callable  # for the rows that are read
    read_out: Callable
    without: dict[tuple[str, bool], Callable]  # by (part, whether it is the last block)


@functools.lru_cache(maxsize=4)
def _compiled(config: ViTConfig) -> _Pieces:
    def compiled(function: Callable, **fixed) -> Callable:
        return tf.function(functools.partial(function, config, **fixed), reduce_retracing=True)

    without = {}
    for part, function in PARTS.items():
        for last in (False, True):
            without[part, last] = compiled(function, last=last)

    return _Pieces(
        embed=compiled(vit.embed),
        block=compiled(_block, last=False),
        last_block=compiled(_block, last=True),
        read_out=compiled(vit.read_out),
        without=without,
    )


def _rows_read(config: ViTConfig, y, last: bool):
    """The rows of a block's input or output that are read afterwards: of the last block the class
    token alone.
    """
    return y[:, :1] if last and config.pool == "cls" else y


def _projections(config: ViTConfig, weights: Mapping, x, last: bool):
    """Query, key, value (B, h, T, hd); queries of the rows that are read."""
    y = vit.norm(config, weights, x, "attention.norm")
    asking = _rows_read(config, y, last)

    # the rows that ask are few in the last block; they still ask all tokens
    query = vit.split_heads(config, vit.dense(weights, asking, "attention.query"))
    key = vit.split_heads(config, vit.dense(weights, y, "attention.key"))
    value = vit.split_heads(config, vit.dense(weights, y, "attention.value"))
    return query, key, value


def _after_attention(config: ViTConfig, weights: Mapping, x, attended, last: bool):
    """The stream (B, T, d) behind the attention branch; `attended` (B, T, h hd) is of its heads."""
    branch = vit.dense(weights, attended, "attention.output")
    return _rows_read(config, x, last) + branch


def _with_mlp(config: ViTConfig, weights: Mapping, x):
    return x + vit.mlp(config, weights, x)


def _block(config: ViTConfig, weights: Mapping, x, last: bool):
    """A whole block: (B, T, d) -> (B, T, d), or (B, 1, d) of the last one."""
    attended = vit.attend(config, *_projections(config, weights, x, last))
    joined = vit.join_heads(config, attended)
    return _with_mlp(config, weights, _after_attention(config, weights, x, joined, last))


def _less(y, change):
    """(B, T, d) less each unit's change (U, B, T, d): (U * B, T, d)."""
    return tf.reshape(y[tf.newaxis] - change, (-1, y.shape[1], y.shape[2]))


def _rank_one(read, kernel, units):
    """What the units (U,) of `read` (B, T, k) add through `kernel` (k, d): (U, B, T, d)."""
    return tf.einsum("btu,ud->ubtd", tf.gather(read, units, axis=2), tf.gather(kernel, units))


def _without_ffn(config: ViTConfig, weights: Mapping, x, units, last: bool):
    """The block's output without each FFN unit: (U * B, T, d)."""
    attended = vit.attend(config, *_projections(config, weights, x, last))
    joined = vit.join_heads(config, attended)
    x = _after_attention(config, weights, x, joined, last)

    hidden = vit.hidden(config, weights, x)  # (B, T, c)
    whole = x + vit.dense(weights, hidden, "mlp.contract")
    return _less(whole, _rank_one(hidden, weights["mlp.contract.kernel"], units))


def _without_v(config: ViTConfig, weights: Mapping, x, units, last: bool):
    """The block's output without each v dim: (U * B, T, d)."""
    attended = vit.attend(config, *_projections(config, weights, x, last))
    joined = vit.join_heads(config, attended)  # (B, T, h hd)
    whole = _after_attention(config, weights, x, joined, last)

    change = _rank_one(joined, weights["attention.output.kernel"], units)
    return _with_mlp(config, weights, _less(whole, change))


def _without_qk(config: ViTConfig, weights: Mapping, x, units, last: bool):
    """The block's output without each q/k pair: (U * B, T, d)."""
    query, key, value = _projections(config, weights, x, last)
    attended = vit.attend(config, query, key, value)  # (B, h, T, hd)
    joined = vit.join_heads(config, attended)
    whole = _after_attention(config, weights, x, joined, last)

    # the unit's own head, its softmax anew without the pair
    head = units // config.head_dim
    dim = units % config.head_dim

    def of_head(z):  # (B, h, T, hd) -> (U, B, T, hd)
        return tf.gather(tf.transpose(z, (1, 0, 2, 3)), head)

    keep = (1 - tf.one_hot(dim, config.head_dim))[:, tf.newaxis, tf.newaxis]  # (U, 1, 1, hd)
    scores = tf.matmul(of_head(query) * keep, of_head(key), transpose_b=True)
    weighted = tf.nn.softmax(scores * config.head_dim**-0.5)
    change = of_head(attended) - tf.matmul(weighted, of_head(value))  # (U, B, T, hd)

    # through the head's rows of the output matrix
    rows = tf.reshape(weights["attention.output.kernel"], (config.num_heads, config.head_dim, -1))
    change = tf.einsum("ubth,uhd->ubtd", change, tf.gather(rows, head))
    return _with_mlp(config, weights, _less(whole, change))


PARTS = {"qk": _without_qk, "v": _without_v, "ffn": _without_ffn}  # of a block, by mask
