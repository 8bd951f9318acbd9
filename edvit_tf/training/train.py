"""Fit a ViT's weights to target distributions with Keras, and predict; weights in, weights out.

Where another backend computes (`backend.py`), the process of that backend runs this very code.

Tracing a ViT's training step takes Keras longer than a short fit, so one compiled model a
configuration is kept and gets each fit's weights; its optimizer starts from zero every time.
Deterministic for a seed and a thread count.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.models.keras_settings import on_tensorflow, pinned
from edvit_tf.models.weights import get_weights, set_weights
from edvit_tf.training.augment import check_pictures
from edvit_tf.training.backend import Listed, check_fit_elsewhere, other_process
from edvit_tf.training.batches import batches, steps_an_epoch
from edvit_tf.training.callbacks import callbacks_of
from edvit_tf.training.finite import EndsAtNonFinite, check_answers, check_weights
from edvit_tf.training.optimizers import BETA_1, BETA_2, EPSILON, Schedule, forget
from edvit_tf.training.precision import precision_policy, resolved
from edvit_tf.training.trainer import STEPS, trainer_of
from edvit_tf.training.watched import Watched

Weights = dict[str, np.ndarray]

MAP_ROWS = 2048  # training samples that the first linear map of the features is fitted on


_compiled = functools.lru_cache(maxsize=4)(trainer_of)


@pinned()
def fit(
    config: ModelConfig,
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
    rows, joins the loss. The history is that of `history_of`. Raises TrainingError as soon as a
    loss is no number; ConfigError where another backend computes (`computing_on`) and cannot: with
    callbacks, which are of this process, or an architecture that is TensorFlow's alone.
    """
    process = other_process()
    if process is not None:
        check_fit_elsewhere(config, process.backend, (*callbacks, *callbacks_of(title)))
        return process.call(
            "fit",
            config=config,
            weights=dict(weights),
            inputs=inputs,
            targets=targets,
            train=train,
            epoch_indices=Listed(epoch_indices, train.epochs),
            seed=seed,
            features=features,
            title=title,
        )

    precision = resolved(train.precision)
    if train.epochs == 0:
        return dict(weights), history_of([], [], samples=0, seconds=0.0, precision=precision)
    started = time.perf_counter()
    ready = prepared(
        config, weights, inputs, targets, train, epoch_indices, seed, features, precision
    )
    trainer, steps = ready.trainer, ready.steps
    total = train.epochs * steps

    as_trained = functools.partial(_as_trained, tuple(ready.goals), STEPS in trainer.output)
    signature = _signature(inputs, ready.goals, train, ready.kept)
    with released_dataset(ready.batches, signature) as data:
        fitted = trainer.fit(
            data.map(as_trained).prefetch(2),
            epochs=train.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[
                Schedule(train, total),
                EndsAtNonFinite(title, train, precision),
                Watched(title, train.epochs, steps, train.batch_size),
                *callbacks,
                *callbacks_of(title),
            ],
            verbose=0,
        )

    fitted_weights = ready.back(get_weights(ready.model))
    check_weights(fitted_weights, title, train, precision)

    # Keras puts the output's name first where there are several.
    accuracy = "accuracy" if "accuracy" in fitted.history else "logits_accuracy"
    history = history_of(
        fitted.history["loss"],
        fitted.history[accuracy],
        samples=total * train.batch_size,
        seconds=time.perf_counter() - started,
        precision=precision,
    )
    return fitted_weights, history


@dataclass(frozen=True)
class Prepared:
    """A fit before its first step: the model with the weights that it starts from, and what it
    learns by.
    """

    config: ModelConfig  # of what is fitted, which may be another form of what is kept
    model: keras.Model
    trainer: keras.Model
    back: Callable[[Weights], Weights]  # weights of what is kept
    goals: dict[str, np.ndarray]  # by output, a row a sample
    kept: int | None  # patches that a step sees, where it leaves some out
    steps: int  # an epoch
    batches: Callable[[], Iterator]  # of all epochs


