"""The small HTTP server beside a gRPC one: a table of paths, and for each what answers it.

On a port of its own, plain HTTP, for Prometheus, for probes and for people. Which paths there are
says the service (`BaseService.routes`); one more page is one more entry.
"""

import contextlib
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from edvit_tf.device.rpc.http_connections import MOST_SECONDS, HttpConnections
from edvit_tf.device.rpc.jsonlog import log

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json"


class Page(NamedTuple):
    """What a path is answered with."""

    status: int
    content_type: str
    body: str


class HttpSide(Protocol):
    """An HTTP port that is open."""

    @property
    def server_address(self) -> tuple[Any, ...]: ...
    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


Routes = Mapping[str, Callable[[], Page]]  # by path; called in a thread of the request


def serve_http(host: str, port: int, routes: Routes) -> ThreadingHTTPServer:
    """Answers GET and HEAD of the paths of `routes`, in threads of its own.

    Raises OSError if it cannot bind. `shutdown()` ends it; `server_address` has the port that the
    kernel chose for 0.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = MOST_SECONDS  # for each read; `connections` sees to the whole

        server_version, sys_version = "edvit_tf", ""  # which Python runs here is nobody's business

        def do_GET(self) -> None:
            self._send(answer(routes, self.path))

        do_HEAD = do_GET  # the same head, and no body

        def _refuse(self) -> None:
            self._send(Page(405, PLAIN, f"{self.command[:16]} is not answered; GET and HEAD are\n"))

        do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

        def _send(self, page: Page) -> None:
            # a label may hold what is no text, as the name of a folder may
            data = page.body.encode(errors="backslashreplace")
            with contextlib.suppress(OSError):  # the peer has gone
                self.send_response(page.status)
                self.send_header("Content-Type", page.content_type)
                self.send_header("Content-Length", str(len(data)))
                if page.status == 405:
                    self.send_header("Allow", "GET, HEAD")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        def log_message(self, *_) -> None:  # the log is for events, not for scrapes
            pass

    server = _Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # connections that are not taken yet: a scrape must find a place

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.connections = HttpConnections()
        super().__init__(address, handler)

    def get_request(self):
        try:
            return super().get_request()
        except OSError:  # no descriptors left: the caller would try again at once, for ever
            time.sleep(0.5)
            raise

    def process_request(self, request, client_address) -> None:
        self.connections.add(request, client_address[0])
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.connections.remove(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second, and after each connection."""
        self.connections.end_late()

    def handle_error(self, *_) -> None:  # a broken peer is no event
        pass


def answer(routes: Routes, path: str) -> Page:
    """The page of a path, whatever stands behind its "?"; 404 names those that there are, 500 is a
    fault of ours and in the log.
    """
    path = _without_query(path)
    if path not in routes:
        return Page(404, PLAIN, f"there are {' and '.join(routes)}\n")
    try:
        return routes[path]()
    except Exception:  # noqa: BLE001 (this page's alone; the server goes on)
        log("failed", "error", path=path, traceback=traceback.format_exc())
        return Page(500, PLAIN, "failed inside the server; its log says how\n")


def _without_query(target: str) -> str:
    """The path of a request's target, which may also be a whole address (by a proxy)."""
    try:
        return urlsplit(target).path
    except ValueError:  # such as "//[": no address, and no path of ours
        return target
