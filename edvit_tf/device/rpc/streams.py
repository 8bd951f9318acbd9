"""ModelStreamInfer (Triton's extension of the protocol): ModelInfer over one call. Many requests,
each answered when it is done, with its id.

It costs a request about 0.4 ms less than a call of its own (docs/latency.md).
"""

import asyncio
import functools

import grpc

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.handlers import INFER, Call, respond

_OPEN = 64  # streams at once: each holds one of the server's calls (ports.py), which all share
_AT_ONCE = 256  # requests of a stream that are not answered yet; more are not read
_ID_LENGTH = 1024  # characters of a request's id that a refusal repeats
_Key = tuple[str, str]  # model, id


def stream_handler(service: BaseService) -> Call:
    """The handler of ModelStreamInfer, until the peer ends the stream or the server stops.

    A server that stops answers what it was asked before, refuses what still comes (UNAVAILABLE),
    and ends the stream.
    """
    open_streams = 0

    async def admit(request, context) -> None:
        if open_streams >= _OPEN:
            raise messages.WireError(
                f"streams: got {open_streams} that are open; expected {_OPEN} at most. Close "
                "some, or send calls.",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )

    async def handle(requests, context):
        nonlocal open_streams
        # the role is looked at once, here, and not at each of the stream's requests
        _, refusal = await respond(service, "ModelStreamInfer", admit, None, context)
        if refusal is not None:
            await context.abort(refusal.code, str(refusal))

        open_streams += 1
        stream = _Stream(service, context)
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
        finally:  # cancelled: the peer is gone, and nobody waits for what it asked
            open_streams -= 1
            for task in (reading, stopping, *stream.answering):
                task.cancel()

    return handle


async def _stopped(service: BaseService) -> None:
    """Waits until the server stops."""
    while not service.availability.over:
        await service.availability.changed()


class _Stream:
    """The requests of one ModelStreamInfer call."""

    def __init__(self, service: BaseService, context) -> None:
        self.service = service
        self.context = context
        self.answering: set[asyncio.Task] = set()
        self._by_key: dict[_Key, asyncio.Task] = {}  # that may still be taken back
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._writing = asyncio.Lock()

    async def read(self) -> None:
        """Reads requests until there are no more, and answers each in a task of its own."""
        while (request := await self.context.read()) is not grpc.aio.EOF:
            model = getattr(request, "model_name", "")  # Garbage has none
            request_id = getattr(request, "id", "")
            key = (model[:_ID_LENGTH], request_id[:_ID_LENGTH])
            if _takes_back(request):
                if key in self._by_key:
                    self._by_key[key].cancel()
                continue

            # a peer that sends on and on is read no further, until some are answered
            await self._room.acquire()
            task = asyncio.ensure_future(self._answer(request, key))
            self.answering.add(task)
            if request_id:
                self._by_key[key] = task

            task.add_done_callback(functools.partial(self._ended, key))

    async def _answer(self, request, key: _Key) -> None:
        call = _refuse if self.service.availability.over else self.service.model_infer
        response, refusal = await respond(
            self.service, INFER, call, request, self.context, check_role=False
        )
        if refusal is None:
            message = messages.new("ModelStreamInferResponse", infer_response=response)
            tensors.set_parameters(message.infer_response, {messages.FINAL: True})
        else:
            message = messages.new("ModelStreamInferResponse", error_message=str(refusal))
            message.infer_response.model_name, message.infer_response.id = key
            status = {messages.STATUS: refusal.code.name, messages.FINAL: True}
            tensors.set_parameters(message.infer_response, status)

        # A peer that does not read must not fill the memory.
        del request, response
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
