"""What every server of ours has in common: the Open Inference Protocol's small calls, and health.

`gate.py` stands before all of them.
"""

import asyncio
import sys
from collections.abc import Iterable, Sequence

import grpc

from edvit_tf.device.rpc import certificate_expiry, messages, tensors, tls
from edvit_tf.device.rpc.metrics import Metrics, Sample


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


class BaseService:
    """The calls that need no model. A server adds `model_metadata` and `model_infer`.

    `own` is the identity that it presents, with which peers' roles are looked at too; None:
    plaintext.
    """

    title = "edvit_tf"
    accepted_roles: tuple[str, ...] = ()  # of peers, where TLS says who they are

    def __init__(
        self, names: Iterable[str], own: tls.Identity | None, serving: bool = True
    ) -> None:
        self.names, self.check_roles = tuple(names), own is not None
        self.certificate_ends = None if own is None else tls.expiry(own)  # Unix time
        self.metrics, self.availability, self.in_flight = Metrics(), Availability(serving), 0

    def health(self) -> dict:
        """What /healthz says below its first line, as JSON; called in another thread."""
        return {
            "models": list(self.names),
            "certificate": certificate_expiry.state(self.certificate_ends),
        }

    def gauges(self) -> list[tuple[str, str, list[Sample]]]:
        """Of this moment, for the metrics; called in another thread."""
        ends = self.certificate_ends
        return [
            ("edvit_serving", "1 while the health is SERVING.", [({}, self.availability.serving)]),
            ("edvit_in_flight", "Inferences that are not answered yet.", [({}, self.in_flight)]),
            (
                "edvit_certificate_expiry_timestamp_seconds",
                "End of the certificate that is presented here, Unix time.",
                [] if ends is None else [({}, ends)],
            ),
        ]

    async def server_live(self, request, context):
        return messages.new("ServerLiveResponse", live=True)

    async def server_ready(self, request, context):
        return messages.new("ServerReadyResponse", ready=self.availability.serving)

    async def model_ready(self, request, context):
        known = request.name in self.names and request.version in ("", messages.MODEL_VERSION)
        return messages.new("ModelReadyResponse", ready=known and self.availability.serving)

    async def server_metadata(self, request, context):
        return messages.new("ServerMetadataResponse", name=self.title, version=package_version())

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

    async def check(self, request, context):
        if request.service not in ("", messages.INFERENCE, *self.names):
            raise messages.WireError(
                f"service: got {request.service[:64]!r}; expected '' or one of "
                f"{[messages.INFERENCE, *self.names]}.",
                grpc.StatusCode.NOT_FOUND,
            )
        return self._status()

    async def watch(self, request, context):
        """The status now and at each change, until the server stops."""
        known = request.service in ("", messages.INFERENCE, *self.names)
        while True:
            change = asyncio.ensure_future(self.availability.changed())
            await context.write(
                self._status()
                if known
                else messages.new("HealthCheckResponse", status=messages.SERVICE_UNKNOWN)
            )
            if self.availability.over:
                change.cancel()
                return
            await change

    def model(self, field: str, name: str, version: str) -> str:
        """The name of a model that is here; raises WireError for another, and for another
        version.
        """
        if name not in self.names:
            raise messages.wrong(field, repr(name[:64]), f"one of {list(self.names)}")
        if version not in ("", messages.MODEL_VERSION):
            raise messages.wrong(
                f"version of {name}", repr(version[:64]), f"'{messages.MODEL_VERSION}' or none"
            )
        return name

    def _status(self):
        return messages.new(
            "HealthCheckResponse",
            status=messages.SERVING if self.availability.serving else messages.NOT_SERVING,
        )


def seconds_left(request, context, most: float) -> float:
    """What a request has: its call's deadline, and its parameter `timeout` (microseconds, as
    Triton's; 0: none).

    `most` seconds at most, and without either. Raises WireError for a timeout that is no such
    number.
    """
    left = context.time_remaining()
    left = most if left is None else min(left, most)
    if "timeout" not in request.parameters:  # reading a map's entry would make one
        return left
    given = tensors.parameters(request).get("timeout")
    if type(given) is not int or given < 0:
        raise messages.wrong(
            "parameter 'timeout'", repr(given)[:64], "microseconds, an integer of 0 or more"
        )
    return min(left, given / 1e6) if given else left


def wanted(request, outputs: Sequence[str]) -> list[str]:
    """The outputs that a request names, or all. Raises WireError for unknown ones."""
    for output in request.outputs:
        if output.name not in outputs:
            raise messages.wrong(
                "outputs", repr(output.name[:64]), f"names of {list(outputs)}, or none for all"
            )
        if output.parameters:
            raise messages.wrong(
                f"output '{output.name}', parameters",
                f"{sorted(output.parameters)[:4]}",
                "none: there is no classification and no shared memory here",
            )
    return list(dict.fromkeys(output.name for output in request.outputs)) or list(outputs)


def package_version() -> str:
    """Version of edvit_tf; the package is loaded, being this one's parent, and the device imports
    nothing of it.
    """
    return sys.modules[__name__.partition(".")[0]].__version__
