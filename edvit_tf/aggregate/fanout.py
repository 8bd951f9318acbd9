"""All sub-models of one request: asked at once, each answer checked before it counts, nothing
waited for too long.
"""

import asyncio
import functools
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from edvit_tf.aggregate.hedge import Budget, delay_seconds, first_good
from edvit_tf.aggregate.link import Link
from edvit_tf.device.rpc import messages, tensors

_OVERLOADED = "overloaded"
_REFUSED = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "deadline",
    grpc.StatusCode.UNAVAILABLE: "down",
    grpc.StatusCode.RESOURCE_EXHAUSTED: _OVERLOADED,
    grpc.StatusCode.UNAUTHENTICATED: "auth",
    grpc.StatusCode.PERMISSION_DENIED: "auth",
}
_DETAILS = 300  # characters of a device's words that are passed on
_NOT_NEEDED = "not waited for"  # enough others were missing
_CLOCK_SECONDS = 0.002  # that a timer may be early
_PATIENT_SHARE = 0.7  # of the fleet's deadline: a client that gives less is hasty


@dataclass(frozen=True)
class Reply:
    """The features (1, d) of a sub-model for this request, and where the milliseconds went."""

    features: np.ndarray
    device: str
    compute_ms: float
    queue_ms: float
    wire_ms: float  # round trip without the two


@dataclass(frozen=True)
class _Request:
    """What all sub-models of one request are asked."""

    id: str
    serialised: bytes  # without the sub-model's name
    until: float  # time.monotonic()
    hasty: bool  # its client gives less time than the fleet usually has
    turn: int  # of the replicas


