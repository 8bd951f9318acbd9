"""Whether a device that missed a deadline is stuck, or busy with an input that takes long.

An encoded file may take seconds to decode, and holds up what waits behind it. So a deadline that
was missed by one, or beside one, moves no breaker. In its place the device gets a light request of
our own, with much time: a device that answers it was busy, one that does not is stuck.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import grpc

from edvit_tf.aggregate.hedge import RoundTrips
from edvit_tf.device.rpc import messages

# For the light request: what runs before it takes seconds at most, since a worker runs nothing
# whose deadline is over.
LIGHT_SECONDS = 10.0
# A request that was given up says something of its device only if it had taken long by then: more
# than so many of the usual times of heavy ones, or where these are not known so many seconds.
_LONG_TIMES = 2.0
_LONG_SECONDS = 1.0


class HeavyWatch:
    """The heavy requests of one device. Belongs to one event loop.

    `light(sub_model)` sends the light request; `stuck()` hears when it had no answer.
    """

    def __init__(self, light: Callable[[str], Awaitable], stuck: Callable[[], None]) -> None:
        self._light = light
        self._stuck = stuck
        self._in_flight = 0
        self._round_trips = RoundTrips()
        # by sub-model: each has a worker's thread of its own, one may be stuck alone
        self._looking: dict[str, asyncio.Task] = {}

    def started(self) -> None:
        """A heavy request is sent."""
        self._in_flight += 1

    def answered(self, seconds: float) -> None:
        """It was answered well after so long."""
        self._in_flight -= 1
        self._round_trips.add(seconds)

    def refused(self) -> None:
        """It is over without a good answer, and the device is not at it any more."""
        self._in_flight -= 1

    def late(self, name: str) -> None:
        """It missed its deadline; the device may still be at it."""
        self._in_flight -= 1
        self.look(name)

    def given_up(self, name: str, after_seconds: float) -> None:
        """Nobody waits for it any more. Each look costs the device an inference, so clients that
        go away soon cause none.
        """
        self._in_flight -= 1
        usual = self._round_trips.p95()
        long = _LONG_SECONDS if usual is None else _LONG_TIMES * usual
        if after_seconds > long:
            self.look(name)

    def excuses(self) -> bool:
        """Whether the device may be busy with a heavy input now."""
        return self._in_flight > 0 or bool(self._looking)

    def look(self, name: str) -> None:
        """Finds out whether the device is stuck with a sub-model, unless that is being done."""
        if name not in self._looking:
            self._looking[name] = asyncio.ensure_future(self._look(name))

    def close(self) -> None:
        for task in self._looking.values():
            task.cancel()

    async def _look(self, name: str) -> None:
        try:
            async with asyncio.timeout(LIGHT_SECONDS):
                # any answer, and any refusal, says that it is not stuck; one that is gone is seen
                # by the probes
                with contextlib.suppress(messages.WireError):
                    await self._light(name)
        except TimeoutError:
            self._stuck()
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                self._stuck()
        finally:
            del self._looking[name]
