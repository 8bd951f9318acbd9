"""The connections of the HTTP port: few, and none that does nothing for long.

uvicorn waits for ever for a request that does not come whole. Here one that is awaited for
`WAIT_SECONDS` ends its connection, and so does an answer that takes too long; a stream of
events is no such answer, and has limits of its own. One connection more than the most ends the
oldest idle one of the address that has the most of them; a body that is not whole is idle too, and
where none is idle, they are all looked at.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
WAIT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # of an answer, where a fleet's deadline is shorter
LARGEST_HEAD_BYTES = 16 << 10
STREAM = "edvit_stream"  # in a scope's state: whether this answer without an end goes on


class Connection(H11Protocol):
    """One connection, with what its certificate says of the peer."""

    def __init__(self, *args, answer_seconds: float = ANSWER_SECONDS, **kwargs) -> None:
        """`answer_seconds`: what an answer may take; the rest is uvicorn's."""
        super().__init__(*args, **kwargs)
        self._answer_seconds = answer_seconds

    app_state: dict[str, Any]  # uvicorn's, of the server's start
    since = 0.0  # when it began to wait, or to answer
    _seen: tuple[object, bool] = (None, True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.since = time.monotonic()
        self.app_state = {**self.app_state, "peer_names": _names_of(transport)}
        if len(self.connections) > MOST_CONNECTIONS:
            _one_too_many(self, self.connections).transport.abort()  # type: ignore[arg-type]

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its peer: for a request, or for the rest of one."""
        return self.waits or self.cycle.more_body

    def is_late(self, now: float) -> bool:
        """Whether it has waited, or been answered, for too long; to be asked now and then."""
        # another request, or another part of one
        if (self.cycle, self.waits) != self._seen:
            self._seen = self.cycle, self.waits
            self.since = now
        if not self.waits and STREAM in self.cycle.scope["state"]:
            # one that is over is closed once its peer has taken what was sent: perhaps never
            return not self.cycle.scope["state"][STREAM]
        return now - self.since > (WAIT_SECONDS if self.waits else self._answer_seconds)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open: a peer that says no more may wait for an answer.

        Over TLS none can, and an open page has no end: there it is how a reader goes.
        """
        answering = not self.is_idle and STREAM not in self.cycle.scope["state"]
        if not answering or self.scheme == "https":
            return False
        self.cycle.keep_alive = False
        return True


def _names_of(transport: asyncio.BaseTransport) -> list[str]:
    """The subject alternative names of the peer's certificate, which TLS has checked; [] without
    one.
    """
    certificate = transport.get_extra_info("peercert") or {}
    return [value for _, value in certificate.get("subjectAltName", ())]


def _one_too_many(new: Connection, connections: Iterable) -> Connection:
    """The oldest idle one of the address that has the most; of all where none is idle."""
    addresses = Counter(each.client[0] for each in connections if each.client)
    others = [each for each in connections if each is not new and each.client]
    if not others:
        return new
    idle = [each for each in others if each.is_idle]
    return min(idle or others, key=lambda each: (-addresses[each.client[0]], each.since))


async def end_late(connections: Iterable) -> None:
    """Ends those that are late, for ever."""
    while True:
        await asyncio.sleep(1.0)
        now = time.monotonic()
        for each in list(connections):
            if each.is_late(now):
                each.transport.abort()
