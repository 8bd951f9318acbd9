"""The stream of events to each page that is open (server-sent events).

A page behind a slow line holds up nobody. What it has not been sent yet is dropped beyond a few
ticks, and it gets the whole of the present instead; one that takes nothing for `SEND_SECONDS` is
ended. Pages are shared fairly between those who look, as calls are: one name has half at most.
"""

import asyncio
import traceback

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from edvit_tf.aggregate.http.connections import STREAM
from edvit_tf.aggregate.http.feed import Feed, encoded
from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.jsonlog import log_seldom
from edvit_tf.device.rpc.shares import Shares

MOST_PAGES = 128
SEND_SECONDS = 10.0
_PENDING = 16  # ticks that wait for a slow line
_RETRY = b"retry: 1000\n\n"
NO_STORE = {"cache-control": "no-store"}


class Events:
    """The pages that are open."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._shares = Shares("pages", MOST_PAGES)

    def stream(self, caller: Caller) -> Response:
        """The stream for one page, or the refusal where there are too many."""
        if not self._shares.take(caller):
            said = {"error": str(self._shares.refusal(caller)), "pages": self._shares.used}
            return JSONResponse(said, 503, {**NO_STORE, "retry-after": "10"})
        return _Stream(self._feed, lambda: self._shares.give(caller))

    async def state(self, request: Request) -> Response:
        """The present, for a page without a stream: it asks again and again."""
        return JSONResponse(self._feed.everything(with_history=False)[1], headers=NO_STORE)


class _Stream(Response):
    """One page's stream, as an answer without an end."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, over) -> None:
        super().__init__(headers=NO_STORE)
        del self.headers["content-length"]
        self._feed = feed
        self._over = over
        self._waiting: list[bytes] = []
        self._ticks = 0
        self._something = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][STREAM] = True
        gone = asyncio.create_task(_gone(receive))
        writing = asyncio.create_task(self._write(send))
        self._feed.listen(self._tell)
        try:
            await asyncio.wait([gone, writing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # its connection is ended: the answer has no end of its own
            scope["state"][STREAM] = False
            self._feed.forget(self._tell)
            self._over()
            for task in (gone, writing):
                task.cancel()
            for ended in await asyncio.gather(gone, writing, return_exceptions=True):
                _log_fault(ended)

    def _tell(self, parts: list[bytes]) -> None:
        self._ticks += 1
        if self._ticks > _PENDING:
            self._waiting.clear()  # the line is slow: the present will do
        else:
            self._waiting += parts
        self._something.set()

    async def _write(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        data = _RETRY + encoded(self._feed.everything())
        while True:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": True})
                await self._something.wait()
            self._something.clear()
            behind, self._ticks = self._ticks > _PENDING, 0
            parts, self._waiting = self._waiting, []
            data = encoded(self._feed.everything()) if behind else b"".join(parts)


def _log_fault(ended: object) -> None:
    """A slow line and a page that is closed are no faults of ours."""
    if isinstance(ended, Exception) and not isinstance(ended, OSError):
        text = "".join(traceback.format_exception(ended))
        log_seldom("failed", "stream", path="/live/events", traceback=text)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
