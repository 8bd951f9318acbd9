"""Fit a ViT to target distributions with Keras, and predict with it; deterministic for a seed and a thread count."""

import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.training.batches import batches


def optimizer(config: TrainConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """AdamW, linear warm-up and cosine to zero; or the paper's Adam, its rate falling tenfold over the run."""
    if config.optimizer == "adam":
        decay = keras.optimizers.schedules.ExponentialDecay(config.learning_rate, total_steps, 0.1)
        return keras.optimizers.Adam(decay)
    warmup = round(config.warmup_fraction * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate, max(1, total_steps - warmup),
        warmup_target=config.learning_rate if warmup else None, warmup_steps=warmup,
    )
    adamw = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=1.0)
    adamw.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "token", "embedding"])
    return adamw


def fit(
    model: keras.Model, inputs: np.ndarray, targets: np.ndarray, config: TrainConfig, *,
    epoch_indices: Callable[[int], np.ndarray], seed: int, validation: tuple[np.ndarray, np.ndarray] | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (), title: str = "",
) -> dict:
    """Trains `model` ({"features", "logits"}) by cross-entropy of its logits with `targets` (n, classes).

    `inputs` is (n, H, W, C), uint8 or float32, possibly a memory map: batches are read as they are needed.
    `epoch_indices(epoch)` says which rows an epoch sees. `validation` is (inputs, labels), looked at after the last
    epoch only. Returns {"loss": [...], "accuracy": [...] per epoch, "seconds", "samples_per_second", and
    "validation_accuracy" if asked}.
    """
    history: dict = {"loss": [], "accuracy": []}
    started = time.perf_counter()
    steps = max(1, -(-len(epoch_indices(0)) // config.batch_size))
    if config.epochs:
        keras.utils.set_random_seed(seed)
        trainer = keras.Model(model.input, model.output["logits"], name=f"{model.name}_trainer")
        trainer.compile(
            optimizer(config, config.epochs * steps),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],  # against the target's largest entry
            jit_compile=False,  # XLA takes longer to compile a ViT on a CPU than a short fit takes
        )
        signature = (
            tf.TensorSpec((config.batch_size, *inputs.shape[1:]), tf.float32),
            tf.TensorSpec((config.batch_size, targets.shape[1]), tf.float32),
        )
        stream = tf.data.Dataset.from_generator(
            lambda: batches(inputs, targets, epoch_indices, config.batch_size, config.augment, seed),
            output_signature=signature,
        ).prefetch(2)
        print(f"{title or model.name}: {config.epochs} epochs of {steps} x {config.batch_size} samples", flush=True)
        fitted = trainer.fit(
            stream, epochs=config.epochs, steps_per_epoch=steps, callbacks=list(callbacks),
            shuffle=False, verbose=1 if sys.stdout.isatty() else 2,
        )
        history = {name: [float(v) for v in fitted.history[name]] for name in ("loss", "accuracy")}
    seconds = time.perf_counter() - started
    history["seconds"] = round(seconds, 2)
    history["samples_per_second"] = round(config.epochs * steps * config.batch_size / seconds, 1)
    if validation is not None:
        predicted = predict(model, validation[0])["logits"].argmax(axis=1)
        history["validation_accuracy"] = float((predicted == validation[1]).mean())
    return history


def predict(model: keras.Model, inputs: np.ndarray, batch_size: int = 128) -> dict[str, np.ndarray]:
    """{"features": (n, d), "logits": (n, classes)}, float32, in the order of `inputs`, read batch by batch."""

    @tf.function(input_signature=[tf.TensorSpec((batch_size, *inputs.shape[1:]), tf.float32)])
    def call(x):
        return model(x, training=False)

    parts: dict[str, list] = {"features": [], "logits": []}
    for start in range(0, len(inputs), batch_size):
        x = np.asarray(inputs[start : start + batch_size], np.float32)
        padded = np.resize(x, (batch_size, *x.shape[1:]))  # the last batch has the shape of the others
        out = call(tf.constant(padded))
        for name in parts:
            parts[name].append(out[name].numpy()[: len(x)])
    return {name: np.concatenate(values) for name, values in parts.items()}


def fit_head(features: np.ndarray, targets: np.ndarray, kernel: np.ndarray, bias: np.ndarray, steps: int = 200,
             learning_rate: float = 1e-2) -> tuple[np.ndarray, np.ndarray]:
    """Trains only the last Dense layer on stored features (n, d): full-batch Adam on the cross-entropy, from (kernel,
    bias). Used for the row "other", which starts as the mean of the rows it stands for.
    """
    kernel_variable, bias_variable = tf.Variable(kernel), tf.Variable(bias)
    adam = keras.optimizers.Adam(learning_rate)
    x, y = tf.constant(features), tf.constant(targets)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, tf.matmul(x, kernel_variable) + bias_variable))
        variables = [kernel_variable, bias_variable]
        adam.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    adam.build([kernel_variable, bias_variable])
    for _ in range(steps):
        step()
    return kernel_variable.numpy(), bias_variable.numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