def prepared(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    targets: np.ndarray,
    train: TrainConfig,
    epoch_indices: Callable[[int], np.ndarray],
    seed: int,
    features: np.ndarray | None,
    precision: str,
) -> Prepared:
    """The compiled model of a configuration, made ready for one fit (arguments as `fit` has
    them).
    """
    config, weights, back = _form_of_fit(config, weights, seed)
    check_pictures(train.augment, inputs.dtype)

    # TensorFlow's own seed is left alone: the graph draws nothing by it, and setting it would drop
    # every compiled function. Dropout has a seed of its own.
    distilled = train.feature_distillation > 0 and features is not None
    patches = architecture(config).kept_patches(config, train.patch_dropout)
    kept = None if patches is None else patches[0]
    model, trainer = _compiled(
        config,
        train.optimizer,
        train.weight_decay,
        train.ema,
        precision,
        kept,
        features.shape[1] if distilled else 0,
        train.feature_distillation,
    )
    set_weights(model, weights)
    _seed_dropout(model, seed)
    forget(trainer.optimizer)

    goals = {"logits": targets}
    if distilled:
        goals["features"] = standardised(features)
        rows = map_rows(epoch_indices, seed)
        mine = predict(config, weights, inputs[rows])["features"]
        kernel, bias = linear_map(mine, goals["features"][rows])
        trainer.get_layer("feature_map").set_weights([kernel, bias])

    steps = steps_an_epoch(len(epoch_indices(0)), train.batch_size)

    def drawn():
        stream = batches(
            inputs,
            tuple(goals.values()),
            epoch_indices,
            train.batch_size,
            train.augment,
            seed,
            patches,
            train.mix,
        )
        return itertools.islice(stream, train.epochs * steps)

    return Prepared(config, model, trainer, back, goals, kept, steps, drawn)


def _form_of_fit(
    config: ModelConfig, weights: Mapping[str, np.ndarray], seed: int
) -> tuple[ModelConfig, Mapping[str, np.ndarray], Callable[[Weights], Weights]]:
    """What is fitted in a model's place, where its architecture says so, and the way back."""
    form = getattr(architecture(config), "fit_form", None)
    if form is None:
        return config, weights, lambda fitted: fitted
    return form(config, weights, seed)


def _seed_dropout(model: keras.Model, seed: int) -> None:
    """Dropout draws from a state that goes on from fit to fit: each fit sets its own."""
    for place, layer in enumerate(model.layers):
        drawn = getattr(layer, "seed_generator", None)
        if drawn is not None:
            drawn.state.assign(np.array([seed % 2**32, place], np.uint32))


def history_of(loss: list, accuracy: list, *, samples: int, seconds: float, precision: str) -> dict:
    """{"loss": [...], "accuracy": [...] an epoch, "seconds", "samples_per_second", "samples",
    "precision"}.
    """
    return {
        "loss": [float(v) for v in loss],
        "accuracy": [float(v) for v in accuracy],
        "seconds": round(seconds, 2),
        "samples_per_second": round(samples / seconds, 1) if samples else 0.0,
        "samples": samples,
        "precision": precision,
    }


def _signature(
    inputs: np.ndarray, goals: Mapping[str, np.ndarray], train: TrainConfig, kept: int | None
) -> tuple:
    """What `batches` gives, for tf.data."""
    batch = train.batch_size
    dtype = tf.float32 if train.augment == "mask" else inputs.dtype
    x: tf.TensorSpec | dict = tf.TensorSpec((batch, *inputs.shape[1:]), dtype)
    if kept is not None:
        x = {"input": x, "kept": tf.TensorSpec((batch, kept), tf.int32)}

    y = tuple(tf.TensorSpec((batch, goal.shape[1]), tf.float32) for goal in goals.values())
    return x, y


@tf.autograph.experimental.do_not_convert
def _as_trained(names: tuple[str, ...], has_steps: bool, x, y):
    """A batch as the trainer takes it: pixels as float32, patch numbers as they are, targets by
    name, those of the logits for each step too.
    """
    if isinstance(x, dict):
        x = {"input": tf.cast(x["input"], tf.float32), "kept": x["kept"]}
    else:
        x = tf.cast(x, tf.float32)
    goals = dict(zip(names, y, strict=True))
    if has_steps:
        goals[STEPS] = goals["logits"]
    return x, goals


