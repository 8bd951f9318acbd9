"""Windows of several sensors that are of one moment, cut by one clock.

A sensor's samples carry no time. A sample cannot come before it was heard, and seldom all of them
are late: so the earliest arrival of the last seconds says when a sensor's first sample was heard.
That follows a sensor's own clock, which runs a little fast or slow, and is not misled by sound that
was held up on its way. Times are seconds of one clock, `time.monotonic()`.
"""

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_STEADY_SECONDS = 5.0  # of arrivals that are looked at
_SPARE_SECONDS = 1.0  # that are kept beyond what a window can need


@dataclass(frozen=True)
class Moment:
    """What the sensors heard within one window; one that has no sound of it is left out."""

    start_seconds: float  # since the first sound of any of them
    sounds: Mapping[str, np.ndarray]  # by sensor, float32 (window_samples,)


class _Track:
    """The last sound of one sensor; `delay` is by how much it always comes late, seconds."""

    def __init__(self, rate: int, keep: int, delay: float, tolerance: float) -> None:
        self._rate, self._keep = rate, keep
        self.delay, self._tolerance = delay, tolerance
        self.is_over = False  # nothing more will come
        self.begin()

    def begin(self) -> None:
        """What comes next does not hang together with what came before."""
        self._kept = np.zeros(0, np.float32)
        self._count = 0  # samples that have come
        self._arrivals: collections.deque[tuple[float, float]] = collections.deque()
        self.began: float | None = None  # when the first sample was heard

    def heard(self, samples: np.ndarray, now: float) -> None:
        self._count += len(samples)
        self._kept = np.concatenate([self._kept, samples])[-self._keep :]

        self._arrivals.append((now, now - self.delay - self._count / self._rate))
        while self._arrivals[0][0] < now - _STEADY_SECONDS:
            self._arrivals.popleft()
        began = min(earliest for _, earliest in self._arrivals)
        # samples were lost: it is not known which of those that are kept came before these
        if self.began is not None and began > self.began + self._tolerance:
            self._kept = np.array(samples[-self._keep :], np.float32)
        self.began = began

    @property
    def end(self) -> float:
        """When the last sample was heard."""
        return -np.inf if self.began is None else self.began + self._count / self._rate

    def is_settled(self, at: float, size: int) -> bool:
        """Whether what comes later changes nothing about its window."""
        if self.began is None:
            return self.is_over
        start, off = self._start(at)
        return self.is_over or off > self._tolerance or self._count >= start + size

    def window(self, at: float, size: int) -> np.ndarray | None:
        """`size` samples from that time on, or as near to it as the tolerance allows."""
        if self.began is None or len(self._kept) < size:
            return None
        start, off = self._start(at)
        if start + size > self._count:  # the end is not there: the newest that there are
            off = max(off, (start + size - self._count) / self._rate)
            start = self._count - size
        if off > self._tolerance:
            return None
        first = self._count - len(self._kept)
        return self._kept[start - first : start - first + size]

    def _start(self, at: float) -> tuple[int, float]:
        """The number of the first sample of a window from that time on, and by how much it is too
        late, seconds: what came before is not there.
        """
        assert self.began is not None
        wanted = round((at - self.began) * self._rate)
        start = max(wanted, self._count - len(self._kept))
        return start, (start - wanted) / self._rate


class Moments:
    """Takes the sensors' sound as it comes, and gives the windows whose time has come.

    A window waits for the sensors that lack the end of it, `tolerance` seconds at most; a sensor's
    sound counts where it is that near to the window. `delays` are seconds by sensor. Memory does
    not grow, whatever comes or does not.
    """

    def __init__(
        self,
        delays: Mapping[str, float],
        rate: int,
        window_samples: int,
        hop: int,
        tolerance: float,
    ) -> None:
        self._rate, self._size, self._hop = rate, window_samples, hop
        self._wait = tolerance + max(delays.values())
        seconds = 2 * tolerance + max(delays.values()) + _SPARE_SECONDS
        keep = window_samples + round(rate * seconds)
        self._tracks = {
            name: _Track(rate, keep, delay, tolerance) for name, delay in delays.items()
        }
        self._origin: float | None = None
        self._number = 0  # of the next window

    def begin(self, name: str) -> None:
        """A sensor is there, for the first time or again."""
        self._tracks[name].begin()

    def heard(self, name: str, samples: np.ndarray, now: float) -> None:
        """A sensor's next samples (n,), of the rate of the windows."""
        if len(samples):
            track = self._tracks[name]
            track.heard(samples, now)
            if self._origin is None:
                self._origin = track.began

    def over(self, name: str) -> None:
        """No more comes from a sensor, ever."""
        self._tracks[name].is_over = True

    def due(self, now: float) -> Iterator[Moment]:
        """The windows that are to be asked now, in their order; those of which no sensor has any
        sound are left out.
        """
        if self._origin is None:
            return
        while True:
            at = self._origin + self._number * self._hop / self._rate
            end = at + (self._size - 0.5) / self._rate  # half a sample before: sums are not exact
            is_whole = all(track.is_settled(at, self._size) for track in self._tracks.values())
            if now < end or (not is_whole and now < end + self._wait):
                return
            self._number += 1
            sounds = {}
            for name, track in self._tracks.items():
                sound = track.window(at, self._size)
                if sound is not None:
                    sounds[name] = sound
            if sounds:
                yield Moment(at - self._origin, sounds)

    def is_over(self, now: float) -> bool:
        """Whether no further window can come: `due` was asked for its last one."""
        tracks = self._tracks.values()
        last = max(track.end + track.delay for track in tracks)
        return all(track.is_over for track in tracks) and now > last + self._wait
