"""What every server of ours has in common: the Open Inference Protocol's small calls, health, and the gate.

Every call passes the gate (`_gate`): the peer's role, then the bytes, then the method; a WireError becomes the call's
status, anything unforeseen becomes INTERNAL and a line in the log. Nothing of a request is kept.
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence

import grpc

from edvit_tf.device import expiry, tls, wire
from edvit_tf.device.jsonlog import log, log_seldom
from edvit_tf.device.metrics import Metrics, Sample


class Availability:
    """Whether a server serves; watchers hear of each change. Belongs to the event loop."""

    def __init__(self, serving: bool = True) -> None:
        self.serving, self.over = serving, False
        self._changed = asyncio.Event()

    def put(self, serving: bool) -> None:
        """Serves from now on, or does not; without effect after `stop`."""
        if serving != self.serving and not self.over:
            self.serving = serving
            self._tell()

    def stop(self) -> None:
        """From now on NOT_SERVING, for good."""
        self.serving, self.over = False, True
        self._tell()

    async def changed(self) -> None:
        """Waits for the next change."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Service:
    """The calls that need no model. A server adds `model_metadata` and `model_infer`.

    `own` is the identity that it presents, with which peers' roles are looked at too; None: plaintext.
    """

    title = "edvit_tf"
    accepted_roles: tuple[str, ...] = ()  # of peers, where TLS says who they are

    def __init__(self, names: Iterable[str], own: tls.Identity | None, serving: bool = True) -> None:
        self.names, self.check_roles = tuple(names), own is not None
        self.certificate_ends = None if own is None else tls.expiry(own)  # Unix time
        self.metrics, self.availability, self.in_flight = Metrics(), Availability(serving), 0

    def health(self) -> dict:
        """What /healthz says below its first line, as JSON; called in another thread."""
        return {"models": list(self.names), "certificate": expiry.shown(self.certificate_ends)}

    def gauges(self) -> list[tuple[str, str, list[Sample]]]:
        """Of this moment, for the metrics; called in another thread."""
        ends = self.certificate_ends
        return [
            ("edvit_serving", "1 while the health is SERVING.", [({}, self.availability.serving)]),
            ("edvit_in_flight", "Inferences that are not answered yet.", [({}, self.in_flight)]),
            ("edvit_certificate_expiry_timestamp_seconds", "End of the certificate that is presented here, Unix time.",
             [] if ends is None else [({}, ends)]),
        ]

    async def server_live(self, request, context):
        return wire.message("ServerLiveResponse")(live=True)

    async def server_ready(self, request, context):
        return wire.message("ServerReadyResponse")(ready=self.availability.serving)

    async def model_ready(self, request, context):
        known = request.name in self.names and request.version in ("", wire.MODEL_VERSION)
        return wire.message("ModelReadyResponse")(ready=known and self.availability.serving)

    async def server_metadata(self, request, context):
        return wire.message("ServerMetadataResponse")(name=self.title, version=package_version())

    async def repository_index(self, request, context):
        serving = self.availability.serving
        response = wire.message("RepositoryIndexResponse")()
        for name in self.names if serving or not request.ready else ():
            response.models.add(name=name, version=wire.MODEL_VERSION, state="READY" if serving else "UNAVAILABLE",
                                reason="" if serving else "not serving now")
        return response

    async def check(self, request, context):
        if request.service not in ("", wire.INFERENCE, *self.names):
            raise wire.WireError(f"service: got {request.service[:64]!r}; expected '' or one of "
                                 f"{[wire.INFERENCE, *self.names]}.", grpc.StatusCode.NOT_FOUND)
        return self._status()

    async def watch(self, request, context):
        """The status now and at each change, until the server stops."""
        known = request.service in ("", wire.INFERENCE, *self.names)
        while True:
            change = asyncio.ensure_future(self.availability.changed())
            await context.write(self._status() if known else
                                wire.message("HealthCheckResponse")(status=wire.SERVICE_UNKNOWN))
            if self.availability.over:
                change.cancel()
                return
            await change

    def model(self, field: str, name: str, version: str) -> str:
        """The name of a model that is here; raises WireError for another, and for another version."""
        if name not in self.names:
            raise wire.wrong(field, repr(name[:64]), f"one of {list(self.names)}")
        if version not in ("", wire.MODEL_VERSION):
            raise wire.wrong(f"version of {name}", repr(version[:64]), f"'{wire.MODEL_VERSION}' or none")
        return name

    def _status(self):
        return wire.message("HealthCheckResponse")(
            status=wire.SERVING if self.availability.serving else wire.NOT_SERVING)


def wanted(request, outputs: Sequence[str]) -> list[str]:
    """The outputs that a request names, or all. Raises WireError for unknown ones."""
    for output in request.outputs:
        if output.name not in outputs:
            raise wire.wrong("outputs", repr(output.name[:64]), f"names of {list(outputs)}, or none for all")
        if output.parameters:
            raise wire.wrong(f"output '{output.name}', parameters", f"{sorted(output.parameters)[:4]}",
                             "none: there is no classification and no shared memory here")
    return list(dict.fromkeys(output.name for output in request.outputs)) or list(outputs)


def handlers(service: Service) -> list[grpc.GenericRpcHandler]:
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


def _gate(service: Service, method: str, call: Callable[..., Awaitable]) -> Callable[..., Awaitable]:
    """Checks the peer and the message around a handler, counts the call, and gives errors their status."""
    async def handle(request, context):
        model, code, counted = "", "OK", method == "ModelInfer"
        service.in_flight += counted
        try:
            if service.check_roles:
                _authorise(context, service.accepted_roles)
            if counted and getattr(request, "model_name", "") in service.names:
                model = request.model_name
            return await call(wire.checked(request), context)
        except wire.WireError as error:
            code, refusal = error.code.name, (error.code, str(error))
            log_seldom("refused", f"{method} {code}", method=method, code=code, peer=context.peer(), detail=str(error))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception:
            code, refusal = "INTERNAL", (grpc.StatusCode.INTERNAL,
                                         f"{method} failed inside the server; its log says how.")
            log("failed", "error", method=method, traceback=traceback.format_exc())
        finally:
            service.in_flight -= counted
            service.metrics.count(method, model, code)
        await context.abort(*refusal)  # last: whoever reads the metrics after an answer finds it counted

    return handle


def _authorise(context, accepted: Sequence[str]) -> None:
    """Raises WireError unless the peer's certificate has a role that may ask here."""
    peer = tls.peer_role(context)
    if peer is not None and peer[0] in accepted:
        return
    got = "a certificate without one" if peer is None else f"{peer[0]} ({peer[1][:64]})"
    code = grpc.StatusCode.UNAUTHENTICATED if peer is None else grpc.StatusCode.PERMISSION_DENIED
    raise wire.WireError(f"role: got {got}; expected a certificate of one of the roles {', '.join(accepted)}. Issue "
                         "one with `edvit certs issue`.", code)


def package_version() -> str:
    """Version of edvit_tf; the package is loaded, being this one's parent, and the device imports nothing of it."""
    return sys.modules[__name__.partition(".")[0]].__version__
