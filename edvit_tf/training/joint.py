"""Sub-models and tower MLP trained together (Table 3, "entire retrain"): loss = fused cross-entropy
+ the mean of the sub-models' own, so that exported logits stay valid; with `feature_distillation`
also the distance between the base's features and a linear map of all features side by side.
Sub-models of one width run as one (`stacked.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig, ViTConfig
from edvit_tf.models.vit import stacked
from edvit_tf.training.batches import batches
from edvit_tf.training.precision import resolved
from edvit_tf.training.train import (
    Weights,
    learning_rate,
    linear_map,
    optimizer,
    predict,
    standardised,
)

TOLD = 100  # steps between two lines of progress


def fit_joint(
    configs: Sequence[ViTConfig],
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
    through every sub-model.
    """
    started = time.perf_counter()
    precision = resolved(train.precision)
    mapped = train.feature_distillation > 0 and features is not None
    kept = (
        round(configs[0].num_patches * (1 - train.patch_dropout)) if train.patch_dropout else None
    )
    goals = [np.asarray(target, np.float32) for target in (targets, *group_targets)]
    variables = _variables(configs, weights)
    if mapped:
        goals.append(standardised(features))
        rows = np.sort(np.random.default_rng(seed).permutation(epoch_indices(0))[:2048])
        mine = np.concatenate(
            [
                predict(config, values, inputs[rows])["features"]
                for config, values in zip(configs, weights, strict=True)
            ],
            axis=1,
        )
        for part, value in zip(("kernel", "bias"), linear_map(mine, goals[-1][rows]), strict=True):
            variables[f"feature_map.{part}"] = keras.Variable(value, name=f"feature_map.{part}")
    trained = [*variables.values(), *fusion.trainable_variables]
    chosen = optimizer(train.optimizer, train.weight_decay, train.ema)
    chosen.build(trained)

    @tf.function
    def step(x, places, present, truth):
        with tf.GradientTape() as tape:
            values = {
                n: tf.cast(v.value, precision if "/" in n else "float32")
                for n, v in variables.items()
            }
            loss, fused = _loss(
                configs,
                values,
                fusion,
                tf.cast(x, tf.float32),
                places,
                present,
                truth,
                train.feature_distillation if mapped else 0.0,
            )
        chosen.apply_gradients(
            zip(tape.gradient(loss, [v.value for v in trained]), trained, strict=True)
        )
        right = tf.argmax(fused, axis=1) == tf.argmax(truth[0], axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    steps = max(1, -(-len(epoch_indices(0)) // train.batch_size))
    total, history = train.epochs * steps, {"loss": [], "accuracy": []}
    patches = None if kept is None else (kept, configs[0].num_patches)
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
    print(
        f"joint: {train.epochs} epochs of {steps} x {train.batch_size} samples, {len(configs)} "
        "sub-models",
        flush=True,
    )
    for epoch in range(train.epochs):
        seen = []
        for number in range(steps):
            x, truth = next(stream)
            there = (rng.random((train.batch_size, len(configs))) >= missing_rate).astype(
                np.float32
            )
            there[there.sum(axis=1) == 0] = 1.0
            chosen.learning_rate = learning_rate(train, epoch * steps + number, total)
            places = None if kept is None else tf.constant(x["kept"])
            seen.append(
                [
                    float(v)
                    for v in step(
                        tf.constant(x if kept is None else x["input"]),
                        places,
                        tf.constant(there),
                        tuple(map(tf.constant, truth)),
                    )
                ]
            )
            if (number + 1) % TOLD == 0 or number + 1 == steps:
                loss, right = np.mean(seen[-TOLD:], axis=0)
                print(
                    f"joint: epoch {epoch + 1}, step {number + 1} of {steps}: loss {loss:.4f}, "
                    "fused accuracy "
                    f"{right:.4f}, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
        for name, value in zip(history, np.mean(seen, axis=0), strict=True):
            history[name].append(float(value))
    chosen.finalize_variable_values(trained)
    samples, seconds = total * train.batch_size, time.perf_counter() - started
    history |= {
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples / seconds, 1),
        "samples": samples,
        "precision": precision,
    }
    return _weights(configs, variables, weights), history


def _stacks(configs: Sequence[ViTConfig]) -> dict[ViTConfig, list[int]]:
    """Numbers of the sub-models by what they have in common: everything but the rows of the
    head.
    """
    found: dict[ViTConfig, list[int]] = {}
    for j, config in enumerate(configs):
        found.setdefault(config.replace(num_classes=1), []).append(j)
    return found


def _variables(
    configs: Sequence[ViTConfig], weights: Sequence[Mapping]
) -> dict[str, keras.Variable]:
    """All weights of the sub-models: stacked ones as "<stack>/<name>", heads as
    "<sub-model>:head.kernel".
    """
    values = {
        f"{s}/{name}": value
        for s, members in enumerate(_stacks(configs).values())
        for name, value in stacked.stack([weights[j] for j in members]).items()
    }
    values |= {f"{j}:{name}": own[name] for j, own in enumerate(weights) for name in stacked.HEAD}
    return {
        name: keras.Variable(value, dtype="float32", name=name.replace("/", ":"))
        for name, value in values.items()
    }


def _weights(
    configs: Sequence[ViTConfig], variables: Mapping, order: Sequence[Mapping]
) -> list[Weights]:
    """Weights by name of every sub-model, in the order of names that it came with."""
    out: list[Weights] = [{} for _ in configs]
    for s, members in enumerate(_stacks(configs).values()):
        whole = {
            name.split("/", 1)[1]: v.numpy()
            for name, v in variables.items()
            if name.startswith(f"{s}/")
        }
        for place, j in enumerate(members):
            own = stacked.unstack(whole, place) | {
                name: variables[f"{j}:{name}"].numpy() for name in stacked.HEAD
            }
            out[j] = {name: own[name] for name in order[j]}
    return out


def _loss(configs, w: Mapping, fusion, x, places, present, truth, feature_weight: float):
    """The loss (a scalar) and the fused probabilities (B, classes)."""
    own: list = [None] * len(configs)
    for s, (config, members) in enumerate(_stacks(configs).items()):
        found = stacked.features(
            config,
            {n.split("/", 1)[1]: v for n, v in w.items() if n.startswith(f"{s}/")},
            x,
            places,
        )
        for place, j in enumerate(members):
            own[j] = found[place]
    side_by_side = tf.concat(own, axis=1)  # (B, sum d_j)
    fused = fusion({"features": side_by_side, "present": present})
    loss = tf.reduce_mean(keras.losses.categorical_crossentropy(truth[0], fused))
    for j, values in enumerate(own):
        logits = tf.matmul(values, w[f"{j}:head.kernel"]) + w[f"{j}:head.bias"]
        loss += tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(truth[1 + j], logits)) / len(
            configs
        )
    if feature_weight:
        distance = (
            tf.matmul(side_by_side, w["feature_map.kernel"]) + w["feature_map.bias"] - truth[-1]
        )
        loss += feature_weight * tf.reduce_mean(tf.square(distance))
    return loss, fused
