"""Fusion of the sub-models: the tower MLP (sum d_j -> lambda * sum d_j -> classes) and softmax
averaging.
"""

import math

import numpy as np

from edvit_tf.config import TrainConfig


def build_fusion(widths: tuple[int, ...], num_classes: int, fusion_lambda: float = 0.5):
    """A Keras model: `features` (B, sum d_j) in manifest order, `present` (B, N), 0 or 1 ->
    probabilities (B, classes).

    A missing sub-model is `present` = 0; its features are multiplied by zero.
    Hidden width ceil(lambda * sum d_j), GELU.
    """
    import keras

    from edvit_tf.models.vit.layers import PresenceMask

    features = keras.Input((sum(widths),), name="features")
    present = keras.Input((len(widths),), name="present")
    x = PresenceMask(list(widths), name="present_only")(features, present)
    x = keras.layers.Dense(
        math.ceil(fusion_lambda * sum(widths)), activation="gelu", name="tower.hidden"
    )(x)
    x = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model({"features": features, "present": present}, x, name="fusion")


def build_average(widths: tuple[int, ...], groups: list[tuple[int, ...]], num_classes: int):
    """A Keras model with the inputs and output of `build_fusion` that averages (`average`), by the
    sub-models' own heads: weights "average.kernel_00" (d_0, |C_0| + 1), "average.bias_00" ... and
    "average.temperature".
    """
    import keras

    from edvit_tf.models.vit.layers import SoftmaxAverage

    features = keras.Input((sum(widths),), name="features")
    present = keras.Input((len(widths),), name="present")
    x = SoftmaxAverage(list(widths), [list(g) for g in groups], num_classes, name="average")(
        features, present
    )
    return keras.Model({"features": features, "present": present}, x, name="fusion")


def cooled(weights: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """Weights of a fusion whose logits are divided by `temperature`: the same answer to each
    window, other probabilities (so the mean over a recording's windows may name another class)."""
    if "average.temperature" in weights:
        return {
            **weights,
            "average.temperature": weights["average.temperature"] * np.float32(temperature),
        }
    return {
        **weights,
        **{
            f"probabilities.{part}": weights[f"probabilities.{part}"] / np.float32(temperature)
            for part in ("kernel", "bias")
        },
    }


def fit_fusion(
    model,
    features: np.ndarray,
    labels: np.ndarray,
    config: TrainConfig,
    missing_rate: float,
    seed: int,
) -> dict:
    """Trains the MLP on stored features (n, sum d_j) of frozen sub-models, each missing at random
    with `missing_rate`.

    At least one sub-model is always present. Returns {"loss": [...], "accuracy": [...]} per epoch,
    and "samples".
    """
    import keras
    import tensorflow as tf

    from edvit_tf.training.train import Schedule, optimizer

    keras.utils.set_random_seed(seed)
    num_sub_models = model.input["present"].shape[1]
    steps = max(1, len(features) // config.batch_size)
    rng = np.random.default_rng(seed)

    def stream():
        while True:
            order = np.resize(rng.permutation(len(features)), steps * config.batch_size)
            for rows in order.reshape(steps, config.batch_size):
                present = (rng.random((len(rows), num_sub_models)) >= missing_rate).astype(
                    np.float32
                )
                present[present.sum(axis=1) == 0] = 1.0
                yield {"features": features[rows], "present": present}, labels[rows]

    signature = (
        {
            "features": tf.TensorSpec((config.batch_size, features.shape[1]), tf.float32),
            "present": tf.TensorSpec((config.batch_size, num_sub_models), tf.float32),
        },
        tf.TensorSpec((config.batch_size,), tf.int32),
    )
    model.compile(
        optimizer(config.optimizer, config.weight_decay),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    data = tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(2)
    fitted = model.fit(
        data,
        epochs=config.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[Schedule(config, config.epochs * steps)],
    )
    return {
        **{name: [float(v) for v in fitted.history[name]] for name in ("loss", "accuracy")},
        "samples": config.epochs * steps * config.batch_size,
    }


def average(
    logits: list[np.ndarray | None], groups: list[tuple[int, ...]], num_classes: int
) -> np.ndarray:
    """Probabilities (B, num_classes) composed from the sub-models' softmaxes without an MLP (Table
    3, w/o retrain).

    softmax_j("other") is spread evenly over the classes outside C_j; then the mean over the
    sub-models present. `logits[j]` is (B, |C_j| + 1), (B, num_classes) for a group of all classes,
    or None for a missing sub-model. Raises ValueError if every sub-model is missing.
    """
    composed = []
    for part, group in zip(logits, groups, strict=True):
        if part is None:
            continue
        e = np.exp(part - part.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        full = np.zeros((len(part), num_classes))
        full[:, list(group)] = p[:, : len(group)]
        rest = [c for c in range(num_classes) if c not in group]
        if rest:
            full[:, rest] = p[:, -1:] / len(rest)
        composed.append(full)
    if not composed:
        raise ValueError(
            "all sub-models are missing (0 present); at least one answer is needed to average."
        )
    return np.mean(composed, axis=0)
