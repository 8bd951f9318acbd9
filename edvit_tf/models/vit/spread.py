"""Random weights that take as long to run as trained ones do."""

import numpy as np

from edvit_tf.models.vit.config import ViTConfig


def spread_weights(config: ViTConfig, pre_gelu: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a model whose pre-GELU values spread as a trained one's do (standard
    deviation `pre_gelu`).

    Freshly initialised models have values near 0 there, on which the erf of a native GELU is
    several times faster.
    """
    from edvit_tf.models.weights import initial_weights

    weights = initial_weights(config, seed)
    rng = np.random.default_rng(seed)
    # A normalised token has variance 1 in each of its d values: so wide is their product.
    deviation = pre_gelu / config.hidden_dim**0.5
    for i in range(config.num_layers):
        # The layer whose output the GELU takes.
        name = f"block_{i:02d}.mlp.expand.kernel"
        drawn = rng.normal(0, deviation, weights[name].shape)
        weights[name] = drawn.astype(np.float32)

    return weights
