"""What every server of ours has in common: the Open Inference Protocol's small calls, health, and
what its life needs to know of it (`lifecycle.py`).

`handlers.py` stands before all of the calls.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Callable, Coroutine, Iterable

import grpc

from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.bundle_input import BundleInput
from edvit_tf.device.rpc import certificate_expiry, messages, tls, triton
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.rpc.http_server import JSON, HttpSide, Page, Routes, serve_http
from edvit_tf.device.rpc.jsonlog import dropped_lines
from edvit_tf.device.rpc.limits import Room
from edvit_tf.device.rpc.metrics import EXPOSITION, Gauge, Metrics
from edvit_tf.device.rpc.request_input import message_limit, requested_model


class Availability:
    """Whether a server serves; watchers hear of each change. Belongs to the event loop."""

    def __init__(self, serving: bool = True) -> None:
        self.serving = serving
        self.over = False
        self._changed = asyncio.Event()

    def put(self, serving: bool) -> None:
        """Serves from now on, or does not; without effect after `stop`."""
        if serving != self.serving and not self.over:
            self.serving = serving
            self._tell()

    def stop(self) -> None:
        """From now on NOT_SERVING, for good."""
        self.serving = False
        self.over = True
        self._tell()

    async def changed(self) -> None:
        """Waits for the next change."""
        await self._changed.wait()

    def _tell(self) -> None:
        # for those who wait now; the next change has an event of its own
        self._changed.set()
        self._changed = asyncio.Event()


class BaseService:
    """The calls that need no model. A server adds `model_metadata` and `model_infer`.

    `own` is the identity that it presents, with which peers' roles are looked at too; None:
    plaintext. `deadline_seconds` is what a request without a deadline has, and the most that one
    gets. After `stuck_seconds` in one of the `executors` the process ends.
    """

    title = "edvit_tf"
    accepted_roles: tuple[str, ...] = ()  # of peers, where TLS says who they are
    address = ""  # HOST:PORT, once it listens

    def __init__(
        self,
        bundle: Bundle,
        model_input: BundleInput,
        names: Iterable[str],
        executors: Iterable[Executor],
        *,
        deadline_seconds: float,
        stuck_seconds: float,
        own: tls.Identity | None,
        serving: bool = True,
    ) -> None:
        self.bundle = bundle
        self.model_input = model_input
        self.names = tuple(names)
        self.executors = {executor.name: executor for executor in executors}
        self.deadline_seconds = deadline_seconds
        self.stuck_seconds = stuck_seconds
        self.own = own
        self.certificate_ends = None if own is None else own.ends  # Unix time

        self.metrics = Metrics()
        self.availability = Availability(serving)
        self.in_flight = 0
        self.stream_messages = 0  # of all streams, since the start
        self.stream_bytes = 0

    @functools.cached_property
    def room(self) -> Room:
        """What callers share of this server."""
        return Room(self.model_input, message_limit(self.model_input))

    # What its life asks for.

    def description(self) -> dict:
        """Further fields of the log's line "serving"."""
        return {}

    def background(self) -> list[Coroutine]:
        """What goes on beside the requests until the server stops; none ends by itself."""
        return []

    async def renew(self, own: tls.Identity) -> str | None:
        """Takes another identity for what is to come, or says why not."""
        self.own = own
        self.certificate_ends = own.ends
        return None

    async def renew_rest(self) -> None:
        """Tries again what did not take the identity of now, where that is somebody's choice."""

    async def reload(self) -> None:
        """Reads again what may change while it runs, beside the identity."""

    async def drain(self, seconds: float) -> None:
        """Waits, so long at most, for what was asked otherwise than by gRPC."""

    async def close(self) -> None:
        """Closes what the server opened, when it has stopped."""

    # What is shown by HTTP.

    def serve_http(self, host: str, port: int) -> HttpSide:
        """Opens the HTTP port, in the event loop of the server. Raises OSError."""
        return serve_http(host, port, self.routes())

    def routes(self) -> Routes:
        """The pages of the HTTP server; called once, the pages in other threads."""
        return {"/metrics": self._metrics_page, "/healthz": self._health_page}

    def _metrics_page(self) -> Page:
        return Page(200, EXPOSITION, self.metrics.text(self.gauges()))

    def _health_page(self) -> Page:
        """The status by its code for probes, and JSON, a field a line, for people and programs."""
        said = self.health_said()
        serving = said["status"] == "SERVING"
        return Page(200 if serving else 503, JSON, json.dumps(said, indent=1) + "\n")

    def health_said(self) -> dict:
        """What /healthz says; called in another thread."""
        serving = self.availability.serving
        return {"status": "SERVING" if serving else "NOT_SERVING", **self.health()}

    def health(self) -> dict:
        """What /healthz says beside the status; called in another thread."""
        return {
            "models": list(self.names),
            "certificate": certificate_expiry.state(self.certificate_ends),
        }

    def gauges(self) -> list[Gauge]:
        """Of this moment, for the metrics; called in another thread."""
        ends = self.certificate_ends
        return [
            Gauge(
                "edvit_serving",
                "1 while the health is SERVING.",
                [({}, self.availability.serving)],
            ),
            Gauge(
                "edvit_in_flight",
                "Inferences that are not answered yet.",
                [({}, self.in_flight)],
            ),
            Gauge(
                "edvit_stream_messages_total",
                "Messages received over streams; one may ask several models.",
                [({}, self.stream_messages)],
            ),
            Gauge(
                "edvit_stream_bytes_total",
                "Bytes of these messages.",
                [({}, self.stream_bytes)],
            ),
            Gauge(
                "edvit_log_lines_dropped_total",
                "Lines of the log that were not written: standard error stood still.",
                [({}, dropped_lines())],
            ),
            Gauge(
                "edvit_certificate_expiry_timestamp_seconds",
                "End of the certificate that is presented here, Unix time.",
                [] if ends is None else [({}, ends)],
            ),
        ]

    # The calls.

    def calls(self) -> dict[str, Callable]:
        """The calls of the inference service, by the protocol's names: one request, one answer."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
            "RepositoryIndex": self.repository_index,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            **triton.other_calls(),
        }

    async def server_live(self, request, context):
        return messages.new("ServerLiveResponse", live=True)

    async def server_ready(self, request, context):
        return messages.new("ServerReadyResponse", ready=self.availability.serving)

    async def server_metadata(self, request, context):
        return messages.new(
            "ServerMetadataResponse",
            name=self.title,
            version=package_version(),
            extensions=triton.EXTENSIONS,
        )

    async def model_ready(self, request, context):
        known = request.name in self.names and request.version in ("", messages.MODEL_VERSION)
        return messages.new("ModelReadyResponse", ready=known and self.availability.serving)

    async def model_metadata(self, request, context):
        raise NotImplementedError

    async def model_infer(self, request, context):
        raise NotImplementedError

    async def repository_index(self, request, context):
        serving = self.availability.serving
        response = messages.new("RepositoryIndexResponse")
        for name in self.names if serving or not request.ready else ():
            response.models.add(
                name=name,
                version=messages.MODEL_VERSION,
                state="READY" if serving else "UNAVAILABLE",
                reason="" if serving else "not serving now",
            )

        return response

    async def model_config(self, request, context):
        return triton.model_config(await self.model_metadata(request, context))

    async def model_statistics(self, request, context):
        """Of one model, or of all."""
        names = self.names
        if request.name:
            names = (requested_model("name", request.name, request.version, self.names),)

        response = messages.new("ModelStatisticsResponse")
        for name in names:
            response.model_stats.append(triton.statistics(name, self.metrics.totals(name)))

        return response

    async def check(self, request, context):
        # "" is the server as a whole
        known = ("", messages.INFERENCE, *self.names)
        if request.service not in known:
            raise messages.WireError(
                f"service: got {request.service[:64]!r}; expected '' or one of {list(known[1:])}.",
                grpc.StatusCode.NOT_FOUND,
            )

        return self._status()

    async def watch(self, request, context):
        """The status now and at each change, until the server stops."""
        known = request.service in ("", messages.INFERENCE, *self.names)
        unknown = messages.new("HealthCheckResponse", status=messages.SERVICE_UNKNOWN)
        while True:
            # before the status goes out, or a change meanwhile would be missed
            change = asyncio.ensure_future(self.availability.changed())
            await context.write(self._status() if known else unknown)
            if self.availability.over:
                change.cancel()
                return

            await change

    def _status(self):
        status = messages.SERVING if self.availability.serving else messages.NOT_SERVING
        return messages.new("HealthCheckResponse", status=status)


def package_version() -> str:
    """Version of edvit_tf; the package is loaded, being this one's parent, and the device imports
    nothing of it.
    """
    return sys.modules[__name__.partition(".")[0]].__version__
