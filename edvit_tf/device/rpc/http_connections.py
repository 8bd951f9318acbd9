"""The open connections of the HTTP server: few, and none for long.

Its port is open to whoever reaches it, and each connection takes a descriptor and a thread from the
server beside it. So there are limits that those who are slow on purpose cannot hold: one more than
the most ends the oldest of the address (of IPv6 the network) that has the most of them, and a whole
answer has five seconds from the moment when the connection was taken. A scrape takes some
milliseconds.
"""

import contextlib
import ipaddress
import socket
import threading
import time
from collections import Counter

MOST_CONNECTIONS = 32
MOST_SECONDS = 5.0


def network_of(address: str) -> str:
    """Whose connections are counted together: an address of IPv4, and of IPv6 all that begin with
    the same 64 bits, which one machine may have.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:  # at a port of both kinds
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class HttpConnections:
    """Sockets by when they were taken; called in the threads of the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, tuple[float, str]] = {}  # since when, network; in turn

    def add(self, connection: socket.socket, address: str) -> None:
        """One more; ends another one where there are too many."""
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                self._end(self._one_too_many())
            self._open[connection] = time.monotonic(), network_of(address)

    def remove(self, connection: socket.socket) -> None:
        """It is answered, or gone."""
        with self._lock:
            self._open.pop(connection, None)

    def end_late(self) -> None:
        """Ends those that are open for too long."""
        latest = time.monotonic() - MOST_SECONDS
        with self._lock:
            for connection, (since, _) in list(self._open.items()):
                if since < latest:
                    self._end(connection)

    def _one_too_many(self) -> socket.socket:
        """The oldest of the network that has the most."""
        counts = Counter(network for _, network in self._open.values())
        ((greediest, _),) = counts.most_common(1)
        return next(each for each, (_, network) in self._open.items() if network == greediest)

    def _end(self, connection: socket.socket) -> None:
        del self._open[connection]
        # its thread reads or writes no further, and closes it
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
