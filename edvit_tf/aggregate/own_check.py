"""Whether a device that was blamed for a doubt is at fault for everybody: an input of ours tells.

A client's odd input may be refused by one device alone, whose decoder is an older one, or be
answered by it alone outside of what was measured. Such an answer counts as missing. But it moves
the device's breaker only where the device fails a small tensor of ours as well, or one client could
take an honest device away from all the others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc

from edvit_tf.aggregate.reply import Reply
from edvit_tf.device.rpc import messages

# That a good answer to ours counts for later doubts: odd inputs cost a device one more a second.
FINE_SECONDS = 1.0
# A device that says these is silent or busy, which is another fault than to be wrong.
_SAYS_NOTHING = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.CANCELLED,
)


class OwnCheck:
    """The doubts of one device that wait for its answer to an input of our own. Belongs to one
    event loop.

    `ask(sub_model)` gets that answer, or raises WireError or AioRpcError. `verdict(trial, fine)`
    hears of each doubt what it was worth, `fine` is None where that was not found out.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Reply]],
        verdict: Callable[[bool, bool | None], None],
    ) -> None:
        self._ask = ask
        self._verdict = verdict
        self._doubts: dict[str, list[bool]] = {}  # by sub-model: whether each was a trial
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fine_until: dict[str, float] = {}  # time.monotonic(), by sub-model

    def doubted(self, name: str, trial: bool) -> None:
        """The device was blamed for its answer of a sub-model."""
        if time.monotonic() < self._fine_until.get(name, 0.0):
            self._verdict(trial, True)
            return

        self._doubts.setdefault(name, []).append(trial)
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(self._check(name))

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _check(self, name: str) -> None:
        fine = None
        try:
            fine = await self._is_fine(name)
        finally:
            # whatever happened: a trial must end
            del self._tasks[name]
            if fine:
                self._fine_until[name] = time.monotonic() + FINE_SECONDS
            for trial in self._doubts.pop(name):
                self._verdict(trial, fine)

    async def _is_fine(self, name: str) -> bool | None:
        try:
            await self._ask(name)
        except messages.WireError:
            return False
        except grpc.aio.AioRpcError as error:
            return None if error.code() in _SAYS_NOTHING else False
        return True
