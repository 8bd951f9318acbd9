"""The three cuts of Appendix B, pure: config, weights and scores in; a smaller config and sliced weights out.

(1) residual channels d -> d', one index set for all blocks, embeddings, norms and head; (2) attention: q/k dims in
pairs and v dims with their rows of the output projection, several old heads merging into one new head; (3) FFN hidden
units c -> c', per block. Weights are named as in `edvit_tf.models.vit.get_weights`; nothing here trains.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.config import ViTConfig

Weights = dict[str, np.ndarray]


def cut(
    config: ViTConfig, weights: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], stage: str,
    target: ViTConfig,
) -> tuple[ViTConfig, Weights]:
    """Cuts one stage ("residual", "attention" or "ffn") to the widths of `target`, keeping the highest scores.

    `scores` are those of `edvit_tf.pruning.importance` for the same stage. Returns the config between the stages
    (only this stage's widths changed) and its weights. Raises ValueError on an unknown stage.
    """
    if stage == "residual":
        return cut_residual(config, weights, top(scores["residual"], target.hidden_dim))
    if stage == "attention":
        groups = head_groups(config.num_heads, target.num_heads)
        kept = [
            tuple(top_in_heads(scores[f"block_{i:02d}.{part}"], groups, config.head_dim) for part in ("qk", "v"))
            for i in range(config.num_layers)
        ]
        return cut_attention(config, weights, kept)
    if stage == "ffn":
        return cut_ffn(config, weights, [
            top(scores[f"block_{i:02d}.ffn"], target.mlp_dim) for i in range(config.num_layers)
        ])
    raise ValueError(f"there is no pruning stage {stage!r}; the stages are residual, attention, ffn.")


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` highest scores; the lower index wins a tie."""
    if not 1 <= count <= len(scores):
        raise ValueError(f"{count} units are to be kept of {len(scores)}; keep between 1 and all of them.")
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def head_groups(num_heads: int, kept_heads: int) -> list[np.ndarray]:
    """Old heads in `kept_heads` runs of nearly equal length: 12 -> 3 gives 3 groups of 4 (UP-ViT)."""
    return np.array_split(np.arange(num_heads), kept_heads)


def top_in_heads(scores: np.ndarray, groups: list[np.ndarray], head_dim: int) -> np.ndarray:
    """For each group of old heads the `head_dim` best of its dims, (k, head_dim), indices into h * head_dim."""
    kept = []
    for group in groups:
        dims = (group[:, None] * head_dim + np.arange(head_dim)).ravel()
        kept.append(dims[top(scores[dims], head_dim)])
    return np.stack(kept)


def cut_residual(config: ViTConfig, weights: Mapping[str, np.ndarray], keep: np.ndarray) -> tuple[ViTConfig, Weights]:
    """Keeps the residual channels `keep` everywhere; with pool="cls_mean" the class token's half of the head stays."""
    out = dict(weights)
    for name, value in weights.items():
        layer, part = name.rsplit(".", 1)
        if layer in ("patch_embedding", "class_token", "position_embedding") or layer.endswith("norm"):
            out[name] = value[..., keep]
        elif layer.endswith(("attention.query", "attention.key", "attention.value", "mlp.expand")) and part == "kernel":
            out[name] = value[keep]
        elif layer.endswith(("attention.output", "mlp.contract")):
            out[name] = value[..., keep]
        elif name == "head.kernel":
            out[name] = value[: config.hidden_dim][keep]
    return config.replace(hidden_dim=len(keep), pool="cls"), out


def cut_attention(
    config: ViTConfig, weights: Mapping[str, np.ndarray], keep: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[ViTConfig, Weights]:
    """Keeps, per block, the q/k pairs keep[i][0] and the v dims keep[i][1], each (k, head_dim): row j is new head j.

    The scale stays 1 / sqrt(head_dim), since the new heads have full head_dim.
    """
    out = dict(weights)
    for i, (qk, v) in enumerate(keep):
        name = f"block_{i:02d}.attention"
        for part, dims in (("query", qk), ("key", qk), ("value", v)):
            out[f"{name}.{part}.kernel"] = weights[f"{name}.{part}.kernel"][:, dims.ravel()]
            out[f"{name}.{part}.bias"] = weights[f"{name}.{part}.bias"][dims.ravel()]
        out[f"{name}.output.kernel"] = weights[f"{name}.output.kernel"][v.ravel()]
    return config.replace(num_heads=len(keep[0][0])), out


def cut_ffn(config: ViTConfig, weights: Mapping[str, np.ndarray], keep: list[np.ndarray]) -> tuple[ViTConfig, Weights]:
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
    """The head's rows of one class group, and "other" as the mean of the rest; all classes: the head as it is.

    Raises ValueError if the classes are not distinct rows of the head.
    """
    if len(set(classes)) != len(classes) or not set(classes) <= set(range(config.num_classes)):
        raise ValueError(f"classes {classes} must be distinct rows of the head, 0..{config.num_classes - 1}.")
    rest = [c for c in range(config.num_classes) if c not in classes]
    out = dict(weights)
    for part in ("kernel", "bias"):
        value = weights[f"head.{part}"]
        rows = [value[..., list(classes)]]
        if rest:
            rows.append(value[..., rest].mean(axis=-1, keepdims=True))
        out[f"head.{part}"] = np.concatenate(rows, axis=-1)
    return config.replace(num_classes=len(classes) + bool(rest)), out
