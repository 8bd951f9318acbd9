"""ModelStreamInfer (Triton's extension of the protocol): ModelInfer over one call. Many requests,
each answered when it is done, with its id. One message may ask several models (`together.py`).

It costs a request about 0.4 ms less than a call of its own (docs/figures/latency.md).
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

import grpc

from edvit_tf.device.rpc import messages, tensors, together
from edvit_tf.device.rpc.admission import check_role, pause_seconds, payer
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.callers import CLIENT, Caller, caller_of
from edvit_tf.device.rpc.handlers import INFER, Call, Tally
from edvit_tf.device.rpc.messages import WireError
from edvit_tf.device.rpc.shares import Shares

# Requests of a stream that are not answered yet; more are not read. Of an aggregator's so many for
# each model: those of one client, which wait for one, must not keep the others from being read.
_AT_ONCE = 256
_ID_LENGTH = 1024  # characters of a request's id that a refusal repeats
# After a refusal the next request is read no sooner: a peer that sends on and on would keep the
# event loop from everybody. Not from an aggregator, which asks for many.
_PAUSE_SECONDS = 0.005
# A stream is opened to be used. Afterwards it may be silent for as long as its connection lives.
_FIRST_MESSAGE_SECONDS = 60.0
_Key = tuple[str, str]  # model, id


def stream_handler(service: BaseService) -> Call:
    """The handler of ModelStreamInfer, until the peer ends the stream or the server stops.

    A server that stops answers what it was asked before, refuses what still comes (UNAVAILABLE),
    and ends the stream.
    """

    async def handle(_, context):
        caller = caller_of(context)
        with contextlib.ExitStack() as held:
            # the role is looked at once, here, and not at each of the stream's requests
            with Tally(service, "ModelStreamInfer", caller) as tally:
                check_role(service, caller)
                held.enter_context(service.room.calls.held(caller))
                held.enter_context(service.room.streams.held(caller))

            if tally.refusal is not None:
                await context.abort(tally.refusal.code, str(tally.refusal))

            await _serve(service, caller, context)

    return handle


async def _serve(service: BaseService, caller: Caller, context) -> None:
    """The requests of a stream that was let in."""
    stream = _Stream(service, caller, context)
    reading = asyncio.ensure_future(stream.read())
    stopping = asyncio.ensure_future(_stopped(service))

    try:
        # whichever comes first; then what was asked before is answered
        await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
        while stream.answering:
            await asyncio.wait(stream.answering)

        # raises what ended the reading, if that was not the end of the stream
        if reading.done():
            reading.result()
    except WireError as error:
        await context.abort(error.code, str(error))
    finally:  # cancelled: the peer is gone, and nobody waits for what it asked
        for task in (reading, stopping, *stream.answering):
            task.cancel()


async def _stopped(service: BaseService) -> None:
    """Waits until the server stops."""
    while not service.availability.over:
        await service.availability.changed()


class _Held:
    """The bytes of one message. They are there until the last of its requests is over: one that is
    refused at once gives none of them back.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._requests = 0  # that hold it now
        self._share = contextlib.ExitStack()

    @contextlib.contextmanager
    def by(self, waiting: Shares, request, caller: Caller) -> Iterator[None]:
        """Holds it for one request. Raises WireError RESOURCE_EXHAUSTED."""
        if not self._requests:
            who = payer(waiting, request, caller, self._size_bytes)
            self._share.enter_context(waiting.held(who, self._size_bytes))

        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._share.close()


