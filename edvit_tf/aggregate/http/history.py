"""The last minutes of a fleet, a row a second: what was answered, how fast, by which device."""

import collections
import math
import statistics
from collections.abc import Iterable, Mapping

from edvit_tf.aggregate.seen import Answer

SECONDS = 300
_LEAST_MS = 0.01
_LOG_STEP = math.log(1.05)


class Second:
    """The row of one second, while it is filled."""

    def __init__(self, at: int) -> None:
        self.at = at  # Unix time
        self.spread: collections.Counter[int] = collections.Counter()  # answers, by `_step`
        self._total_ms: list[float] = []
        self._degraded = 0
        self._device_ms: dict[str, list[float]] = collections.defaultdict(list)

    def add(self, answer: Answer) -> None:
        self._total_ms.append(answer.total_ms)
        self.spread[_step(answer.total_ms)] += 1
        self._degraded += bool(answer.missing)
        for device, ms in answer.devices.values():
            self._device_ms[device].append(ms)

    def row(self, refused: int) -> dict:
        """The row, as the page has it."""
        return {
            "at": self.at,
            "answered": len(self._total_ms),
            "degraded": self._degraded,
            "refused": refused,
            "p50_ms": _median(self._total_ms),
            "devices": {name: _median(found) for name, found in self._device_ms.items()},
        }


def _step(ms: float) -> int:
    """The step of a stair of milliseconds, each 5 % above the one below: minutes of thousands of
    answers a second are a few dozen numbers.
    """
    return math.floor(math.log(max(ms, _LEAST_MS)) / _LOG_STEP)


def _quantile(counts: collections.Counter[int], share: float) -> float | None:
    left = share * counts.total()
    for step in sorted(counts):
        left -= counts[step]
        if left <= 0:
            return round(math.exp((step + 0.5) * _LOG_STEP), 3)  # the middle of the step
    return None


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


class History:
    """Rows of the last SECONDS, and each device's last milliseconds."""

    def __init__(self) -> None:
        self.rows: collections.deque[dict] = collections.deque(maxlen=SECONDS)
        self._spreads: collections.deque[collections.Counter[int]] = collections.deque(
            maxlen=SECONDS
        )  # of these rows
        self.last_ms: dict[str, float] = {}
        self._second: Second | None = None
        self._refused = 0  # in all, at the end of the last row

    def add(self, answers: Iterable[Answer], now: int, refused: int) -> dict | None:
        """Answers since the last time; `refused` are the requests that had none since the start.
        Returns the row of the second that is over, if one is.
        """
        row = None
        if self._second is None:
            self._second, self._refused = Second(now), refused
        elif now != self._second.at:
            row = self._second.row(refused - self._refused)
            self.rows.append(row)
            self._spreads.append(self._second.spread)
            self._second, self._refused = Second(now), refused

        for answer in answers:
            self._second.add(answer)
            for device, ms in answer.devices.values():
                self.last_ms[device] = round(ms, 3)
        return row

    def minutes(self) -> dict:
        """All rows together; p50 and p95 to a few percent, null where nothing was answered."""
        merged: collections.Counter[int] = collections.Counter()
        for counts in list(self._spreads):
            merged.update(counts)
        return {
            "seconds": len(self.rows),
            **self.lately(SECONDS),
            "p50_ms": _quantile(merged, 0.5),
            "p95_ms": _quantile(merged, 0.95),
        }

    def lately(self, seconds: int) -> Mapping[str, int]:
        """Answered, degraded and refused of the last rows."""
        rows = list(self.rows)[-seconds:]
        return {key: sum(row[key] for row in rows) for key in ("answered", "degraded", "refused")}
