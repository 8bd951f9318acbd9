"""What every call and every message of a stream passes: the peer's role, then the bytes, then the
method.

A WireError becomes the call's status, anything unforeseen becomes INTERNAL and a line in the log.
Nothing of a request is kept. ModelStreamInfer (Triton's extension of the protocol) is ModelInfer
over one call: many requests, each answered when it is done, with its id. It costs a request about
0.4 ms less than a call of its own (docs/latency.md).
"""

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable, Sequence

import grpc

from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.jsonlog import log, log_seldom

_AT_ONCE = 256  # requests of a stream that are not answered yet; more are not read
_STREAMS = 64  # at once: each holds one of the server's calls (listening.py), which all share
_ID_LENGTH = 1024  # characters of a request's id that a refusal repeats
_INFER = "ModelInfer"  # how inferences are counted, those of streams too


def handlers(service: BaseService) -> list[grpc.GenericRpcHandler]:
    """The two services, for `add_generic_rpc_handlers` of a grpc.aio server."""
    inference = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.model_metadata,
        _INFER: service.model_infer,
        "RepositoryIndex": service.repository_index,
    }
    made = {
        name: grpc.unary_unary_rpc_method_handler(_gate(service, name, call), *_bytes(name))
        for name, call in (*inference.items(), ("Check", service.check))
    }
    health = {
        "Check": made.pop("Check"),
        "Watch": grpc.unary_stream_rpc_method_handler(
            _gate(service, "Watch", service.watch), *_bytes("Watch")
        ),
    }
    made["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        _stream_gate(service), *_bytes("ModelStreamInfer")
    )
    return [
        grpc.method_handlers_generic_handler(messages.INFERENCE, made),
        grpc.method_handlers_generic_handler(messages.HEALTH, health),
    ]


def _bytes(method: str) -> tuple[Callable, Callable]:
    return messages.deserialiser(messages.METHODS[method][0]), messages.serialise


def _gate(
    service: BaseService, method: str, call: Callable[..., Awaitable]
) -> Callable[..., Awaitable]:
    """A handler of one request: `_passed`, and the call ends with the refusal's status."""

    async def handle(request, context):
        response, refusal = await _passed(
            service, method, call, request, context, service.check_roles
        )
        if refusal is not None:
            await context.abort(
                refusal.code, str(refusal)
            )  # last: whoever reads the metrics finds it counted
        return response

    return handle


def _stream_gate(service: BaseService) -> Callable[..., Awaitable]:
    """The handler of ModelStreamInfer, until the peer ends the stream or the server stops.

    A server that stops answers what it was asked before, refuses what still comes (UNAVAILABLE),
    and ends the stream.
    """
    open_streams = 0

    async def admit(_, context) -> None:
        if open_streams >= _STREAMS:
            raise messages.WireError(
                f"streams: got {open_streams} that are open; expected {_STREAMS} at most. Close "
                "some, or send calls.",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )

    async def handle(_, context):
        nonlocal open_streams
        _, refusal = await _passed(
            service, "ModelStreamInfer", admit, None, context, service.check_roles
        )
        if refusal is not None:
            await context.abort(refusal.code, str(refusal))
        open_streams += 1
        stream = _Stream(service, context)
        reading, over = asyncio.ensure_future(stream.read()), asyncio.ensure_future(_over(service))
        try:
            await asyncio.wait([reading, over], return_when=asyncio.FIRST_COMPLETED)
            while stream.answering:
                await asyncio.wait(stream.answering)
            if reading.done():
                reading.result()
        finally:  # cancelled: the peer is gone, and nobody waits for what it asked
            open_streams -= 1
            for task in (reading, over, *stream.answering):
                task.cancel()

    return handle


async def _over(service: BaseService) -> None:
    while not service.availability.over:
        await service.availability.changed()


