"""How much an aggregator takes on at the same time, shared fairly between those who ask
(`shares.py`): requests, the bytes of their inputs, and the bytes that go out to the devices.

An input is held once for the request, and twice more for each sub-model that it is sent to (the
message, and gRPC's copy of it), so what goes out is what fills the memory. A request beyond its
caller's share of the first two is refused; for the third it waits, since it holds little meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc

from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares

# Of a share a lone connection has a third (`shares.py`): 64 requests, five files of 8 MiB, and one
# such file on its way to six devices.
MAX_REQUESTS = 195
MAX_INPUT_BYTES = 128 << 20
MAX_SENT_BYTES = 288 << 20
_COPIES = 2  # of an input, for each sub-model that it is sent to


class Room:
    """The room of one aggregator. Belongs to one event loop."""

    def __init__(self, sub_models: int, largest_bytes: int) -> None:
        """`largest_bytes` is the most that one input may have."""
        self._copies = _COPIES * sub_models
        # whatever a fleet's size, its largest input must go through for a lone connection
        most = max(MAX_SENT_BYTES, 3 * (self._copies * largest_bytes + 1))

        self.requests = Shares("requests", MAX_REQUESTS)
        self.inputs = Shares("bytes of inputs", max(MAX_INPUT_BYTES, 3 * largest_bytes + 3))
        self.sent = Shares("bytes to devices", most)

    @contextlib.asynccontextmanager
    async def held(self, caller: Caller, input_bytes: int, seconds: float) -> AsyncIterator[None]:
        """Holds room for one request. Raises WireError RESOURCE_EXHAUSTED, at once where the
        caller has too much already, and where what goes out has no room within `seconds`.
        """
        with self.requests.held(caller), self.inputs.held(caller, input_bytes):
            sent_bytes = self._copies * input_bytes
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
