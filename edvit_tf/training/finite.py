"""A fit that has lost itself ends at its first loss that is no number.

What comes after would be NaN too: weights, plans by them, hours of further fits, and files that
answer nothing.
"""

from collections.abc import Mapping

import keras
import numpy as np

from edvit_tf.config import TrainConfig
from edvit_tf.errors import TrainingError


class EndsAtNonFinite(keras.callbacks.Callback):
    """Raises TrainingError after the first batch of Keras's own loop whose loss is not finite."""

    def __init__(self, title: str, train: TrainConfig, precision: str):
        super().__init__()
        self.title = title
        self.train = train
        self.precision = precision
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # Keras's mean over the epoch's batches: one that is no number stays in it.
        check_loss(float(logs["loss"]), self.title, self.epoch, batch, self.train, self.precision)


def check_loss(
    loss: float, title: str, epoch: int, step: int, train: TrainConfig, precision: str
) -> None:
    """Raises TrainingError unless the loss of a step (`epoch` and `step` from 0) is a number."""
    if not np.isfinite(loss):
        raise _lost(
            f"{title}: the loss is {loss} in epoch {epoch + 1}, step {step + 1}", train, precision
        )


def check_weights(
    weights: Mapping[str, np.ndarray], title: str, train: TrainConfig, precision: str
) -> None:
    """Raises TrainingError if a fit ended with values that are no numbers: its last step may have
    made them, whose loss was still one.
    """
    for name, value in weights.items():
        bad = int((~np.isfinite(value)).sum())
        if bad:
            where = f"{title}: {bad} of {value.size} values of {name} are NaN or infinite"
            raise _lost(f"{where} after epoch {train.epochs}", train, precision)


def check_answers(title: str, answers: Mapping[str, np.ndarray]) -> None:
    """Raises TrainingError if a model answers with values that are no numbers."""
    for name, value in answers.items():
        bad = int((~np.isfinite(value)).any(axis=-1).sum())
        if bad:
            raise TrainingError(
                f"{title}: the {name} of {bad} of {len(value)} samples are NaN or infinite. "
                "Nothing of this stage was stored. The fit before it went astray: train it again "
                "with a lower learning rate."
            )


def _lost(what: str, train: TrainConfig, precision: str) -> TrainingError:
    otherwise = "" if precision == "float32" else ", or precision float32"
    return TrainingError(
        f"{what} ({train.optimizer}, learning rate {train.learning_rate:g}, precision "
        f"{precision}). Nothing of this stage was stored; finished stages are kept. Take a lower "
        f"learning rate{otherwise}, and look for inputs that are no numbers."
    )
