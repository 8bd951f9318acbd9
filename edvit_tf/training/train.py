"""Fit a ViT's weights to target distributions with Keras, and predict; weights in, weights out.

Tracing a ViT's training step takes Keras longer than a short fit, so one compiled model a
configuration is kept and gets each fit's weights; its optimizer starts from zero every time.
Deterministic for a seed and a thread count.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig, ViTConfig
from edvit_tf.models.vit.keras_model import build_vit, get_weights, set_weights
from edvit_tf.training.batches import batches, check_pictures
from edvit_tf.training.precision import precision_policy, resolved

Weights = dict[str, np.ndarray]


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Rate at a step: linear warm-up, cosine to zero ("adamw"), or exponential decay to a tenth
    ("adam", the paper).
    """
    if config.optimizer == "adam":
        return config.learning_rate * 0.1 ** (step / total_steps)
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return (
        config.learning_rate
        * 0.5
        * (1 + np.cos(np.pi * (step - warmup) / max(1, total_steps - warmup)))
    )


class Schedule(keras.callbacks.Callback):
    """Sets the optimizer's rate before each batch, so that a compiled model serves fits of any
    length.
    """

    def __init__(self, config: TrainConfig, total_steps: int):
        super().__init__()
        self.config, self.total_steps, self.step = config, total_steps, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = learning_rate(self.config, self.step, self.total_steps)
        self.step += 1


def optimizer(name: str, weight_decay: float, ema: float = 0.0) -> keras.optimizers.Optimizer:
    """AdamW (no decay on biases, norms and embeddings, gradients clipped to norm 1 a tensor), Muon,
    or plain Adam.

    "muon" (Jordan et al. 2024, scaled to AdamW's step as Liu et al. 2025 do): the matrices of the
    blocks take orthogonalised momentum; all else (patches, head, map of features, vectors) AdamW's
    step, unclipped. With `ema` the weights become, when Keras's fit ends, their average of that
    momentum over the steps.
    """
    averaged = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == "adam":
        return keras.optimizers.Adam(1e-4, **averaged)
    if name == "muon":
        chosen = keras.optimizers.Muon(
            1e-4,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay,
            exclude_layers=["^head/", "^feature_map/"],
            **averaged,
        )
    else:
        chosen = keras.optimizers.AdamW(1e-4, weight_decay=weight_decay, clipnorm=1.0, **averaged)
    chosen.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "token", "embedding"])
    return chosen


