"""What a relay answers: the sub-models of the devices below it, as a worker would, so that it is a
device of an aggregator or of another relay.

It takes an input once, asks its devices, and passes on what each has answered. What none of them
answers for is said to be missing, with the reason, by a status of its own (ABORTED): the relay
lives, and its other sub-models may be asked.
"""

import time
from typing import NamedTuple

import grpc

from edvit_tf.aggregate import told
from edvit_tf.aggregate.change import Reading
from edvit_tf.aggregate.fanout import MISSING_BELOW
from edvit_tf.aggregate.fleet import Fleet, FleetParts
from edvit_tf.aggregate.fleet_service import FleetService
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.reply import Reply
from edvit_tf.aggregate.request_parts import request_parts, size_bytes
from edvit_tf.aggregate.votes import Doubt
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.device.rpc import below, certificate_expiry, messages, tensors
from edvit_tf.device.rpc.admission import payer
from edvit_tf.device.rpc.callers import Caller, caller_of, client_of, for_whom
from edvit_tf.device.rpc.metrics import Gauge
from edvit_tf.device.rpc.request_input import (
    request_input,
    requested_model,
    requested_outputs,
    seconds_left,
)
from edvit_tf.device.rpc.together import TOGETHER, OneOf
from edvit_tf.device.rpc.traceparent import here

PLATFORM = "edvit_tf_relay"
OUTPUTS = ("features",)
_REASON = 160  # characters: the index of 1,024 sub-models must arrive


class _Passed(NamedTuple):
    """What is passed on of a request: the same for all of its sub-models."""

    numbered: tuple[int, str]  # as `Fanout.new_id`
    parts: tuple[bytes, ...]
    heavy: bool
    hasty: bool


