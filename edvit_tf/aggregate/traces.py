"""Spans of requests for an OpenTelemetry collector, made and sent in threads of their own: a
collector that is slow or down costs an answer nothing, and what has no room is left out.
"""

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from edvit_tf.aggregate.recording import Part, Recording
from edvit_tf.aggregate.trace_settings import checked_url, names_a_collector, sizes, why_not
from edvit_tf.device.rpc.base_service import package_version
from edvit_tf.device.rpc.jsonlog import log, log_seldom
from edvit_tf.device.rpc.metrics import Gauge
from edvit_tf.device.rpc.ports import is_loopback
from edvit_tf.device.rpc.traceparent import Trace
from edvit_tf.errors import ConfigError

_WAITING = 512  # requests whose spans are not made yet
_LAST_SECONDS = 2.0  # for what is left at the end
_REQUEST = "request"  # the span of the whole, which ends last


def make_traces(url: str | None, environment: Mapping[str, str] = os.environ) -> "Traces | None":
    """None where nobody wants traces: neither `url` nor OpenTelemetry's own variables.

    Raises ConfigError for a `url` that is none, or where the library cannot be used.
    """
    endpoint = None if url is None else checked_url(url)
    if url is None and not names_a_collector(environment):
        return None
    why = why_not(environment, is_option=url is not None)
    if why is not None:
        log("traces", "warning", reason=f"no traces: {why}.")
        return None

    try:
        return Traces(endpoint, *sizes(environment))
    except ModuleNotFoundError as error:
        words = f"traces need OpenTelemetry ({error}). Run: pip install '.[traces]'."
    except Exception as error:  # noqa: BLE001 (the library's, of variables that it reads itself)
        words = (
            f"OpenTelemetry cannot do as its variables say ({type(error).__name__}: {error}). Look "
            "at those that begin with OTEL_."
        )
    if url is not None:
        raise ConfigError(f"--traces: {words}")
    # the variables may be meant for other programs of this machine
    log("traces", "warning", reason=f"no traces: {words}")
    return None


class Traces:
    """Begins recordings, and takes them when they are whole. Belongs to one event loop."""

    def __init__(self, endpoint: str | None, most_spans: int, batch: int) -> None:
        """`endpoint` None: OpenTelemetry's variables say it. `most_spans` may wait, and so many as
        a `batch` are sent at once. Raises ModuleNotFoundError, and what the library says.
        """
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

        self._api = trace
        named = {"service.version": package_version()}
        said = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in said:
            named["service.name"] = "edvit-aggregator"
        resource = Resource.create(named)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, session=_session())
        self._sent = _Counted(exporter, SpanExportResult.SUCCESS)
        self._provider.add_span_processor(
            BatchSpanProcessor(cast(Any, self._sent), most_spans, max_export_batch_size=batch)
        )
        self._tracer = self._provider.get_tracer("edvit_tf", package_version())

        # each counted by one thread alone
        self._not_taken = 0  # requests, by the loop
        self._not_made = 0  # requests, by the thread
        self._made = 0  # spans, by the thread
        self._most_spans = most_spans
        self._queue: queue.Queue[Recording | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._make, name="traces", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Requests of which spans were lost."""
        return self._not_taken + self._not_made + self._sent.lost

    def begin(self, parent: Trace | None) -> Recording | None:
        """None for a request that is not to be traced, by its client's or the sampler's word."""
        span = self._tracer.start_span(
            _REQUEST, self._context(parent), kind=self._api.SpanKind.SERVER
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
            self._not_taken += 1

    def _make(self) -> None:
        """The thread."""
        while (recording := self._queue.get()) is not None:
            try:
                if self._has_room(recording):
                    self._spans(recording)
                else:
                    self._lost("no room", "spans wait for a collector that is slow or away")
            except Exception as error:  # noqa: BLE001 (one request's alone)
                self._lost(type(error).__name__, f"{type(error).__name__}: {error}")

    def _lost(self, key: str, reason: str) -> None:
        self._not_made += 1
        log_seldom("traces", f"traces {key}", reason=reason)

    def _has_room(self, recording: Recording) -> bool:
        """Whether all spans of a request may wait: the library would drop the oldest, of another
        request, and tell nobody.
        """
        waiting = self._made - self._sent.taken
        needed = 1 + sum(1 if part.reply is None else 3 for part in recording.parts)
        return waiting + needed <= self._most_spans

    def _spans(self, recording: Recording) -> None:
        span: Any = recording.span
        inside = self._api.set_span_in_context(span)
        for part in recording.parts:
            self._span(recording, part, inside)

        span.set_attributes(recording.said)
        if recording.failed:
            span.set_status(self._api.StatusCode.ERROR, recording.failed)
        self._end(span, recording.wall_ns + recording.ended)

    def _end(self, span: Any, at_ns: int) -> None:
        # what a sampler left out does not wait
        self._made += span.get_span_context().trace_flags.sampled
        span.end(at_ns)

    def _span(self, recording: Recording, part: Part, inside: Any) -> None:
        """A part's span, and of a call that was answered those of the device."""
        assert part.ended is not None
        began_ns, ended_ns = recording.wall_ns + part.began, recording.wall_ns + part.ended
        is_call = "device" in part.said
        kind = self._api.SpanKind.CLIENT if is_call else self._api.SpanKind.INTERNAL
        made = self._tracer.start_span(
            part.name, inside, kind=kind, attributes=part.said, start_time=began_ns
        )
        if part.reply is not None:
            self._device_spans(part, made, began_ns)
        self._end(made, ended_ns)

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
            self._end(self._tracer.start_span(name, inside, attributes=said, start_time=at), ends)
            at = ends

    def gauges(self) -> list[Gauge]:
        return [
            Gauge(
                "edvit_traces_dropped_total",
                "Requests of which spans were lost on their way to the collector.",
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


def _session() -> Any:
    """That of the exporter's library, which asks a collector on this machine past the proxies of
    the environment: a proxy has another 127.0.0.1.
    """
    import requests

    class Direct(requests.Session):
        def merge_environment_settings(self, url: Any, *others: Any) -> Any:
            settings = super().merge_environment_settings(url, *others)
            if is_loopback(urlsplit(url).hostname or ""):
                settings["proxies"] = {}
            return settings

    return Direct()


class _Counted:
    """The library's exporter, which says nothing of what it loses. Called by one thread."""

    def __init__(self, exporter: Any, success: object) -> None:
        self.taken = 0  # spans that wait no longer
        self.lost = 0  # requests of which a span did not arrive
        self._exporter, self._success = exporter, success
        self._is_lost = False  # a span of the request whose spans come now

    def export(self, spans: Sequence[Any]) -> object:
        self.taken += len(spans)
        result: object = None
        try:
            result = self._exporter.export(spans)
            return result
        finally:
            self._count(spans, result is self._success)

    def _count(self, spans: Sequence[Any], arrived: bool) -> None:
        """A request's spans come one after the other, in one batch or two."""
        for span in spans:
            self._is_lost |= not arrived
            if span.name == _REQUEST:
                self.lost += self._is_lost
                self._is_lost = False

    def shutdown(self) -> None:
        self._exporter.shutdown()
