"""The steps of a fit that Keras's own loop does not make: batch after batch, with lines of
progress, and checkpoints from which a killed fit goes on.
"""

import hashlib
import itertools
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edvit_tf.config import TrainConfig
from edvit_tf.device.terminal import counted
from edvit_tf.progress import tell
from edvit_tf.training.finite import check_loss
from edvit_tf.training.optimizers import learning_rate
from edvit_tf.training.train import history_of

TOLD = 100  # steps between two lines of progress
CHECKPOINT_SECONDS = 300.0  # between two of them, at least: what a kill costs
# what numpy raises for a file that is cut off or overwritten
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Checkpoint:
    """A file with all that a fit needs to go on, written now and then, whole or not at all.

    `about` (`digest_of`) says which fit it is of: that of another is not taken up.
    """

    path: Path
    about: str
    seconds: float = CHECKPOINT_SECONDS

    def write(self, variables: Sequence, told: Sequence, spent: float) -> None:
        """Stores variables, (loss, accuracy) of each step so far, and seconds spent."""
        values = {f"{i:05d}": np.asarray(v) for i, v in enumerate(variables)}
        beside = self.path.with_name(f"{self.path.name}.partial")
        with open(beside, "wb") as file:
            np.savez(file, about=self.about, told=np.array(told), spent=spent, **values)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)

    def read(self, variables: Sequence[keras.Variable]) -> tuple[list, float]:
        """Puts the stored values in; (loss, accuracy) of each step that was made, and the seconds
        they took. Of no file, an unreadable one or another fit's: nothing, and none.
        """
        if not self.path.exists():
            return [], 0.0
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["about"]) != self.about:
                    tell(f"{self.path} is of another fit; this one begins anew.")
                    return [], 0.0
                values = [stored[f"{i:05d}"] for i in range(len(variables))]
                told, spent = stored["told"].tolist(), float(stored["spent"])
        except _UNREADABLE as error:
            tell(f"{self.path} cannot be read ({error}); the fit begins anew.")
            return [], 0.0

        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return told, spent


def digest_of(settings: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> str:
    """Digest of what a fit comes from: its settings (plain JSON), and arrays it starts with."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def graph_of(
    loss_of: Callable, trained: Sequence[keras.Variable], chosen: keras.optimizers.Optimizer
) -> Callable[..., tuple[float, float]]:
    """A step as one graph: (x, kept patches or None, present, targets), arrays, -> loss, share of
    fused answers whose largest entry is the first target's. `loss_of` gives the loss (a scalar) and
    the fused answer (B, classes) of the same.
    """

    @tf.function(autograph=False)  # which would take its time to rewrite all that this calls
    def graph(x, places, present, truth):
        with tf.GradientTape() as tape:
            loss, fused = loss_of(tf.cast(x, tf.float32), places, present, truth)

        gradients = tape.gradient(loss, [v.value for v in trained])
        chosen.apply_gradients(zip(gradients, trained, strict=True))

        right = tf.argmax(fused, axis=1) == tf.argmax(truth[0], axis=1)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    def step(x, places, present, truth) -> tuple[float, float]:
        places = None if places is None else tf.constant(places)
        given = tf.constant(x), places, tf.constant(present), tuple(map(tf.constant, truth))
        loss, right = graph(*given)
        return float(loss), float(right)

    return step


def run_steps(
    step: Callable[[int, Any], tuple[float, float]],
    stream: Iterator,
    trained: Sequence[keras.Variable],
    chosen: keras.optimizers.Optimizer,
    train: TrainConfig,
    steps: int,
    *,
    title: str,
    note: str,
    precision: str,
    checkpoint: Checkpoint | None = None,
) -> dict:
    """Makes train.epochs epochs of `steps` steps: `step(number, batch)`, numbered over all epochs,
    gives loss and accuracy. Returns a history (`train.history_of`).

    With a checkpoint of this fit it goes on behind its last step, with the weights of an unbroken
    one: batches that were seen are drawn again and passed over. Raises TrainingError as soon as a
    loss is no number.
    """
    started = time.perf_counter()
    total = train.epochs * steps
    tell(
        f"{title}: {counted(train.epochs, 'epoch')} of {steps} x {train.batch_size} samples, "
        f"{note}",
        "fit",
        title=title,
        epochs=train.epochs,
        steps=steps,
        batch_size=train.batch_size,
    )

    state = [*trained, *chosen.variables]
    told, spent = ([], 0.0) if checkpoint is None else checkpoint.read(state)
    if told:
        tell(f"{title}: goes on behind step {len(told)} of {total}")

    written = time.perf_counter()
    rest = enumerate(itertools.islice(stream, len(told), total), start=len(told))
    for number, batch in rest:
        chosen.learning_rate = learning_rate(train, number, total)
        told.append(step(number, batch))

        epoch, place = divmod(number, steps)
        check_loss(told[-1][0], title, epoch, place, train, precision)
        now = time.perf_counter()
        said = ""
        if (place + 1) % TOLD == 0 or place + 1 == steps:
            loss, right = np.mean(told[-min(TOLD, place + 1) :], axis=0)
            said = (
                f"{title}: epoch {epoch + 1}, step {place + 1} of {steps}: loss {loss:.4f}, fused "
                f"accuracy {right:.4f}, {spent + now - started:.0f} s"
            )
        tell(said, "step", title=title, done=number + 1, total=total)
        if checkpoint is not None and (now - written >= checkpoint.seconds or number + 1 == total):
            checkpoint.write(state, told, spent + now - started)
            written = now

    chosen.finalize_variable_values(trained)
    loss, right = np.reshape(told, (train.epochs, steps, 2)).mean(axis=1).T
    return history_of(
        loss,
        right,
        samples=total * train.batch_size,
        seconds=spent + time.perf_counter() - started,
        precision=precision,
    )
