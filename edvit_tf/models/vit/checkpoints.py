"""A pretrained ViT in our names, and what a configuration has to say for one.

What each layout calls its tensors is the matter of huggingface.py and kerashub.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in our names, at its own input shape; `head` is None where there is none that we
    can express.
    """

    layout: str
    image_shape: tuple[int, int, int]  # (H, W, C)
    patch_size: int
    grid: tuple[int, int]  # of the position embedding
    fields: dict  # the other fields of ViTConfig, without num_classes
    weights: dict[str, np.ndarray]  # without head.*
    head: tuple[np.ndarray, np.ndarray] | None  # kernel (w, n), bias (n,)
    labels: tuple[str, ...] | None = None  # of the head's rows, where the checkpoint names them


def count(folder: Path, config: Mapping, key: str) -> int:
    """A width or size of a configuration, at least 1; ConfigError otherwise."""
    value = config.get(key)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]  # a square, written as two sides

    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise inexpressible(folder, key, config.get(key), "one whole number of at least 1")

    return value


def inexpressible(folder: Path, key: str, value: object, rule: str) -> ConfigError:
    """The error for a configuration that `edvit_tf.models.vit.keras_model` has no model of."""
    return ConfigError(
        f"{folder}/config.json has {key} = {value!r}; our ViT needs {rule}. Take another "
        "checkpoint."
    )
