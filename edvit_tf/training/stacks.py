"""Several models as one set of variables: those of one width stand stacked, N models' weights in
one, and run as one (stacked_features of their architecture); heads stand apart, since their rows
may differ.

Names: "<stack>/<weight>" of a stack, "<model>:head.kernel" of a head.
"""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.models import ModelConfig, architecture
from edvit_tf.training.train import Weights, linear_map, predict

HEAD = ("head.kernel", "head.bias")
FEATURE_MAP = ("feature_map.kernel", "feature_map.bias")


def stack(weights: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Weights by name with a first axis N; without the heads."""
    return {name: np.stack([w[name] for w in weights]) for name in weights[0] if name not in HEAD}


def unstack(stacked: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """The weights of model `index`, without its head."""
    return {name: np.asarray(value)[index] for name, value in stacked.items()}


def variables_of(
    configs: Sequence[ModelConfig], weights: Sequence[Mapping]
) -> dict[str, keras.Variable]:
    """A variable for every weight of all models, by the names above."""
    values = {}
    for s, members in enumerate(_stacks(configs).values()):
        whole = stack([weights[j] for j in members])
        for name, value in whole.items():
            values[f"{s}/{name}"] = value
    for j, own in enumerate(weights):
        for name in HEAD:
            values[f"{j}:{name}"] = own[name]

    variables = {}
    for name, value in values.items():
        variables[name] = keras.Variable(value, dtype="float32", name=name.replace("/", ":"))
    return variables


def is_stacked(name: str) -> bool:
    """Whether a variable of `variables_of` is several models' in one."""
    return "/" in name


def weights_of(
    configs: Sequence[ModelConfig], variables: Mapping, order: Sequence[Mapping]
) -> list[Weights]:
    """Weights by name of every model, in the order of names that it came with."""
    out: list[Weights] = [{} for _ in configs]
    for s, members in enumerate(_stacks(configs).values()):
        whole = {name: v.numpy() for name, v in _of_stack(variables, s).items()}
        for place, j in enumerate(members):
            own = unstack(whole, place)
            for name in HEAD:
                own[name] = variables[f"{j}:{name}"].numpy()
            out[j] = {name: own[name] for name in order[j]}
    return out


def values_of(variables: Mapping[str, keras.Variable], precision: str) -> dict[str, tf.Tensor]:
    """What a step computes with: stacks in `precision`, all else in float32."""
    values = {}
    for name, variable in variables.items():
        values[name] = tf.cast(variable.value, precision if is_stacked(name) else "float32")
    return values


def features_of(configs: Sequence[ModelConfig], values: Mapping, x, places, apart: bool) -> list:
    """Features (B, d_j) of every model, of inputs (B, *input_shape) that all see, or, `apart`, of
    (N, B, *input_shape): each its own.
    """
    own: list = [None] * len(configs)
    for s, (config, members) in enumerate(_stacks(configs).items()):
        theirs = tf.gather(x, members) if apart and len(members) < len(configs) else x
        found = architecture(config).stacked_features(config, _of_stack(values, s), theirs, places)
        for place, j in enumerate(members):
            own[j] = found[place]
    return own


def logits_of(values: Mapping, features: Sequence) -> list:
    """Logits (B, rows_j) of every model's own head."""
    found = []
    for j, own in enumerate(features):
        found.append(tf.matmul(own, values[f"{j}:head.kernel"]) + values[f"{j}:head.bias"])
    return found


def feature_map(
    configs: Sequence[ModelConfig],
    weights: Sequence[Mapping],
    goal: np.ndarray,
    inputs: Callable[[int], np.ndarray],
    times: float = 1.0,
) -> dict[str, keras.Variable]:
    """The linear map of all features side by side, least squares to the base's `goal`; its kernel
    `times` as large. `inputs(j)` are what model j sees.
    """
    parts = []
    for j, (config, own) in enumerate(zip(configs, weights, strict=True)):
        parts.append(predict(config, own, inputs(j))["features"])
    kernel, bias = linear_map(np.concatenate(parts, axis=1), goal)

    values = (np.float32(times) * kernel, bias)
    pairs = zip(FEATURE_MAP, values, strict=True)
    return {name: keras.Variable(value, name=name) for name, value in pairs}


def feature_distance(values: Mapping, side_by_side, goal):
    """Mean square distance of mapped features (B, sum d_j) from the base's."""
    kernel, bias = (values[name] for name in FEATURE_MAP)
    return tf.reduce_mean(tf.square(tf.matmul(side_by_side, kernel) + bias - goal))


def _stacks(configs: Sequence[ModelConfig]) -> dict[ModelConfig, list[int]]:
    """Numbers of the models by what they have in common: everything but the rows of the head."""
    found: dict[ModelConfig, list[int]] = {}
    for j, config in enumerate(configs):
        found.setdefault(config.replace(num_classes=1), []).append(j)
    return found


def _of_stack(values: Mapping, s: int) -> dict:
    """What belongs to stack `s`, by the names of a single model."""
    prefix = f"{s}/"
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
