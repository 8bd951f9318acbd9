"""Weights from outside: a base ViT to start from instead of training one."""

from pathlib import Path

import numpy as np

from edvit_tf.config import ViTConfig
from edvit_tf.errors import ConfigError


def load_base(path: Path, expected: ViTConfig) -> tuple[ViTConfig, dict[str, np.ndarray]]:
    """Config and weights of a .keras file that `edvit_tf.models.vit.build_vit` made (a run's `base/base.keras`).

    Raises ConfigError if the file is none of ours, or if its input shape or number of classes is not `expected`'s.
    """
    import keras

    from edvit_tf.models.vit import config_of, get_weights

    if path.suffix != ".keras" or not path.is_file():
        raise ConfigError(f"--base {path} is not a .keras file; give the base.keras of an earlier run's work folder.")
    try:
        model = keras.models.load_model(path)
        config = config_of(model)
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(
            f"--base {path} is not a ViT of edvit_tf ({error}). Give the base.keras of an earlier run."
        ) from error
    for name in ("image_shape", "num_classes"):
        if getattr(config, name) != getattr(expected, name):
            raise ConfigError(
                f"--base {path} has {name} {getattr(config, name)}; the data need {getattr(expected, name)}. "
                "Give a base that was trained on this data set at this size."
            )
    return config, get_weights(model)
