"""A recording in the place of a microphone."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.device.model.input_spec import MOST_DECODED_BYTES, file_bytes
from edvit_tf.errors import SourceError
from edvit_tf.watch.sound_pipe import BLOCK_SECONDS, Sound
from edvit_tf.watch.windows import check_length

RECORDINGS = (".wav", ".flac", ".au")  # how names of them end
_MOST_SAMPLES = MOST_DECODED_BYTES // 2  # what the largest file holds at 16 bits


class Recording(NamedTuple):
    """Sound that is all there."""

    samples: np.ndarray  # float32 (n,), -1..1
    rate: int  # Hz


def recording(name: str, path: str | Path) -> Recording:
    """Decodes a file, which may take seconds. Raises SourceError, which calls it `name`."""
    try:
        data = file_bytes(path, MOST_DECODED_BYTES)
        check_length(data, _MOST_SAMPLES)
        return Recording(*decode_audio(data))
    except InputError as error:
        raise SourceError(f"{name}: {error}") from error


def played(recorded: Recording, stop: threading.Event, started: float | None) -> Sound:
    """A recording in blocks, each when its last sample would have been there, had it begun at
    `started` of `time.monotonic()`; None: as fast as they are taken.
    """
    samples, rate = recorded

    def blocks() -> Iterator[np.ndarray]:
        size = max(1, round(BLOCK_SECONDS * rate))
        for place in range(0, len(samples), size):
            block = samples[place : place + size]
            if started is not None:
                due = started + (place + len(block)) / rate
                stop.wait(max(0.0, due - time.monotonic()))
            if stop.is_set():
                return
            yield block

    return Sound(rate, blocks())
