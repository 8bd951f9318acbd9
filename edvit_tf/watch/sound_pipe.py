"""Sound from a pipe: raw samples, or a WAV file that is still written."""

import io
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from edvit_tf.device.model.decode_sound import mono
from edvit_tf.errors import SourceError

BLOCK_SECONDS = 0.05  # that are read at a time
_LOOK_SECONDS = 0.1  # between looks whether to stop
_QUIET_SECONDS = 5.0  # until it is said that nothing comes
_WIDTHS = {1: "u1", 2: "<i2", 3: "u1", 4: "<i4"}  # of a WAV's samples, bytes
_WHOLE_NUMBERS, _EXTENSIBLE = 1, 0xFFFE
_MOST_FORMAT_BYTES = 4096
# What stands behind the samples of a finished file
_BEHIND = (b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"bext", b"cue ", b"fact", b"iXML", b"smpl", b"_PMX")


class Sound(NamedTuple):
    """Sound as it comes."""

    rate: int  # Hz
    blocks: Iterator[np.ndarray]  # float32 (n,), -1..1


class _Format(NamedTuple):
    rate: int  # Hz
    channels: int
    width: int  # bytes of a sample
    length: int  # bytes of all samples, as the header has it


def piped(
    pipe: BinaryIO,
    raw_rate: int,
    stop: threading.Event,
    say: Callable[[str], None],
    name: str = "--microphone -",
) -> Sound:
    """A WAV file's sound by its header, anything else as signed 16-bit little-endian mono of
    `raw_rate`; until its end, or `stop`. `say` hears that nobody writes to it for seconds. Raises
    SourceError for no sound, for a WAV that is not of whole numbers, and, from its blocks too, for
    a pipe that cannot be read.
    """
    raw = _Stoppable(pipe.fileno(), stop, name, say)
    reader = cast(io.BufferedReader, io.BufferedReader(raw))
    try:
        first = reader.peek(4)[:4]
        if not first:
            raise EOFError("the pipe ended without a sample. Does the recorder before it run?")
        if first not in (b"RIFF", b"RF64"):
            return Sound(raw_rate, _raw(reader, raw_rate))
        form = _format(reader)
    except (ValueError, EOFError) as error:
        if stop.is_set():
            return Sound(raw_rate, iter(()))
        raise SourceError(f"{name}: {error}") from error
    return Sound(form.rate, _wav(reader, form))


class _Stoppable(io.RawIOBase):
    """A pipe that ends at `stop`. A read of standard input that went on beyond it would meet the
    end of the interpreter, which then aborts.
    """

    def __init__(
        self, number: int, stop: threading.Event, name: str, say: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._number, self._stop = number, stop
        self._name, self._say = name, say
        self._is_quiet = False  # which was said

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        while not self._stop.is_set():
            if self._has_come():
                data = self._read(len(buffer))
                if data and self._is_quiet:
                    self._is_quiet = False
                    self._say(f"{self._name} gives sound again.")
                buffer[: len(data)] = data
                return len(data)
            if not self._is_quiet and time.monotonic() - began >= _QUIET_SECONDS:
                self._is_quiet = True
                self._say(
                    f"{self._name}: nothing came for {_QUIET_SECONDS:g} s. Does the recorder "
                    "before it run? Going on."
                )
        return 0

    def _has_come(self) -> bool:
        # there select knows sockets alone
        return os.name == "nt" or bool(select.select([self._number], [], [], _LOOK_SECONDS)[0])

    def _read(self, most: int) -> bytes:
        try:
            return os.read(self._number, most)
        except OSError as error:
            raise SourceError(
                f"{self._name} cannot be read further: {error.strerror}. Start the recorder before "
                "it anew."
            ) from error


def _format(reader: io.BufferedReader) -> _Format:
    """Reads up to the samples. Raises ValueError, EOFError."""
    none = (
        "no WAV file of whole numbers ({}). Record with `arecord -f S16_LE`, or send raw samples."
    )
    if _exactly(reader, 12)[8:] != b"WAVE":
        raise ValueError(none.format("not a WAVE file"))
    fields = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(reader, 8))
        if name == b"data":
            break
        # a byte more where the size is odd
        if name != b"fmt ":
            _skip(reader, size + size % 2)
            continue
        if not 16 <= size <= _MOST_FORMAT_BYTES:
            raise ValueError(none.format(f"a format of {size} bytes"))
        fields = _exactly(reader, size + size % 2)

    if fields is None:
        raise ValueError(none.format("samples before their format"))
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", fields)
    if tag == _EXTENSIBLE and len(fields) >= 26:
        [tag] = struct.unpack_from("<H", fields, 24)
    if tag != _WHOLE_NUMBERS:
        raise ValueError(none.format(f"unknown format: {tag}"))
    width = (bits + 7) // 8
    if not channels or not rate or width not in _WIDTHS:
        raise ValueError(none.format(f"{channels} channels of {bits} bits, {rate} Hz"))
    return _Format(rate, channels, width, size)


def _exactly(reader: io.BufferedReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise EOFError("the pipe ended within the header of a WAV file.")
    return data


def _skip(reader: io.BufferedReader, size: int) -> None:
    while size:
        size -= len(_exactly(reader, min(size, 1 << 16)))


def _raw(reader: io.BufferedReader, rate: int) -> Iterator[np.ndarray]:
    size = 2 * max(1, round(BLOCK_SECONDS * rate))
    while data := reader.read(size):
        whole = data[: len(data) // 2 * 2]
        yield np.frombuffer(whole, "<i2").astype(np.float32) / 32768


def _wav(reader: io.BufferedReader, form: _Format) -> Iterator[np.ndarray]:
    """To the pipe's end: the header's length is a guess while the file is written. What is known to
    stand behind samples ends them there too.
    """
    frame = form.channels * form.width
    size = frame * max(1, round(BLOCK_SECONDS * form.rate))
    left = form.length // frame * frame
    while True:
        if left == 0 and reader.peek(5)[:5].lstrip(b"\0")[:4] in _BEHIND:
            return
        data = reader.read(min(size, left) if left > 0 else size)
        if not data:
            return
        left -= len(data)
        if whole := data[: len(data) // frame * frame]:
            yield mono(_floats(whole, form.width).reshape(-1, form.channels)).astype(np.float32)


def _floats(data: bytes, width: int) -> np.ndarray:
    """Samples of so many bytes -> -1..1."""
    if width == 3:  # the upper bytes of four
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, width = padded.tobytes(), 4
    values = np.frombuffer(data, _WIDTHS[width]).astype(np.float64)
    # eight bits have no sign
    return (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1)
