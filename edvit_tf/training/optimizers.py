"""The step of a fit and its rate: AdamW, Muon or Adam, a schedule a fit."""

import keras
import numpy as np

from edvit_tf.config import TrainConfig

UNDECAYED = ["bias", "gamma", "beta", "token", "embedding"]  # parts of the names of variables
BESIDE_THE_BLOCKS = ["^head/", "^feature_map/"]  # layers whose matrices Muon leaves to AdamW
START_RATE = 1e-4  # until a schedule sets another, before each batch


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Rate at a step: linear warm-up, cosine to zero ("adamw", "muon"), or exponential decay to a
    tenth ("adam", the paper).
    """
    if config.optimizer == "adam":
        return config.learning_rate * 0.1 ** (step / total_steps)

    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup

    done = (step - warmup) / max(1, total_steps - warmup)
    return config.learning_rate * 0.5 * (1 + np.cos(np.pi * done))


class Schedule(keras.callbacks.Callback):
    """Sets the optimizer's rate before each batch, so that a compiled model serves fits of any
    length.
    """

    def __init__(self, config: TrainConfig, total_steps: int):
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        self.step = 0

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
        return keras.optimizers.Adam(START_RATE, **averaged)

    if name == "muon":
        chosen = keras.optimizers.Muon(
            START_RATE,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay,
            exclude_layers=BESIDE_THE_BLOCKS,
            **averaged,
        )
    else:
        chosen = keras.optimizers.AdamW(
            START_RATE, weight_decay=weight_decay, clipnorm=1.0, **averaged
        )
    chosen.exclude_from_weight_decay(var_names=UNDECAYED)
    return chosen


def forget(used: keras.optimizers.Optimizer) -> None:
    """Moments, averages and step counter as before the first step."""
    for variable in used.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
