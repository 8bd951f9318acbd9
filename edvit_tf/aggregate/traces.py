"""Spans of requests for an OpenTelemetry collector, made and sent in threads of their own: a
collector that is slow or down costs an answer nothing, and what has no room is left out.
"""

import os
import queue
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from edvit_tf.aggregate.recording import Part, Recording
from edvit_tf.device.rpc.base_service import package_version
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.metrics import Gauge
from edvit_tf.device.rpc.traceparent import Trace
from edvit_tf.errors import ConfigError

_WAITING = 512  # requests whose spans are not made yet
_PATH = "/v1/traces"
_LAST_SECONDS = 2.0  # for what is left at the end
_ENVIRONMENT = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def checked_url(url: str) -> str:
    """Where spans are posted to, of a collector's address. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(
            f"--traces is {url!r}; it must be the address of a collector that speaks OTLP over "
            "HTTP, e.g. http://collector.local:4318."
        )
    return url if parts.path.rstrip("/") else f"{url.rstrip('/')}{_PATH}"


def make_traces(url: str | None, environment: Mapping[str, str] = os.environ) -> "Traces | None":
    """None where nobody wants traces: neither `url` nor OpenTelemetry's own variables.

    Raises ConfigError for a `url` that is none, or without the libraries.
    """
    wanted = any(environment.get(name) for name in _ENVIRONMENT)
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        wanted = False
    if url is None and not wanted:
        return None

    endpoint = None if url is None else checked_url(url)
    try:
        return Traces(endpoint)
    except ModuleNotFoundError as error:
        words = f"traces need OpenTelemetry ({error}). Run: pip install '.[traces]'."
        if url is not None:
            raise ConfigError(f"--traces: {words}") from error
        # the variables may be meant for other programs of this machine
        log("traces", "warning", reason=words)
        return None


class Traces:
    """Begins recordings, and takes them when they are whole. Belongs to one event loop."""

    def __init__(self, endpoint: str | None) -> None:
        """`endpoint` None: OpenTelemetry's variables say it. Raises ModuleNotFoundError."""
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self.dropped = 0  # requests
        self._api = trace
        named = {"service.version": package_version()}
        said = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in said:
            named["service.name"] = "edvit-aggregator"
        resource = Resource.create(named)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("edvit_tf", package_version())

        self._queue: queue.Queue[Recording | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._make, name="traces", daemon=True)
        self._thread.start()

    def begin(self, parent: Trace | None) -> Recording | None:
        """None for a request that is not to be traced, by its client's or the sampler's word."""
        span = self._tracer.start_span(
            "request", self._context(parent), kind=self._api.SpanKind.SERVER
        )
        context = span.get_span_context()
        if not span.is_recording():
            return None
        here = Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", True)
        return Recording(span, here)

    def _context(self, parent: Trace | None) -> Any:
        api = self._api
        if parent is None:
            return api.set_span_in_context(api.INVALID_SPAN)
        there = api.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(parent.sampled)),
        )
        return api.set_span_in_context(api.NonRecordingSpan(there))

    def take(self, recording: Recording) -> None:
        """It is over: from now on it is another thread's."""
        try:
            self._queue.put_nowait(recording)
        except queue.Full:
            self.dropped += 1

    def _make(self) -> None:
        """The thread."""
        while (recording := self._queue.get()) is not None:
            try:
                self._spans(recording)
            except Exception as error:  # noqa: BLE001 (one request's alone)
                log("traces", "warning", reason=f"{type(error).__name__}: {error}")

    def _spans(self, recording: Recording) -> None:
        span: Any = recording.span
        inside = self._api.set_span_in_context(span)
        for part in recording.parts:
            self._span(recording, part, inside)

        span.set_attributes(recording.said)
        if recording.failed:
            span.set_status(self._api.StatusCode.ERROR, recording.failed)
        span.end(recording.wall_ns + recording.ended)

    def _span(self, recording: Recording, part: Part, inside: Any) -> None:
        """A part's span, and of a call that was answered those of the device."""
        said = part.said if part.ended is not None else {**part.said, "outcome": "cut off"}
        ended = recording.ended if part.ended is None else part.ended
        began_ns, ended_ns = recording.wall_ns + part.began, recording.wall_ns + ended
        is_call = "device" in said
        kind = self._api.SpanKind.CLIENT if is_call else self._api.SpanKind.INTERNAL
        made = self._tracer.start_span(
            part.name, inside, kind=kind, attributes=said, start_time=began_ns
        )
        if part.reply is not None:
            self._device_spans(part, made, began_ns)
        made.end(ended_ns)

    def _device_spans(self, part: Part, call: Any, began_ns: int) -> None:
        """By the device's own times; clocks are never compared, so what is left of the round trip
        stands half before them and half behind.
        """
        reply = part.reply
        assert reply is not None
        inside = self._api.set_span_in_context(call)
        at = began_ns + int(reply.wire_ms / 2 * 1e6)
        for name, took_ms in (
            ("device queue", reply.queue_ms),
            ("device compute", reply.compute_ms),
        ):
            ends = at + int(took_ms * 1e6)
            said = {"device": reply.device}
            self._tracer.start_span(name, inside, attributes=said, start_time=at).end(ends)
            at = ends

    def gauges(self) -> list[Gauge]:
        return [
            Gauge(
                "edvit_traces_dropped_total",
                "Requests whose spans had no room on their way to the collector.",
                [({}, self.dropped)],
            )
        ]

    def close(self) -> None:
        """What is left is sent, if that is done in a moment."""

        def last() -> None:
            self._queue.put(None)
            self._thread.join()
            self._provider.shutdown()

        ending = threading.Thread(target=last, daemon=True)
        ending.start()
        ending.join(_LAST_SECONDS)
