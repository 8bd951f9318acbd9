"""Weights of a Keras model by name, out and in, whatever its architecture."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models import ARCHITECTURES, ModelConfig, architecture
from edvit_tf.models.keras_file import damage, later_version, one_line
from edvit_tf.models.keras_settings import pinned


def get_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Weights by name, float32: {"block_00.mlp.expand.kernel": (d, c), ...}."""
    return {name: np.asarray(value, np.float32) for name, value in variables(model).items()}


def set_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Puts weights in by name; raises ConfigError unless names and shapes match the model's
    exactly.
    """
    known = variables(model)

    if set(known) != set(weights):
        odd = sorted(set(known) ^ set(weights))
        raise ConfigError(
            f"the weights do not fit the model {model.name}: {odd[:4]} stand on one side only."
        )

    for name, variable in known.items():
        if tuple(variable.shape) != weights[name].shape:
            raise ConfigError(
                f"{name} has shape {weights[name].shape}; the model {model.name} needs "
                f"{variable.shape}."
            )

        variable.assign(weights[name])


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's variables by "<layer>.<variable>", in the order of its layers."""
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            found[f"{layer.name}.{variable.name}"] = variable

    return found


def from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], name: str = "model"
) -> keras.Model:
    """An ordinary Keras model of `config` with these weights."""
    with pinned():
        model = architecture(config).build(config, name=name)
    set_weights(model, weights)
    return model


def initial_weights(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Random weights, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    with pinned():
        return get_weights(architecture(config).build(config))


def load_keras(path: Path) -> keras.Model:
    """The model in a .keras file of any architecture, uncompiled.

    Raises ValueError, in one line with what to do, for a damaged file, for one of a later Keras
    that this one cannot read, and for a model with layers that no architecture has.
    """
    wrong = damage(path)
    if wrong:
        raise ValueError(f"{path} {wrong}")

    for name in ARCHITECTURES:
        architecture(name).build  # noqa: B018  (its module registers the layers of its own)

    try:
        with pinned():
            return keras.models.load_model(path, compile=False)
    # Keras and h5py have no error of their own for a file that they cannot make a model of.
    except Exception as error:
        raise ValueError(f"{path} {_unreadable(path, error)}") from error


def _unreadable(path: Path, error: Exception) -> str:
    """What keeps a whole .keras file from being opened."""
    later = later_version(path, keras.__version__)
    if later:
        return (
            f"was written by Keras {later}, and here is {keras.__version__} ({one_line(error)}); "
            f"install keras=={later}, or write the file again with {keras.__version__}"
        )
    return f"holds no model that can be opened here ({one_line(error)})"