class _Stream:
    """The requests of one ModelStreamInfer call."""

    def __init__(self, service: BaseService, context) -> None:
        self.service, self.context = service, context
        self.answering: set[asyncio.Task] = set()
        self._of_id: dict[tuple[str, str], asyncio.Task] = {}
        self._room, self._writing = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()

    async def read(self) -> None:
        """Reads requests until there are no more, and answers each in a task of its own."""
        while (request := await self.context.read()) is not grpc.aio.EOF:
            key = (
                getattr(request, "model_name", "")[:_ID_LENGTH],
                getattr(request, "id", "")[:_ID_LENGTH],
            )
            if _takes_back(request):
                if key in self._of_id:
                    self._of_id[key].cancel()
                continue
            await self._room.acquire()
            task = asyncio.ensure_future(self._answer([request], key))
            self.answering.add(task)
            if key[1]:
                self._of_id[key] = task
            task.add_done_callback(functools.partial(self._ended, key))

    async def _answer(self, given: list, key: tuple[str, str]) -> None:
        # The request goes before its answer is written: a peer that does not read must not fill the
        # memory.
        message = await self._answered(given.pop(), key)
        self._forget(
            key, asyncio.current_task()
        )  # an answer that is being written is not cancelled
        async with self._writing:
            await self.context.write(message)

    async def _answered(self, request, key: tuple[str, str]):
        call = _stopped if self.service.availability.over else self.service.model_infer
        response, refusal = await _passed(self.service, _INFER, call, request, self.context, False)
        if refusal is None:
            return messages.new("ModelStreamInferResponse", infer_response=response)
        message = messages.new("ModelStreamInferResponse", error_message=str(refusal))
        message.infer_response.model_name, message.infer_response.id = key
        tensors.set_parameters(message.infer_response, {messages.STATUS: refusal.code.name})
        return message

    def _forget(self, key: tuple[str, str], task: asyncio.Task) -> None:
        if self._of_id.get(key) is task:
            del self._of_id[key]

    def _ended(self, key: tuple[str, str], task: asyncio.Task) -> None:
        self.answering.discard(task)
        self._room.release()
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # a peer that went away while it was answered


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


async def _stopped(request, context):
    raise messages.WireError(
        "this server stops and takes no more requests.", grpc.StatusCode.UNAVAILABLE
    )


async def _passed(
    service: BaseService, method: str, call: Callable[..., Awaitable], request, context, roles: bool
) -> "tuple[object, messages.WireError | None]":
    """(response, None), or (None, refusal); counted either way. The peer's role is looked at where
    `roles` says so.
    """
    model, code, counted = "", "OK", method == _INFER
    service.in_flight += counted
    try:
        if roles:
            _authorise(context, service.accepted_roles)
        if counted and getattr(request, "model_name", "") in service.names:
            model = request.model_name
        return await call(messages.checked(request), context), None
    except messages.WireError as error:
        code = error.code.name
        log_seldom(
            "refused",
            f"{method} {code}",
            method=method,
            code=code,
            peer=context.peer(),
            detail=str(error),
        )
        return None, error
    except asyncio.CancelledError:
        code = "CANCELLED"
        raise
    except Exception:
        code = "INTERNAL"
        log("failed", "error", method=method, traceback=traceback.format_exc())
        return None, messages.WireError(
            f"{method} failed inside the server; its log says how.", grpc.StatusCode.INTERNAL
        )
    finally:
        service.in_flight -= counted
        service.metrics.count(method, model, code)


def _authorise(context, accepted: Sequence[str]) -> None:
    """Raises WireError unless the peer's certificate has a role that may ask here."""
    peer = tls.peer_role(context)
    if peer is not None and peer[0] in accepted:
        return
    got = "a certificate without one" if peer is None else f"{peer[0]} ({peer[1][:64]})"
    code = grpc.StatusCode.UNAUTHENTICATED if peer is None else grpc.StatusCode.PERMISSION_DENIED
    raise messages.WireError(
        f"role: got {got}; expected a certificate of one of the roles {', '.join(accepted)}. Issue "
        "one with `edvit certs issue`.",
        code,
    )
