"""Filters go: the rows and columns of what stays are copied, with biases and batch normalisation.

Pure: config, weights and scores in; a smaller config and sliced weights out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edvit_tf.config import PruneConfig
from edvit_tf.models.vgg.config import VGGConfig, check_cut, conv_name, dense_names, norm_name
from edvit_tf.models.vgg.functions import mask_shapes
from edvit_tf.models.vgg.heads import fresh_head
from edvit_tf.models.vgg.zeta import kept_by_threshold

Weights = dict[str, np.ndarray]

# What a fresh layer starts from; a kernel is never fresh.
_FRESH = {"bias": 0.0, "beta": 0.0, "moving_mean": 0.0, "gamma": 1.0, "moving_variance": 1.0}


class Cut(NamedTuple):
    """A model after a cut."""

    config: VGGConfig
    weights: Weights


def cut_stage(
    config: VGGConfig,
    weights: Mapping[str, np.ndarray],
    cut: str,
    target: VGGConfig,
    options: PruneConfig,
    score: Callable[..., Mapping[str, np.ndarray]],
    samples: np.ndarray,
) -> Cut:
    """Cuts every convolution to the filters of `target`, which have the highest scores. With
    `options.their_way` the letter of the published code: filters go in the order of their index,
    and biases, batch normalisation and head start anew.

    Raises ValueError on an unknown cut.
    """
    check_cut(cut)
    scores = score(config, weights)
    keep = []
    for layer, width in enumerate(target.filters):
        own = np.asarray(scores[conv_name(layer)])
        if options.their_way and target.zeta is not None:
            keep.append(_in_order(own, target.zeta, layer, width))
        else:
            keep.append(top(own, width))

    small, out = cut_filters(config, weights, keep)
    if options.their_way:
        out = _started_anew(small, out)
    return Cut(small.replace(zeta=target.zeta), out)


def repair_stage(done: Cut, cut: str, options: PruneConfig, samples: np.ndarray) -> Weights:
    """The weights as they are: nothing is refitted but by training."""
    return done.weights


def cut_filters(
    config: VGGConfig, weights: Mapping[str, np.ndarray], keep: Sequence[np.ndarray]
) -> tuple[VGGConfig, Weights]:
    """Keeps the filters keep[l] of each convolution, and what reads them."""
    out = dict(weights)
    read = np.arange(config.image_shape[2])
    for number, kept in enumerate(keep):
        layer, norm = conv_name(number), norm_name(number)
        out[f"{layer}.kernel"] = weights[f"{layer}.kernel"][:, :, read][..., kept]
        for name in weights:
            if name == f"{layer}.bias" or name.startswith(f"{norm}."):
                out[name] = weights[name][kept]
        read = kept

    # the flattened maps: rows of the first Dense layer by place, then by filter
    first = f"{dense_names(config)[0]}.kernel"
    height, width = config.pooled
    kernel = weights[first].reshape(height * width, config.filters[-1], -1)[:, read]
    out[first] = kernel.reshape(height * width * len(read), -1)
    return config.replace(filters=tuple(len(kept) for kept in keep)), out


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` highest scores; the lower index wins a tie. ValueError
    unless 1 <= count <= all.
    """
    if not 1 <= count <= len(scores):
        raise ValueError(
            f"{count} filters are to be kept of {len(scores)}; keep between 1 and all of them."
        )
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _in_order(activity: np.ndarray, zeta: float, layer: int, width: int) -> np.ndarray:
    """`width` filters as the letter keeps them; where the scores are of other samples than the
    plan's, and so more or fewer are over the threshold, the most active of them.
    """
    kept = kept_by_threshold(activity, zeta, layer, width)
    return kept if len(kept) == width else kept[top(activity[kept], width)]


def _started_anew(config: VGGConfig, weights: Weights) -> Weights:
    """The kernels alone are kept."""
    out = dict(weights)
    for name, value in weights.items():
        part = name.rsplit(".", 1)[1]
        if part in _FRESH:
            out[name] = np.full_like(value, _FRESH[part])
    out["head.kernel"] = fresh_head(
        config.feature_dim, config.fit_dense, config.num_classes, seed=config.num_filters
    )
    return out


def unit_groups(
    config: VGGConfig, cut: str, target: VGGConfig, heads: str
) -> dict[str, list[np.ndarray]]:
    """A cut chooses among all filters of a convolution."""
    return {name: [np.arange(width)] for name, width in mask_shapes(config, cut).items()}


def magnitude(
    config: VGGConfig, weights: Mapping[str, np.ndarray], cut: str, basis: None = None
) -> dict[str, np.ndarray]:
    """{"conv_00": (filters,), ...}: the norm of each filter's kernel, scaled as its batch
    normalisation does (Li et al. 2017 without the latter).
    """
    scores = {}
    for number, name in enumerate(mask_shapes(config, cut)):
        kernel = weights[f"{name}.kernel"].astype(np.float64)
        gamma = np.abs(weights[f"{norm_name(number)}.gamma"].astype(np.float64))
        spread = np.sqrt(weights[f"{norm_name(number)}.moving_variance"] + 1e-5)
        scores[name] = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), axis=0) * gamma / spread
    return scores
