"""How much goes out to the devices at the same time, shared fairly between those who ask
(`shares.py`): requests, and bytes.

What a server holds of inputs is limited before it is received (`device/rpc/limits.py`). But an
input is copied twice for each sub-model that it is sent to (the message, and gRPC's copy of it),
and that is what fills an aggregator's memory. A request beyond its caller's share of the requests
is refused; for its share of the bytes it waits, since it holds little meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares

# Of a share a lone connection has a third: 64 requests, and a file of 8 MiB on its way to six
# devices, or a tensor of 150 KB on 32 ways to ten.
MAX_REQUESTS = 195
MAX_SENT_BYTES = 288 << 20
_COPIES = 2  # of an input, for each sub-model that it is sent to


class Outgoing:
    """What an aggregator sends. Belongs to one event loop."""

    def __init__(
        self, sub_models: int, largest_bytes: int, before: "Outgoing | None" = None
    ) -> None:
        """`largest_bytes` is the most that one input may have. `before` is that of the aggregator's
        fleet before this one: what both send has one limit.
        """
        self._copies = _COPIES * sub_models
        # whatever a fleet's size, its largest input must go through for a lone connection
        most = max(MAX_SENT_BYTES, 3 * (self._copies * largest_bytes + 1))
        shared = None if before is None or before.sent.limit < most else before
        self.requests: Shares = shared.requests if shared else Shares("requests", MAX_REQUESTS)
        self.sent: Shares = shared.sent if shared else Shares("bytes to devices", most)

    @contextlib.asynccontextmanager
    async def held(self, caller: Caller, input_bytes: int, seconds: float) -> AsyncIterator[None]:
        """Holds room for one request. Raises WireError RESOURCE_EXHAUSTED, at once where the
        caller has too many already, and where the bytes have no room within `seconds`.
        """
        with self.requests.held(caller):
            async with self._room(caller, self._copies * input_bytes, seconds):
                yield

    def held_once(
        self, caller: Caller, input_bytes: int, seconds: float
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """As `held`, for what is sent to one device alone, and is no whole request."""
        return self._room(caller, _COPIES * input_bytes, seconds)

    @contextlib.asynccontextmanager
    async def _room(self, caller: Caller, sent_bytes: int, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.sent.wait(caller, sent_bytes)
        except TimeoutError:
            raise WireError(
                f"{self.sent.what} at once: got no room for {sent_bytes} more within "
                f"{seconds * 1e3:.0f} ms; expected it. Send less at a time.",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            ) from None

        try:
            yield
        finally:
            self.sent.give(caller, sent_bytes)
