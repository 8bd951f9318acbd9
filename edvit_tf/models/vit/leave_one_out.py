"""Leave-one-out scores: the model runs once a unit; what does not change is computed once.

The teacher and every block's input are cached. Removing an FFN unit or a v dim changes its block's
output by a rank-one term, which is subtracted; removing a q/k pair changes one head's softmax,
which is computed again; the blocks after it run on a batch of units. Where only the class token is
read, the last block runs for that token alone. A residual channel is removed everywhere, so it
takes a whole pass. All of this is exact: the scores are those of a plain loop over masked models,
to float32 rounding. Source: UP-ViT (Yu and Wu 2021), the score of its section 3.
"""

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from edvit_tf.config import ViTConfig
from edvit_tf.models.vit import functions as vit
from edvit_tf.pruning.divergence import kl_divergence


def exact(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stage: str,
    *,
    units: Mapping[str, np.ndarray] | None = None,
    basis: np.ndarray | None = None,
    sample_batch: int = 16,
    rows: int = 128,
) -> dict[str, np.ndarray]:
    """KL(P || Q) of every unit of a stage, removed alone; scores and `basis` as in `importance`.

    `units` names the indices to score, by mask name; the others come out as NaN, and a mask that is
    not named is left out. Memory: the activations of one block for `rows` samples times units,
    which run at once, and the tokens of `sample_batch` samples at every block.
    """
    widths = vit.mask_shapes(config, stage)
    if basis is not None and stage == "residual":
        widths = {"residual": basis.shape[1]}
    wanted = (
        {name: np.arange(width) for name, width in widths.items()}
        if units is None
        else {name: np.asarray(units[name]) for name in widths if name in units}
    )
    totals = {name: np.zeros(len(chosen)) for name, chosen in wanted.items()}
    constants = vit.as_constants(weights)
    score = _residual if stage == "residual" else _in_blocks
    for start in range(0, len(inputs), sample_batch):
        x = tf.constant(np.asarray(inputs[start : start + sample_batch], np.float32))
        score(config, constants, x, wanted, totals, max(1, rows // len(x)), basis)
    scores = {name: np.full(widths[name], np.nan) for name in wanted}
    for name, chosen in wanted.items():
        scores[name][chosen] = totals[name] / len(inputs)
    return scores


def _residual(config, weights, x, wanted, totals, units_at_once, basis) -> None:
    """Adds the KL of each channel (or direction of `basis`), summed over the samples, to
    `totals`.
    """
    whole = _whole(config, basis is not None)
    rotation = None if basis is None else tf.constant(basis, tf.float32)
    width = config.hidden_dim if basis is None else basis.shape[1]
    chosen = wanted["residual"]
    teacher = whole(weights, x, tf.ones((1, width)), rotation).numpy()
    for start in range(0, len(chosen), units_at_once):
        some = chosen[start : start + units_at_once]
        masks = 1 - tf.one_hot(some, width)  # (U, units)
        totals["residual"][start : start + len(some)] += _summed(
            teacher, whole(weights, x, masks, rotation), len(some)
        )


def _in_blocks(config, weights, x, wanted, totals, units_at_once, basis) -> None:
    """The same for q/k pairs, v dims and FFN units, block by block."""
    own = [vit.block_weights(weights, i) for i in range(config.num_layers)]
    outer = vit.outer_weights(weights)
    embed, step, finish, removed = _pieces(config)
    tokens = [embed(outer, x)]
    for i in range(config.num_layers):
        tokens.append(step(own[i], tokens[-1]))
    teacher = finish(outer, tokens[-1]).numpy()
    for i in range(config.num_layers):
        for part in ("qk", "v", "ffn"):
            name = f"block_{i:02d}.{part}"
            for start in range(0, len(wanted.get(name, ())), units_at_once):
                some = wanted[name][start : start + units_at_once]
                # the last call of a block is filled up, so that every call has one shape
                filled = np.resize(some, min(units_at_once, len(wanted[name])))
                y = removed[part, i == config.num_layers - 1](
                    own[i], tokens[i], tf.constant(filled)
                )
                for j in range(i + 1, config.num_layers):
                    y = step(own[j], y) if j < config.num_layers - 1 else removed["last"](own[j], y)
                z = finish(outer, y)
                totals[name][start : start + len(some)] += _summed(teacher, z, len(filled))[
                    : len(some)
                ]


def _summed(teacher: np.ndarray, logits: tf.Tensor, count: int) -> np.ndarray:
    """KL of `count` units, (count,), summed over samples; `logits` (count * B, C), unit by unit."""
    q = logits.numpy().astype(np.float64).reshape(count, len(teacher), -1)
    return kl_divergence(teacher.astype(np.float64)[None], q).sum(axis=1)


@functools.lru_cache(maxsize=4)
def _whole(config: ViTConfig, rotated: bool):
    """A function of (weights, x (B, ...), masks (U, units), basis): logits (U * B, C)."""

    @tf.function(reduce_retracing=True)
    def whole(weights, x, masks, basis):
        count, batch = tf.shape(masks)[0], tf.shape(x)[0]
        each = {"residual": tf.repeat(masks, batch, axis=0)}
        return vit.forward(
            config, weights, tf.tile(x, (count, 1, 1, 1)), each, basis if rotated else None
        )

    return whole


@functools.lru_cache(maxsize=4)
def _pieces(config: ViTConfig):
    """Compiled pieces: embed, one whole block, the read-out, and blocks with a unit removed by
    (part, is the last).
    """
    class_only = config.pool == "cls"

    def rows_read(y, last):  # of the last block's output only the class token is read
        return y[:, :1] if last and class_only else y

    def attention_of(weights, x, last):
        """Query, key, value (B, h, T, hd); queries of the rows that are read."""
        y = vit.norm(config, weights, x, "attention.norm")
        return (
            vit.split_heads(config, vit.dense(weights, rows_read(y, last), "attention.query")),
            *(
                vit.split_heads(config, vit.dense(weights, y, f"attention.{part}"))
                for part in ("key", "value")
            ),
        )

    def after(weights, x):
        return x + vit.mlp(config, weights, x)

    def block(weights, x, last=False):
        y = vit.join_heads(config, vit.attend(config, *attention_of(weights, x, last)))
        return after(weights, rows_read(x, last) + vit.dense(weights, y, "attention.output"))

    def spread(y, change):  # (B, T, d) - (U, B, T, d) -> (U * B, T, d)
        return tf.reshape(y[tf.newaxis] - change, (-1, y.shape[1], y.shape[2]))

    def without_ffn(weights, x, units, last):
        y = vit.join_heads(config, vit.attend(config, *attention_of(weights, x, last)))
        x = rows_read(x, last) + vit.dense(weights, y, "attention.output")
        h = vit.hidden(config, weights, x)
        x = x + vit.dense(weights, h, "mlp.contract")
        return spread(
            x,
            tf.einsum(
                "btu,ud->ubtd",
                tf.gather(h, units, axis=2),
                tf.gather(weights["mlp.contract.kernel"], units),
            ),
        )

    def without_v(weights, x, units, last):
        y = vit.join_heads(config, vit.attend(config, *attention_of(weights, x, last)))
        x = rows_read(x, last) + vit.dense(weights, y, "attention.output")
        return after(
            weights,
            spread(
                x,
                tf.einsum(
                    "btu,ud->ubtd",
                    tf.gather(y, units, axis=2),
                    tf.gather(weights["attention.output.kernel"], units),
                ),
            ),
        )

    def without_qk(weights, x, units, last):
        q, k, v = attention_of(weights, x, last)
        y = vit.attend(config, q, k, v)  # (B, h, T, hd)
        x = rows_read(x, last) + vit.dense(weights, vit.join_heads(config, y), "attention.output")
        head, dim = units // config.head_dim, units % config.head_dim

        def of_head(z):  # (B, h, T, hd) -> (U, B, T, hd)
            return tf.gather(tf.transpose(z, (1, 0, 2, 3)), head)

        keep = (1 - tf.one_hot(dim, config.head_dim))[:, tf.newaxis, tf.newaxis]  # (U, 1, 1, hd)
        scores = tf.matmul(of_head(q) * keep, of_head(k), transpose_b=True) * config.head_dim**-0.5
        change = of_head(y) - tf.matmul(tf.nn.softmax(scores), of_head(v))  # (U, B, T, hd)
        rows = tf.reshape(
            weights["attention.output.kernel"], (config.num_heads, config.head_dim, -1)
        )
        return after(weights, spread(x, tf.einsum("ubth,uhd->ubtd", change, tf.gather(rows, head))))

    compiled = functools.partial(tf.function, reduce_retracing=True)
    removed = {
        (part, last): compiled(functools.partial(function, last=last))
        for part, function in (("qk", without_qk), ("v", without_v), ("ffn", without_ffn))
        for last in (False, True)
    }
    removed["last"] = compiled(functools.partial(block, last=True))
    return (
        compiled(functools.partial(vit.embed, config)),
        compiled(block),
        compiled(functools.partial(vit.read_out, config)),
        removed,
    )
