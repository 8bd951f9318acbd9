"""What a worker answers: the Open Inference Protocol v2 and gRPC's health service, for the sub-models that it hosts.

Every call passes one gate (`_gate`): the peer's role, then the bytes, then the method; a WireError becomes the call's
status, anything unforeseen becomes INTERNAL and a line in the log. Nothing of a request is kept.
"""

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence

import grpc
import numpy as np

from edvit_tf.device import tls, wire
from edvit_tf.device.bundle import Bundle
from edvit_tf.device.executor import Executor
from edvit_tf.device.hosted import Hosted
from edvit_tf.device.inputs import InputRule, decoded, request_input
from edvit_tf.device.jsonlog import log, log_seldom
from edvit_tf.device.metrics import Metrics, Sample

ACCEPTED_ROLES = ("aggregator", "client")  # a client may ask one worker directly
PLATFORM = "edvit_tf_tflite"
_NO_ROLE = "role: got {}; expected a certificate of an aggregator or a client. Issue one with `edvit certs issue`."


class Availability:
    """Whether this worker serves; watchers hear of a change. Belongs to the event loop."""

    def __init__(self) -> None:
        self.serving = True
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """From now on NOT_SERVING, for good."""
        self.serving = False
        self._changed.set()

    async def stopped(self) -> None:
        """Waits for `stop`."""
        await self._changed.wait()


class WorkerService:
    """The state behind the handlers: hosted models, their executors, metrics."""

    def __init__(self, bundle: Bundle, rule: InputRule, hosted: Sequence[Hosted], default_seconds: float,
                 check_roles: bool) -> None:
        self.bundle, self.rule, self.check_roles = bundle, rule, check_roles
        self.hosted = {one.name: one for one in hosted}
        self.executors = {one.name: Executor(one.name, _work(one, rule), one.invoke_seconds) for one in hosted}
        self.default_seconds = default_seconds  # for requests without a deadline, and the most that one gets
        self.metrics, self.availability, self.in_flight = Metrics(), Availability(), 0

    async def server_live(self, request, context):
        return wire.message("ServerLiveResponse")(live=True)

    async def server_ready(self, request, context):
        return wire.message("ServerReadyResponse")(ready=self.availability.serving)

    async def model_ready(self, request, context):
        known = request.name in self.hosted and request.version in ("", wire.MODEL_VERSION)
        return wire.message("ModelReadyResponse")(ready=known and self.availability.serving)

    async def server_metadata(self, request, context):
        return wire.message("ServerMetadataResponse")(name="edvit_tf worker", version=package_version())

    async def model_metadata(self, request, context):
        one = self._model("name", request.name, request.version)
        response = wire.message("ModelMetadataResponse")(name=one.name, versions=[wire.MODEL_VERSION],
                                                         platform=PLATFORM)
        response.inputs.add(name=self.rule.name, datatype=wire.DATATYPES[self.rule.dtype], shape=self.rule.shape)
        for name, shape in one.outputs.items():
            response.outputs.add(name=name, datatype="FP32", shape=shape)
        response.properties.update(bundle_digest=self.bundle.digest, submodel=str(one.index), runtime=one.model.runtime,
                                   flavour=one.chosen.flavour, threads=str(one.chosen.threads))
        return response

    async def repository_index(self, request, context):
        serving = self.availability.serving
        response = wire.message("RepositoryIndexResponse")()
        for name in self.hosted if serving or not request.ready else ():
            response.models.add(name=name, version=wire.MODEL_VERSION, state="READY" if serving else "UNAVAILABLE",
                                reason="" if serving else "the worker is stopping")
        return response

    async def model_infer(self, request, context):
        started = time.perf_counter()
        one = self._model("model_name", request.model_name, request.model_version)
        wanted = _wanted(request, one)
        given = request_input(wire.tensors(request), self.rule)
        left = context.time_remaining()
        left = self.default_seconds if left is None else min(left, self.default_seconds)
        done = await self.executors[one.name].submit(given, left)
        for name, value in done.value.items():
            if not np.isfinite(value).all():
                raise wire.WireError(f"output '{name}' of {one.name}: got NaN or Inf; expected finite numbers. Check "
                                     "the device: python -m edvit_tf.device BUNDLE --check", grpc.StatusCode.INTERNAL)
        self.metrics.observe("queue", one.name, done.queue_ms / 1e3)
        self.metrics.observe("compute", one.name, done.compute_ms / 1e3)
        self.metrics.observe("request", one.name, time.perf_counter() - started)
        return wire.infer_response(one.name, {name: done.value[name] for name in wanted}, request_id=request.id,
                                   parameters={"bundle_digest": self.bundle.digest, "compute_ms": done.compute_ms,
                                               "queue_ms": done.queue_ms, "flavour": one.chosen.flavour})

    async def check(self, request, context):
        if request.service not in ("", wire.INFERENCE, *self.hosted):
            raise wire.WireError(f"service: got {request.service[:64]!r}; expected '' or one of "
                                 f"{[wire.INFERENCE, *self.hosted]}.", grpc.StatusCode.NOT_FOUND)
        return self._status()

    async def watch(self, request, context):
        """The status now and at each change; ends after NOT_SERVING, which is the last."""
        if request.service not in ("", wire.INFERENCE, *self.hosted):
            await context.write(wire.message("HealthCheckResponse")(status=wire.SERVICE_UNKNOWN))
        else:
            await context.write(self._status())
        if self.availability.serving:
            await self.availability.stopped()
            await context.write(self._status())

    def gauges(self) -> list[tuple[str, str, list[Sample]]]:
        """Of this moment, for the metrics; called in another thread."""
        one = next(iter(self.hosted.values()))
        return [
            ("edvit_worker_info", "What answers here.", [({
                "version": package_version(), "bundle": self.bundle.path.name, "bundle_digest": self.bundle.digest,
                "runtime": one.model.runtime}, 1)]),
            ("edvit_model_info", "The file that answers.", [({
                "model": name, "flavour": each.chosen.flavour, "threads": str(each.chosen.threads)}, 1)
                for name, each in self.hosted.items()]),
            ("edvit_serving", "1 while the health is SERVING.", [({}, self.availability.serving)]),
            ("edvit_in_flight", "Inferences that are not answered yet.", [({}, self.in_flight)]),
            ("edvit_queue_depth", "Requests that wait for a model.", [
                ({"model": name}, each.waiting) for name, each in self.executors.items()]),
            ("edvit_service_seconds", "Running mean of a model's service time, which the queue reckons with.", [
                ({"model": name}, each.service_seconds) for name, each in self.executors.items()]),
        ]

    def _model(self, field: str, name: str, version: str) -> Hosted:
        if name not in self.hosted:
            raise wire.wrong(field, repr(name[:64]), f"one of {list(self.hosted)}")
        if version not in ("", wire.MODEL_VERSION):
            raise wire.wrong(f"version of {name}", repr(version[:64]), f"'{wire.MODEL_VERSION}' or none")
        return self.hosted[name]

    def _status(self):
        return wire.message("HealthCheckResponse")(
            status=wire.SERVING if self.availability.serving else wire.NOT_SERVING)


