"""Sound of any rate -> windows of the bundle's, each as a WAV file."""

import io
import wave
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_sound import decode_audio, probe_audio
from edvit_tf.device.model.sound import MelSpec, windows
from edvit_tf.device.model.sound_header import read_header
from edvit_tf.watch.item import Value
from edvit_tf.watch.video import needed

# Of all channels, as they are decoded and as they are resampled: 256 MiB of float32, and what a
# file of 128 MiB holds at 16 bits. A FLAC may hold a thousand times more.
_MOST_SAMPLES = 64 << 20


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """float32 blocks (n,) of one rate -> of another, Hz, as they come. Raises SourceError."""
    if rate == wanted:
        yield from blocks
        return
    try:
        import soxr
    except ImportError as error:
        raise needed("soxr", f"sound of {rate} Hz for models of {wanted} Hz") from error

    stream: Any = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def sliding(
    blocks: Iterable[np.ndarray], window_samples: int, hop: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(start in samples, float32 (at most window_samples,)) of blocks (n,), each as soon as its
    last sample is there; the next starts `hop` samples later.

    At the end half a hop or more that no window had gives one more, which ends with the stream; one
    that is shorter than a window comes as it is. These are `framing.pcm_windows`.
    """
    kept = np.zeros(0, np.float32)  # the samples from `start` on
    start = 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= window_samples:
            yield start, kept[:window_samples]
            last = kept[:window_samples]
            kept = kept[hop:]
            start += hop

    if start == 0:
        if len(kept):
            yield 0, kept
        return
    new = len(kept) - (window_samples - hop)  # samples that no window had
    if 2 * new >= hop:
        newest = np.concatenate([last, kept[len(kept) - new :]])
        yield start + len(kept) - window_samples, newest[-window_samples:]


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """float (n,), -1..1 -> a WAV file of 16 bits, which every device decodes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        scaled = np.clip(np.rint(samples * 32768.0), -32768, 32767)
        sound.writeframes(scaled.astype("<i2").tobytes())
    return file.getvalue()


def cut_recording(data: bytes, spec: MelSpec) -> list[Value]:
    """A recording of any rate -> its windows. Errors as `decode_audio`, and InputError, before
    anything is decoded, for one of more samples than there is memory for.
    """
    check_length(data, _MOST_SAMPLES, spec.sample_rate_hz)
    samples, rate = decode_audio(data)
    samples = np.concatenate(list(resampled([samples], rate, spec.sample_rate_hz)))
    cut: list[Value] = []
    for start in windows(len(samples), spec.window_samples):
        window = samples[start : start + spec.window_samples]
        cut.append(wav_bytes(window, spec.sample_rate_hz))
    return cut


def check_length(data: bytes, most_samples: int, wanted: int | None = None) -> None:
    """Raises InputError for more samples of all channels, as they are decoded, or resampled as a
    whole to the rate `wanted`; what else is wrong as `probe_audio`.
    """
    header = read_header(io.BytesIO(data), len(data))
    most_frames = most_samples // header.channels
    if wanted is not None:
        most_frames = min(most_frames, most_samples * header.rate // wanted)
    frames, _ = probe_audio(data, most_frames)
    if frames > most_frames:
        raise InputError(
            f"it has more than {most_frames / header.rate:.0f} s, {header.channels} channels at "
            f"{header.rate} Hz; those are the {most_samples} samples that are decoded at most. "
            "Cut it into shorter recordings."
        )
