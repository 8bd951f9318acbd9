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

    from edvit_tf.models.keras_settings import pinned
    from edvit_tf.training.fusion_layers import PresenceMask

    hidden = math.ceil(fusion_lambda * sum(widths))

    with pinned():
        features = keras.Input((sum(widths),), name="features")
        present = keras.Input((len(widths),), name="present")

        x = PresenceMask(list(widths), name="present_only")(features, present)  # (B, sum d_j)
        x = keras.layers.Dense(hidden, activation="gelu", name="tower.hidden")(x)  # (B, hidden)
        # (B, classes)
        x = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
        return keras.Model({"features": features, "present": present}, x, name="fusion")


def build_linear(widths: tuple[int, ...], num_classes: int, rank: int | None = None):
    """A Keras model with the inputs and output of `build_fusion` that has no hidden units: one
    matrix, or, of a `rank`, two (sum d_j, rank) and (rank, classes).
    """
    import keras

    from edvit_tf.models.keras_settings import pinned
    from edvit_tf.training.fusion_layers import PresenceMask

    with pinned():
        features = keras.Input((sum(widths),), name="features")
        present = keras.Input((len(widths),), name="present")

        x = PresenceMask(list(widths), name="present_only")(features, present)  # (B, sum d_j)
        if rank is not None:
            x = keras.layers.Dense(rank, use_bias=False, name="low_rank")(x)  # (B, rank)
        x = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
        return keras.Model({"features": features, "present": present}, x, name="fusion")


def build_deep_linear(widths: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]):
    """A Keras model with the inputs and output of `build_linear` whose matrix is a product: Dense
    layers of `hidden` widths before the last, no activation, dropout between all but the last two
    (EC-SNN's fusion).
    """
    import keras

    from edvit_tf.models.keras_settings import pinned
    from edvit_tf.training.fusion_layers import PresenceMask

    with pinned():
        features = keras.Input((sum(widths),), name="features")
        present = keras.Input((len(widths),), name="present")

        x = PresenceMask(list(widths), name="present_only")(features, present)  # (B, sum d_j)
        for place, width in enumerate(hidden):
            if place:
                x = keras.layers.Dropout(0.5, name=f"dropout_{place}")(x)
            x = keras.layers.Dense(width, name=f"dense_{place}")(x)
        x = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
        return keras.Model({"features": features, "present": present}, x, name="fusion")


def collapsed(deep, linear):
    """`linear` (of `build_linear`) with the product of the layers of `deep` (of
    `build_deep_linear`) as its one matrix, multiplied in float64: the same function.
    """
    kernel, bias = None, None
    for layer in deep.layers:
        if not layer.weights:
            continue
        own, its_bias = (value.astype(np.float64) for value in layer.get_weights())
        kernel = own if kernel is None else kernel @ own
        bias = its_bias if bias is None else bias @ own + its_bias
    linear.get_layer("probabilities").set_weights([kernel, bias])
    return linear


def build_average(widths: tuple[int, ...], groups: list[tuple[int, ...]], num_classes: int):
    """A Keras model with the inputs and output of `build_fusion` that averages (`average`), by the
    sub-models' own heads: weights "average.kernel_00" (d_0, |C_0| + 1), "average.bias_00" ... and
    "average.temperature".
    """
    import keras

    from edvit_tf.models.keras_settings import pinned
    from edvit_tf.training.fusion_layers import SoftmaxAverage

    groups = [list(group) for group in groups]

    with pinned():
        features = keras.Input((sum(widths),), name="features")
        present = keras.Input((len(widths),), name="present")
        layer = SoftmaxAverage(list(widths), groups, num_classes, name="average")
        p = layer(features, present)  # (B, classes)
        return keras.Model({"features": features, "present": present}, p, name="fusion")


def cooled(weights: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """Weights of a fusion whose logits are divided by `temperature`: the same answer to each
    window, other probabilities, so that the mean of a recording's windows may name another class.
    """
    changed = dict(weights)
    # An average has a temperature; of the MLP it is the last layer that makes the logits.
    if "average.temperature" in weights:
        changed["average.temperature"] = weights["average.temperature"] * np.float32(temperature)
    else:
        for name in ("probabilities.kernel", "probabilities.bias"):
            changed[name] = weights[name] / np.float32(temperature)
    return changed


def drawn_presence(
    rng: np.random.Generator, batch_size: int, num_sub_models: int, missing_rate: float
) -> np.ndarray:
    """(B, N) float32, 0 or 1: each sub-model is missing with `missing_rate`; a sample that would
    have none has all.
    """
    present = rng.random((batch_size, num_sub_models)) >= missing_rate
    # Without any there would be nothing to learn from.
    present[~present.any(axis=1)] = True
    return present.astype(np.float32)


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
    and "samples". Raises TrainingError as soon as a loss is no number.
    """
    import keras
    import tensorflow as tf

    from edvit_tf.models.keras_settings import pinned
    from edvit_tf.models.weights import get_weights
    from edvit_tf.training.callbacks import callbacks_of
    from edvit_tf.training.finite import EndsAtNonFinite, check_weights
    from edvit_tf.training.optimizers import Schedule, optimizer
    from edvit_tf.training.watched import Watched

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    batch, num_sub_models = config.batch_size, model.input["present"].shape[1]
    steps = max(1, len(features) // batch)

    def stream():
        while True:
            # What is over is left out; too few samples for one batch are repeated.
            order = np.resize(rng.permutation(len(features)), steps * batch)
            for rows in order.reshape(steps, batch):
                present = drawn_presence(rng, batch, num_sub_models, missing_rate)
                yield {"features": features[rows], "present": present}, labels[rows]

    x_spec = {
        "features": tf.TensorSpec((batch, features.shape[1]), tf.float32),
        "present": tf.TensorSpec((batch, num_sub_models), tf.float32),
    }
    y_spec = tf.TensorSpec((batch,), tf.int32)
    data = tf.data.Dataset.from_generator(stream, output_signature=(x_spec, y_spec)).prefetch(2)

    total = config.epochs * steps
    with pinned():
        model.compile(
            optimizer(config.optimizer, config.weight_decay),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
            auto_scale_loss=False,
        )
        fitted = model.fit(
            data,
            epochs=config.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[
                Schedule(config, total),
                EndsAtNonFinite("fusion", config, "float32"),
                Watched("fusion", config.epochs, steps, batch),
                *callbacks_of("fusion"),
            ],
        )
    check_weights(get_weights(model), "fusion", config, "float32")

    return {
        "loss": [float(v) for v in fitted.history["loss"]],
        "accuracy": [float(v) for v in fitted.history["accuracy"]],
        "samples": total * batch,
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
        # A softmax whose exponentials cannot overflow.
        e = np.exp(part - part.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)

        full = np.zeros((len(part), num_classes))
        full[:, list(group)] = p[:, : len(group)]
        rest = [c for c in range(num_classes) if c not in group]
        # "other" does not say which of them it is.
        if rest:
            full[:, rest] = p[:, -1:] / len(rest)
        composed.append(full)

    if not composed:
        raise ValueError(
            "all sub-models are missing (0 present); at least one answer is needed to average."
        )
    # (B, classes), of those present alone
    return np.mean(composed, axis=0)