class RelayService(FleetService):
    """The sub-models of a fleet, each answered by its devices."""

    title = "edvit_tf relay"
    accepted_roles = ("aggregator", "relay", "client")  # a client may ask one relay directly

    def __init__(
        self, fleet: Fleet, *, deadline_seconds: float, reading: Reading | None = None
    ) -> None:
        super().__init__(
            fleet, relayed(fleet.parts), [], deadline_seconds=deadline_seconds, reading=reading
        )
        self.instance = fleet.parts.instance

    def put(self, fleet: Fleet) -> None:
        self.names = relayed(fleet.parts)
        super().put(fleet)

    # The calls.

    async def repository_index(self, request, context):
        able = set(self.fanout.available()) if self.availability.serving else set()
        response = messages.new("RepositoryIndexResponse")
        for name in self.names:
            if name in able:
                response.models.add(name=name, version=messages.MODEL_VERSION, state="READY")
            elif not request.ready:
                response.models.add(
                    name=name,
                    version=messages.MODEL_VERSION,
                    state="UNAVAILABLE",
                    reason=self.fanout.states(name)[:_REASON],
                )

        return response

    async def model_ready(self, request, context):
        known = request.name in self.names and request.version in ("", messages.MODEL_VERSION)
        ready = known and self.availability.serving and request.name in self.fanout.available()
        return messages.new("ModelReadyResponse", ready=ready)

    async def model_metadata(self, request, context):
        name = requested_model("name", request.name, request.version, self.names)
        expected = self.fanout.expected[name]
        response = messages.new(
            "ModelMetadataResponse",
            name=name,
            versions=[messages.MODEL_VERSION],
            platform=PLATFORM,
        )
        datatype = tensors.DATATYPES[self.model_input.dtype]
        response.inputs.add(
            name=self.model_input.name, datatype=datatype, shape=self.model_input.shape
        )
        response.outputs.add(name="features", datatype="FP32", shape=(1, expected.width))

        beneath: dict[str, str] = {}
        for link in self.fleet.links:
            beneath |= link.below()
        response.properties.update(
            {
                "bundle_digest": self.bundle.digest,
                messages.STREAMS: "1",
                TOGETHER: "1",
                messages.INSTANCE: self.instance,
                messages.VIEW: expected.view,
                **below.said(beneath),
                **certificate_expiry.said(self.certificate_ends),
            }
        )

        return response

    async def model_infer(self, request, context):
        started, now = time.perf_counter(), time.monotonic()
        # refusals first: none of the devices hears of them
        name = requested_model("model_name", request.model_name, request.model_version, self.names)
        requested_outputs(request, OUTPUTS)
        caller = caller_of(context)
        left = seconds_left(request, context, self.deadline_seconds)

        with self.fleet.held() as fleet:  # to the end: another may take its place meanwhile
            at_once = self.in_flight / len(self.names)  # requests, of all the sub-models
            until = now + left - self.reserve.seconds(left, now, at_once, 0.0)
            passed = self._passed(request, caller, until)

            size = size_bytes(passed.parts)
            who = payer(fleet.outgoing.sent, request, caller, 2 * size)
            async with fleet.outgoing.held_once(who, size, until - time.monotonic()):
                result = await fleet.fanout.ask_one(name, *passed, until)

        if not isinstance(result, Reply):
            raise _refusal(result)

        self._count(name, result, time.perf_counter() - started)
        view = fleet.fanout.expected[name].view
        return tensors.infer_response(
            name,
            {"features": result.features},
            request_id=request.id,
            parameters={
                "bundle_digest": fleet.parts.bundle.digest,
                "compute_ms": result.compute_ms,
                "queue_ms": result.queue_ms,
                messages.DEVICE: result.path,
                **({} if view == str(AS_IT_IS) else {messages.VIEW: view}),
            },
        )

    def _passed(self, request, caller: Caller, until: float) -> _Passed:
        """What is passed on of a request; of one for several sub-models it is made once."""
        shared = request.shared if isinstance(request, OneOf) else {}
        if "passed" not in shared:
            value = request_input(tensors.arrays(request), self.model_input)
            # who asks for a client says whether that is in a hurry; a client does not say it of
            # itself, or its short deadlines would be the devices' fault
            client = client_of(request, caller)
            hasty = tensors.parameters(request).get(messages.HASTY) is True
            if client is caller:
                hasty = self.fanout.is_hasty(until)

            trace = here()
            told_of = "" if trace is None else str(trace)
            parts = request_parts(self.model_input.name, value, for_whom(client), told_of, hasty)
            heavy = isinstance(value, bytes)
            shared["passed"] = _Passed(self.fanout.new_id(), parts, heavy, hasty)

        return shared["passed"]

    def _count(self, name: str, reply: Reply, seconds: float) -> None:
        device_ms = reply.compute_ms + reply.queue_ms + reply.wire_ms
        self.metrics.observe("compute", name, reply.compute_ms / 1e3)
        self.metrics.observe("queue", name, reply.queue_ms / 1e3)
        self.metrics.observe("wire", name, reply.wire_ms / 1e3)
        self.metrics.observe("device", reply.device, device_ms / 1e3)
        self.metrics.observe("request", name, seconds)

    # What is shown by HTTP.

    def gauges(self) -> list[Gauge]:
        return [
            Gauge("edvit_relay_info", "What answers here.", [told.info(self.fleet)]),
            *super().gauges(),
            *told.of_devices(self.fleet),
        ]


def relayed(parts: FleetParts) -> tuple[str, ...]:
    """The sub-models that the devices of a fleet may be asked for, in fusion order."""
    pins = Pins(parts.bundle.sub_models)
    found = [pins.allowed(device, None) for device in parts.devices]
    return tuple(name for name in pins.names if any(name in allowed for allowed in found))


def _refusal(result: Doubt | str) -> messages.WireError:
    """What is said in the place of an answer. Whose fault a doubt is, the one above finds out: it
    has the answers of others beside it. Here the device is tried by an input of ours.
    """
    if isinstance(result, str):
        return messages.WireError(result, MISSING_BELOW)
    words = f"{result.device}: {result.words}"
    if result.kind == "INVALID_ARGUMENT":
        return messages.WireError(words)
    if result.is_out_of_range:
        return messages.WireError(words, grpc.StatusCode.OUT_OF_RANGE)
    return messages.WireError(str(result), MISSING_BELOW)
