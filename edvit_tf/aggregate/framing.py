"""A stream, for instance standard input, cut into what a model takes: raw inputs, or windows of raw
sound.
"""

from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import numpy as np

from edvit_tf.aggregate.client import Client, RequestFailed
from edvit_tf.device.model.input_spec import InputSpec
from edvit_tf.device.rpc import tensors
from edvit_tf.errors import ConfigError


class Sound(Protocol):
    """What of a spec of sound says how a stream is cut."""

    window_samples: int
    sample_rate_hz: int


def frames(source: BinaryIO, client: Client) -> Iterator[np.ndarray]:
    """Raw inputs (1, H, W, C) of the aggregator's shape and type, one after the other, until the
    stream ends.

    Raises RequestFailed where it ends within a frame.
    """
    shape = tuple(client.input.shape)
    dtype = tensors.DTYPES[client.input.datatype]
    size = int(np.prod(shape)) * dtype.itemsize

    while data := source.read(size):
        if len(data) < size:
            raise RequestFailed(
                f"the stream ended within a frame, after {len(data)} of {size} bytes; a frame is "
                f"{client.input.datatype} {list(shape)}. Cut the stream into whole frames."
            )

        yield np.frombuffer(data, dtype).reshape(shape)


def hop_samples(spec: InputSpec, hop_seconds: float | None) -> int:
    """Samples from one window's start to the next one's; None: a window. Raises ConfigError where a
    stream of sound does not fit the model.
    """
    if not spec.is_sound:
        raise ConfigError(
            f"--stream pcm is sound, and the bundle takes {spec.item}s. Give frames with --stream "
            "alone, or another bundle."
        )

    sound = cast(Sound, spec)
    rate = sound.sample_rate_hz
    hop = sound.window_samples if hop_seconds is None else round(hop_seconds * rate)
    if not 1 <= hop <= sound.window_samples:
        raise ConfigError(
            f"--hop is {hop_seconds:g} s; it must be one sample ({1 / rate:g} s) or more, and "
            f"sound between windows of {sound.window_samples / rate:g} s would be lost with a "
            "longer one. Give a number between the two."
        )

    return hop


def pcm_windows(
    source: BinaryIO, window_samples: int, hop: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(start in samples, float32 samples (at most window_samples,), -1..1) of signed 16-bit
    little-endian mono PCM.

    A window comes as soon as its last sample is there; the next starts `hop` samples later. When
    the stream ends, half a hop or more that no window had gives one more, which ends with the
    stream; less is dropped. A stream shorter than the window comes as it is, to be padded. With a
    hop of a window these are `sound.windows`. Raises RequestFailed on a stream without a
    sample, one that ends within a sample, and one that is a WAV file.
    """
    kept = b""  # the newest window's bytes
    total = 0  # samples read
    start = 0  # of the next window

    # just up to the end of the next window, so that it is out as soon as it can be
    while data := source.read(2 * (start + window_samples - total)):
        if total == 0 and data.startswith(b"RIFF"):
            raise RequestFailed(
                "the stream is a WAV file; raw PCM without a header is expected. Record with "
                "`arecord -t raw`, or give the file by its name."
            )

        if len(data) % 2:
            raise RequestFailed(
                f"the stream ended within a sample, after {2 * total + len(data)} bytes; a sample "
                "is 2 bytes. Record with `arecord -t raw -f S16_LE -c 1`."
            )

        # older bytes are needed no more, however long the stream is
        kept = (kept + data)[-2 * window_samples :]
        total += len(data) // 2
        if total == start + window_samples:
            yield start, _samples(kept)
            start += hop

    if total == 0:
        raise RequestFailed(
            "the stream ended without a sample. Is the recorder before it in the pipe running?"
        )

    new = total - (start - hop + window_samples)  # samples that no window had
    if start == 0 or 2 * new >= hop:
        yield max(0, total - window_samples), _samples(kept)


def _samples(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768