def trainer_of(
    config: ViTConfig,
    optimizer_name: str,
    weight_decay: float,
    ema: float,
    precision: str,
    kept_patches: int | None,
    mapped_features: int,
    feature_weight: float,
    fused: bool = True,
) -> tuple[keras.Model, keras.Model]:
    """The model of a configuration, and a compiled one of its logits that shares the weights; with
    `mapped_features` it also maps the features to those of the teacher, by a Dense layer that the
    model itself does not have.
    """
    with precision_policy(precision):
        model = build_vit(config, kept_patches=kept_patches, fused=fused)
        outputs = {
            "logits": keras.layers.Activation("linear", dtype="float32", name="logits")(
                model.output["logits"]
            )
        }
        losses: dict = {"logits": keras.losses.CategoricalCrossentropy(from_logits=True)}
        if mapped_features:
            outputs["features"] = keras.layers.Dense(
                mapped_features, name="feature_map", dtype="float32"
            )(model.output["features"])
            losses["features"] = "mse"
    trainer = keras.Model(model.input, outputs, name="trainer")
    chosen = optimizer(optimizer_name, weight_decay, ema)
    trainer.compile(
        chosen,
        losses,
        loss_weights={"logits": 1.0, "features": feature_weight} if mapped_features else None,
        metrics={
            "logits": keras.metrics.CategoricalAccuracy(name="accuracy")
        },  # against the target's largest entry
        jit_compile=False,  # XLA on a CPU: slower steps (194 against 403 samples/s), a longer start
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return model, trainer


_compiled = functools.lru_cache(maxsize=4)(trainer_of)


def initial_weights(config: ViTConfig, seed: int) -> Weights:
    """Random weights of a ViT, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    return get_weights(build_vit(config))


def fit(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    targets: np.ndarray,
    train: TrainConfig,
    *,
    epoch_indices: Callable[[int], np.ndarray],
    seed: int,
    features: np.ndarray | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    title: str = "fit",
) -> tuple[Weights, dict]:
    """Trains a ViT by cross-entropy of its logits with `targets` (n, num_classes); returns new
    weights and a history.

    `inputs` is (n, H, W, C), uint8 or float32, possibly a memory map: batches are read as they are
    needed. `epoch_indices(epoch)` says which rows an epoch sees. `features` (n, f), the base's, are
    what train.feature_distillation asks for: each is standardised, and the mean square distance of
    a linear map of the model's features, which starts as the least-squares map on 2,048 of the
    rows, joins the loss. History: {"loss": [...], "accuracy": [...] an epoch, "seconds",
    "samples_per_second", "samples", "precision"}.
    """
    precision = resolved(train.precision)
    if train.epochs == 0:
        return dict(weights), {
            "loss": [],
            "accuracy": [],
            "seconds": 0.0,
            "samples_per_second": 0.0,
            "samples": 0,
            "precision": precision,
        }
    check_pictures(train.augment, inputs.dtype)
    started = time.perf_counter()
    # TensorFlow's own seed is left alone: the graph draws nothing, and setting it would drop every
    # compiled function
    mapped = train.feature_distillation > 0 and features is not None
    kept = round(config.num_patches * (1 - train.patch_dropout)) if train.patch_dropout else None
    model, trainer = _compiled(
        config,
        train.optimizer,
        train.weight_decay,
        train.ema,
        precision,
        kept,
        features.shape[1] if mapped else 0,
        train.feature_distillation,
    )
    set_weights(model, weights)
    for variable in trainer.optimizer.variables:  # moments and step counter of an earlier fit
        variable.assign(tf.zeros_like(variable))
    goals = (targets,)
    if mapped:
        goals += (standardised(features),)
        rows = np.random.default_rng(seed).permutation(epoch_indices(0))[:2048]
        mine = predict(config, weights, inputs[np.sort(rows)])["features"]
        for variable, value in zip(
            trainer.get_layer("feature_map").weights,
            linear_map(mine, goals[1][np.sort(rows)]),
            strict=True,
        ):
            variable.assign(value)
    steps = max(1, -(-len(epoch_indices(0)) // train.batch_size))
    names = ("logits", "features")[: len(goals)]
    patches = None if kept is None else (kept, config.num_patches)
    x_spec: tf.TensorSpec | dict = tf.TensorSpec(
        (train.batch_size, *inputs.shape[1:]),
        tf.float32 if train.augment == "mask" else inputs.dtype,
    )
    if patches:
        x_spec = {"input": x_spec, "kept": tf.TensorSpec((train.batch_size, kept), tf.int32)}
    specs = tuple(tf.TensorSpec((train.batch_size, goal.shape[1]), tf.float32) for goal in goals)
    # TensorFlow never lets go of a generator's function: what it reads is taken away afterwards
    held = [inputs, goals, epoch_indices]
    stream = (
        tf.data.Dataset.from_generator(
            lambda: itertools.islice(
                batches(*held, train.batch_size, train.augment, seed, patches, train.mix),
                train.epochs * steps,
            ),
            output_signature=(x_spec, specs),
        )
        .map(lambda x, y: (_as_float(x), dict(zip(names, y, strict=True))))
        .prefetch(2)
    )
    samples = train.epochs * steps * train.batch_size
    print(f"{title}: {train.epochs} epochs of {steps} x {train.batch_size} samples", flush=True)
    fitted = trainer.fit(
        stream,
        epochs=train.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[Schedule(train, train.epochs * steps), *callbacks],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    held.clear()
    seconds = time.perf_counter() - started
    accuracy = "accuracy" if "accuracy" in fitted.history else "logits_accuracy"
    history = {
        name: [float(v) for v in fitted.history[key]]
        for name, key in (("loss", "loss"), ("accuracy", accuracy))
    }
    history |= {
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples / seconds, 1),
        "samples": samples,
        "precision": precision,
    }
    return get_weights(model), history


def _as_float(x):
    """Pixels as the model takes them; patch numbers as they are."""
    if isinstance(x, dict):
        return {"input": tf.cast(x["input"], tf.float32), "kept": x["kept"]}
    return tf.cast(x, tf.float32)


def standardised(features: np.ndarray) -> np.ndarray:
    """Each column less its mean, over its deviation: (n, f) float32."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    return ((features - mean) / np.maximum(deviation, 1e-6)).astype(np.float32)


def linear_map(x: np.ndarray, y: np.ndarray, ridge: float = 1e-2) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (d, f) and bias (f,) of the ridge regression of y (n, f) on x (n, d)."""
    mean, goal = x.mean(axis=0), y.mean(axis=0)
    centred = (x - mean).astype(np.float64)
    gram = centred.T @ centred
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel = np.linalg.solve(gram, centred.T @ (y - goal))
    return kernel.astype(np.float32), (goal - mean @ kernel).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _caller(config: ViTConfig, batch_size: int, precision: str):
    with precision_policy(precision):
        model = build_vit(config, fused=precision != "float32")  # figures are of the stock layers

    @tf.function(input_signature=[tf.TensorSpec((batch_size, *config.image_shape), tf.float32)])
    def call(x):
        return {
            name: tf.cast(value, tf.float32) for name, value in model(x, training=False).items()
        }

    return model, call


def predict(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    batch_size: int = 64,
    precision: str = "float32",
) -> dict[str, np.ndarray]:
    """{"features": (n, d), "logits": (n, num_classes)}, float32, in the order of `inputs`, read
    batch by batch.

    `precision` "bfloat16" (or "auto", where that stands for it) computes in it: for a teacher's
    answers, never for figures.
    """
    model, call = _caller(config, batch_size, resolved(precision))
    set_weights(model, weights)
    parts: dict[str, list] = {"features": [], "logits": []}
    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        out = call(
            tf.constant(np.resize(x, (batch_size, *x.shape[1:])))
        )  # the last batch has the shape of the others
        for name in parts:
            parts[name].append(out[name].numpy()[: len(x)])
    return {name: np.concatenate(values) for name, values in parts.items()}


def fit_head(
    features: np.ndarray,
    targets: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    steps: int = 200,
    rate: float = 1e-2,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains only the last Dense layer on stored features (n, d): full-batch Adam on the
    cross-entropy, from (kernel, bias). Used for the row "other", which starts as the mean of the
    rows it stands for.
    """
    variables = [tf.Variable(kernel), tf.Variable(bias)]
    adam = keras.optimizers.Adam(rate)
    adam.build(variables)
    x, y = tf.constant(features), tf.constant(targets)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = tf.matmul(x, variables[0]) + variables[1]
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
        adam.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(steps):
        step()
    return variables[0].numpy(), variables[1].numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
