"""One thread that runs one sub-model, and the queue before it, which follows the deadlines of the
requests and is fair between those who ask.

A deadline does not stop a running invoke, so it is looked at before: a request whose turn would
come too late is refused at once with RESOURCE_EXHAUSTED, and so is one that others, whose turns
come first, make too late while it waits. An idle model takes any request, so that an estimate that
was once too long mends itself.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from edvit_tf.device.rpc.callers import NOBODY, Caller
from edvit_tf.device.rpc.fair_queue import FairQueue
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares

# Requests in a queue, of which a lone connection may have 64: whatever their deadlines are, none is
# to wait for ever. (Their bytes have limits of their own, `limits.py`.)
MAX_WAITING = 195
# On the time to the end: a request that is done just at its deadline is late at the other end.
_MARGIN = 1.1
# Weight of the newest service time: a slow moment is believed sooner than a fast one.
_LONGER = 0.5
_SHORTER = 0.2


@dataclass(frozen=True)
class Done:
    """What a job returned, and the milliseconds that it waited and ran."""

    value: Any
    queue_ms: float
    compute_ms: float


@dataclass(eq=False)
class _Job:
    caller: Caller
    argument: Any
    deadline: float  # time.monotonic()
    submitted: float  # time.perf_counter()
    queued: bool  # behind another
    future: asyncio.Future
    loop: asyncio.AbstractEventLoop


class Executor:
    """Runs `work(argument)` for one request after the other, in a thread of its own. `submit`
    belongs to one loop.
    """

    def __init__(self, name: str, work: Callable[[Any], Any], service_seconds: float) -> None:
        self.name = name
        self.service_seconds = service_seconds  # running mean of `work`
        # grows by one at each start and each end of `work`: odd while it runs. For the watchdog.
        self.turns = 0
        self._work = work
        self._started = time.perf_counter()
        self._room = Shares(f"requests that wait for {name}", MAX_WAITING)
        self._jobs: FairQueue[_Job] = FairQueue()
        self._busy = False  # the thread has a job
        self._closed = False
        self._changed = threading.Condition()  # guards the jobs and these two
        # a daemon, because a stuck one must not hold exit
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue, without the running one."""
        return len(self._jobs)

    @property
    def unfinished(self) -> int:
        """Requests that wait or run."""
        with self._changed:
            return len(self._jobs) + self._busy

    def expected_wait(self, caller: Caller = NOBODY) -> float:
        """Seconds until a request of a caller that comes now would start."""
        with self._changed:
            ahead = self._jobs.ahead(caller.turn)
            return self._running_seconds() + ahead * self.service_seconds

    def _running_seconds(self) -> float:
        """What the running work still takes, if it takes what it usually does."""
        elapsed = time.perf_counter() - self._started if self.turns % 2 else 0.0
        return max(0.0, self.service_seconds - elapsed) if self._busy else 0.0

    async def submit(self, argument: Any, seconds_left: float, caller: Caller = NOBODY) -> Done:
        """Waits for the turn and the result. Raises WireError RESOURCE_EXHAUSTED or
        DEADLINE_EXCEEDED, or work's error.

        Nobody waits longer than `seconds_left`. A cancelled request leaves the queue without being
        run.
        """
        if seconds_left <= 0:  # an overslept event loop, no queue that is too long
            raise WireError(
                f"deadline: got {-seconds_left * 1e3:.0f} ms too late before {self.name} began; "
                "expected time for it. Give more time, or look at what else this machine does.",
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )

        # Would it come too late? Then it is refused now, and costs nobody anything.
        queued = self.unfinished > 0
        wait = self.expected_wait(caller)
        if queued and (wait + self.service_seconds) * _MARGIN > seconds_left:
            raise self._too_late(wait, seconds_left)

        with self._room.held(caller):
            return await self._served(argument, seconds_left, caller, queued)

    async def _served(
        self, argument: Any, seconds_left: float, caller: Caller, queued: bool
    ) -> Done:
        # the thread hands the outcome over in this loop
        loop = asyncio.get_running_loop()
        job = _Job(
            caller,
            argument,
            deadline=time.monotonic() + seconds_left,
            submitted=time.perf_counter(),
            queued=queued,
            future=loop.create_future(),
            loop=loop,
        )
        with self._changed:
            overtakes = self._jobs.ahead(caller.turn) < len(self._jobs)
            self._jobs.put(caller.turn, job)
            self._changed.notify()

        # those whose turns come later now may be too late
        if overtakes:
            self._refuse_late()
        try:
            async with asyncio.timeout(seconds_left):
                return await job.future
        except TimeoutError:
            raise WireError(
                f"deadline: got no end of {self.name} within {seconds_left * 1e3:.0f} ms; expected "
                "one. Give more time, or look at the server's log.",
                grpc.StatusCode.DEADLINE_EXCEEDED,
            ) from None
        finally:
            # given up in the queue: others do not wait for it
            with self._changed:
                self._jobs.remove(caller.turn, job)
            # an error holds this frame, and the job the error: nobody would free the request
            del job

    def _refuse_late(self) -> None:
        """Refuses what waits and would end too late, since others came whose turn is earlier."""
        now = time.monotonic()
        with self._changed:
            wait = self._running_seconds()
            waiting = list(self._jobs.in_order())

        for job in waiting:
            left = job.deadline - now
            if job.future.done() or not job.queued:
                continue
            if wait + self.service_seconds > left:
                job.future.set_exception(self._too_late(wait, left))
            else:
                wait += self.service_seconds

    def _too_late(self, wait: float, left: float) -> WireError:
        return WireError(
            f"queue of {self.name}: got {self.waiting} waiting, {wait * 1e3:.0f} ms to wait "
            f"and {self.service_seconds * 1e3:.0f} ms to run; expected an end within the "
            f"{left * 1e3:.0f} ms left. Send less, or to more devices.",
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )

    def close(self) -> None:
        """Ends the thread after the jobs that are queued."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _next(self) -> _Job | None:
        """In the thread: waits for the next job; None when there will be none."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._changed.wait()

            self._busy = True
            return self._jobs.pop()

    def _serve(self) -> None:
        """The thread."""
        while (job := self._next()) is not None:
            started = time.perf_counter()
            # an idle model tries whatever comes: its estimate may be wrong
            usual_seconds = self.service_seconds if job.queued else 0.0

            outcome: Done | BaseException
            if job.future.done():
                outcome = asyncio.CancelledError()  # nobody reads it
            elif time.monotonic() + usual_seconds >= job.deadline:
                outcome = WireError(
                    f"deadline: got {(started - job.submitted) * 1e3:.0f} ms in the queue of "
                    f"{self.name}; expected an end before the request's time is over. Not run.",
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                )
            else:
                outcome = self._run(job, job.argument, started)

            with self._changed:
                self._busy = False
            job.argument = None
            job.loop.call_soon_threadsafe(self._finish, job, outcome)
            # until the next one comes nothing of this one is held
            del job, outcome

    def _run(self, job: _Job, argument: Any, started: float) -> Done | Exception:
        # odd from here to the end: see `turns`
        self._started = started
        self.turns += 1
        try:
            value = self._work(argument)
        except Exception as error:  # noqa: BLE001 (the request's to report; the thread goes on)
            # not this frame, which holds the request
            return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        finally:
            self.turns += 1

        # the running mean follows; a failure would say nothing of it
        seconds = time.perf_counter() - started
        more = seconds - self.service_seconds
        self.service_seconds += (_LONGER if more > 0 else _SHORTER) * more

        return Done(value, (started - job.submitted) * 1e3, seconds * 1e3)

    def _finish(self, job: _Job, outcome: Done | BaseException) -> None:
        """In the loop: hands the outcome over, if the request is still there."""
        if job.future.done():
            return
        if isinstance(outcome, Done):
            job.future.set_result(outcome)
        else:
            job.future.set_exception(outcome)
