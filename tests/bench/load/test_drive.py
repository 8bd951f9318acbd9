"""When requests arrive and are sent: by a clock of the test, exactly."""

import asyncio

import numpy as np
import pytest

from edvit_tf.bench.load.arrivals import arrivals
from edvit_tf.bench.load.drive import NOT_SENT, OK, drive


class Clock:
    """Time that goes on only when somebody waits: each who waits is woken in turn."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._asleep: list[tuple[float, int, asyncio.Future]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._asleep.append((self.now + seconds, len(self._asleep), woken))
        await woken

    async def run(self, task: asyncio.Task) -> None:
        """Until a task has ended."""
        while not task.done():
            for _ in range(20):  # whoever can go on does
                await asyncio.sleep(0)
            if self._asleep and not task.done():
                self._asleep.sort()
                until, _, woken = self._asleep.pop(0)
                self.now = max(self.now, until)
                woken.set_result(None)


def driven(moments, took, most_in_flight=100, timeout=10.0):
    """The rows of requests that take `took(place, now)` seconds."""

    async def whole():
        clock = Clock()
        start = clock.now

        async def send(place, left):
            seconds = took(place, clock.now - start)
            await clock.sleep(min(seconds, left))
            return OK if seconds <= left else "DEADLINE_EXCEEDED"

        task = asyncio.ensure_future(
            drive(
                moments,
                send,
                most_in_flight=most_in_flight,
                timeout_seconds=timeout,
                clock=clock,
                sleep=clock.sleep,
            )
        )
        await clock.run(task)
        return task.result()

    return asyncio.run(whole())


def test_a_constant_rate_is_exact():
    assert arrivals(50, 2).tolist() == [n / 50 for n in range(100)]
    assert len(arrivals(0.3, 10)) == 3
    assert len(arrivals(3, 1 / 3)) == 1


def test_a_poisson_process_has_its_rate_and_its_spread_and_is_the_seed_s():
    found = arrivals(200, 100, seed=7)
    gaps = np.diff(found)
    assert abs(len(found) / 20000 - 1) < 0.03  # a standard deviation is 0.7 %
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05  # of an exponential distribution they are equal
    assert (gaps > 0).all() and found[-1] < 100
    assert np.array_equal(found, arrivals(200, 100, seed=7))
    assert not np.array_equal(found[:100], arrivals(200, 100, seed=8)[:100])
    assert np.array_equal(found[:100], arrivals(200, 50, seed=7)[:100]), "the length moves nothing"


def test_requests_are_sent_at_their_moments_however_long_those_before_take():
    moments = arrivals(20, 5, seed=1)
    rows = driven(moments, lambda place, now: 3.0)
    assert [row.sent for row in rows] == pytest.approx(list(moments), abs=1e-9)
    assert [row.done - row.intended for row in rows] == pytest.approx([3.0] * len(rows), abs=1e-9)


def test_what_finds_no_place_waits_and_its_time_runs_on():
    # two at a time, of a second each, where four a second arrive
    rows = driven([0.0, 0.25, 0.5, 0.75], lambda place, now: 1.0, most_in_flight=2)
    assert [row.sent for row in rows] == pytest.approx([0.0, 0.25, 1.0, 1.25])
    assert [row.done - row.intended for row in rows] == pytest.approx([1.0, 1.0, 1.5, 1.5])
    assert [row.turn for row in rows] == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert [row.held for row in rows] == [False, False, True, True]


def test_what_found_no_place_in_its_time_is_a_failure_and_is_there():
    rows = driven([0.0, 0.0, 0.0], lambda place, now: 1.0, most_in_flight=1, timeout=1.0)
    assert [row.code for row in rows] == [OK, NOT_SENT, NOT_SENT]
    assert [row.sent for row in rows] == [0.0, None, None]


def test_a_generator_that_is_late_says_so():
    """Here the clock is ahead by 0.3 s when the third request's turn comes."""

    async def whole():
        clock = Clock()

        async def send(place, left):
            clock.now += 0.3 if place == 1 else 0.0  # the event loop stands still
            return OK

        task = asyncio.ensure_future(
            drive(
                [0.0, 0.1, 0.2, 0.6],
                send,
                most_in_flight=9,
                timeout_seconds=9,
                clock=clock,
                sleep=clock.sleep,
            )
        )
        await clock.run(task)
        return task.result()

    rows = asyncio.run(whole())
    assert [row.turn - row.intended for row in rows] == pytest.approx([0, 0, 0.2, 0], abs=1e-9)


def test_a_fault_of_the_sender_is_no_figure():
    def broken(place, now):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        driven([0.0, 0.1], broken)


def test_a_generator_that_is_behind_sends_before_it_goes_on():
    """`sent` is when a request was, also where none of those before had to be waited for."""
    clock, begun = Clock(), []

    async def send(place, left):
        begun.append(clock.now - 1000.0)
        clock.now += 0.1  # the event loop is busy
        return OK

    async def whole():
        options = {"most_in_flight": 9, "timeout_seconds": 9, "clock": clock, "sleep": clock.sleep}
        return await drive([0.0, 0.0, 0.0], send, **options)

    rows = asyncio.run(whole())
    assert [row.sent for row in rows] == pytest.approx([0.0, 0.1, 0.2]) == begun
