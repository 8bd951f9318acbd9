"""One thread that runs one sub-model, and the queue before it, which follows the deadlines of the
requests.

A deadline does not stop a running invoke, so it is looked at before: a request whose turn would
come too late is refused at once with RESOURCE_EXHAUSTED, and one whose time ran out while it waited
is not run. An idle model takes any request, so that an estimate that was once too long mends
itself.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from edvit_tf.device.rpc.messages import WireError

MAX_WAITING = 64  # requests: their tensors must not fill the memory, whatever their deadlines are
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


@dataclass
class _Job:
    argument: Any
    deadline: float  # time.monotonic()
    submitted: float  # time.perf_counter()
    queued: bool  # behind another
    future: asyncio.Future
    loop: asyncio.AbstractEventLoop
    taken: bool = False  # by the thread
    counted: bool = True  # among the unfinished


class Executor:
    """Runs `work(argument)` for one request after the other, in a thread of its own. `submit`
    belongs to one loop.
    """

    def __init__(self, name: str, work: Callable[[Any], Any], service_seconds: float) -> None:
        self.name = name
        self.service_seconds = service_seconds  # running mean of `work`
        # grows by one at each start and each end of `work`: odd while it runs. For the watchdog.
        self.turns = 0
        self.unfinished = 0  # waiting and running
        self._work = work
        self._started = time.perf_counter()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # a daemon, because a stuck one must not hold exit
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue, without the running one."""
        return max(0, self.unfinished - self.turns % 2)

    def expected_wait(self) -> float:
        """Seconds until a request that comes now would start."""
        elapsed = time.perf_counter() - self._started if self.turns % 2 else 0.0
        return max(0.0, self.unfinished * self.service_seconds - elapsed)

    async def submit(self, argument: Any, seconds_left: float) -> Done:
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
        wait = self.expected_wait()
        need = (wait + self.service_seconds) * _MARGIN
        queued = self.unfinished > 0
        if queued and (need > seconds_left or self.waiting >= MAX_WAITING):
            raise WireError(
                f"queue of {self.name}: got {self.waiting} waiting, {wait * 1e3:.0f} ms to wait "
                f"and {self.service_seconds * 1e3:.0f} ms to run; expected an end within the "
                f"{seconds_left * 1e3:.0f} ms left, and {MAX_WAITING} waiting at most. Send less, "
                "or to more devices.",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )

        # the thread hands the outcome over in this loop
        loop = asyncio.get_running_loop()
        job = _Job(
            argument,
            deadline=time.monotonic() + seconds_left,
            submitted=time.perf_counter(),
            queued=queued,
            future=loop.create_future(),
            loop=loop,
        )
        self.unfinished += 1
        self._jobs.put(job)

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
            if not job.taken:  # given up in the queue: others do not wait for it
                job.counted = False
                job.argument = None
                self.unfinished -= 1

    def close(self) -> None:
        """Ends the thread after the jobs that are queued."""
        self._jobs.put(None)

    def _serve(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            argument = job.argument  # before the loop may drop it
            job.taken = True
            started = time.perf_counter()
            # an idle model tries whatever comes: its estimate may be wrong
            usual_seconds = self.service_seconds if job.queued else 0.0

            outcome: Done | BaseException
            if job.future.cancelled():
                outcome = asyncio.CancelledError()  # nobody reads it
            elif time.monotonic() + usual_seconds >= job.deadline:
                outcome = WireError(
                    f"deadline: got {(started - job.submitted) * 1e3:.0f} ms in the queue of "
                    f"{self.name}; expected an end before the request's time is over. Not run.",
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                )
            else:
                outcome = self._run(job, argument, started)

            job.loop.call_soon_threadsafe(self._finish, job, outcome)

    def _run(self, job: _Job, argument: Any, started: float) -> Done | Exception:
        # odd from here to the end: see `turns`
        self._started = started
        self.turns += 1
        try:
            value = self._work(argument)
        except Exception as error:  # noqa: BLE001 (the request's to report; the thread goes on)
            return error
        finally:
            self.turns += 1

        # the running mean follows; a failure would say nothing of it
        seconds = time.perf_counter() - started
        more = seconds - self.service_seconds
        self.service_seconds += (_LONGER if more > 0 else _SHORTER) * more

        return Done(value, (started - job.submitted) * 1e3, seconds * 1e3)

    def _finish(self, job: _Job, outcome: Done | BaseException) -> None:
        """In the loop: hands the outcome over, if the request is still there."""
        # a request that was given up in the queue is taken off already
        self.unfinished -= job.counted
        if job.future.done():
            return
        if isinstance(outcome, Done):
            job.future.set_result(outcome)
        else:
            job.future.set_exception(outcome)