def _work(one: Hosted, rule: InputRule) -> Callable[[np.ndarray | bytes], dict[str, np.ndarray]]:
    """What the executor's thread does for a request: decode if need be, and run."""
    def work(given: np.ndarray | bytes) -> dict[str, np.ndarray]:
        return one.model.run(**{rule.name: decoded(given, rule) if isinstance(given, bytes) else given})

    return work


def _wanted(request, one: Hosted) -> list[str]:
    """The outputs that a request names, or all."""
    for output in request.outputs:
        if output.name not in one.outputs:
            raise wire.wrong("outputs", repr(output.name[:64]), f"names of {list(one.outputs)}, or none for all")
        if output.parameters:
            raise wire.wrong(f"output '{output.name}', parameters", f"{sorted(output.parameters)[:4]}",
                             "none: there is no classification and no shared memory here")
    return list(dict.fromkeys(output.name for output in request.outputs)) or list(one.outputs)


def handlers(service: WorkerService) -> list[grpc.GenericRpcHandler]:
    """The two services, for `add_generic_rpc_handlers` of a grpc.aio server."""
    inference = {"ServerLive": service.server_live, "ServerReady": service.server_ready,
                 "ModelReady": service.model_ready, "ServerMetadata": service.server_metadata,
                 "ModelMetadata": service.model_metadata, "ModelInfer": service.model_infer,
                 "RepositoryIndex": service.repository_index}
    made = {name: grpc.unary_unary_rpc_method_handler(_gate(service, name, call), *_bytes(name))
            for name, call in (*inference.items(), ("Check", service.check))}
    health = {"Check": made.pop("Check"),
              "Watch": grpc.unary_stream_rpc_method_handler(_gate(service, "Watch", service.watch), *_bytes("Watch"))}
    return [grpc.method_handlers_generic_handler(wire.INFERENCE, made),
            grpc.method_handlers_generic_handler(wire.HEALTH, health)]


def _bytes(method: str) -> tuple[Callable, Callable]:
    return wire.deserialiser(wire.METHODS[method][0]), wire.serialise


def _gate(service: WorkerService, method: str, call: Callable[..., Awaitable]) -> Callable[..., Awaitable]:
    """Checks the peer and the message around a handler, counts the call, and gives errors their status."""
    async def handle(request, context):
        model, code, counted = "", "OK", method == "ModelInfer"
        service.in_flight += counted
        try:
            if service.check_roles:
                _authorise(context)
            if counted and getattr(request, "model_name", "") in service.hosted:
                model = request.model_name
            return await call(wire.checked(request), context)
        except wire.WireError as error:
            code = error.code.name
            log_seldom("refused", f"{method} {code}", method=method, code=code, peer=context.peer(), detail=str(error))
            await context.abort(error.code, str(error))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception:
            code = "INTERNAL"
            log("failed", "error", method=method, traceback=traceback.format_exc())
            await context.abort(grpc.StatusCode.INTERNAL, f"{method} failed inside the worker; its log says how.")
        finally:
            service.in_flight -= counted
            service.metrics.count(method, model, code)

    return handle


def _authorise(context) -> None:
    """Raises WireError unless the peer's certificate has a role that may ask a worker."""
    peer = tls.peer_role(context)
    if peer is None:
        raise wire.WireError(_NO_ROLE.format("a certificate without one"), grpc.StatusCode.UNAUTHENTICATED)
    if peer[0] not in ACCEPTED_ROLES:
        raise wire.WireError(_NO_ROLE.format(f"{peer[0]} ({peer[1][:64]})"), grpc.StatusCode.PERMISSION_DENIED)


def package_version() -> str:
    """Version of edvit_tf; the package is loaded, being this one's parent, and the device imports nothing of it."""
    return sys.modules[__name__.partition(".")[0]].__version__
