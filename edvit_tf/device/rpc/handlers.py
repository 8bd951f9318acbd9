"""What every call and every message of a stream passes, and how each end of it is told.

A WireError becomes the call's status, anything unforeseen becomes INTERNAL and a line in the log.
Nothing of a request is kept.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from edvit_tf.device.rpc.admission import one_message
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.callers import Caller, caller_of
from edvit_tf.device.rpc.jsonlog import log, log_seldom
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.traceparent import enter, fields, here, trace_of

INFER = "ModelInfer"  # how inferences are counted, those of streams too
Call = Callable[[Any, Any], Awaitable[Any]]  # of (request, context), a method of the service


def call_handler(service: BaseService, method: str, call: Call) -> Call:
    """A handler of one request. To gRPC it takes a stream of raw messages, so that it is called
    before there is one.
    """

    async def handle(_, context):
        caller = caller_of(context)
        response = None
        with Tally(service, method, caller) as tally:
            async with one_message(service, method, caller, context) as request:
                tally.begins(request, context)
                response = await call(request, context)

        if tally.refusal is not None:
            # Not by `abort`: gRPC keeps its error, that the frames, and they the request.
            context.set_code(tally.refusal.code)
            context.set_details(str(tally.refusal))

        return response

    return handle


class Tally:
    """A block that answers one request: it is counted when it ends, whatever its end is.

    What it raises is logged and becomes `refusal`; a cancelled block stays cancelled.
    """

    def __init__(self, service: BaseService, method: str, caller: Caller) -> None:
        self.refusal: WireError | None = None
        self._service = service
        self._method = method
        self._caller = caller
        self._model = ""
        self._infers = False

    def begins(self, request, context) -> None:
        """The request is here."""
        enter(trace_of(request, context))
        self._infers = self._method == INFER
        self._service.in_flight += self._infers
        # other names are no labels: peers could make metrics without end of them
        name = getattr(request, "model_name", "")  # what cannot be read has none
        if self._infers and name in self._service.names:
            self._model = name

    def __enter__(self) -> "Tally":
        enter(None)  # this task may have answered another one
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _) -> bool:
        code = "OK" if error is None else self._ended_by(error)
        self._service.in_flight -= self._infers
        seconds = time.perf_counter() - self._started
        self._service.metrics.count(self._method, self._model, code, seconds)

        return self.refusal is not None

    def _ended_by(self, error: BaseException) -> str:
        """The name of the status of what ended the block."""
        if isinstance(error, WireError):
            self.refusal = error.without_frames()
            self._log_refusal(error)
        elif isinstance(error, Exception):
            # a fault of ours ends one call and is in the log, whole
            text = "".join(traceback.format_exception(error))
            log("failed", "error", method=self._method, traceback=text, **fields(here()))
            self.refusal = WireError(
                f"{self._method} failed inside the server; its log says how.",
                grpc.StatusCode.INTERNAL,
            )
        else:
            return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "UNKNOWN"

        return self.refusal.code.name

    def _log_refusal(self, error: WireError) -> None:
        code = error.code.name
        log_seldom(
            "refused",
            f"{self._method} {code}",
            method=self._method,
            code=code,
            peer=self._caller.connection,
            name=self._caller.name,
            detail=str(error),
            **fields(here()),
        )
