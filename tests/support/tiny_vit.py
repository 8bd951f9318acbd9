"""A tiny ViT with weights large enough that every unit matters, and inputs for it: what the pruning
tests share.
"""

import functools

import numpy as np

from edvit_tf.models.vit.config import ViTConfig

CONFIG = ViTConfig(
    (16, 16, 1),
    patch_size=8,
    num_layers=2,
    hidden_dim=12,
    num_heads=3,
    head_dim=4,
    mlp_dim=20,
    num_classes=4,
    input_mean=(100.0,),
    input_std=(50.0,),
)


def random_weights(config: ViTConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of N(0, 0.4) for every variable of the model, float32."""
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights

    rng, shapes = (
        np.random.default_rng(seed),
        {name: w.shape for name, w in get_weights(build_vit(config)).items()},
    )
    return {name: rng.normal(0.0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def random_inputs(config: ViTConfig = CONFIG, count: int = 6, seed: int = 1) -> np.ndarray:
    """(count, H, W, C), 0..255, float32."""
    return (
        np.random.default_rng(seed).uniform(0, 255, (count, *config.image_shape)).astype(np.float32)
    )


@functools.lru_cache(maxsize=16)
def _model(config: ViTConfig):
    from edvit_tf.models.vit.keras_model import build_vit

    return build_vit(config)


def logits(config: ViTConfig, weights: dict, x: np.ndarray) -> np.ndarray:
    """The Keras model's answer; one model a configuration takes all weights in turn."""
    from edvit_tf.models.weights import set_weights

    model = _model(config)
    set_weights(model, weights)
    return np.asarray(model(x)["logits"])


def toy(seed: int = 0, count: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 16, 16, 1) uint8 whose upper half is bright where the label is 1, and the
    labels.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    x = rng.uniform(0, 60, (count, 16, 16, 1))
    x[labels == 1, :8] += 150  # the upper half is bright
    return x.astype(np.uint8), labels
