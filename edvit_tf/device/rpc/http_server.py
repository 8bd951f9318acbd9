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
from typing import NamedTuple

from edvit_tf.device.rpc.jsonlog import log

PLAIN = "text/plain; charset=utf-8"
_SLOW_PEER_SECONDS = 5


class Page(NamedTuple):
    """What a path is answered with."""

    status: int
    content_type: str
    body: str


Routes = Mapping[str, Callable[[], Page]]  # by path; called in a thread of the request


def serve_http(host: str, port: int, routes: Routes) -> ThreadingHTTPServer:
    """Answers GET of the paths of `routes`, in threads of its own.

    Raises OSError if it cannot bind. `shutdown()` ends it; `server_address` has the port that the
    kernel chose for 0.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _SLOW_PEER_SECONDS

        def do_GET(self) -> None:
            page = answer(routes, self.path)
            data = page.body.encode()
            with contextlib.suppress(OSError):  # the peer has gone
                self.send_response(page.status)
                self.send_header("Content-Type", page.content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_) -> None:  # the log is for events, not for scrapes
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def get_request(self):
            try:
                return super().get_request()
            except OSError:  # no descriptors left: the caller would try again at once, for ever
                time.sleep(0.5)
                raise

        def handle_error(self, *_) -> None:  # a broken peer is no event either
            pass

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def answer(routes: Routes, path: str) -> Page:
    """The page of a path; 404 names those that there are, 500 is a fault of ours and in the log."""
    if path not in routes:
        return Page(404, PLAIN, f"there are {' and '.join(routes)}\n")
    try:
        return routes[path]()
    except Exception:  # noqa: BLE001 (this page's alone; the server goes on)
        log("failed", "error", path=path, traceback=traceback.format_exc())
        return Page(500, PLAIN, "failed inside the server; its log says how\n")
