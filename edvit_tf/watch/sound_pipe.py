"""Sound from a pipe: raw samples, or a WAV file that is still written."""

import io
import wave
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from edvit_tf.device.model.decode_sound import mono
from edvit_tf.errors import SourceError

BLOCK_SECONDS = 0.05  # that are read at a time
_WIDTHS = {1: "u1", 2: "<i2", 4: "<i4"}  # of a WAV's samples, bytes


class Sound(NamedTuple):
    """Sound as it comes."""

    rate: int  # Hz
    blocks: Iterator[np.ndarray]  # float32 (n,), -1..1


def piped(pipe: BinaryIO, raw_rate: int) -> Sound:
    """A WAV file's sound by its header, anything else as signed 16-bit little-endian mono of
    `raw_rate`. Raises SourceError for no sound, and for a WAV that is not of whole numbers.
    """
    is_buffered = isinstance(pipe, io.BufferedReader)
    reader = pipe if is_buffered else io.BufferedReader(cast(io.RawIOBase, pipe))
    reader = cast(io.BufferedReader, reader)
    first = reader.peek(4)[:4]
    if not first:
        raise SourceError(
            "--microphone -: the pipe ended without a sample. Does the recorder before it run?"
        )
    if first != b"RIFF":
        return Sound(raw_rate, _raw(reader, raw_rate))

    try:
        # its length is not known while it is written; the samples go to the pipe's end
        sound = wave.open(reader, "rb")  # noqa: SIM115 (until the pipe ends)
    except (wave.Error, EOFError) as error:
        raise SourceError(
            f"--microphone -: no WAV file of whole numbers ({error}). Record with `arecord -f "
            "S16_LE`, or send raw samples."
        ) from error
    return Sound(sound.getframerate(), _wav(sound))


def _raw(reader: io.BufferedReader, rate: int) -> Iterator[np.ndarray]:
    size = 2 * max(1, round(BLOCK_SECONDS * rate))
    while data := reader.read(size):
        whole = data[: len(data) // 2 * 2]
        yield np.frombuffer(whole, "<i2").astype(np.float32) / 32768


def _wav(sound: wave.Wave_read) -> Iterator[np.ndarray]:
    channels, width = sound.getnchannels(), sound.getsampwidth()
    size = max(1, round(BLOCK_SECONDS * sound.getframerate()))
    while data := sound.readframes(size):
        frame = channels * width
        whole = data[: len(data) // frame * frame]
        yield mono(_floats(whole, width).reshape(-1, channels)).astype(np.float32)


def _floats(data: bytes, width: int) -> np.ndarray:
    """Samples of so many bytes -> -1..1."""
    if width == 3:  # the upper bytes of four
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = padded.tobytes(), 4
    values = np.frombuffer(data, _WIDTHS[width]).astype(np.float64)
    # eight bits have no sign
    return (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1)