@contextlib.contextmanager
def released_dataset(source: Callable[[], Iterator], signature: tuple) -> Iterator[tf.data.Dataset]:
    """A tf.data.Dataset of what `source()` yields, which lets go of `source` in the end.

    TensorFlow itself never lets go of a generator's function, nor of the data that it reads.
    """
    held = [source]
    try:
        yield tf.data.Dataset.from_generator(lambda: held[0](), output_signature=signature)
    finally:
        held.clear()


def map_rows(epoch_indices: Callable[[int], np.ndarray], seed: int) -> np.ndarray:
    """Rows, in order, of the first epoch that the first map of the features is fitted on."""
    return np.sort(np.random.default_rng(seed).permutation(epoch_indices(0))[:MAP_ROWS])


def standardised(features: np.ndarray) -> np.ndarray:
    """Each column less its mean, over its deviation: (n, f) float32."""
    mean = features.mean(axis=0)
    deviation = features.std(axis=0)
    return ((features - mean) / np.maximum(deviation, 1e-6)).astype(np.float32)


def linear_map(x: np.ndarray, y: np.ndarray, ridge: float = 1e-2) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (d, f) and bias (f,) of the ridge regression of y (n, f) on x (n, d)."""
    mean = x.mean(axis=0)
    goal = y.mean(axis=0)
    centred = (x - mean).astype(np.float64)

    gram = centred.T @ centred  # (d, d)
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel = np.linalg.solve(gram, centred.T @ (y - goal))
    bias = goal - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _caller(config: ModelConfig, batch_size: int, precision: str):
    """A model, and the graph of its answers (float32) to a batch."""
    with precision_policy(precision):
        # figures are of the stock layers
        fused = precision != "float32" and on_tensorflow()
        model = architecture(config).build(config, fused=fused)

    if not on_tensorflow():
        return model, _caller_elsewhere(model)

    x_spec = tf.TensorSpec((batch_size, *config.input_shape), tf.float32)

    @tf.function(input_signature=[x_spec], autograph=False)
    def call(x):
        answers = model(x, training=False)
        return {name: tf.cast(value, tf.float32) for name, value in answers.items()}

    return model, lambda x: {name: found.numpy() for name, found in call(tf.constant(x)).items()}


def _caller_elsewhere(model: keras.Model) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The answers of a model of another backend to a batch."""
    model.compile(jit_compile=keras.config.backend() == "jax")
    return lambda x: {
        name: np.asarray(value, np.float32) for name, value in model.predict_on_batch(x).items()
    }


@pinned()
def predict(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    batch_size: int = 64,
    precision: str = "float32",
) -> dict[str, np.ndarray]:
    """{"features": (n, d), "logits": (n, num_classes)}, float32, in the order of `inputs`, read
    batch by batch.

    `precision` "bfloat16" (or "auto", where that stands for it) computes in it: for a teacher's
    answers, never for figures. Raises TrainingError if an answer is no number.
    """
    process = other_process()
    if process is not None:
        return process.call(
            "predict",
            config=config,
            weights=dict(weights),
            inputs=inputs,
            batch_size=batch_size,
            precision=precision,
        )

    model, call = _caller(config, batch_size, resolved(precision))
    set_weights(model, weights)

    features, logits = [], []
    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        # The last batch has the shape of the others.
        whole = np.resize(x, (batch_size, *x.shape[1:]))
        out = call(whole)
        features.append(out["features"][: len(x)])
        logits.append(out["logits"][: len(x)])

    answers = {"features": np.concatenate(features), "logits": np.concatenate(logits)}
    check_answers("a model", answers)
    return answers


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
    weights = [kernel.astype(np.float32), bias.astype(np.float32)]
    means = [np.zeros_like(part) for part in weights]
    squares = [np.zeros_like(part) for part in weights]

    # In numpy: a graph would take longer to trace than these steps.
    for step in range(1, steps + 1):
        errors = softmax(features @ weights[0] + weights[1]) - targets  # (n, rows)
        errors /= np.float32(len(features))
        gradients = [features.T @ errors, errors.sum(axis=0)]

        alpha = np.float32(rate * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step))
        for part, gradient, mean, square in zip(weights, gradients, means, squares, strict=True):
            mean += (gradient - mean) * np.float32(1 - BETA_1)
            square += (gradient**2 - square) * np.float32(1 - BETA_2)
            part -= alpha * mean / (np.sqrt(square) + np.float32(EPSILON))
    return weights[0], weights[1]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