class Fanout:
    """Asks the links of a fleet."""

    def __init__(
        self,
        links: Sequence[Link],
        names: Sequence[str],
        widths: Sequence[int],
        digest: str,
        deadline_seconds: float,
    ) -> None:
        self.links = links
        self.widths = dict(zip(names, widths, strict=True))
        self.digest = digest
        self.budget = Budget()
        self._patient_seconds = _PATIENT_SHARE * deadline_seconds
        self._process = os.urandom(6).hex()
        self._count = itertools.count()

    def available(self) -> list[str]:
        """The sub-models that at least one device is ready to answer for."""
        return [name for name in self.widths if any(link.hosts(name) for link in self.links)]

    def why_missing(self, name: str) -> str:
        """Why no device can be asked for a sub-model: the devices' states, and their breakers'."""
        states = []
        for link in self.links:
            if link.state != "ready":
                states.append(f"{link.device.name} {link.state}")
            elif link.hosts(name) and not link.breaker.allows():
                states.append(f"{link.device.name} {link.breaker}")

        return ", ".join(states) or "no device hosts it"

    async def ask(
        self, input_name: str, value: np.ndarray | bytes, until: float, least: int = 0
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        """({sub-model: Reply}, {missing sub-model: why}) at `until` (time.monotonic()) at the
        latest.

        As soon as fewer than `least` answers can come, the others are not waited for. The input is
        serialised once. Raises WireError INVALID_ARGUMENT when the devices say that an encoded file
        cannot be used.
        """
        # the id tells answers of this process from those to an earlier one
        turn = next(self._count)
        request_id = f"{self._process}-{turn}"
        message = tensors.infer_request("", {input_name: value}, request_id=request_id)
        hasty = until - time.monotonic() < self._patient_seconds
        request = _Request(request_id, messages.serialise(message), until, hasty, turn)

        # Until all are there, too many are missing, or the time is over.
        tasks = {name: asyncio.create_task(self._ask_one(name, request)) for name in self.widths}
        waiting = set(tasks.values())
        spare = len(tasks) - least

        try:
            while waiting and spare >= 0:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=max(0.0, until - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                # an error counts as missing too; it is raised below
                for task in done:
                    answered = task.exception() is None and isinstance(task.result(), Reply)
                    spare -= not answered
        finally:
            for task in waiting:
                task.cancel()

        # In the order of the sub-models, whichever answered first.
        replies: dict[str, Reply] = {}
        missing: dict[str, str] = {}
        for name, task in tasks.items():
            if task in waiting:
                late = time.monotonic() >= until - _CLOCK_SECONDS
                missing[name] = "deadline" if late else _NOT_NEEDED
            else:
                result = task.result()  # raises a WireError
                if isinstance(result, Reply):
                    replies[name] = result
                else:
                    missing[name] = result

        return replies, missing

    async def _ask_one(self, name: str, request: _Request) -> Reply | str:
        """A checked answer, or why there is none. Replicas take turns; another is asked when one
        fails or is slow.
        """
        # each may change before its attempt: it is looked at again there
        able = [link for link in self.links if link.hosts(name) and link.breaker.allows()]
        if not able:
            return self.why_missing(name)
        if len(able) == 1:
            return await self._attempt(able[0], name, request, 1)

        first = request.turn % len(able)
        in_turn = able[first:] + able[:first]
        attempts = []
        for place, link in enumerate(in_turn):
            # when its turn comes: an equal share of what is left, and all of it for the last
            shares = len(able) - place
            attempts.append(functools.partial(self._attempt, link, name, request, shares))

        return await first_good(
            attempts,
            lambda result: isinstance(result, Reply),
            delay_seconds(in_turn[0].round_trips.p95(), request.until - time.monotonic()),
            self.budget,
        )

    async def _attempt(self, link: Link, name: str, request: _Request, shares: int) -> Reply | str:
        """One device's checked answer, or why there is none; it gets its share of the time left."""
        seconds = (request.until - time.monotonic()) / shares
        if seconds <= 0:
            return "deadline"
        if not link.breaker.allows():
            return f"{link.device.name} {link.breaker}"

        # from here on every end is told to the link, or a trial would never be over
        trial = link.breaker.start()
        started = time.perf_counter()
        ends = time.monotonic() + seconds
        hasty_seconds = seconds if request.hasty else None

        try:
            received = await link.infer(name, request.serialised, request.id, seconds)
            took = time.perf_counter() - started
            reply = self._checked(received, name, request.id, link.device.name, 1e3 * took)

        except grpc.aio.AioRpcError as error:
            code = error.code()
            why = _REFUSED.get(code, code.name)
            link.unanswered(why, trial, hasty_seconds)
            if code == grpc.StatusCode.INVALID_ARGUMENT:
                raise messages.WireError(f"{link.device.name}: {error.details()}") from error
            if code == grpc.StatusCode.FAILED_PRECONDITION:  # something is not installed there
                why += f": {(error.details() or '')[:_DETAILS]}"

            return f"{link.device.name} {why}"

        except messages.WireError as error:
            link.unanswered("wrong answer", trial)
            return f"{link.device.name} wrong answer: {error}"

        except BaseException as error:
            # cancelled, or a fault of ours: a trial must end all the same
            cancelled = isinstance(error, asyncio.CancelledError)
            late = cancelled and time.monotonic() >= ends - _CLOCK_SECONDS
            link.unanswered("deadline" if late else "", trial, hasty_seconds)
            raise

        link.answered(took)

        return reply

    def _checked(self, received, name: str, request_id: str, device: str, total_ms: float) -> Reply:
        """Raises WireError unless this is the answer of this sub-model of this bundle to this
        request.
        """
        # an answer to another request, or of another bundle, would be fused in silence
        message = messages.checked(received)
        said = tensors.parameters(message)
        for field, got, expected in (
            ("model_name", message.model_name, name),
            ("id", message.id, request_id),
            ("bundle_digest", said.get("bundle_digest"), self.digest),
        ):
            if got != expected:
                raise messages.wrong(field, repr(got)[:80], repr(expected)[:80])

        # and these are what the fusion was loaded for: (1, d_j), finite
        features = tensors.arrays(message).get("features")
        expected_shape = f"float32 {[1, self.widths[name]]}"
        if not isinstance(features, np.ndarray):
            raise messages.wrong("features", "no array", expected_shape)
        if features.shape != (1, self.widths[name]) or features.dtype != np.float32:
            got = f"{features.dtype} {list(features.shape)}"
            raise messages.wrong("features", got, expected_shape)

        if not np.isfinite(features).all():
            raise messages.wrong("features", "NaN or Inf", "finite numbers")

        # clocks of two machines are never compared: the wire is what the round trip leaves
        compute_ms = float(said.get("compute_ms", 0.0))
        queue_ms = float(said.get("queue_ms", 0.0))
        wire_ms = max(0.0, total_ms - compute_ms - queue_ms)

        return Reply(features, device, compute_ms, queue_ms, wire_ms)


def overloaded(missing: dict[str, str]) -> bool:
    """Whether sub-models are missing for no other reason than that their devices have too much to
    do.
    """
    # what was not waited for says nothing of its device
    reasons = [why for why in missing.values() if why != _NOT_NEEDED]
    return bool(reasons) and all(why.endswith(f" {_OVERLOADED}") for why in reasons)
