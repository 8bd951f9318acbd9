"""Which of several devices with the same sub-model is asked, and when another: on failure, or when
the first is slow.

A second copy of a request is sent after the time in which the device answers 95 of 100 requests,
the first good answer counts, the other copy is cancelled. A budget holds such copies to
BUDGET_SHARE of the requests, so that a fleet that is slow because it is busy does not get twice the
load. Source: Dean and Barroso, The Tail at Scale, 2013.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

BUDGET_SHARE = 0.1  # of the requests to sub-models with replicas
_SAVED = 4.0  # copies that quiet times may save up
_KEPT = 64  # round trips of a device
_ENOUGH = 16
LEAST_DELAY_SECONDS = 0.005
_FIRST_DELAY_SHARE = 0.25  # of the time left, before enough round trips are known


class RoundTrips:
    """The latest round trips of a device, in seconds."""

    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=_KEPT)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def p95(self) -> float | None:
        """None before enough are known."""
        if len(self._seconds) < _ENOUGH:
            return None
        return sorted(self._seconds)[int(0.95 * len(self._seconds))]


class Budget:
    """How many second copies may be sent."""

    def __init__(self) -> None:
        self.sent = 0  # copies since the start
        self._saved = _SAVED

    def request(self) -> None:
        """A request that could have a copy."""
        self._saved = min(_SAVED, self._saved + BUDGET_SHARE)

    def take(self) -> bool:
        """Whether a copy may be sent now; if so it counts as sent."""
        if self._saved < 1:
            return False
        self._saved -= 1
        self.sent += 1
        return True


def delay_seconds(p95: float | None, left_seconds: float) -> float:
    """How long the first device is waited for before another gets a copy."""
    if p95 is None:
        return _FIRST_DELAY_SHARE * left_seconds
    return min(max(p95, LEAST_DELAY_SECONDS), left_seconds / 2)


async def first_good(
    attempts: Sequence[Callable[[], Awaitable[Any]]],
    good: Callable[[Any], bool],
    delay: float,
    budget: Budget,
) -> Any:
    """The first good result of `attempts`, or the last bad one.

    They start one after the other: the next when none is running, or once, `delay` seconds after
    the first, beside it if the budget has a copy left. What still runs at the end is cancelled.
    Raises what an attempt raises.
    """
    budget.request()
    waiting = list(attempts)
    running: set[asyncio.Future] = set()
    may_copy = True
    result = None

    try:
        while waiting or running:
            # at the start, or when the one before failed
            if not running:
                running.add(asyncio.ensure_future(waiting.pop(0)()))

            done, running = await asyncio.wait(
                running,
                timeout=delay if may_copy and waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )

            if not done:  # the first is slow
                may_copy = False
                if budget.take():
                    running.add(asyncio.ensure_future(waiting.pop(0)()))

            for task in done:
                task.exception()  # seen, should another of them count

            for task in done:
                result = task.result()
                if good(result):
                    return result

        return result
    finally:
        for task in running:
            task.cancel()
