"""Importance of units: how far the output distribution moves when a unit is removed, KL(P || Q).

P is the output distribution of the model as it is, Q that with one unit removed (UP-ViT's
leave-one-out). `exact` runs the model once a unit (exact.py); `linearised` and `fisher` take one
backward pass a class for all units at once (slopes.py) and are second-order equal to it;
`magnitude` and `random` are the baselines that any score must beat.
"""

from collections.abc import Mapping

import numpy as np

from edvit_tf.config import SCORES, ViTConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.functions import mask_shapes
from edvit_tf.models.vit.leave_one_out import exact
from edvit_tf.pruning.slopes import from_slopes

Scores = dict[str, np.ndarray]


def importance(
    config: ViTConfig,
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

    `inputs` (n, H, W, C) are the class group's calibration samples; a higher score means that
    removing the unit moves the output distribution further (nats, for the KL methods). The scores
    do not depend on the batch size. With `basis` (d, m), orthonormal columns, the units of the
    stage "residual" are directions of the residual stream instead of channels; `seed` is for
    `random` alone. Raises ConfigError on an unknown method, ValueError without samples or on an
    unknown stage.
    """
    if method not in SCORES:
        raise ConfigError(
            f"there is no importance score {method!r}; the scores are: {', '.join(SCORES)}."
        )
    widths = mask_shapes(config, stage)
    if basis is not None and stage == "residual":
        widths = {"residual": basis.shape[1]}
    if method == "random":
        rng = np.random.default_rng(seed)
        return {name: rng.random(width) for name, width in widths.items()}
    if method == "magnitude":
        return magnitude(config, weights, stage, basis)
    if len(inputs) == 0:
        raise ValueError(
            "no calibration samples were given (0); the scores are means over at least one."
        )
    if method == "exact":
        return exact(config, weights, inputs, stage, basis=basis)
    return from_slopes(config, weights, inputs, (stage,), basis=basis, batch_size=batch_size)[
        method
    ]


def magnitude(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    stage: str,
    basis: np.ndarray | None = None,
) -> Scores:
    """Norm of what writes a unit times the norm of what reads it (q with k, v with its output row,
    expand with contract); for residual channels the norm of all kernels and positions that write
    them. No samples are needed.
    """
    if stage == "residual":
        rotation = np.eye(config.hidden_dim) if basis is None else basis
        writers = [
            value.reshape(-1, config.hidden_dim) @ rotation
            for name, value in weights.items()
            if name.endswith(
                (
                    "attention.output.kernel",
                    "mlp.contract.kernel",
                    "patch_embedding.kernel",
                    "position_embedding.embedding",
                )
            )
        ]
        return {
            "residual": np.sqrt(sum(np.square(w, dtype=np.float64).sum(axis=0) for w in writers))
        }

    def length(name, axis):
        return np.linalg.norm(weights[name].astype(np.float64), axis=axis)

    scores = {}
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        if stage == "ffn":
            scores[f"{block}.ffn"] = length(f"{block}.mlp.expand.kernel", 0) * length(
                f"{block}.mlp.contract.kernel", 1
            )
        else:
            name = f"{block}.attention"
            scores[f"{block}.qk"] = length(f"{name}.query.kernel", 0) * length(
                f"{name}.key.kernel", 0
            )
            scores[f"{block}.v"] = length(f"{name}.value.kernel", 0) * length(
                f"{name}.output.kernel", 1
            )
    return scores
