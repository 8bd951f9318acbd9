"""Weights of a Keras model by name, out and in, whatever its architecture."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from edvit_tf.errors import ConfigError
from edvit_tf.models import ARCHITECTURES, ModelConfig, architecture


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
    model = architecture(config).build(config, name=name)
    set_weights(model, weights)
    return model


def initial_weights(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Random weights, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    return get_weights(architecture(config).build(config))


def load_keras(path: Path) -> keras.Model:
    """The model in a .keras file of any architecture, uncompiled.

    Raises ValueError for another file, and for a model with layers that no architecture has.
    """
    for name in ARCHITECTURES:
        architecture(name).build  # noqa: B018  (its module registers the layers of its own)

    try:
        return keras.models.load_model(path, compile=False)
    except TypeError as error:  # how Keras says that it does not know a class
        raise ValueError(str(error)) from error
