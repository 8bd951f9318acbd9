"""What a client is answered: fused probabilities with what is missing said beside them, or an error
that names it.
"""

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np

from edvit_tf.aggregate import told
from edvit_tf.aggregate.fanout import only_late, overloaded
from edvit_tf.aggregate.fleet import Fleet
from edvit_tf.aggregate.fleet_service import FleetService
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.aggregate.http.options import HttpOptions
from edvit_tf.aggregate.recording import Recording, part_of
from edvit_tf.aggregate.reply import Reply, device_ms
from edvit_tf.aggregate.request_parts import request_parts, size_bytes
from edvit_tf.aggregate.seen import Seen, preview_of
from edvit_tf.aggregate.traces import Traces
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.callers import Caller, caller_of, for_whom
from edvit_tf.device.rpc.http_server import HttpSide
from edvit_tf.device.rpc.jsonlog import log, log_seldom
from edvit_tf.device.rpc.metrics import Gauge
from edvit_tf.device.rpc.request_input import (
    decoded,
    request_input,
    requested_model,
    requested_outputs,
    seconds_left,
)
from edvit_tf.device.rpc.traceparent import Trace, enter, fields, here
from edvit_tf.errors import ConfigError

if TYPE_CHECKING:
    from edvit_tf.aggregate.change import Reading
    from edvit_tf.aggregate.http.feed import Feed
    from edvit_tf.aggregate.http.rest import Rest
    from edvit_tf.aggregate.http.server import HttpServer

MODEL = "edvit"
OUTPUTS = ("probabilities", "label")
_REASONS = 4000  # characters: a status of more than 8 KiB does not arrive


