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
class Answer:
    """The features (1, d) of a sub-model for this request, and where the milliseconds went."""

    features: np.ndarray
    device: str
    compute_ms: float
    queue_ms: float
    wire_ms: float  # round trip without the two


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
        self.links, self.widths, self.digest = links, dict(zip(names, widths, strict=True)), digest
        self._ids, self._process, self._turn = (
            itertools.count(),
            os.urandom(6).hex(),
            itertools.count(),
        )
        self.budget, self._patient_seconds = Budget(), _PATIENT_SHARE * deadline_seconds

    def available(self) -> list[str]:
        """The sub-models that at least one device is ready to answer for."""
        return [name for name in self.widths if any(link.hosts(name) for link in self.links)]

    def why_missing(self, name: str) -> str:
        """Why no device can be asked for a sub-model: the devices' states, and their breakers'."""
        states = [
            f"{link.device.name} {link.state}"
            if link.state != "ready"
            else f"{link.device.name} {link.breaker}"
            for link in self.links
            if link.state != "ready" or (link.hosts(name) and not link.breaker.allows())
        ]
        return ", ".join(states) or "no device hosts it"

    async def ask(
        self, input_name: str, value: np.ndarray | bytes, until: float, least: int = 0
    ) -> tuple[dict, dict]:
        """({sub-model: Answer}, {missing sub-model: why}) at `until` (time.monotonic()) at the
        latest.

        As soon as fewer than `least` answers can come, the others are not waited for. The input is
        serialised once. Raises WireError INVALID_ARGUMENT when the devices say that an encoded file
        cannot be used.
        """
        request_id = f"{self._process}-{next(self._ids)}"
        shared = messages.serialise(
            tensors.infer_request("", {input_name: value}, request_id=request_id)
        )
        turn, hasty = next(self._turn), until - time.monotonic() < self._patient_seconds
        tasks = {
            name: asyncio.create_task(self._ask_one(name, shared, request_id, until, turn, hasty))
            for name in self.widths
        }
        _give_up_early(list(tasks.values()), len(tasks) - least)
        try:
            await asyncio.wait(tasks.values(), timeout=max(0.0, until - time.monotonic()))
        finally:
            for task in tasks.values():
                task.cancel()
        answers, missing = {}, {}
        refused = [
            task.exception() for task in tasks.values() if task.done() and not task.cancelled()
        ]
        if any(refused):
            raise next(filter(None, refused))
        for name, task in tasks.items():
            if not task.done() or task.cancelled():
                missing[name] = (
                    "deadline" if time.monotonic() >= until - _CLOCK_SECONDS else _NOT_NEEDED
                )
            elif isinstance(task.result(), Answer):
                answers[name] = task.result()
            else:
                missing[name] = task.result()
        return answers, missing

    async def _ask_one(
        self, name: str, shared: bytes, request_id: str, until: float, turn: int, hasty: bool
    ) -> "Answer | str":
        """A checked answer, or why there is none. Replicas take turns; another is asked when one
        fails or is slow.
        """
        able = [link for link in self.links if link.hosts(name) and link.breaker.allows()]
        if not able:
            return self.why_missing(name)
        able = able[turn % len(able) :] + able[: turn % len(able)]
        if len(able) == 1:
            return await self._attempt(able[0], name, shared, request_id, until, 1, hasty)
        attempts = [
            functools.partial(
                self._attempt, link, name, shared, request_id, until, len(able) - place, hasty
            )
            for place, link in enumerate(able)
        ]
        return await first_good(
            attempts,
            lambda result: isinstance(result, Answer),
            delay_seconds(able[0].round_trips.p95(), until - time.monotonic()),
            self.budget,
        )

    async def _attempt(
        self,
        link: Link,
        name: str,
        shared: bytes,
        request_id: str,
        until: float,
        shares: int,
        hasty: bool,
    ) -> "Answer | str":
        """One device's checked answer, or why there is none; it gets its share of the time left."""
        seconds = (until - time.monotonic()) / shares
        if seconds <= 0:
            return "deadline"
        if not link.breaker.allows():
            return f"{link.device.name} {link.breaker}"
        trial, started, ends = link.breaker.start(), time.perf_counter(), time.monotonic() + seconds
        try:
            answer = self._checked(
                name,
                await link.infer(name, shared, request_id, seconds),
                request_id,
                link.device.name,
                started,
            )
        except grpc.aio.AioRpcError as error:
            why = _REFUSED.get(error.code(), error.code().name)
            link.unanswered(why, trial, seconds if hasty else None)
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                raise messages.WireError(f"{link.device.name}: {error.details()}") from error
            if (
                error.code() == grpc.StatusCode.FAILED_PRECONDITION
            ):  # something is not installed there
                why += f": {(error.details() or '')[:_DETAILS]}"
            return f"{link.device.name} {why}"
        except messages.WireError as error:
            link.unanswered("wrong answer", trial)
            return f"{link.device.name} wrong answer: {error}"
        except (
            BaseException
        ) as error:  # cancelled, or a fault of ours: a trial must end all the same
            late = (
                isinstance(error, asyncio.CancelledError)
                and time.monotonic() >= ends - _CLOCK_SECONDS
            )
            link.unanswered("deadline" if late else "", trial, seconds if hasty else None)
            raise
        link.answered(time.perf_counter() - started)
        return answer

    def _checked(self, name: str, received, request_id: str, device: str, started: float) -> Answer:
        """Raises WireError unless this is the answer of this sub-model of this bundle to this
        request.
        """
        message, total_ms = messages.checked(received), 1e3 * (time.perf_counter() - started)
        said, found = tensors.parameters(message), tensors.arrays(message)
        for field, got, expected in (
            ("model_name", message.model_name, name),
            ("id", message.id, request_id),
            ("bundle_digest", said.get("bundle_digest"), self.digest),
        ):
            if got != expected:
                raise messages.wrong(field, repr(got)[:80], repr(expected)[:80])
        features, shape = found.get("features"), (1, self.widths[name])
        if (
            not isinstance(features, np.ndarray)
            or features.shape != shape
            or features.dtype != np.float32
        ):
            got = (
                f"{features.dtype} {list(features.shape)}"
                if isinstance(features, np.ndarray)
                else "no array"
            )
            raise messages.wrong("features", got, f"float32 {list(shape)}")
        if not np.isfinite(features).all():
            raise messages.wrong("features", "NaN or Inf", "finite numbers")
        compute, queue = (float(said.get(key, 0.0)) for key in ("compute_ms", "queue_ms"))
        return Answer(features, device, compute, queue, max(0.0, total_ms - compute - queue))


def overloaded(missing: dict[str, str]) -> bool:
    """Whether sub-models are missing for no other reason than that their devices have too much to
    do.
    """
    reasons = [why for why in missing.values() if why != _NOT_NEEDED]
    return bool(reasons) and all(why.endswith(f" {_OVERLOADED}") for why in reasons)


def _give_up_early(tasks: list[asyncio.Task], spare: int) -> None:
    """Cancels all tasks once more than `spare` of them ended without an answer."""
    lost = 0

    def ended(task: asyncio.Task) -> None:
        nonlocal lost
        lost += not task.cancelled() and (
            task.exception() is not None or not isinstance(task.result(), Answer)
        )
        if lost > spare:
            for other in tasks:
                other.cancel()

    for task in tasks:
        task.add_done_callback(ended)
