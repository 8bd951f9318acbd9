"""Importance of units: how far the output distribution moves when a unit is removed, KL(P || Q).

P is the output distribution of the model as it is, Q that with one unit removed (UP-ViT's
leave-one-out). `exact` runs the model once a unit (leave_one_out.py); `linearised` and `fisher`
take one backward pass a class for all units at once (slopes.py) and are second-order equal to it,
of many classes in expectation;
`magnitude` and `random` are the baselines that any score must beat; `apoz` counts zeros after ReLU
(or steps without a spike), as NNFacet and EC-SNN do.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.config import SCORES
from edvit_tf.errors import ConfigError
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pruning.leave_one_out import exact
from edvit_tf.pruning.slopes import from_slopes

Scores = dict[str, np.ndarray]


def importance(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    stage: str,
    method: str = "linearised",
    *,
    basis: np.ndarray | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> Scores:
    """Scores of every unit of a stage: one 1-D float64 array a mask name (`mask_shapes`), the mean
    over `inputs`.

    `inputs` (n, ...) are the class group's calibration samples; a higher score means that removing
    the unit moves the output distribution further (nats, for the KL methods). The scores do not
    depend on the batch size. With `basis` the units are directions, as the architecture says it
    (of a ViT, orthonormal columns (d, m): directions of the residual stream); `seed` is for
    `random`, and for the draws of `linearised` and `fisher` where there are many classes. Raises
    ConfigError on an unknown method, ValueError without samples or on an unknown stage.
    """
    if method not in SCORES:
        raise ConfigError(
            f"there is no importance score {method!r}; the scores are: {', '.join(SCORES)}."
        )
    known = architecture(config)
    widths = known.mask_shapes(config, stage, basis)

    # the baselines, which see no sample
    if method == "random":
        rng = np.random.default_rng(seed)
        return {name: rng.random(width) for name, width in widths.items()}
    if method == "magnitude":
        return known.magnitude(config, weights, stage, basis)
    if method == "apoz":
        return activity(config, weights, inputs, stage)

    if len(inputs) == 0:
        raise ValueError(
            "no calibration samples were given (0); the scores are means over at least one."
        )
    if method == "exact":
        return exact(config, weights, inputs, stage, basis=basis)

    both = from_slopes(
        config, weights, inputs, (stage,), basis=basis, batch_size=batch_size, seed=seed
    )
    return both[method]


def activity(
    config: ModelConfig, weights: Mapping[str, np.ndarray], inputs: np.ndarray, stage: str
) -> Scores:
    """The share of each unit's values that are not zero: 1 - APoZ (Hu et al. 2016), over inputs of
    the group's own classes alone. Raises ConfigError where an architecture has no such zeros.
    """
    known = architecture(config)
    if not hasattr(known, "activity"):
        raise ConfigError(
            f'the score "apoz" counts zeros after ReLU, or spikes; {known.TITLE} has none. Take '
            f"one of: {', '.join(name for name in SCORES if name != 'apoz')}."
        )
    return known.activity(config, weights, inputs, stage)
