"""All sub-models of one request: asked at once, each answer checked before it counts, nothing waited for too long."""

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from edvit_tf.aggregate.link import Link
from edvit_tf.device import wire

_REFUSED = {grpc.StatusCode.DEADLINE_EXCEEDED: "deadline", grpc.StatusCode.UNAVAILABLE: "down",
            grpc.StatusCode.RESOURCE_EXHAUSTED: "overloaded", grpc.StatusCode.UNAUTHENTICATED: "auth",
            grpc.StatusCode.PERMISSION_DENIED: "auth"}


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

    def __init__(self, links: Sequence[Link], names: Sequence[str], widths: Sequence[int], digest: str) -> None:
        self.links, self.widths, self.digest = links, dict(zip(names, widths, strict=True)), digest
        self._ids, self._process, self._turn = itertools.count(), os.urandom(6).hex(), itertools.count()

    def available(self) -> list[str]:
        """The sub-models that at least one device is ready to answer for."""
        return [name for name in self.widths if any(link.hosts(name) for link in self.links)]

    def why_missing(self, name: str) -> str:
        """Why no device can be asked for a sub-model: the devices' states."""
        states = [f"{link.device.name} {link.state}" for link in self.links if link.state != "ready"]
        return ", ".join(states) or "no device hosts it"

    async def ask(self, input_name: str, value: np.ndarray | bytes, until: float) -> tuple[dict, dict]:
        """({sub-model: Answer}, {missing sub-model: why}) at `until` (time.monotonic()) at the latest.

        The input is serialised once. Raises WireError INVALID_ARGUMENT when the devices say that an encoded file cannot
        be used.
        """
        request_id = f"{self._process}-{next(self._ids)}"
        shared = wire.serialise(wire.infer_request("", {input_name: value}, request_id=request_id))
        turn = next(self._turn)
        tasks = {name: asyncio.create_task(self._ask_one(name, shared, request_id, until, turn))
                 for name in self.widths}
        try:
            await asyncio.wait(tasks.values(), timeout=max(0.0, until - time.monotonic()))
        finally:
            for task in tasks.values():
                task.cancel()
        answers, missing = {}, {}
        refused = [task.exception() for task in tasks.values() if task.done() and not task.cancelled()]
        if any(refused):
            raise next(filter(None, refused))
        for name, task in tasks.items():
            if not task.done() or task.cancelled():
                missing[name] = "deadline"
            elif isinstance(task.result(), Answer):
                answers[name] = task.result()
            else:
                missing[name] = task.result()
        return answers, missing

    async def _ask_one(self, name: str, shared: bytes, request_id: str, until: float, turn: int) -> "Answer | str":
        """A checked answer, or why there is none. Replicas take turns; another is asked when one fails."""
        able = [link for link in self.links if link.hosts(name)]
        able = able[turn % len(able):] + able[: turn % len(able)] if able else []
        # Fields of a message may come in any order, so the name is put before what all requests share.
        request = wire.message("ModelInferRequest")(model_name=name).SerializeToString() + shared
        why = self.why_missing(name)
        for place, link in enumerate(able):
            left = until - time.monotonic()
            if left <= 0:
                return "deadline"
            started = time.perf_counter()
            try:
                received = await link.infer(request, left / (len(able) - place))
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    raise wire.WireError(f"{link.device.name}: {error.details()}") from error
                why = f"{link.device.name} {_REFUSED.get(error.code(), error.code().name)}"
                continue
            try:
                return self._checked(name, received, request_id, link.device.name, started)
            except wire.WireError as error:
                why = f"{link.device.name} wrong answer: {error}"
        return why

    def _checked(self, name: str, received, request_id: str, device: str, started: float) -> Answer:
        """Raises WireError unless this is the answer of this sub-model of this bundle to this request."""
        message, total_ms = wire.checked(received), 1e3 * (time.perf_counter() - started)
        said, found = wire.parameters(message), wire.tensors(message)
        for field, got, expected in (("model_name", message.model_name, name), ("id", message.id, request_id),
                                     ("bundle_digest", said.get("bundle_digest"), self.digest)):
            if got != expected:
                raise wire.wrong(field, repr(got)[:80], repr(expected)[:80])
        features, shape = found.get("features"), (1, self.widths[name])
        if not isinstance(features, np.ndarray) or features.shape != shape or features.dtype != np.float32:
            got = f"{features.dtype} {list(features.shape)}" if isinstance(features, np.ndarray) else "no array"
            raise wire.wrong("features", got, f"float32 {list(shape)}")
        if not np.isfinite(features).all():
            raise wire.wrong("features", "NaN or Inf", "finite numbers")
        compute, queue = (float(said.get(key, 0.0)) for key in ("compute_ms", "queue_ms"))
        return Answer(features, device, compute, queue, max(0.0, total_ms - compute - queue))
