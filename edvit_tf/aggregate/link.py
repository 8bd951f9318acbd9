"""One device: a channel that reconnects by itself, which sub-models the device has, and whether it
may be asked.

A probe asks once a second which sub-models are there and from which bundle; nothing is sent to a
device before that is known, or when a probe found it silent. So a device that comes back serves
again within two probes. Between probes, and where a device answers probes but not requests,
`breaker.py` keeps requests from it.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import grpc

from edvit_tf.aggregate.breaker import Breaker
from edvit_tf.aggregate.device_stream import LARGEST_BYTES, DeviceStream
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.hedge import RoundTrips
from edvit_tf.device.rpc import messages, tls
from edvit_tf.device.rpc.jsonlog import log
from edvit_tf.device.rpc.ports import split_address

PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 1.0
STATES = ("unknown", "ready", "down", "auth", "wrong-bundle", "not-serving")
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.enable_retries", 0),
]
# These open the breaker; a refusal costs no time and says that the device lives.
_SILENT = ("deadline", "down", "wrong answer")
_FAIR_ROUND_TRIPS = 2.0  # a deadline below so many usual round trips is the client's fault
_REFUSING = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_WORDS = 300  # characters of an error that are shown


class Seen(NamedTuple):
    """What a probe found."""

    state: str
    reason: str = ""
    models: frozenset[str] = frozenset()  # sub-models that are ready there


class Link:
    """A device as the aggregator sees it. Belongs to one event loop."""

    def __init__(
        self, device: Device, digest: str, names: list[str], own: tls.Identity | None
    ) -> None:
        self.device = device
        self.digest = digest
        self.names = names
        self.own = own
        self.seen = Seen("unknown", "not asked yet")

        if own is None:
            self.channel = grpc.aio.insecure_channel(device.address, options=_CHANNEL)
        else:
            credentials = tls.channel_credentials(own)
            self.channel = grpc.aio.secure_channel(device.address, credentials, options=_CHANNEL)

        self._infer = messages.stub(self.channel, "ModelInfer")
        self._stream = DeviceStream(self.channel)
        self._streams = False  # whether the device says that it takes requests over one stream

        self.breaker = Breaker(self._breaker_changed)
        self.round_trips = RoundTrips()
        # requests without an answer, by reason
        self.failures: collections.Counter[str] = collections.Counter()
        self.returns = 0  # times that it was ready again
        self._last_answer = 0.0  # time.monotonic()

    @property
    def state(self) -> str:
        """One of STATES."""
        return self.seen.state

    def hosts(self, name: str) -> bool:
        """Whether this device can be asked for a sub-model now."""
        return self.seen.state == "ready" and name in self.seen.models

    async def infer(self, name: str, shared: bytes, request_id: str, seconds: float):
        """A sub-model's answer (a message or Garbage); `shared` is the serialised request without
        the model's name.

        Raises grpc.aio.AioRpcError, and WireError for what is no answer.
        """
        if self._streams and len(shared) <= LARGEST_BYTES:
            try:
                return await self._stream.infer(shared, name, request_id, seconds)
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

        # a client in a hurry is no fault of the device, and must not shut others out
        usual = self.round_trips.p95()
        too_hasty = (
            usual is not None
            and hasty_seconds is not None
            and hasty_seconds < _FAIR_ROUND_TRIPS * usual
        )
        if why in _SILENT and not (why == "deadline" and too_hasty):
            self.breaker.failed(trial, why)
        elif why in ("overloaded", "INVALID_ARGUMENT") and trial:
            # it lives: that is what the trial was to find out
            self.breaker.answered()
        else:
            self.breaker.dropped(trial)

    async def keep_watch(self, changed: Callable[[], None]) -> NoReturn:
        """Probes until cancelled; calls `changed()` when the state or the sub-models that are ready
        have changed.
        """
        while True:
            before = self.seen
            started = time.monotonic()
            found = await self._probe()
            # a probe may come late behind requests; an answer to one of them says more
            answered_meanwhile = self._last_answer > started
            if not (found.state == "down" and before.state == "ready" and answered_meanwhile):
                self.seen = found

            # the reason may change without a word
            if (self.seen.state, self.seen.models) != (before.state, before.models):
                self._log_change(before)
                changed()

            await asyncio.sleep(PROBE_SECONDS)

    def _log_change(self, before: Seen) -> None:
        if self.seen.state == "ready" and before.state not in ("ready", "unknown"):
            self.returns += 1
            self.breaker.found_again()
        log(
            "device",
            "info" if self.seen.state == "ready" else "warning",
            device=self.device.name,
            address=self.device.address,
            state=self.seen.state,
            reason=self.seen.reason,
            hosts=sorted(self.seen.models),
        )

    def _breaker_changed(self, state: str, failures: int, reason: str) -> None:
        log(
            "breaker",
            "warning" if state == "open" else "info",
            device=self.device.name,
            state=state,
            failures=failures,
            reason=reason,
        )

    async def close(self) -> None:
        self._stream.close()
        with contextlib.suppress(Exception):
            await self.channel.close()

    async def _probe(self) -> Seen:
        try:
            # at first, and whenever it was away: what answers there now?
            if self.own is not None and self.state != "ready":
                await self._check_peer(self.own)
            return await self._probe_models()
        except tls.AuthFailed as error:
            return Seen("auth", str(error))
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
            if code in _REFUSING:
                return Seen("auth", details or code.name)
            return _down(f"{code.name}: {details}")
        except (OSError, messages.WireError) as error:
            return _down(f"{type(error).__name__}: {error}")

    async def _probe_models(self) -> Seen:
        # by name alone a sub-model could be another bundle's
        index = await self._call("RepositoryIndex")
        found = set()
        for model in index.models:
            if model.name not in self.names or model.state != "READY":
                continue

            metadata = await self._call("ModelMetadata", name=model.name)
            digest = metadata.properties.get("bundle_digest", "")
            if digest != self.digest:
                return Seen(
                    "wrong-bundle",
                    f"it has the bundle {digest[:12] or '(none)'}, this is {self.digest[:12]}; "
                    "copy this bundle there",
                )

            found.add(model.name)
            self._streams = metadata.properties.get(messages.STREAMS) == "1"

        if not found:
            return Seen("not-serving", "it hosts no sub-model of this bundle that is ready")

        return Seen("ready", "", frozenset(found))

    async def _check_peer(self, own: tls.Identity) -> None:
        """Raises AuthFailed unless a worker answers at the address; gRPC alone does not tell
        refused from down.
        """
        host, port = split_address(self.device.address)

        # a handshake blocks: it must not hold up the requests
        role = await asyncio.to_thread(tls.peer_of, own, host, port, PROBE_TIMEOUT_SECONDS)
        if role is None or role[0] != "worker":
            raise tls.AuthFailed(
                f"{self.device.address} has the role {role and role[0]!r}; a device is a worker. "
                "Issue it a worker's certificate."
            )

    async def _call(self, method: str, **fields):
        request = messages.new(messages.METHODS[method][0], **fields)
        call = messages.stub(self.channel, method)
        return messages.checked(await call(request, timeout=PROBE_TIMEOUT_SECONDS))


def _down(words: str) -> Seen:
    """gRPC's words may have rubbish behind."""
    return Seen("down", words.partition("\n")[0][:_WORDS])