class AggregatorService(FleetService):
    """The model `edvit` over the devices of a fleet."""

    title = "edvit_tf aggregator"
    accepted_roles = ("client",)

    def __init__(
        self,
        fleet: Fleet,
        *,
        deadline_seconds: float,
        http: HttpOptions = HttpOptions(),  # noqa: B008 (frozen)
        reading: "Reading | None" = None,
        traces: Traces | None = None,
    ) -> None:
        """`reading` is what may be read again while it runs; `traces` are of requests, where they
        are wanted.
        """
        super().__init__(
            fleet,
            [MODEL],
            [fleet.parts.fused_by.executor],
            deadline_seconds=deadline_seconds,
            reading=reading,
        )
        self.http = http
        self.traces = traces
        self.port: HttpServer | None = None  # of HTTP, while there are more than two pages
        self.rest: Rest | None = None  # while its port is open
        self.feed: Feed | None = None  # what its page is told
        self.seen: Seen | None = None  # what was answered lately, while there is a page for it
        self.degraded = 0  # answers without some sub-models, since the start

    # Its life.

    @property
    def fusion(self) -> Fusion:
        return self.fleet.parts.fused_by

    async def renew(self, own: tls.Identity) -> str | None:
        why = await super().renew(own)
        if why is None and self.port is not None and self.http.https:
            self.port.present(own)
        return why

    def put(self, fleet: Fleet) -> None:
        executor = fleet.parts.fused_by.executor
        self.executors[executor.name] = executor
        super().put(fleet)
        if self.feed is not None:
            self.feed.show(self.bundle, self.model_input)

    def serve_http(self, host: str, port: int) -> HttpSide:
        """Raises OSError if it cannot listen, ConfigError without what HTTPS or a login needs."""
        try:
            from edvit_tf.aggregate.http.port import open_live_port
        except ModuleNotFoundError as error:
            if self.http.https or self.http.token is not None:
                option = "--https" if self.http.https else "--login-token"
                raise ConfigError(
                    f"{option} needs uvicorn and starlette ({error}). Run, in a clone of edvit_tf: "
                    "pip install '.[aggregator]'."
                ) from error
            # a machine that has [device] alone can be an aggregator too
            log("http", "warning", pages="/metrics and /healthz alone", reason=f"{error}")
            return super().serve_http(host, port)

        self.seen = Seen()
        self.port, self.rest, self.feed = open_live_port(self, self.seen, self.http, host, port)
        return self.port

    async def drain(self, seconds: float) -> None:
        if self.rest is not None:
            await self.rest.drain(seconds)

    async def close(self) -> None:
        await super().close()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)

    # The calls.

    async def model_metadata(self, request, context):
        requested_model("name", request.name, request.version, self.names)
        response = messages.new(
            "ModelMetadataResponse",
            name=MODEL,
            versions=[messages.MODEL_VERSION],
            platform="edvit_tf_fleet",
        )
        datatype = tensors.DATATYPES[self.model_input.dtype]
        response.inputs.add(
            name=self.model_input.name, datatype=datatype, shape=self.model_input.shape
        )
        classes = len(self.bundle.labels)
        response.outputs.add(name="probabilities", datatype="FP32", shape=(1, classes))
        response.outputs.add(name="label", datatype="BYTES", shape=(1,))
        response.properties.update(
            bundle_digest=self.bundle.digest, submodels=str(len(self.bundle.sub_models))
        )
        response.properties[messages.INPUT_SPEC] = json.dumps(self.model_input.spec.to_dict())
        response.properties[messages.LABELS] = json.dumps(self.bundle.labels)

        return response

    async def model_infer(self, request, context):
        recording = None if self.traces is None else self.traces.begin(here())
        if recording is None:
            return await self._answer(request, context, here(), None)

        assert self.traces is not None
        enter(recording.here)  # the log's lines of a trace that begins here name it too
        with recording.whole(self.traces.take):
            return await self._answer(request, context, recording.here, recording)

    async def _answer(self, request, context, trace: Trace | None, recording: Recording | None):
        """As `model_infer`; `trace` is what the devices hear of."""
        started = time.perf_counter()
        now = time.monotonic()

        # refusals first: none of the devices hears of them
        requested_model("model_name", request.model_name, request.model_version, self.names)
        names = requested_outputs(request, OUTPUTS)
        value = request_input(tensors.arrays(request), self.model_input)
        if isinstance(value, bytes) and self.model_input.spec.is_prepared_once:
            # in a thread: a text may be long
            with part_of(recording, "decode"):
                value = await asyncio.to_thread(decoded, value, self.model_input)
        preview = "" if self.seen is None else preview_of(request)
        # the input was copied out: a large one is not to be held twice
        request.ClearField("raw_input_contents")
        request.ClearField("inputs")

        left = seconds_left(request, context, self.deadline_seconds)
        with self.fleet.held() as fleet:  # to the end: another may take its place meanwhile
            own_seconds = self.fusion.seconds
            held_back = self.reserve.seconds(left, now, self.in_flight, own_seconds)
            until = now + left - held_back

            caller = caller_of(context)
            told_of = "" if trace is None else str(trace)
            whom, in_a_hurry = for_whom(caller), fleet.fanout.is_hasty(until)
            parts = request_parts(self.model_input.name, value, whom, told_of, in_a_hurry)
            heavy = isinstance(value, bytes)
            replies, missing = await _ask_devices(fleet, parts, heavy, until, caller, recording)
            if len(replies) < fleet.parts.least:
                hasty = left < self.deadline_seconds
                raise self._too_few(fleet, replies, missing, own_time=hasty)

            # with what time is left; the fusion's own queue refuses what is too late
            features = {name: reply.features for name, reply in replies.items()}
            left_now = now + left - time.monotonic()
            with part_of(recording, "fuse"):
                done = await fleet.parts.fused_by.executor.submit(features, left_now, caller)
        probabilities = done.value  # (1, classes)
        if not np.isfinite(probabilities).all():
            raise messages.WireError(
                "output 'probabilities': got NaN or Inf; expected finite numbers. Look at the "
                "devices' --check.",
                grpc.StatusCode.INTERNAL,
            )

        if missing:
            self.degraded += 1
            said = fields(trace)
            log_seldom("degraded", f"degraded {','.join(missing)}", missing=missing, **said)

        labels = fleet.parts.bundle.manifest.labels
        label = labels[int(probabilities[0].argmax())]
        outputs = {"probabilities": probabilities, "label": [label]}
        parameters = self._parameters(fleet, replies, missing)
        if recording is not None:
            recording.said |= {"degraded": bool(missing), "missing": ",".join(missing)}
        seconds = time.perf_counter() - started
        self.metrics.observe("request", MODEL, seconds)
        if self.seen is not None:
            self.seen.note(
                probabilities, 1e3 * seconds, missing, device_ms(replies), preview, labels
            )

        return tensors.infer_response(
            MODEL,
            {name: outputs[name] for name in names},
            request_id=request.id,
            parameters={**parameters, "total_ms": 1e3 * seconds},
        )

    def _too_few(
        self, fleet: Fleet, replies: dict[str, Reply], missing: dict[str, str], own_time: bool
    ) -> messages.WireError:
        """`own_time`: the client gave the request less than the fleet's deadline."""
        code = grpc.StatusCode.UNAVAILABLE
        if overloaded(missing):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
        elif own_time and only_late(missing):
            code = grpc.StatusCode.DEADLINE_EXCEEDED

        reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
        return messages.WireError(
            f"sub-models: got {len(replies)} of {len(fleet.parts.bundle.sub_models)}; expected at "
            f"least {fleet.parts.least}. Missing: {reasons[:_REASONS]}.",
            code,
        )

    def _parameters(self, fleet: Fleet, replies: dict[str, Reply], missing: dict[str, str]) -> dict:
        """What is said beside the outputs: what is missing, what that costs, and where the time
        went, which is counted too.
        """
        said: dict[str, tensors.Parameter] = {
            "degraded": bool(missing),
            "missing": ",".join(missing),
            "bundle_digest": fleet.parts.bundle.digest,
        }
        for name, why in missing.items():
            said[f"{name}.missing"] = why

        # measured for some sets of missing ones alone
        accuracy = fleet.losses.get(frozenset(missing))
        if accuracy is not None:
            said["expected_accuracy"] = accuracy

        for name, reply in replies.items():
            said[f"{name}.device"] = reply.path
            said[f"{name}.compute_ms"] = reply.compute_ms
            said[f"{name}.queue_ms"] = reply.queue_ms
            said[f"{name}.wire_ms"] = reply.wire_ms
            device_ms = reply.compute_ms + reply.queue_ms + reply.wire_ms
            self.metrics.observe("compute", name, reply.compute_ms / 1e3)
            self.metrics.observe("wire", name, reply.wire_ms / 1e3)
            self.metrics.observe("device", reply.device, device_ms / 1e3)

        return said

    # What is shown by HTTP.

    def gauges(self) -> list[Gauge]:
        first, *rest = told.gauges(self.fleet, self.degraded)
        lost = [] if self.traces is None else self.traces.gauges()
        return [first, *super().gauges(), *rest, *lost]


async def _ask_devices(
    fleet: Fleet,
    parts: tuple[bytes, ...],
    heavy: bool,
    until: float,
    caller: Caller,
    recording: Recording | None,
) -> tuple[dict[str, Reply], dict[str, str]]:
    """As `Fanout.ask`, within the caller's share of what goes out."""
    seconds = until - time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        with part_of(recording, "queue"):
            held = fleet.outgoing.held(caller, size_bytes(parts), seconds)
            await stack.enter_async_context(held)
        return await fleet.fanout.ask(parts, heavy, until, fleet.parts.least, recording)
