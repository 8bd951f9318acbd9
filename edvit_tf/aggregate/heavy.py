"""Whether a device that missed a deadline is stuck, or busy with an input that takes long.

An encoded file may take seconds to decode, and holds up what waits behind it. So a deadline that
was missed by one, or beside one, moves no breaker. In its place the device gets a light request of
our own, with much time: a device that answers it was busy, one that does not is stuck.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import grpc

from edvit_tf.device.rpc import messages

# For the light request: what runs before it takes seconds at most, since a worker runs nothing
# whose deadline is over.
LIGHT_SECONDS = 10.0


class HeavyWatch:
    """The heavy requests of one device. Belongs to one event loop.

    `light()` sends the light request; `stuck()` hears when it had no answer.
    """

    def __init__(self, light: Callable[[], Awaitable], stuck: Callable[[], None]) -> None:
        self._light = light
        self._stuck = stuck
        self._in_flight = 0
        self._looking: asyncio.Task | None = None

    def started(self) -> None:
        """A heavy request is sent."""
        self._in_flight += 1

    def ended(self, answered: bool) -> None:
        """It is over; without an answer the device may still be at it."""
        self._in_flight -= 1
        if not answered:
            self.look()

    def excuses(self) -> bool:
        """Whether the device may be busy with a heavy input now."""
        return self._in_flight > 0 or self._looking is not None

    def look(self) -> None:
        """Finds out whether the device is stuck, unless that is being done."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(LIGHT_SECONDS):
                # any answer, and any refusal, says that it is not stuck; one that is gone is seen
                # by the probes
                with contextlib.suppress(messages.WireError):
                    await self._light()
        except TimeoutError:
            self._stuck()
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                self._stuck()
        finally:
            self._looking = None
