"""The three cuts of Appendix B, pure: config, weights and scores in; a smaller config and sliced
weights out.

(1) residual channels d -> d', one index set for all blocks, embeddings, norms and head; (2)
attention: q/k dims in pairs and v dims with their rows of the output projection; (3) FFN hidden
units c -> c', per block. Weights are named as in `edvit_tf.models.vit.keras_model.get_weights`;
nothing here trains. Cutting directions of the residual stream instead of its channels is in
rotation.py.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.config import HEADS
from edvit_tf.models.vit.config import ViTConfig, check_cut

Weights = dict[str, np.ndarray]
Kept = tuple[np.ndarray, np.ndarray]  # of one block: q/k pairs, v dims; (heads, head_dim) each

# Layers by what they have to do with the residual stream.
_EMBEDDINGS = ("patch_embedding", "class_token", "position_embedding")
_WRITERS = ("attention.output", "mlp.contract")
_READERS = ("attention.query", "attention.key", "attention.value", "mlp.expand")


def cut(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    stage: str,
    target: ViTConfig,
    heads: str = "merge",
) -> tuple[ViTConfig, Weights]:
    """Cuts one stage ("residual", "attention" or "ffn") to the widths of `target`, keeping the
    highest scores.

    `scores` are those of `edvit_tf.pruning.importance` for the same stage; `heads` as in
    `kept_dims`. Returns the config between the stages (only this stage's widths changed) and its
    weights. Raises ValueError on an unknown stage.
    """
    if stage == "residual":
        return cut_residual(config, weights, top(scores["residual"], target.hidden_dim))

    if stage == "attention":
        return cut_attention(config, weights, kept_dims(config, scores, target, heads))

    # each block keeps units of its own, as many in each
    check_cut(stage)
    units = [top(scores[f"block_{i:02d}.ffn"], target.mlp_dim) for i in range(config.num_layers)]
    return cut_ffn(config, weights, units)


def kept_dims(
    config: ViTConfig, scores: Mapping[str, np.ndarray], target: ViTConfig, heads: str
) -> list[Kept]:
    """Per block the q/k pairs and the v dims that stay, (new heads, new head_dim) each, indices
    into h * head_dim.

    "merge" (UP-ViT): the old heads fall into `target.num_heads` runs; the best head_dim dims of
    each run form one head of the old head_dim. "whole": the heads with the highest sums of scores
    stay as they are. "half": the same, but of twice as many heads half of the dims. "keep": all h
    heads stay, with the best `target.head_dim` dims of each (`target` then has h heads). Raises
    ValueError where `target` does not fit the choice.
    """
    _check_heads(config, target, heads)
    kept = []
    for i in range(config.num_layers):
        # q and k go in pairs, by one score; v dims by another, and so may come from other places
        qk = np.asarray(scores[f"block_{i:02d}.qk"])
        v = np.asarray(scores[f"block_{i:02d}.v"])
        if heads == "merge":
            groups = head_groups(config.num_heads, target.num_heads)
        else:
            groups = list(best_heads(config, qk, v, target.num_heads)[:, np.newaxis])
        of_each = (config.head_dim, target.head_dim)
        kept.append((top_in_heads(qk, groups, *of_each), top_in_heads(v, groups, *of_each)))
    return kept


def _check_heads(config: ViTConfig, target: ViTConfig, heads: str) -> None:
    """Raises ValueError unless `heads` is known and `target` has heads as it makes them."""
    if heads not in HEADS:
        raise ValueError(f"heads is {heads!r}; it must be one of: {', '.join(HEADS)}.")

    wanted = (target.num_heads, config.head_dim)
    if heads == "keep":
        wanted = (config.num_heads, target.head_dim)
    elif heads == "half":
        wanted = (target.num_heads, min(target.head_dim, config.head_dim))
    found = (target.num_heads, target.head_dim)
    if found != wanted or target.num_heads > config.num_heads:
        raise ValueError(
            f"the target has {found[0]} heads of {found[1]}; {heads!r} needs {wanted[0]} of "
            f"{wanted[1]}, from {config.num_heads} of {config.head_dim}. Take the target of "
            "ViTConfig.pruned."
        )


def best_heads(config: ViTConfig, qk: np.ndarray, v: np.ndarray, count: int) -> np.ndarray:
    """The `count` heads with the highest scores, ascending indices; q/k pairs and v dims count
    alike.
    """
    # of a softmax only ratios count: the shares, not the sums, are added
    share = np.zeros(config.num_heads)
    for part in (qk, v):
        of_heads = part.reshape(config.num_heads, -1).sum(axis=1)
        share = share + of_heads / max(of_heads.sum(), 1e-300)

    return top(share, count)


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` highest scores; the lower index wins a tie."""
    if not 1 <= count <= len(scores):
        raise ValueError(
            f"{count} units are to be kept of {len(scores)}; keep between 1 and all of them."
        )
    # stable and by the negated score: the lower index of equals stands first
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def head_groups(num_heads: int, kept_heads: int) -> list[np.ndarray]:
    """Old heads in `kept_heads` runs of nearly equal length: 12 -> 3 gives 3 groups of 4
    (UP-ViT).
    """
    return np.array_split(np.arange(num_heads), kept_heads)


def unit_groups(
    config: ViTConfig, stage: str, target: ViTConfig, heads: str
) -> dict[str, list[np.ndarray]]:
    """Of each mask of a stage the units among which the cut chooses, indices: of attention those of
    each head that becomes one, or of the run of heads that are merged into one; else all.
    """
    if stage != "attention":
        widths = {"residual": config.hidden_dim}
        if stage == "ffn":
            blocks = range(config.num_layers)
            widths = {f"block_{i:02d}.ffn": config.mlp_dim for i in blocks}
        return {name: [np.arange(width)] for name, width in widths.items()}

    kept_heads = target.num_heads if heads == "merge" else config.num_heads
    each = np.arange(config.head_dim)
    runs = []
    for group in head_groups(config.num_heads, kept_heads):
        runs.append((group[:, None] * config.head_dim + each).ravel())
    parts = [f"block_{i:02d}.{part}" for i in range(config.num_layers) for part in ("qk", "v")]
    return dict.fromkeys(parts, runs)


def top_in_heads(
    scores: np.ndarray, groups: list[np.ndarray], head_dim: int, count: int
) -> np.ndarray:
    """For each group of old heads the `count` best of its dims, (groups, count), indices into h *
    head_dim.
    """
    kept = []
    for group in groups:
        dims = (group[:, None] * head_dim + np.arange(head_dim)).ravel()
        kept.append(dims[top(scores[dims], count)])

    return np.stack(kept)


def cut_residual(
    config: ViTConfig, weights: Mapping[str, np.ndarray], keep: np.ndarray
) -> tuple[ViTConfig, Weights]:
    """Keeps the residual channels `keep` everywhere; with pool="cls_mean" the class token's half of
    the head stays.
    """
    # what writes the stream or has its width loses columns, what reads it loses rows
    out = dict(weights)
    for name, value in weights.items():
        layer, part = name.rsplit(".", 1)
        if layer in _EMBEDDINGS or layer.endswith("norm") or layer.endswith(_WRITERS):
            out[name] = value[..., keep]
        elif layer.endswith(_READERS) and part == "kernel":
            out[name] = value[keep]
        elif name == "head.kernel":
            out[name] = value[: config.hidden_dim][keep]

    return config.replace(hidden_dim=len(keep), pool="cls"), out


def cut_attention(
    config: ViTConfig, weights: Mapping[str, np.ndarray], keep: list[Kept]
) -> tuple[ViTConfig, Weights]:
    """Keeps, per block, the q/k pairs keep[i][0] and the v dims keep[i][1], (k, head_dim') each:
    row j is new head j.

    Logits stay sums of the kept products over sqrt(old head_dim): where the new heads are narrower,
    the change of the scale folds into the query.
    """
    heads, head_dim = keep[0][0].shape

    # the softmax would divide by the root of the new head_dim
    scale = np.float32((head_dim / config.head_dim) ** 0.5)

    out = dict(weights)
    for i, (qk, v) in enumerate(keep):
        name = f"block_{i:02d}.attention"
        for part, dims in (("query", qk), ("key", qk), ("value", v)):
            for kind in ("kernel", "bias"):
                out[f"{name}.{part}.{kind}"] = weights[f"{name}.{part}.{kind}"][..., dims.ravel()]
        if scale != 1:
            for kind in ("kernel", "bias"):
                out[f"{name}.query.{kind}"] = out[f"{name}.query.{kind}"] * scale

        # what read a v dim goes with it
        out[f"{name}.output.kernel"] = weights[f"{name}.output.kernel"][v.ravel()]

    return config.replace(num_heads=heads, head_dim=head_dim), out


def cut_ffn(
    config: ViTConfig, weights: Mapping[str, np.ndarray], keep: list[np.ndarray]
) -> tuple[ViTConfig, Weights]:
    """Keeps, per block, the FFN hidden units keep[i]."""
    out = dict(weights)
    for i, units in enumerate(keep):
        name = f"block_{i:02d}.mlp"
        out[f"{name}.expand.kernel"] = weights[f"{name}.expand.kernel"][:, units]
        out[f"{name}.expand.bias"] = weights[f"{name}.expand.bias"][units]
        out[f"{name}.contract.kernel"] = weights[f"{name}.contract.kernel"][units]

    return config.replace(mlp_dim=len(keep[0])), out


def group_head(
    config: ViTConfig, weights: Mapping[str, np.ndarray], classes: tuple[int, ...]
) -> tuple[ViTConfig, Weights]:
    """The head's rows of one class group, and "other" as the mean of the rest; all classes: the
    rows as they are.

    The result reads the class token alone: of a pool="cls_mean" head the class token's half stays.
    Raises ValueError if the classes are not distinct rows of the head.
    """
    if len(set(classes)) != len(classes) or not set(classes) <= set(range(config.num_classes)):
        raise ValueError(
            f"classes {classes} must be distinct rows of the head, 0..{config.num_classes - 1}."
        )

    rest = [c for c in range(config.num_classes) if c not in classes]

    def rows_of(value: np.ndarray) -> np.ndarray:  # (..., num_classes) -> (..., rows)
        rows = [value[..., list(classes)]]
        if rest:
            rows.append(value[..., rest].mean(axis=-1, keepdims=True))
        return np.concatenate(rows, axis=-1)

    out = dict(weights)
    out["head.kernel"] = rows_of(weights["head.kernel"][: config.hidden_dim])
    out["head.bias"] = rows_of(weights["head.bias"])
    return config.replace(num_classes=len(classes) + bool(rest), pool="cls"), out
