"""Hostile peers: what a client of a fleet, or a stolen certificate, may do to it, for so long.

    python -m tests.support.chaos_peers KIND SECONDS IDENTITY ADDRESS ADDRESS...
        the aggregator's address first, then the workers'; prints {"codes": {...}, "trouble": "..."}

Each is a process of its own, with low priority: what it takes of the processor is not to be taken
from the servers, and what its own end is slow in is not to be theirs.
"""

import asyncio
import collections
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

import grpc
import numpy as np

from edvit_tf.device.rpc import messages, tensors, tls
from tests.support.bombs import BOMBS
from tests.support.half_calls import HalfCalls

IN_FLIGHT = 64
UNREADABLE_BYTES = 2_000_000
UNFINISHED_BYTES = 4_000_000
HALF_CALLS = 100  # of a connection
AT_ONCE = 20
_METHOD = messages.path("ModelInfer")


class Peer:
    """A hostile peer at its work."""

    def __init__(self, seconds: float, identity: str, addresses: list[str]) -> None:
        self.ends = time.monotonic() + seconds
        self.own = tls.identity(identity)
        self.hub, self.workers = addresses[0], addresses[1:]
        self.codes: collections.Counter[str] = collections.Counter()
        self.trouble = ""

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.ends

    def channel(self, address: str) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, tls.channel_credentials(self.own))

    async def ask(self, channel: grpc.aio.Channel, request) -> str:
        """The code of one request's answer, counted."""
        try:
            await messages.stub(channel, "ModelInfer")(request, timeout=5)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code = error.code().name

        self.codes[code] += 1
        return code

    def half_calls(self, address: str) -> HalfCalls:
        return HalfCalls(address, tls.client_context(self.own))


def picture(model: str) -> bytes:
    """A good request, serialised."""
    request = tensors.infer_request(model, {"image": np.zeros((1, 16, 16, 1), np.uint8)})
    return request.SerializeToString()


async def bombs(peer: Peer) -> None:
    """Messages of 8 MB of tiny things, to all servers in turn: all are refused."""
    kinds = list(BOMBS)
    channels = [peer.channel(address) for address in (peer.hub, *peer.workers)]
    turn = int(time.time())  # another one each time
    while peer.goes_on:
        data, _ = BOMBS[kinds[turn % len(kinds)]]
        server = turn % len(channels)
        model = "edvit" if server == 0 else f"submodel-{server - 1:02d}"
        named = messages.new("ModelInferRequest", model_name=model).SerializeToString()
        if await peer.ask(channels[server], named + data) == "OK":
            peer.trouble = f"a bomb was answered: {kinds[turn % len(kinds)]}"
        turn += 1
        await asyncio.sleep(0.1)


async def unreadable(peer: Peer) -> None:
    """Files that are none, each as large as a picture may be, one after the other."""
    channel = peer.channel(peer.hub)
    rng = np.random.default_rng()
    while peer.goes_on:
        noise = b"\xff\xd8\xff\xe0" + rng.bytes(UNREADABLE_BYTES)
        request = tensors.infer_request("edvit", {"image": noise})
        if await peer.ask(channel, request) == "OK":
            peer.trouble = "noise was answered"
        await asyncio.sleep(0.05)


async def headers(peer: Peer) -> None:
    """Calls without a message, as many as it may open, and more when some are ended."""
    await asyncio.to_thread(_hold, peer, None)


async def unfinished(peer: Peer) -> None:
    """Calls whose message wants its last byte."""
    await asyncio.to_thread(_hold, peer, UNFINISHED_BYTES)


def _hold(peer: Peer, message_bytes: int | None) -> None:
    with contextlib.ExitStack() as stack:
        held = []
        for address in (peer.hub, *peer.workers):
            with contextlib.suppress(OSError):  # a device may be away
                held.append(stack.enter_context(peer.half_calls(address)))

        opened: collections.Counter[HalfCalls] = collections.Counter()
        while peer.goes_on:
            for one in held:
                # whatever room it has: those that the server ended make room again
                room = HALF_CALLS - (opened[one] - len(one.ended))
                with contextlib.suppress(OSError):  # the device is away now
                    for _ in range(min(room, AT_ONCE)):
                        one.call(_METHOD, message_bytes)
                        opened[one] += 1
                    one.pump(0.02)
            time.sleep(0.01)

        peer.codes["opened"] = opened.total()
        peer.codes["ended"] = sum(len(one.ended) for one in held)


async def greedy(peer: Peer) -> None:
    """So many requests in flight at the aggregator, always."""
    await _in_flight(peer, [(peer.channel(peer.hub), "edvit")])


async def direct(peer: Peer) -> None:
    """The same at the workers, without the aggregator."""
    targets = []
    for place, address in enumerate(peer.workers):
        targets.append((peer.channel(address), f"submodel-{place:02d}"))
    await _in_flight(peer, targets)


async def _in_flight(peer: Peer, targets: list[tuple[grpc.aio.Channel, str]]) -> None:
    async def on_and_on(place: int) -> None:
        channel, model = targets[place % len(targets)]
        while peer.goes_on:
            if await peer.ask(channel, picture(model)) != "OK":
                await asyncio.sleep(0.005)

    await asyncio.gather(*(on_and_on(place) for place in range(IN_FLIGHT)))


async def torrent(peer: Peer) -> None:
    """One stream that sends without waiting for answers."""

    async def sent():
        request = picture("edvit")
        count = 0
        while peer.goes_on:
            yield request
            count += 1
            if count % 64 == 0:
                await asyncio.sleep(0.01)

    call = messages.stub(peer.channel(peer.hub), "ModelStreamInfer")(sent())
    try:
        async for answer in call:
            peer.codes["refused" if answer.error_message else "OK"] += 1
    except grpc.aio.AioRpcError as error:
        peer.codes[error.code().name] += 1


KINDS: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "bombs": bombs,
    "unreadable": unreadable,
    "headers": headers,
    "unfinished": unfinished,
    "greedy": greedy,
    "direct": direct,
    "torrent": torrent,
}
# With a worker's certificate, which may ask nobody; the others are a client's.
STOLEN = ("headers",)
# These hold what they have, and may do so for longer than a server waits for a message (10 s).
HOLDING = ("headers", "unfinished")


async def _work(kind: str, peer: Peer) -> None:
    left = peer.ends - time.monotonic()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(KINDS[kind](peer), left + 10)


def main(kind: str, seconds: str, identity: str, *addresses: str) -> None:
    os.nice(10)
    peer = Peer(float(seconds), identity, list(addresses))
    asyncio.run(_work(kind, peer))
    print(json.dumps({"codes": peer.codes, "trouble": peer.trouble}), flush=True)
    os._exit(0)  # channels that still try to connect are nobody's concern


if __name__ == "__main__":
    main(*sys.argv[1:])
