"""The HTTP port of an aggregator: uvicorn in a thread with an event loop of its own."""

import asyncio
import functools
import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from edvit_tf.aggregate.http.connections import (
    ANSWER_SECONDS,
    LARGEST_HEAD_BYTES,
    Connection,
    end_late,
)
from edvit_tf.aggregate.http.handshakes import Handshakes
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.jsonlog import log, log_seldom

_BACKLOG = 128  # connections that are not taken yet
# Taken at once. Where no descriptor is left, Python 3.11 tries so often in vain each second, and
# tells each.
_TAKEN_AT_ONCE = 8
_HANDSHAKE_SECONDS = 5.0  # of TLS; until its end `handshakes.py` counts a connection
_LAST_SECONDS = 1  # for what is being answered when the server ends


class HttpServer:
    """Serves from its making on; `shutdown()` ends it. Raises OSError if it cannot listen."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        own: tls.Identity | None,
        beside: Callable[[], Coroutine[Any, Any, None]],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """`own`: HTTPS with this certificate; a client may show one, which is checked. `beside`
        goes on in the same event loop until the server ends. An answer that takes more than
        `answer_seconds` is cut.
        """
        self._beside = beside
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # [::] is all addresses, those of IPv4 too, as for the small server of a worker
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
        self.server_address: tuple[Any, ...] = self._socket.getsockname()
        # its words are not for our log
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            http=functools.partial(Connection, answer_seconds=answer_seconds),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            backlog=_TAKEN_AT_ONCE,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # nobody says here who somebody else is
            server_header=False,
            headers=[("server", "edvit_tf")],
            timeout_graceful_shutdown=_LAST_SECONDS,
            h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
            **_https(own),
        )
        self._server = uvicorn.Server(config)
        # what gRPC presents too, whatever the files hold when uvicorn reads them
        self._presented = None if own is None else own.server
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def present(self, own: tls.Identity) -> None:
        """From now on handshakes are made with this certificate."""
        self._presented = own.server

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_of_loop)
        if self._server.config.is_ssl:
            self._server.config.load()
            assert self._server.config.ssl is not None
            self._server.config.ssl.sni_callback = self._choose
            # uvicorn has no option for it: asyncio waits for a minute, for any number of them
            loop.create_server = _taken_by_handshake  # type: ignore[assignment, method-assign]
        tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(end_late(self._server.server_state.connections)),
            asyncio.create_task(self._beside()),
        ]
        for task in tasks:
            task.add_done_callback(_log_fault)
        await self._server.serve(sockets=[self._socket])
        for task in tasks:
            task.cancel()

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """In each handshake, whether it names this server or not."""
        if self._presented is not None:
            connection.context = self._presented

    async def _listen(self) -> None:
        """More may wait than are taken at once."""
        while not self._server.started:
            await asyncio.sleep(0.01)
        self._socket.listen(_BACKLOG)

    def shutdown(self) -> None:
        self._server.should_exit = True
        self._thread.join(_LAST_SECONDS + 4)

    def server_close(self) -> None:
        self._socket.close()


async def _taken_by_handshake(
    protocol: Callable[[], asyncio.Protocol],
    *,
    sock: socket.socket,
    ssl: ssl.SSLContext,
    **_: Any,
) -> Handshakes:
    """In the place of a loop's `create_server`, as uvicorn calls it."""
    return Handshakes(sock, protocol, ssl, _HANDSHAKE_SECONDS)


def _log_of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a connection came to: without a descriptor, or with a peer that speaks no TLS."""
    message = context["message"]
    log_seldom("http", message, problem=message, reason=str(context.get("exception", "")))


def _log_fault(task: asyncio.Task[None]) -> None:
    """None of them may fail: pages would stand still, and nobody knew why."""
    if not task.cancelled() and (error := task.exception()) is not None:
        text = "".join(traceback.format_exception(error))
        log("failed", "error", path="http", traceback=text)


def _https(own: tls.Identity | None) -> dict[str, Any]:
    if own is None:
        return {}
    return {
        "ssl_certfile": own.cert,
        "ssl_keyfile": own.key,
        "ssl_ca_certs": str(own.ca),
        "ssl_cert_reqs": ssl.CERT_OPTIONAL,
    }
