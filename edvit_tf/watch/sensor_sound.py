"""The sound of one sensor of a room as it comes, at the rate of the models, through its losses."""

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edvit_tf.device.model.decode_sound import mono
from edvit_tf.errors import SourceError
from edvit_tf.watch.address import shown_address
from edvit_tf.watch.recorder import opened_recorder
from edvit_tf.watch.reopening import SourceLost, kept_open
from edvit_tf.watch.room import Sensor
from edvit_tf.watch.sound_file import RECORDINGS, Recording, played, recording
from edvit_tf.watch.sound_pipe import Sound, piped
from edvit_tf.watch.video import needed
from edvit_tf.watch.windows import resampled

_OPEN_SECONDS, _READ_SECONDS = 10.0, 5.0  # that an address may be silent


class SensorSound:
    """Blocks (n,) of one sensor. Raises SourceError for a file that is not there."""

    def __init__(self, sensor: Sensor, source: str, rate: int, stdin: BinaryIO | None) -> None:
        self._sensor, self._source, self._rate, self._stdin = sensor, source, rate, stdin
        self.name = f"sensor {sensor.name}"
        self._is_address = "://" in source
        path = Path(source)
        self._is_pipe = bool(source) and path.exists() and stat.S_ISFIFO(path.stat().st_mode)
        self._is_file = bool(source) and path.is_file()
        self._recording: Recording | SourceError | None = None  # of a file, until it is played
        self.lost = 0  # times that a device dropped sound
        # what ends by itself is over then; everything else comes back
        self.ends = self._is_file or source == "-"
        looks_like_a_file = "/" in source or source.lower().endswith(RECORDINGS)
        if looks_like_a_file and not (self._is_file or self._is_pipe or self._is_address):
            raise SourceError(
                f"{self.name}: {source} is no file and no pipe. Give a recording, what mkfifo "
                "made, a device, or an address."
            )

    def decode(self) -> None:
        """Before `blocks`: a recording is decoded, which may take seconds. That it cannot be is
        raised by `blocks`.
        """
        if self._is_file:
            try:
                self._recording = recording(self.name, self._source)
            except SourceError as error:
                self._recording = error

    def blocks(
        self,
        started: float,
        began: Callable[[], None],
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> Iterator[np.ndarray]:
        """A recording plays from `started` on, of `time.monotonic()`. Calls `began` where sound
        begins, and begins anew. Raises SourceError where it is not there.
        """

        @contextlib.contextmanager
        def opened() -> Iterator[Iterator[np.ndarray]]:
            with self._opened(started, stop, say) as sound:
                began()
                yield resampled(sound.blocks, sound.rate, self._rate)

        if self.ends:
            with opened() as blocks:
                yield from blocks
        else:
            yield from kept_open(self.name, opened, stop, say)

    def _opened(
        self, started: float, stop: threading.Event, say: Callable[[str], None]
    ) -> contextlib.AbstractContextManager[Sound]:
        raw_rate = self._sensor.rate or self._rate
        if self._is_file:
            recorded, self._recording = self._recording, None
            assert recorded is not None
            if isinstance(recorded, SourceError):
                raise recorded
            return contextlib.nullcontext(played(recorded, stop, started))
        if self._source == "-":
            assert self._stdin is not None
            return contextlib.nullcontext(piped(self._stdin, raw_rate, stop, say, self.name))
        if self._is_pipe:
            return _opened_pipe(self._source, raw_rate, stop, say)
        if self._is_address:
            return _opened_address(self._source)
        return opened_recorder(self._source, self._lost)

    def _lost(self) -> None:
        self.lost += 1


@contextlib.contextmanager
def _opened_pipe(
    path: str, raw_rate: int, stop: threading.Event, say: Callable[[str], None]
) -> Iterator[Sound]:
    """A named pipe. Raises SourceLost while nobody writes to it, and where it cannot be read."""
    try:
        # without waiting for a writer, who may never come
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceLost(f"{path} cannot be opened: {error.strerror}.") from error
    with open(number, "rb", buffering=0) as pipe:
        try:
            yield piped(pipe, raw_rate, stop, say, path)  # type: ignore[arg-type]
        except SourceError as error:
            raise SourceLost(str(error)) from error


@contextlib.contextmanager
def _opened_address(address: str) -> Iterator[Sound]:
    """The sound of a stream of the network, by PyAV. Raises SourceLost."""
    shown = shown_address(address)
    try:
        import av
    except ImportError as error:
        raise needed("av (PyAV)", shown) from error

    options = {"rtsp_transport": "tcp"} if address.startswith("rtsp") else {}
    try:
        with av.open(address, timeout=(_OPEN_SECONDS, _READ_SECONDS), options=options) as container:
            if not container.streams.audio:
                raise SourceLost(f"{shown} has no sound in it.")
            stream = container.streams.audio[0]
            yield Sound(stream.rate, _decoded(av, container, stream))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        words = str(error).replace(address, shown)
        raise SourceLost(f"it cannot be opened, or read further: {words}.") from error


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[np.ndarray]:
    """float32 blocks; a damaged packet is left out."""
    floats = av.AudioResampler(format="fltp", rate=stream.rate)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            for part in floats.resample(frame):
                yield mono(part.to_ndarray().T).astype(np.float32)  # (n, channels) -> (n,)
