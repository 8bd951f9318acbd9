"""Filters by the threshold of NNFacet and EC-SNN, and the threshold from a device's bytes.

A filter of convolution l (from 0) goes if the share of zeros in its maps is over (zeta - l) / 100,
as long as `min_filters` stay. Their code visits filters in the order of their index, so that where
the floor holds the last ones stay, whatever their zeros; by default ours takes those with the
fewest zeros instead. The published zeta is 56 for the CNN and 95 for the SNN. Pure numpy.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.models import architecture
from edvit_tf.models.vgg.config import VGGConfig, conv_name

STEP = 0.01  # percent, of the search


def over(activity: np.ndarray, zeta: float, layer: int) -> np.ndarray:
    """Which filters of a layer have too many zeros; `activity` is 1 - APoZ (filters,)."""
    return 1 - activity > (zeta - layer) / 100


def kept_by_threshold(activity: np.ndarray, zeta: float, layer: int, floor: int) -> np.ndarray:
    """Ascending indices of what stays to the letter: the filters over the threshold are dropped in
    the order of their index while more than `floor` are left.
    """
    dropped = np.flatnonzero(over(activity, zeta, layer))
    dropped = dropped[: max(0, len(activity) - floor)]
    return np.setdiff1d(np.arange(len(activity)), dropped)


def widths_at(config: VGGConfig, activity: Mapping[str, np.ndarray], zeta: float) -> VGGConfig:
    """The config that the threshold leaves: as many filters a layer, by rank or to the letter."""
    filters = []
    for layer in range(len(config.filters)):
        own = activity[conv_name(layer)]
        filters.append(len(kept_by_threshold(own, zeta, layer, config.min_filters)))
    return config.replace(filters=tuple(filters), dense=(), zeta=float(zeta))


def by_threshold(
    base: VGGConfig,
    activity: Mapping[str, np.ndarray],
    num_classes: int,
    zeta: float,
    most_bytes: int | None = None,
) -> VGGConfig | None:
    """The sub-model of the largest threshold up to `zeta` whose file has at most `most_bytes`
    (None: no limit), found by bisection; None where not even the floors fit.

    Their Algorithm 1 lowers zeta by a step until a device holds; a file only grows with zeta.
    """

    def at(percent: float) -> VGGConfig:
        return widths_at(base, activity, percent).replace(num_classes=num_classes)

    def fits(config: VGGConfig) -> bool:
        return most_bytes is None or architecture(base).file_bytes(config) <= most_bytes

    if fits(at(zeta)):
        return at(zeta)
    # under zero every filter with a zero is over the threshold, and floors are left
    low, high = 0, round(zeta / STEP)
    if not fits(at(0.0)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(at(middle * STEP)) else (low, middle)
    return at(low * STEP)
