"""Connections of the HTTPS port that are not through their handshake yet: few, of each address and
in all.

A socket that says nothing costs its peer nothing, and here a descriptor and a TLS object for as
long as a handshake may take. So one more than the most ends the oldest of its own address (of IPv6
its network: a machine has 2**64 addresses), or, where there are too many in all, the oldest of the
one that has the most. A handshake that goes
on is through in milliseconds, so it is a silent one that goes.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from edvit_tf.device.rpc.http_connections import network_of
from edvit_tf.device.rpc.jsonlog import log_seldom

MOST_HANDSHAKES = 128
MOST_OF_ONE = (
    32  # of an address, of IPv6 a network: a browser opens six connections, a house has several
)
_WITHOUT_DESCRIPTORS_SECONDS = 1.0


class Handshakes:
    """Takes connections of a listening socket, and makes a `protocol` of each that is through its
    handshake. Stands where uvicorn has a server of asyncio. Belongs to one event loop.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        seconds: float,
    ) -> None:
        """A handshake that takes more than `seconds` ends."""
        self.sockets = (listening,)
        self._protocol = protocol
        self._context = context
        self._seconds = seconds
        self._pending: dict[socket.socket, str] = {}  # its network; the oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._begin(self._take())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                one, address = await loop.sock_accept(self.sockets[0])
            except ConnectionError:  # it has gone again
                continue
            except OSError as error:  # no descriptor is left
                log_seldom(
                    "http", "accept", problem="a connection was not taken", reason=str(error)
                )
                await asyncio.sleep(_WITHOUT_DESCRIPTORS_SECONDS)
                continue

            self._enter(one, network_of(address[0]))
            self._begin(self._shake(one))

    def _enter(self, one: socket.socket, network: str) -> None:
        self._make_room(network)
        self._pending[one] = network

    def _make_room(self, network: str) -> None:
        """For one more of a network."""
        counts = Counter(self._pending.values())
        if counts[network] >= MOST_OF_ONE:
            self._end_oldest(network)
        elif len(self._pending) >= MOST_HANDSHAKES:
            ((greediest, _),) = counts.most_common(1)
            self._end_oldest(greediest)

    def _end_oldest(self, network: str) -> None:
        one = next(each for each, of in self._pending.items() if of == network)
        del self._pending[one]
        # its handshake reads an end, and closes it
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)

    async def _shake(self, one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            # whoever speaks no TLS, or no more, is nobody
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(
                    self._protocol, one, ssl=self._context, ssl_handshake_timeout=self._seconds
                )
        finally:
            self._pending.pop(one, None)