class _Stream:
    """The requests of one ModelStreamInfer call."""

    def __init__(self, service: BaseService, caller: Caller, context) -> None:
        self.service = service
        self.caller = caller
        self.context = context
        self.answering: set[asyncio.Task] = set()
        self._by_key: dict[_Key, asyncio.Task] = {}  # that may still be taken back
        self._room = asyncio.Semaphore(_at_once(service, caller))
        self._writing = asyncio.Lock()
        # since the last pause
        self._refused = False
        self._refused_its_own = False  # what it did not ask for a client
        self._took = 0.0  # seconds in which the dearest message was read
        self._asked = 1  # models, by the message that asked most of them

    async def read(self) -> None:
        """Reads requests until there are no more, and answers each in a task of its own. Raises
        WireError where none comes at all.
        """
        data = await self._first()
        while data is not grpc.aio.EOF:
            await self._take(data)
            seconds = self._pause_seconds()
            if seconds:
                await asyncio.sleep(seconds)

            data = await self.context.read()

    def _is_refused(self, request) -> None:
        self._refused = True
        self._refused_its_own |= self.service.own is not None or not _names_a_client(request)

    def _pause_seconds(self) -> float:
        """How long nothing is read now, after what was refused meanwhile."""
        if not self._refused or self.caller.asks_for_others:
            return 0.0

        # in plaintext who names a client is taken for an aggregator, up to what reading costs
        least = self._asked * _PAUSE_SECONDS if self._refused_its_own else 0.0
        seconds = max(least, pause_seconds(self.service.room, self._took))
        self._refused = self._refused_its_own = False
        self._took, self._asked = 0.0, 1

        return seconds

    async def _first(self) -> bytes:
        try:
            async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
                return await self.context.read()
        except TimeoutError:
            raise WireError(
                f"stream: got no message in {_FIRST_MESSAGE_SECONDS:.0f} s; expected one. Open it "
                "when there is something to ask.",
                grpc.StatusCode.DEADLINE_EXCEEDED,
            ) from None

    async def _take(self, data: bytes) -> None:
        """Takes a message up: a request is answered in a task, or an earlier one taken back."""
        self.service.stream_messages += 1
        self.service.stream_bytes += len(data)
        started = time.thread_time()
        requests: list[Any]
        try:
            most_elements = self.service.room.most_elements
            request = messages.parsed("ModelInferRequest", data, most_elements)
            requests = together.each_of(request)
        except WireError as error:
            requests = [messages.Garbage(str(error))]
        self._took = max(self._took, time.thread_time() - started)

        self._asked = max(self._asked, len(requests))

        # what several models are asked is held once for all of them
        held = _Held(len(data))
        del data
        for request in requests:
            await self._begin(request, held)

    async def _begin(self, request: Any, held: _Held) -> None:
        """Begins to answer one request of one model."""
        model = getattr(request, "model_name", "")  # Garbage has none
        request_id = getattr(request, "id", "")
        key = (model[:_ID_LENGTH], request_id[:_ID_LENGTH])
        if _takes_back(request):
            if key in self._by_key:
                self._by_key[key].cancel()
            return

        # a peer that sends on and on is read no further, until some are answered
        await self._room.acquire()
        task = asyncio.ensure_future(self._answer(request, held, key))
        self.answering.add(task)
        if request_id:
            self._by_key[key] = task

        task.add_done_callback(functools.partial(self._ended, key))

    async def _answer(self, request, held: _Held, key: _Key) -> None:
        service = self.service
        with Tally(service, INFER, self.caller) as tally:
            tally.begins(request, self.context)
            call = _refuse if service.availability.over else service.model_infer
            with held.by(service.room.waiting, request, self.caller):
                response = await call(messages.checked(request), self.context)

        refusal = tally.refusal
        if refusal is None:
            message = messages.new("ModelStreamInferResponse", infer_response=response)
            tensors.set_parameters(message.infer_response, {messages.FINAL: True})
            del response
        else:
            self._is_refused(request)
            message = messages.new("ModelStreamInferResponse", error_message=str(refusal))
            message.infer_response.model_name, message.infer_response.id = key
            status = {messages.STATUS: refusal.code.name, messages.FINAL: True}
            tensors.set_parameters(message.infer_response, status)

        # A peer that does not read must not fill the memory.
        del request
        # An answer that is being written is not cancelled.
        self._forget(key, asyncio.current_task())
        async with self._writing:
            await self.context.write(message)

    def _ended(self, key: _Key, task: asyncio.Task) -> None:
        self.answering.discard(task)
        self._room.release()
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # seen: a peer that went away while it was answered

    def _forget(self, key: _Key, task: asyncio.Task | None) -> None:
        if self._by_key.get(key) is task:
            del self._by_key[key]


def _at_once(service: BaseService, caller: Caller) -> int:
    return _AT_ONCE * len(service.names) if caller.asks_for_others else _AT_ONCE


def _names_a_client(request) -> bool:
    return not isinstance(request, messages.Garbage) and CLIENT in request.parameters


def _takes_back(request) -> bool:
    """Whether a message of a stream takes an earlier request back: it has `cancel` (true), and
    nothing to infer.
    """
    return (
        not isinstance(request, messages.Garbage)
        and "cancel" in request.parameters
        and not request.inputs
        and tensors.parameters(request).get("cancel") is True
    )


async def _refuse(request, context):
    raise messages.WireError(
        "this server stops and takes no more requests.", grpc.StatusCode.UNAVAILABLE
    )
