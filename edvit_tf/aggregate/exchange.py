"""Many requests to one device over one ModelStreamInfer call, each with its own deadline; broken
streams are renewed.

An answer is bound to its request by the sub-model's name and the request's id. A request that is
given up is taken back: out of what is not sent yet, or by a message to the device; its answer,
should one come, is dropped. An answer to nobody else ends the stream. Large requests are for calls
of their own: on a stream one that is sent slowly holds up all behind it, and one that the device
finds too long would end all.
"""

import asyncio
import contextlib
import time

import grpc

from edvit_tf.device.rpc import messages, tensors

LARGEST_BYTES = 256 << 10  # of a request on a stream
_SILENT_SECONDS = 3.0  # since a request was given up and nothing came: another stream is opened
_Key = tuple[str, str]  # sub-model, id
_OWN_CODES = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
)  # of a stream that the device refuses; others say that it broke


class Exchange:
    """The stream to a device. It belongs to one event loop; the first request opens it, and the
    first after a break.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = messages.stub(channel, "ModelStreamInfer")
        self._stream: _OneStream | None = None

    async def infer(self, request: bytes, name: str, request_id: str, seconds: float):
        """The device's answer, a ModelInferResponse, within `seconds`. Raises grpc.aio.AioRpcError,
        and WireError when the device sends what is no answer to anything.
        """
        if self._stream is not None and self._stream.to_be_left():
            self._stream.retire()
            self._stream = None
        if self._stream is None:
            self._stream = _OneStream(self._stub())
        return await self._stream.infer(request, (name, request_id), seconds)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.end(_error(grpc.StatusCode.CANCELLED, "the aggregator stops"))


class _OneStream:
    """One call, and who waits for what on it."""

    def __init__(self, call) -> None:
        self._call, self._ended, self._stops, self._retired = call, False, False, False
        self._waiting: dict[_Key, asyncio.Future] = {}
        self._unsent: dict[_Key, tuple[float, bytes]] = {}  # in turn: (until, request)
        self._taken_back: list[_Key] = []  # and the device is not told yet
        self._given_up, self._silent_since = 0, None  # sent, and never answered
        self._to_send = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._read())]

    def to_be_left(self) -> bool:
        """Whether the next request is better sent on another stream."""
        silent = (
            self._silent_since is not None
            and time.monotonic() - self._silent_since > _SILENT_SECONDS
        )
        return self._ended or self._stops or silent

    async def infer(self, request: bytes, key: _Key, seconds: float):
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        self._unsent[key] = (time.monotonic() + seconds, request)
        self._to_send.set()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        finally:
            del self._waiting[key]
            sent = self._unsent.pop(key, None) is None
            if sent and (answer.cancelled() or not answer.done()):
                self._given_up += 1
                self._silent_since = self._silent_since or time.monotonic()
                self._taken_back.append(key)
                self._to_send.set()
            if self._retired and not self._waiting:
                self.end(_error(grpc.StatusCode.CANCELLED, "not needed any more"))

    def retire(self) -> None:
        """Ends as soon as nobody waits."""
        self._retired = True
        if not self._waiting:
            self.end(_error(grpc.StatusCode.CANCELLED, "not needed any more"))

    def end(self, error: Exception) -> None:
        """No more on this stream: who waits gets the error."""
        if self._ended:
            return
        self._ended = True
        self._call.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)
        self._unsent.clear()
        self._taken_back.clear()
        for task in self._tasks:
            task.cancel()

    async def _write(self) -> None:
        with contextlib.suppress(
            grpc.aio.AioRpcError, asyncio.InvalidStateError
        ):  # the reader says what it was
            while True:
                await self._to_send.wait()
                while self._taken_back or self._unsent:
                    await self._call.write(self._next_message())
                self._to_send.clear()

    def _next_message(self) -> bytes:
        if self._taken_back:
            name, request_id = self._taken_back.pop(0)
            message = messages.new("ModelInferRequest", model_name=name, id=request_id)
            tensors.set_parameters(message, {"cancel": True})
            return message.SerializeToString()
        key = next(iter(self._unsent))
        until, request = self._unsent.pop(key)
        message = messages.new("ModelInferRequest", model_name=key[0])
        tensors.set_parameters(message, {"timeout": max(1, int(1e6 * (until - time.monotonic())))})
        # Fields of a message may come in any order, so what is this request's own stands before
        # what all share.
        return message.SerializeToString() + request

    async def _read(self) -> None:
        error: Exception = _error(grpc.StatusCode.UNAVAILABLE, "the device ended the stream")
        try:
            while (received := await self._call.read()) is not grpc.aio.EOF:
                self._silent_since = None
                self._deliver(received)
        except messages.WireError as wrong:
            error = wrong
        except grpc.aio.AioRpcError as broken:  # a write that failed makes it INTERNAL
            error = (
                broken
                if broken.code() in _OWN_CODES
                else _error(grpc.StatusCode.UNAVAILABLE, broken.details())
            )
        finally:
            self.end(error)

    def _deliver(self, received) -> None:
        """Raises WireError for an answer that nobody can have asked for."""
        response = messages.checked(received).infer_response
        key = (response.model_name, response.id)
        answer = self._waiting.get(key)
        if answer is None or key in self._unsent:
            self._given_up -= 1
            if self._given_up < 0:
                field, got = (
                    ("id", response.id)
                    if all(key[1] != asked for _, asked in self._waiting)
                    else ("model_name", response.model_name)
                )
                raise messages.wrong(field, repr(got[:80]), "that of a request on this stream")
        elif not answer.done():
            if received.error_message:
                status = str(tensors.parameters(response).get(messages.STATUS, ""))
                code = grpc.StatusCode.__members__.get(status, grpc.StatusCode.UNKNOWN)
                self._stops |= code is grpc.StatusCode.UNAVAILABLE
                answer.set_exception(
                    _error(
                        code if code is not grpc.StatusCode.OK else grpc.StatusCode.UNKNOWN,
                        received.error_message,
                    )
                )
            else:
                answer.set_result(response)


def _error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
