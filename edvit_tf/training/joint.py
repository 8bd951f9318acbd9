"""Sub-models and tower MLP trained together (Table 3, "entire retrain"): loss = fused cross-entropy
+ the mean of the sub-models' own, so that exported logits stay valid; with `feature_distillation`
also the distance between the base's features and a linear map of all features side by side.
Sub-models of one width run as one (stacked_features of their architecture).
"""

import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.models.keras_settings import pinned
from edvit_tf.models.weights import get_weights
from edvit_tf.training.batches import batches, steps_an_epoch
from edvit_tf.training.finite import check_loss, check_weights
from edvit_tf.training.fuse import drawn_presence
from edvit_tf.training.optimizers import learning_rate, optimizer
from edvit_tf.training.precision import resolved
from edvit_tf.training.train import (
    Weights,
    history_of,
    linear_map,
    map_rows,
    predict,
    standardised,
)

TOLD = 100  # steps between two lines of progress
HEAD = ("head.kernel", "head.bias")  # whose rows differ between sub-models of one width


@pinned()
def fit_joint(
    configs: Sequence[ModelConfig],
    weights: Sequence[Mapping[str, np.ndarray]],
    fusion: keras.Model,
    inputs: np.ndarray,
    targets: np.ndarray,
    group_targets: Sequence[np.ndarray],
    train: TrainConfig,
    missing_rate: float,
    *,
    epoch_indices: Callable[[int], np.ndarray],
    seed: int,
    features: np.ndarray | None = None,
) -> tuple[list[Weights], dict]:
    """Trains N sub-models and `fusion` (of `fuse.build_fusion`, changed in place) on `targets` (n,
    classes) of the fused answer and `group_targets[j]` (n, |C_j| + 1) of each sub-model. Each is
    missing at random, `missing_rate`.

    `features` (n, f) are the base's, for train.feature_distillation. train.precision is that of the
    sub-models' blocks; heads, fusion and loss are computed in float32. Returns the sub-models'
    weights and a history as `train.fit` gives it; "samples" counts inputs, each of which passes
    through every sub-model. Raises TrainingError as soon as a loss is no number.
    """
    started = time.perf_counter()
    precision = resolved(train.precision)
    patches = architecture(configs[0]).kept_patches(configs[0], train.patch_dropout)
    kept = None if patches is None else patches[0]
    distilled = train.feature_distillation > 0 and features is not None

    goals = [np.asarray(target, np.float32) for target in (targets, *group_targets)]
    variables = _variables(configs, weights)
    if distilled:
        goals.append(standardised(features))
        rows = map_rows(epoch_indices, seed)
        variables |= _feature_map(configs, weights, inputs[rows], goals[-1][rows])

    trained = [*variables.values(), *fusion.trainable_variables]
    chosen = optimizer(train.optimizer, train.weight_decay, train.ema, precision)
    # "0/<name>" is N models' in one: each is clipped by itself, as where it is fitted alone.
    chosen.stacked = frozenset(id(variable) for name, variable in variables.items() if "/" in name)
    chosen.build(trained)
    feature_weight = train.feature_distillation if distilled else 0.0
    step = _step_of(configs, variables, fusion, chosen, precision, feature_weight)

    steps = steps_an_epoch(len(epoch_indices(0)), train.batch_size)
    total = train.epochs * steps
    print(
        f"joint: {train.epochs} epochs of {steps} x {train.batch_size} samples, {len(configs)} "
        "sub-models",
        flush=True,
    )
    stream = batches(
        inputs,
        tuple(goals),
        epoch_indices,
        train.batch_size,
        train.augment,
        seed,
        patches,
        train.mix,
    )
    rng = np.random.default_rng([seed, 1])
    losses, accuracies = [], []
    for epoch in range(train.epochs):
        seen = []  # (loss, accuracy) a step
        for number in range(steps):
            x, truth = next(stream)
            places = None
            if kept is not None:
                x, places = x["input"], tf.constant(x["kept"])
            present = drawn_presence(rng, train.batch_size, len(configs), missing_rate)

            chosen.learning_rate = learning_rate(train, epoch * steps + number, total)
            loss, right = step(
                tf.constant(x), places, tf.constant(present), tuple(map(tf.constant, truth))
            )
            seen.append([float(loss), float(right)])
            check_loss(seen[-1][0], "joint", epoch, number, train, precision)

            if (number + 1) % TOLD == 0 or number + 1 == steps:
                loss, right = np.mean(seen[-TOLD:], axis=0)
                print(
                    f"joint: epoch {epoch + 1}, step {number + 1} of {steps}: loss {loss:.4f}, "
                    f"fused accuracy {right:.4f}, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
        loss, right = np.mean(seen, axis=0)
        losses.append(loss)
        accuracies.append(right)
    chosen.finalize_variable_values(trained)

    history = history_of(
        losses,
        accuracies,
        samples=total * train.batch_size,
        seconds=time.perf_counter() - started,
        precision=precision,
    )
    fitted = _weights(configs, variables, weights)
    for own in (*fitted, get_weights(fusion)):
        check_weights(own, "joint", train, precision)
    return fitted, history


def _step_of(
    configs: Sequence[ModelConfig],
    variables: Mapping[str, keras.Variable],
    fusion: keras.Model,
    chosen: keras.optimizers.Optimizer,
    precision: str,
    feature_weight: float,
) -> Callable:
    """A graph of one step: (x, kept patches or None, present, targets) -> loss, fused accuracy."""
    trained = [*variables.values(), *fusion.trainable_variables]

    @tf.function(autograph=False)  # which would take its time to rewrite all that this calls
    def step(x, places, present, truth):
        with tf.GradientTape() as tape:
            values = {}
            for name, variable in variables.items():
                in_blocks = "/" in name
                values[name] = tf.cast(variable.value, precision if in_blocks else "float32")
            loss, fused = _loss(
                configs,
                values,
                fusion,
                tf.cast(x, tf.float32),
                places,
                present,
                truth,
                feature_weight,
            )

        gradients = tape.gradient(loss, [v.value for v in trained])
        chosen.apply_gradients(zip(gradients, trained, strict=True))

        right = tf.argmax(fused, axis=1) == tf.argmax(truth[0], axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    return step


def stack(weights: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Weights by name with a first axis N; without the heads."""
    return {name: np.stack([w[name] for w in weights]) for name in weights[0] if name not in HEAD}


def unstack(stacked: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """The weights of model `index`, without its head."""
    return {name: np.asarray(value)[index] for name, value in stacked.items()}


def _stacks(configs: Sequence[ModelConfig]) -> dict[ModelConfig, list[int]]:
    """Numbers of the sub-models by what they have in common: everything but the rows of the
    head.
    """
    found: dict[ModelConfig, list[int]] = {}
    for j, config in enumerate(configs):
        found.setdefault(config.replace(num_classes=1), []).append(j)
    return found


def _variables(
    configs: Sequence[ModelConfig], weights: Sequence[Mapping]
) -> dict[str, keras.Variable]:
    """All weights of the sub-models: stacked ones as "<stack>/<name>", heads as
    "<sub-model>:head.kernel".
    """
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


def _feature_map(
    configs: Sequence[ModelConfig], weights: Sequence[Mapping], x: np.ndarray, goal: np.ndarray
) -> dict[str, keras.Variable]:
    """The linear map of all features side by side, least squares on `x`, to the base's `goal`."""
    parts = []
    for config, own in zip(configs, weights, strict=True):
        parts.append(predict(config, own, x)["features"])
    kernel, bias = linear_map(np.concatenate(parts, axis=1), goal)
    return {
        "feature_map.kernel": keras.Variable(kernel, name="feature_map.kernel"),
        "feature_map.bias": keras.Variable(bias, name="feature_map.bias"),
    }


def _of_stack(values: Mapping, s: int) -> dict:
    """What belongs to stack `s`, by the names of a single model."""
    prefix = f"{s}/"
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


def _weights(
    configs: Sequence[ModelConfig], variables: Mapping, order: Sequence[Mapping]
) -> list[Weights]:
    """Weights by name of every sub-model, in the order of names that it came with."""
    out: list[Weights] = [{} for _ in configs]
    for s, members in enumerate(_stacks(configs).values()):
        whole = {name: v.numpy() for name, v in _of_stack(variables, s).items()}
        for place, j in enumerate(members):
            own = unstack(whole, place)
            for name in HEAD:
                own[name] = variables[f"{j}:{name}"].numpy()
            out[j] = {name: own[name] for name in order[j]}
    return out


def _loss(configs, w: Mapping, fusion, x, places, present, truth, feature_weight: float):
    """The loss (a scalar) and the fused probabilities (B, classes)."""
    own: list = [None] * len(configs)  # features (B, d_j)
    for s, (config, members) in enumerate(_stacks(configs).items()):
        found = architecture(config).stacked_features(
            config, _of_stack(w, s), x, places
        )  # (N, B, d)
        for place, j in enumerate(members):
            own[j] = found[place]
    side_by_side = tf.concat(own, axis=1)  # (B, sum d_j)

    fused = fusion({"features": side_by_side, "present": present})
    loss = tf.reduce_mean(keras.losses.categorical_crossentropy(truth[0], fused))

    for j, values in enumerate(own):
        logits = tf.matmul(values, w[f"{j}:head.kernel"]) + w[f"{j}:head.bias"]
        entropy = tf.nn.softmax_cross_entropy_with_logits(truth[1 + j], logits)
        loss += tf.reduce_mean(entropy) / len(configs)

    if feature_weight:
        mapped = tf.matmul(side_by_side, w["feature_map.kernel"]) + w["feature_map.bias"]
        loss += feature_weight * tf.reduce_mean(tf.square(mapped - truth[-1]))
    return loss, fused
