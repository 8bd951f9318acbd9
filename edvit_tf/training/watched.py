"""What Keras's own loop tells of a fit: its steps for a bar, its epochs in words."""

import time

import keras

from edvit_tf.device.terminal import counted
from edvit_tf.progress import tell
from edvit_tf.progress.interrupts import end_if_asked

EVERY = 0.2  # seconds between two steps that are told: a bar needs no more


class Watched(keras.callbacks.Callback):
    """Tells of a fit (`edvit_tf.progress.events`), of `steps` steps an epoch."""

    def __init__(self, title: str, epochs: int, steps: int, batch_size: int):
        super().__init__()
        self.title = title
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self._epoch = 0
        self._begun = self._told = 0.0

    def on_train_begin(self, logs=None):
        tell(
            f"{self.title}: {counted(self.epochs, 'epoch')} of {self.steps} x {self.batch_size} "
            "samples",
            "fit",
            title=self.title,
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._begun = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        end_if_asked()
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told = now
        done = self._epoch * self.steps + batch + 1
        tell(kind="step", title=self.title, done=done, total=self.epochs * self.steps)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        loss = float(logs.get("loss", float("nan")))
        # Keras puts the output's name first where there are several.
        right = float(logs.get("accuracy", logs.get("logits_accuracy", float("nan"))))
        tell_epoch(self.title, epoch, self.epochs, loss, right, time.monotonic() - self._begun)


def tell_epoch(
    title: str, epoch: int, epochs: int, loss: float, accuracy: float, seconds: float
) -> None:
    """Tells that an epoch (from 0) has ended."""
    tell(
        f"{title}: epoch {epoch + 1} of {epochs}, loss {loss:.4f}, "
        f"accuracy {100 * accuracy:.1f} %, {seconds:.1f} s",
        "epoch",
        title=title,
        epoch=epoch + 1,
        epochs=epochs,
        loss=loss,
        accuracy=accuracy,
        seconds=round(seconds, 2),
    )
