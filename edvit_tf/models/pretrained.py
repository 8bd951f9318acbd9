"""Weights from outside: a base ViT to start from instead of training one."""

import json
from pathlib import Path

import numpy as np

from edvit_tf.config import ViTConfig
from edvit_tf.device.bundle import sha256
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
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
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


def base_origin(path: Path, splits: str) -> str:
    """A line on where a given base comes from, its sha256 in it; it goes into the results.

    `splits` is the digest of this run's splits: a base that a run of ours trained on other splits has seen recordings
    that are tested on here, and is refused with ConfigError. Of any other file that cannot be known, and it is said.
    """
    if not path.is_file():
        raise ConfigError(f"--base {path} is not there; give the base.keras of an earlier run's work folder.")
    content = sha256(path)
    record = path.resolve().parent.parent / "run.json"
    if not record.is_file():
        return f"{path.name} (sha256 {content[:16]}), origin unknown: it may have seen the test split"
    stored = json.loads(record.read_text(encoding="utf-8"))["description"]
    if stored["splits"] != splits:
        raise ConfigError(
            f"--base {path} was trained on another split (seed {stored['config']['seed']}): recordings that would be "
            "tested on here may be among those it has seen. Use the same data and --seed as its run."
        )
    return f"{path.name} (sha256 {content[:16]}), trained on the same split"
