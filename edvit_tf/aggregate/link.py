"""One device: a channel that reconnects by itself, what the device hosts, and whether it may be
asked.

A probe asks once a second which sub-models are there and from which bundle; nothing is sent to a
device before that is known, or when a probe found it silent. So a device that comes back serves
again within two probes. Between probes, and where a device answers probes but not requests,
`breaker.py` keeps requests from it.
"""

import asyncio
import collections
import contextlib
import time

import grpc

from edvit_tf.aggregate.breaker import Breaker
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.exchange import LARGEST_BYTES, Exchange
from edvit_tf.aggregate.hedge import RoundTrips
from edvit_tf.device.rpc import messages, tls
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.ports import split_address

PROBE_SECONDS, PROBE_TIMEOUT_SECONDS = 1.0, 1.0
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.enable_retries", 0),
]
_SILENT = (
    "deadline",
    "down",
    "wrong answer",
)  # open the breaker; a refusal costs no time and says that it lives
_FAIR_ROUND_TRIPS = 2.0  # a deadline below so many usual round trips is the client's fault
STATES = ("unknown", "ready", "down", "auth", "wrong-bundle", "not-serving")


class Link:
    """A device as the aggregator sees it. Belongs to one event loop."""

    def __init__(
        self, device: Device, digest: str, names: list[str], own: tls.Identity | None
    ) -> None:
        self.device, self.digest, self.names, self.own = device, digest, names, own
        self.state, self.reason = "unknown", "not asked yet"
        self.models: frozenset[str] = frozenset()
        self.channel = (
            grpc.aio.insecure_channel(device.address, options=_CHANNEL)
            if own is None
            else grpc.aio.secure_channel(
                device.address, tls.channel_credentials(own), options=_CHANNEL
            )
        )
        self._infer, self._exchange = (
            messages.stub(self.channel, "ModelInfer"),
            Exchange(self.channel),
        )
        self._streams = False  # whether the device says that it takes requests over one stream
        self.breaker, self.round_trips = Breaker(self._breaker_changed), RoundTrips()
        self.failures: collections.Counter[str] = (
            collections.Counter()
        )  # requests without an answer, by reason
        self.returns = 0  # times that it was ready again
        self._last_answer = 0.0  # time.monotonic()

    def hosts(self, name: str) -> bool:
        """Whether this device can be asked for a sub-model now."""
        return self.state == "ready" and name in self.models

    async def infer(self, name: str, shared: bytes, request_id: str, seconds: float):
        """A sub-model's answer (a message or Garbage); `shared` is the serialised request without
        the model's name.

        Raises grpc.aio.AioRpcError, and WireError for what is no answer.
        """
        if self._streams and len(shared) <= LARGEST_BYTES:
            try:
                return await self._exchange.infer(shared, name, request_id, seconds)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                self._streams = False  # an older worker runs there now; it says so at once
        # Fields of a message may come in any order, so the name is put before what all requests
        # share.
        named = messages.new("ModelInferRequest", model_name=name).SerializeToString()
        return await self._infer(named + shared, timeout=seconds)

    def answered(self, seconds: float) -> None:
        """A request was answered well after so long."""
        self.round_trips.add(seconds)
        self._last_answer = time.monotonic()
        self.breaker.answered()

    def unanswered(self, why: str, trial: bool, hasty_seconds: float | None = None) -> None:
        """A request had no answer; `why` is "" when nobody waits for it any more.

        `hasty_seconds` is the time that it had, where a client gave it less than the fleet's
        deadline.
        """
        if why:
            self.failures[why] += 1
        usual = self.round_trips.p95()
        if (
            why == "deadline"
            and usual
            and hasty_seconds
            and hasty_seconds < _FAIR_ROUND_TRIPS * usual
        ):
            self.breaker.dropped(trial)
        elif why in _SILENT:
            self.breaker.failed(trial, why)
        elif why in ("overloaded", "INVALID_ARGUMENT") and trial:
            self.breaker.answered()
        else:
            self.breaker.dropped(trial)

    async def keep_watch(self, changed) -> None:
        """Probes until cancelled; calls `changed()` when the state or what the device has has
        changed.
        """
        while True:
            before, started = (self.state, self.models), time.monotonic()
            state, reason, models = await self._probe()
            if state == "down" and self.state == "ready" and self._last_answer > started:
                state, reason, models = (
                    self.state,
                    self.reason,
                    self.models,
                )  # it answered a request meanwhile
            self.state, self.reason, self.models = state, reason, models
            if before != (state, models):
                if state == "ready" and before[0] not in ("ready", "unknown"):
                    self.returns += 1
                    self.breaker.found_again()
                log(
                    "device",
                    "info" if state == "ready" else "warning",
                    device=self.device.name,
                    address=self.device.address,
                    state=state,
                    reason=reason,
                    hosts=sorted(models),
                )
                changed()
            await asyncio.sleep(PROBE_SECONDS)

    async def close(self) -> None:
        self._exchange.close()
        with contextlib.suppress(Exception):
            await self.channel.close()

    def _breaker_changed(self, state: str, failures: int, reason: str) -> None:
        log(
            "breaker",
            "warning" if state == "open" else "info",
            device=self.device.name,
            state=state,
            failures=failures,
            reason=reason,
        )

    async def _probe(self) -> tuple[str, str, frozenset[str]]:
        """(state, reason, models)."""
        try:
            if self.own is not None and self.state != "ready":
                await self._check_peer()
            index = await self._call("RepositoryIndex")
            found = set()
            for model in index.models:
                if model.name in self.names and model.state == "READY":
                    metadata = await self._call("ModelMetadata", name=model.name)
                    digest = metadata.properties.get("bundle_digest", "")
                    if digest != self.digest:
                        return (
                            "wrong-bundle",
                            f"it has the bundle {digest[:12] or '(none)'}, this is "
                            f"{self.digest[:12]}; copy this bundle there",
                            frozenset(),
                        )
                    found.add(model.name)
                    self._streams = metadata.properties.get(messages.STREAMS) == "1"
            if not found:
                return (
                    "not-serving",
                    "it hosts no sub-model of this bundle that is ready",
                    frozenset(),
                )
            return "ready", "", frozenset(found)
        except tls.AuthFailed as error:
            return "auth", str(error), frozenset()
        except (grpc.aio.AioRpcError, OSError, messages.WireError) as error:
            code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                return "auth", error.details() or code.name, frozenset()
            text = (
                f"{code.name}: {error.details()}"
                if code is not None
                else f"{type(error).__name__}: {error}"
            )
            return (
                "down",
                text.partition("\n")[0][:300],
                frozenset(),
            )  # gRPC's words may have rubbish behind

    async def _check_peer(self) -> None:
        """Raises AuthFailed unless a worker answers at the address; gRPC alone does not tell
        refused from down.
        """
        host, port = split_address(self.device.address)
        role = await asyncio.to_thread(tls.peer_of, self.own, host, port, PROBE_TIMEOUT_SECONDS)
        if role is None or role[0] != "worker":
            raise tls.AuthFailed(
                f"{self.device.address} has the role {role and role[0]!r}; a device is a worker. "
                "Issue it a worker's certificate."
            )

    async def _call(self, method: str, **fields):
        request = messages.new(messages.METHODS[method][0], **fields)
        return messages.checked(
            await messages.stub(self.channel, method)(request, timeout=PROBE_TIMEOUT_SECONDS)
        )
