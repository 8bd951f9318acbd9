"""Sends requests at the moments at which they are to be sent: open-loop, so a server that stands
still is asked on, as its users would.

A generator that waits for an answer before it asks again sends nothing while the server stands
still, and so counts one slow request where its users had a hundred (coordinated omission). Here the
time of each request runs from the moment at which it was to be sent. More than a given number are
never in flight: what finds no place waits for one, its time runs on, and what has found none when
its time is over is not sent, and counts as failed.

Source: Tene, How NOT to Measure Latency, 2015; Schroeder et al., Open Versus Closed, NSDI 2006.
"""

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

OK = "OK"
DEGRADED = "DEGRADED"  # answered, without some sub-models
NOT_SENT = "NOT_SENT"


@dataclass
class Row:
    """One request; seconds from the start."""

    place: int
    intended: float
    turn: float = 0.0  # when the generator came to it
    held: bool = False  # it waited for a place in flight
    sent: float | None = None  # None: not at all
    done: float = 0.0
    code: str = NOT_SENT  # OK, DEGRADED, or gRPC's name of why there is no answer

    @property
    def answered(self) -> bool:
        return self.code in (OK, DEGRADED)


Send = Callable[[int, float], Awaitable[str]]  # (place, seconds that it has) -> code


async def drive(
    moments: Iterable[float],
    send: Send,
    *,
    most_in_flight: int,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Row]:
    """A row for each of `moments`, in their order. `send` raises nothing; a request has
    `timeout_seconds` from the moment at which it was to be sent.
    """
    run = _Run(send, most_in_flight, timeout_seconds, clock)
    rows = [Row(place, float(moment)) for place, moment in enumerate(moments)]
    for row in rows:
        left = row.intended - run.now()
        if left > 0:
            await sleep(left)
        else:
            # behind: those before are sent first, so that `sent` is when they were
            await asyncio.sleep(0)
        run.arrives(row)

    await run.ends()
    return rows


class _Run:
    """The requests that are in flight, and those that wait for a place."""

    def __init__(
        self, send: Send, most_in_flight: int, timeout_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._send = send
        self._most = most_in_flight
        self._timeout = timeout_seconds
        self._clock = clock
        self._start = clock()
        self._waiting: collections.deque[Row] = collections.deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    def now(self) -> float:
        return self._clock() - self._start

    def arrives(self, row: Row) -> None:
        row.turn = self.now()
        row.held = len(self._flying) >= self._most
        self._waiting.append(row)
        self._fill()

    def _fill(self) -> None:
        """Sends what waits, in turn, while there is a place."""
        while self._waiting and len(self._flying) < self._most:
            row = self._waiting.popleft()
            now = self.now()
            left = row.intended + self._timeout - now
            if left <= 0:
                row.done = now
                continue

            row.sent = now
            task = asyncio.ensure_future(self._answered(row, left))
            self._flying.add(task)
            task.add_done_callback(self._landed)

    async def _answered(self, row: Row, left: float) -> None:
        row.code = await self._send(row.place, left)
        row.done = self.now()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._fill()

    async def ends(self) -> None:
        """Waits for all that was sent, and raises what went wrong in `send`."""
        # one that lands sends the next that waits, so that none is left when none flies
        while self._flying:
            await asyncio.wait(self._flying)
        if self._fault is not None:
            raise self._fault
