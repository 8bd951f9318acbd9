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

from edvit_tf.aggregate.hedge import Budget, delay_seconds, first_good
from edvit_tf.aggregate.link import Asked, Link
from edvit_tf.aggregate.recording import CANCELLED, Recording
from edvit_tf.aggregate.reply import Expected, OutOfRange, Reply, WrongView, checked_reply
from edvit_tf.aggregate.votes import OUT_OF_RANGE, Doubt, Votes
from edvit_tf.device.rpc import messages

_OVERLOADED = "overloaded"
_LATE = "deadline"
# A relay's: none of its devices answers for the sub-model, and its words say why
MISSING_BELOW = grpc.StatusCode.ABORTED
_REFUSED = {
    grpc.StatusCode.DEADLINE_EXCEEDED: _LATE,
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
class _Request:
    """What all sub-models of one request are asked."""

    id: str
    parts: tuple[bytes, ...]  # serialised, without the sub-model's name and the id
    until: float  # time.monotonic()
    hasty: bool  # its client gives less time than the fleet usually has
    heavy: bool  # an encoded file, which may take any time to decode
    turn: int  # of the replicas
    votes: Votes
    recording: Recording | None  # where it is traced


class Fanout:
    """Asks the links of a fleet."""

    def __init__(
        self,
        links: Sequence[Link],
        expected: Sequence[Expected],
        deadline_seconds: float,
        budget: Budget | None = None,
    ) -> None:
        self.links = links
        self.expected = {each.name: each for each in expected}
        self.budget = budget or Budget()
        self._patient_seconds = _PATIENT_SHARE * deadline_seconds
        self._process = os.urandom(6).hex()
        self._count = itertools.count()

    def available(self) -> list[str]:
        """The sub-models that at least one device is ready to answer for."""
        return [name for name in self.expected if any(link.hosts(name) for link in self.links)]

    def why_missing(self, name: str) -> str:
        """Why no device can be asked for a sub-model: the devices' states, and their breakers'."""
        return self.states(name) or "no device hosts it"

    def states(self, name: str) -> str:
        """Of devices that might have it and cannot be asked; "" where there is none."""
        states = []
        for link in self.links:
            why = link.why_lacks(name)
            if why is not None:
                states.append(f"{link.device.name}: {why}")
            elif link.state != "ready":
                states.append(f"{link.device.name} {link.state}")
            elif link.hosts(name) and not link.breaker.allows():
                states.append(f"{link.device.name} {link.breaker}")

        return ", ".join(states)

    async def ask(
        self,
        parts: tuple[bytes, ...],
        heavy: bool,
        until: float,
        least: int = 0,
        recording: Recording | None = None,
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        """({sub-model: Reply}, {missing sub-model: why}) at `until` (time.monotonic()) at the
        latest.

        As soon as fewer than `least` answers can come, the others are not waited for, unless they
        are to say whether a device or the input is at fault (`votes.py`). `parts` are the request
        (`request_parts.py`), `heavy` says that its input is an encoded file. Raises WireError
        INVALID_ARGUMENT when most devices say that the input cannot be used.
        """
        turn, request_id = self.new_id()
        request = _Request(
            request_id,
            parts,
            until,
            hasty=self.is_hasty(until),
            heavy=heavy,
            turn=turn,
            votes=Votes(len(self.expected), least),
            recording=recording,
        )

        # Until all are there, too many are missing, or the time is over.
        tasks = {name: asyncio.create_task(self._ask_one(name, request)) for name in self.expected}
        waiting = set(tasks.values())
        given_up = True

        try:
            while waiting and not request.votes.decided():
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=max(0.0, until - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                for task in done:
                    request.votes.count(task.result())
            given_up = False
        finally:
            for task in waiting:
                task.cancel()
            request.votes.settle(given_up)

        request.votes.raise_refusal()

        # In the order of the sub-models, whichever answered first.
        replies: dict[str, Reply] = {}
        missing: dict[str, str] = {}
        for name, task in tasks.items():
            if task in waiting:
                late = time.monotonic() >= until - _CLOCK_SECONDS
                missing[name] = _LATE if late else _NOT_NEEDED
                continue

            result = task.result()
            if isinstance(result, Reply):
                replies[name] = result
            else:
                missing[name] = str(result)

        return replies, missing

    def is_hasty(self, until: float) -> bool:
        """Whether a request that ends then has less time than the fleet usually has."""
        return until - time.monotonic() < self._patient_seconds

    def new_id(self) -> tuple[int, str]:
        """(turn of the replicas, id) of a request, which tells its answers from those to others."""
        turn = next(self._count)
        return turn, f"{self._process}-{turn}"

    async def ask_one(
        self,
        name: str,
        numbered: tuple[int, str],
        parts: tuple[bytes, ...],
        heavy: bool,
        hasty: bool,
        until: float,
    ) -> Reply | Doubt | str:
        """As `ask`, of one sub-model of a request whose others are asked by the same `numbered`
        (`new_id`): its Reply, a doubt, or why it is missing.
        """
        turn, request_id = numbered
        request = _Request(
            request_id,
            parts,
            until,
            hasty=hasty,
            heavy=heavy,
            turn=turn,
            votes=Votes(1, 0),
            recording=None,
        )
        given_up = True
        try:
            result = await self._ask_one(name, request)
            given_up = False
            return result
        finally:
            if given_up:
                request.votes.settle(given_up)
            else:
                request.votes.settle_alone()

    async def _ask_one(self, name: str, request: _Request) -> Reply | Doubt | str:
        """A checked answer, or why there is none. Replicas take turns; another is asked when one
        fails or is slow.
        """
        # each may change before its attempt: it is looked at again there
        able = [link for link in self.links if link.hosts(name) and link.breaker.allows()]
        if not able:
            return self.why_missing(name)
        if len(able) == 1:
            return await self._attempt(able[0], name, request, 1, 1)

        first = request.turn % len(able)
        in_turn = able[first:] + able[:first]
        attempts = []
        for place, link in enumerate(in_turn):
            # when its turn comes: an equal share of what is left, and all of it for the last
            shares = len(able) - place
            attempt = functools.partial(self._attempt, link, name, request, shares, place + 1)
            attempts.append(attempt)

        return await first_good(
            attempts,
            lambda result: isinstance(result, Reply),
            delay_seconds(in_turn[0].round_trips.p95(), request.until - time.monotonic()),
            self.budget,
        )

    async def _attempt(
        self, link: Link, name: str, request: _Request, shares: int, number: int
    ) -> Reply | Doubt | str:
        """As `_asked`; noted where the request is traced. `number` counts the attempts."""
        if request.recording is None:
            return await self._asked(link, name, request, shares)

        part = request.recording.call(name, link.device.name, number)
        outcome: Reply | Doubt | str = CANCELLED
        try:
            outcome = await self._asked(link, name, request, shares)
            return outcome
        finally:
            if isinstance(outcome, Reply):
                part.ends(outcome, outcome="answered")
            else:
                part.ends(outcome=outcome if isinstance(outcome, str) else "doubted")

    async def _asked(
        self, link: Link, name: str, request: _Request, shares: int
    ) -> Reply | Doubt | str:
        """One device's checked answer, or why there is none; it gets its share of the time left."""
        seconds = (request.until - time.monotonic()) / shares
        if seconds <= 0:
            return _LATE
        if not link.breaker.allows():
            return f"{link.device.name} {link.breaker}"

        # from here on every end is told to the link, or a trial would never be over
        hasty_seconds = seconds if request.hasty else None
        asked = link.ask(name, request.heavy, hasty_seconds, request.id)
        started = time.perf_counter()
        ends = time.monotonic() + seconds
        device = link.device.name

        try:
            received = await link.infer(name, request.parts, request.id, seconds)
            took = time.perf_counter() - started
            reply = checked_reply(received, request.id, device, 1e3 * took, self.expected[name])

        except grpc.aio.AioRpcError as error:
            return self._unanswered(link, asked, request, error)

        except OutOfRange as error:
            return request.votes.doubt(link, asked, OUT_OF_RANGE, str(error))

        except messages.WireError as error:
            why = "wrong-view" if isinstance(error, WrongView) else "wrong answer"
            link.unanswered(why, asked)
            return f"{device} {why}: {error}"

        except BaseException as error:
            # cancelled, or a fault of ours: a trial must end all the same
            cancelled = isinstance(error, asyncio.CancelledError)
            late = cancelled and time.monotonic() >= ends - _CLOCK_SECONDS
            link.unanswered(_LATE if late else "", asked)
            raise

        link.answered(took, asked)

        return reply

    def _unanswered(
        self, link: Link, asked: Asked, request: _Request, error: grpc.aio.AioRpcError
    ) -> Doubt | str:
        """Why a device has not answered, by the status of its call."""
        code = error.code()
        details = (error.details() or "")[:_DETAILS]
        device = link.device.name

        if code in _REFUSED:
            link.unanswered(_REFUSED[code], asked)
            return f"{device} {_REFUSED[code]}"

        if code is MISSING_BELOW and link.is_relay:
            link.missing_below(asked)
            return f"{device}: {details}"

        # a decoder that is not installed there says nothing of tensors
        if code == grpc.StatusCode.FAILED_PRECONDITION and request.heavy:
            link.unanswered(code.name, asked)
            return f"{device} {code.name}: {details}"

        # the input's fault, or the device's: the others tell
        # as a relay says of its device what `checked_reply` says of one of ours
        kind = OUT_OF_RANGE if code is grpc.StatusCode.OUT_OF_RANGE else code.name
        return request.votes.doubt(link, asked, kind, details)


def only_late(missing: dict[str, str]) -> bool:
    """Whether sub-models are missing for no other reason than that the time was over."""
    reasons = [why for why in missing.values() if why != _NOT_NEEDED]
    return bool(reasons) and all(why.rpartition(" ")[2] == _LATE for why in reasons)


def overloaded(missing: dict[str, str]) -> bool:
    """Whether sub-models are missing for no other reason than that their devices have too much to
    do.
    """
    # what was not waited for says nothing of its device
    reasons = [why for why in missing.values() if why != _NOT_NEEDED]
    return bool(reasons) and all(why.endswith(f" {_OVERLOADED}") for why in reasons)
