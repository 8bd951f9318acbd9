"""Sound: of a microphone, a pipe, or a file in the place of one; in windows that slide."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edvit_tf.device.model.sound import MelSpec
from edvit_tf.errors import SourceError
from edvit_tf.watch.item import Item
from edvit_tf.watch.recorder import opened_recorder
from edvit_tf.watch.reopening import kept_open
from edvit_tf.watch.silence import Silence
from edvit_tf.watch.sound_file import RECORDINGS, played, recording
from edvit_tf.watch.sound_pipe import Sound, piped
from edvit_tf.watch.windows import resampled, sliding, wav_bytes

_Window = tuple[int, np.ndarray]  # start in samples, (n,)


class Microphone:
    """Windows of the sound of `where`: "" (the machine's own choice), a device's number or name, a
    recording, which is played at its own rate, or "-", `pipe`. With `fast` these two wait for the
    fleet, and no window is dropped.
    """

    unit = "windows"

    def __init__(
        self, where: str, spec: MelSpec, hop: int, *, fast: bool, pipe: BinaryIO, pipe_rate: int
    ) -> None:
        self.name = f"--microphone {where}".strip()
        self._where, self._spec, self._hop = where, spec, hop
        self._pipe, self._pipe_rate = pipe, pipe_rate
        self._is_file = bool(where) and where != "-" and Path(where).is_file()
        self.keeps = fast
        # no device is called so
        if not self._is_file and ("/" in where or where.lower().endswith(RECORDINGS)):
            raise SourceError(f"{self.name} is no file. Give a recording, a device, or -.")
        if fast and not (self._is_file or where == "-"):
            raise SourceError(f"--fast goes with a file or a pipe; {self.name} has its own pace.")
        self.lost = 0
        self._began: float | None = None  # time.monotonic() of a device's first sound
        self._next_start = 0  # in samples, of its next window at the earliest
        self._silence = Silence(self.name, hop / spec.sample_rate_hz)

    def run(
        self, give: Callable[[Item], bool], stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """Until the end of its sound, or `stop`."""
        rate = self._spec.sample_rate_hz
        for start, samples in self._windows(stop, say):
            self._silence.heard(samples, say)
            values = functools.partial(_values, samples, rate)
            seconds = start / rate
            if not give(Item(f"{seconds:.3f} s", values, {"start_seconds": seconds})):
                return

    def _windows(self, stop: threading.Event, say: Callable[[str], None]) -> Iterator[_Window]:
        if self._where == "-":
            return self._cut(piped(self._pipe, self._pipe_rate, stop, say))
        if self._is_file:
            recorded = recording(self.name, self._where)
            started = None if self.keeps else time.monotonic()
            return self._cut(played(recorded, stop, started))
        return kept_open(self.name, self._recorded, stop, say)

    def _cut(self, sound: Sound) -> Iterator[_Window]:
        blocks = resampled(sound.blocks, sound.rate, self._spec.sample_rate_hz)
        return sliding(blocks, self._spec.window_samples, self._hop)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[Iterator[_Window]]:
        with opened_recorder(self._where, self._has_lost) as sound:
            yield self._on_one_clock(self._cut(sound))

    def _has_lost(self) -> None:
        self.lost += 1

    def _on_one_clock(self, windows: Iterator[_Window]) -> Iterator[_Window]:
        """The time goes on while a device is away: no two windows have the same."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        away_until = round((now - self._began) * self._spec.sample_rate_hz)
        first = max(away_until, self._next_start)
        for start, samples in windows:
            self._next_start = first + start + self._hop
            yield first + start, samples


def _values(samples: np.ndarray, rate: int) -> list[np.ndarray | bytes]:
    return [wav_bytes(samples, rate)]
