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
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

import grpc

from edvit_tf.aggregate import probe
from edvit_tf.aggregate.breaker import Breaker
from edvit_tf.aggregate.channel import OPTIONS
from edvit_tf.aggregate.device_stream import LARGEST_BYTES, DeviceStream
from edvit_tf.aggregate.devices import Device
from edvit_tf.aggregate.heavy import LIGHT_SECONDS, HeavyWatch
from edvit_tf.aggregate.hedge import RoundTrips
from edvit_tf.aggregate.levels import Place, seen_from, why_not_below
from edvit_tf.aggregate.own_check import OwnCheck
from edvit_tf.aggregate.pins import Pins
from edvit_tf.aggregate.probe import Probe, Seen
from edvit_tf.aggregate.reply import Expected, Reply, checked_reply
from edvit_tf.aggregate.request_parts import size_bytes
from edvit_tf.device.rpc import messages, tls
from edvit_tf.device.rpc.condition import Condition
from edvit_tf.device.rpc.jsonlog import log

PROBE_SECONDS = 1.0
_OVERSLEPT_SECONDS = 0.05  # beyond a probe's deadline; an idle process wakes up in a millisecond
# Of an answer: features and logits are some thousand numbers, beside them a dozen parameters.
LARGEST_ANSWER_BYTES = 256 << 10
_TO_DEVICES = [*OPTIONS, ("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES)]
_TOO_LARGE = "larger than max"  # in gRPC's words, of a message beyond that
# These open the breaker; a refusal costs no time and says that the device lives.
_SILENT = ("deadline", "down", "wrong answer", "wrong-view", "auth")
_FAIR_ROUND_TRIPS = 2.0  # a deadline below so many usual round trips is the client's fault


class Asked(NamedTuple):
    """A request to a device, which is to end in `answered`, `unanswered` or `doubted`."""

    name: str  # of the sub-model
    sent: float  # time.monotonic()
    trial: bool  # of the breaker
    heavy: bool  # an encoded file
    hasty_seconds: float | None  # its time, where a client gave less than the fleet's deadline
    request_id: str = ""  # the same of all sub-models of a request


class Link:
    """A device as the aggregator sees it. Belongs to one event loop.

    `light` is a request that costs the device little, without a model's name (`heavy.py`). `fleet`
    is the list of all links, this one among them later. `expected` is what the answer of each
    sub-model must be. `instance` is that of the relay which asks; "" of an aggregator.
    """

    def __init__(
        self,
        device: Device,
        digest: str,
        pins: Pins,
        own: tls.Identity | None,
        light: tuple[bytes, ...],
        fleet: Sequence["Link"],
        expected: Sequence[Expected],
        instance: str = "",
    ) -> None:
        self.device = device
        self.made_of = device, own, digest
        self.seen = Seen("unknown", "not asked yet")
        self.fleet = fleet
        self._instance = instance
        self._light = light
        self._own_count = itertools.count()  # of requests of our own
        self._expected = {each.name: each for each in expected}

        if own is None:
            self.channel = grpc.aio.insecure_channel(device.address, options=_TO_DEVICES)
        else:
            credentials = tls.channel_credentials(own)
            self.channel = grpc.aio.secure_channel(device.address, credentials, options=_TO_DEVICES)

        self._infer = messages.stub(self.channel, "ModelInfer")
        self._stream = DeviceStream(self.channel)
        self.probe = Probe(
            device,
            digest,
            pins,
            own,
            self._expected,
            self.channel,
            self._is_also,
            self._why_not_below,
        )

        self.breaker = Breaker(self._breaker_changed)
        self.heavy = HeavyWatch(self._infer_light, self._found_stuck)
        self.own_check = OwnCheck(self._infer_light, self._checked_ourselves)
        self.round_trips = RoundTrips()
        # requests without an answer, by reason
        self.failures: collections.Counter[str] = collections.Counter()
        self.is_tried = False  # its fleet answers no request yet, and may never: nothing is told
        self.returns = 0  # times that it was ready again
        self.in_flight_bytes = 0  # of requests that are not answered
        self._probed_at: float | None = None  # time.monotonic(), while a probe is not answered
        self._failed_id = ""  # of the last request that it has failed
        self._last_answer = 0.0  # time.monotonic()
        self._last_answers: dict[str, float] = {}  # the same, by sub-model

    @property
    def state(self) -> str:
        """One of STATES."""
        return self.seen.state

    @property
    def condition(self) -> Condition:
        """How the device is; nothing is known of one that is away."""
        return self.probe.condition if self.seen.state == "ready" else Condition()

    @property
    def certificate_ends(self) -> float | None:
        """Unix time; None of a device that is away, or does not tell."""
        return self.probe.certificate_ends if self.seen.state == "ready" else None

    def hosts(self, name: str) -> bool:
        """Whether this device can be asked for a sub-model now."""
        return self.seen.state == "ready" and name in self.seen.models

    @property
    def is_relay(self) -> bool:
        """Whether other devices answer for it."""
        return self.probe.below is not None

    def why_lacks(self, name: str) -> str | None:
        """Why a relay has not a sub-model now, by its devices; None where it does not say it."""
        return self.seen.lacking.get(name)

    def below(self) -> dict[str, str]:
        """The processes of this device and of all below it, by name."""
        place = Place(self.device.name, self.probe.instance)
        return seen_from(place, self.probe.below or {}, self._instance, self.state == "ready")

    async def infer(self, name: str, parts: tuple[bytes, ...], request_id: str, seconds: float):
        """A sub-model's answer (a message or Garbage); `parts` are the serialised request without
        the model's name and the id.

        Raises grpc.aio.AioRpcError, and WireError for what is no answer.
        """
        size = size_bytes(parts)
        self.in_flight_bytes += size
        try:
            return await self._asked(name, parts, size, request_id, seconds)
        finally:
            self.in_flight_bytes -= size

    async def _asked(
        self, name: str, parts: tuple[bytes, ...], size: int, request_id: str, seconds: float
    ):
        """As `infer`; `size` is that of the parts."""
        until = time.monotonic() + seconds
        try:
            together = self.probe.together and len(self.seen.models) > 1
            room = size <= LARGEST_BYTES or (together and self._stream.has_room(request_id))
            if self.probe.streams and room:
                try:
                    request = b"".join(parts)
                    return await self._stream.infer(request, name, request_id, seconds, together)
                except grpc.aio.AioRpcError as error:
                    if not self._has_no_streams(error):
                        raise
                    self.probe.streams = False  # an older worker runs there now

            # Fields of a message may come in any order, so the name is put before what all requests
            # share.
            named = messages.new("ModelInferRequest", model_name=name, id=request_id)
            request = b"".join([named.SerializeToString(), *parts])
            return await self._infer(request, timeout=max(0.0, until - time.monotonic()))

        except grpc.aio.AioRpcError as error:
            # gRPC calls it RESOURCE_EXHAUSTED, as a device that has too much to do does
            if _TOO_LARGE in (error.details() or ""):
                raise messages.wrong(
                    "answer", "a message that is too large", f"{LARGEST_ANSWER_BYTES} bytes at most"
                ) from None
            raise

    def _has_no_streams(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether the device may not know ModelStreamInfer, by how the stream broke."""
        broke = error.code() is grpc.StatusCode.UNAVAILABLE
        return error.code() is grpc.StatusCode.UNIMPLEMENTED or (
            broke and self._stream.carried_nothing()
        )

    def ask(
        self, name: str, heavy: bool, hasty_seconds: float | None, request_id: str = ""
    ) -> Asked:
        """A request for a sub-model is sent, which the breaker allows."""
        if heavy:
            self.heavy.started()
        trial = self.breaker.start()
        return Asked(name, time.monotonic(), trial, heavy, hasty_seconds, request_id)

    def answered(self, seconds: float, asked: Asked) -> None:
        """A request was answered well after so long."""
        if asked.heavy:
            self.heavy.answered(seconds)
        else:
            self.round_trips.add(seconds)
        self._last_answer = self._last_answers[asked.name] = time.monotonic()
        self.breaker.answered()

    def unanswered(self, why: str, asked: Asked) -> None:
        """A request had no answer; `why` is "" when nobody waits for it any more."""
        if why:
            self.failures[why] += 1

        # asked before the request is taken off: it may be what the others waited for
        excused = why == "deadline" and self._is_excused(asked)
        if asked.heavy and why == "deadline":
            self.heavy.late(asked.name)
        elif asked.heavy and why == "":
            self.heavy.given_up(asked.name, time.monotonic() - asked.sent)
        elif asked.heavy:
            self.heavy.refused()

        # silent to a request for many of its sub-models, it failed one request
        counted = bool(asked.request_id) and asked.request_id == self._failed_id
        if why in _SILENT and not excused and (asked.trial or not counted):
            self._failed_id = asked.request_id
            self.breaker.failed(asked.trial, why)
        elif why == "overloaded" and asked.trial:
            # it lives: that is what the trial was to find out
            self.breaker.answered()
        else:
            self.breaker.dropped(asked.trial)

    def missing_below(self, asked: Asked) -> None:
        """A relay has answered that the sub-model is missing: it lives, and so may its others."""
        self.failures["missing below"] += 1
        if asked.heavy:
            self.heavy.refused()
        self._last_answer = time.monotonic()
        self.breaker.answered()

    def doubted(self, kind: str, asked: Asked, blamed: bool, proved: bool = True) -> None:
        """A request was refused, or answered doubtfully; `blamed` if that was the device's fault
        and not the input's, `proved` if others have answered the same input.
        """
        self.failures["wrong answer" if blamed and proved else kind] += 1
        if asked.heavy:
            self.heavy.refused()

        if blamed and not self.is_relay:
            # its input may be odd all the same: the breaker moves if it fails one of ours too
            self.own_check.doubted(asked.name, asked.trial)
        elif asked.trial:
            self.breaker.answered()
        else:
            self.breaker.dropped(asked.trial)

    def _is_excused(self, asked: Asked) -> bool:
        """Whether a deadline that was missed says nothing of the device."""
        # it was busy with others: many that were sent at once are late at once
        if self._last_answers.get(asked.name, 0.0) > asked.sent:
            return True

        # a client in a hurry is no fault of the device, and must not shut others out
        usual = self.round_trips.p95()
        hasty = asked.hasty_seconds
        if usual is not None and hasty is not None and hasty < _FAIR_ROUND_TRIPS * usual:
            return True

        # nor is a file that takes long; the breaker that is open already was not opened by it
        if asked.trial or not (asked.heavy or self.heavy.excuses()):
            return False
        self.heavy.look(asked.name)
        return True

    async def _infer_light(self, name: str) -> Reply:
        """The answer to a request of our own that costs the device little. Raises as `infer` does,
        and WireError for a wrong one.
        """
        request_id = f"own-{next(self._own_count)}"
        started = time.perf_counter()
        received = await self.infer(name, self._light, request_id, LIGHT_SECONDS)
        total_ms = 1e3 * (time.perf_counter() - started)
        return checked_reply(received, request_id, self.device.name, total_ms, self._expected[name])

    def _checked_ourselves(self, trial: bool, fine: bool | None) -> None:
        if fine is False:
            self.breaker.failed(trial, "wrong answer")
        elif fine and trial:
            self.breaker.answered()
        else:
            self.breaker.dropped(trial)

    def _found_stuck(self) -> None:
        self.breaker.open("deadline")

    async def keep_watch(self, changed: Callable[[], None]) -> NoReturn:
        """Probes until cancelled; calls `changed()` when the state or the sub-models that are ready
        have changed.
        """
        while True:
            before = self.seen
            started = time.monotonic()
            self._probed_at = started
            found = await self._looked(before)
            self._probed_at = None
            # a probe may come late behind requests; an answer to one of them says more
            answered_meanwhile = self._last_answer > started
            if not (found.state == "down" and before.state == "ready" and answered_meanwhile):
                self.seen = found

            # the reason may change without a word
            if (self.seen.state, self.seen.models) != (before.state, before.models):
                self._note_change(before)
                changed()

            await asyncio.sleep(PROBE_SECONDS)

    async def _looked(self, before: Seen) -> Seen:
        """What a probe finds. Where this process itself stood still until after the deadline, so
        that an answer may have waited unread, one that was ready is looked at once more.
        """
        started = time.monotonic()
        found = await self.probe.look(first=before.state != "ready")
        overslept = time.monotonic() - started - probe.TIMEOUT_SECONDS
        if found.state == "down" and before.state == "ready" and overslept > _OVERSLEPT_SECONDS:
            found = await self.probe.look(first=False)

        return found

    def silent_seconds(self) -> float:
        """For how long a probe has waited for its answer; 0 where none does. A device whose plug
        was pulled shows here before it is found down. Called in another thread, too.
        """
        since = self._probed_at
        return 0.0 if since is None else time.monotonic() - since

    def _is_also(self) -> str | None:
        """The name of an earlier device of the list that is the same process, under another
        address.
        """
        for other in self.fleet:
            if other is self or not self.probe.instance:
                return None
            if other.probe.is_same(self.probe) and other.state == "ready":
                return other.device.name

        return None

    def _why_not_below(self, below: Mapping[str, str]) -> tuple[str, str] | None:
        """As `levels.why_not_below`, of this device."""
        level = [Place(link.device.name, link.probe.instance) for link in self.fleet]
        here = Place(self.device.name, self.probe.instance)
        return why_not_below(here, below, self._instance, level)

    def _note_change(self, before: Seen) -> None:
        if self.seen.state == "ready" and before.state not in ("ready", "unknown"):
            self.returns += 1
            self.breaker.found_again()
        if not self.is_tried:
            self._log_state()

    def asked_from_now_on(self, fleet: Sequence["Link"]) -> None:
        """By requests, as one of the links of `fleet`."""
        self.fleet = fleet
        if self.is_tried:
            self.is_tried = False
            if self.state != "unknown":
                self._log_state()

    def _log_state(self) -> None:
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
        self.heavy.close()
        self.own_check.close()
        self._stream.close()
        with contextlib.suppress(Exception):
            await self.channel.close()
