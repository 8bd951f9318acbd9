"""An OpenTelemetry collector for tests: an HTTP server that parses what is posted, and the spans of
a trace as text.
"""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """The spans that came, and where to post them."""

    def __init__(self, status: int = 200) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.open = threading.Event()  # while it is not, whoever posts has to wait
        self.open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.open.wait(60)
                if self.path == "/v1/traces" and status == 200:
                    outer.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, request: Any) -> None:
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def of(self, trace_id: str) -> list[Any]:
        return [span for span in list(self.spans) if span.trace_id.hex() == trace_id]


@contextlib.contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    one = Collector(status)
    thread = threading.Thread(target=one.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.server.shutdown()
        one.server.server_close()
        thread.join()


def said(span: Any) -> dict[str, Any]:
    """The attributes of a span."""
    found = {}
    for each in span.attributes:
        found[each.key] = getattr(each.value, each.value.WhichOneof("value"))
    return found


def tree(spans: list[Any], with_times: bool = False) -> str:
    """The spans of one trace, each below its parent, in the order in which they began."""
    known = {span.span_id for span in spans}
    first = min(span.start_time_unix_nano for span in spans)
    lines = []

    def add(span: Any, depth: int) -> None:
        notes = said(span)
        words = [f"{'  ' * depth}{span.name}"]
        if "outcome" in notes:
            hedge = ", a second copy" if notes["hedge"] else ""
            words.append(
                f"[{notes['device']}, attempt {notes['attempt']}{hedge}: {notes['outcome']}]"
            )
        if with_times:
            began = (span.start_time_unix_nano - first) / 1e6
            took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            words.append(f"at {began:.2f} ms, {took:.2f} ms")
        lines.append("  ".join(words))
        below = [each for each in spans if each.parent_span_id == span.span_id]
        for each in sorted(below, key=lambda one: (one.start_time_unix_nano, one.name)):
            add(each, depth + 1)

    for span in spans:
        if span.parent_span_id not in known:
            add(span, 0)
    return "\n".join(lines)
