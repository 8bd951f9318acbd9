"""Many requests to one device over one ModelStreamInfer call, each with its own deadline; broken streams are renewed.

An answer is bound to its request by the sub-model's name and the request's id; one that nobody waits for (any more) is
dropped. A request that is given up is taken back: out of what is not sent yet, or by a message to the device.
"""

import asyncio
import contextlib

import grpc

from edvit_tf.device import wire

_Key = tuple[str, str]  # sub-model, id


class Exchange:
    """The stream to a device. It belongs to one event loop; the first request opens it, and the first after a break."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = wire.stub(channel, "ModelStreamInfer")
        self._stream: _OneStream | None = None

    async def infer(self, request: bytes, name: str, request_id: str, seconds: float):
        """The device's answer, a ModelInferResponse, within `seconds`. Raises grpc.aio.AioRpcError."""
        if self._stream is None or self._stream.ended:
            self._stream = _OneStream(self._stub())
        asked = wire.message("ModelInferRequest")(model_name=name)
        wire.set_parameters(asked, {"timeout": max(1, int(seconds * 1e6))})
        # Fields of a message may come in any order, so what is this request's own stands before what all share.
        return await self._stream.infer(asked.SerializeToString() + request, (name, request_id), seconds)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.end(_error(grpc.StatusCode.CANCELLED, "the aggregator stops"))


class _OneStream:
    """One call, and who waits for what on it."""

    def __init__(self, call) -> None:
        self.ended = False
        self._call, self._waiting = call, {}
        self._outbox: asyncio.Queue[_Key] = asyncio.Queue()  # of what is not sent yet, in turn
        self._unsent: dict[_Key, bytes] = {}
        self._tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._read())]

    async def infer(self, request: bytes, key: _Key, seconds: float):
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        self._put(key, request)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        finally:
            self._waiting.pop(key, None)
            sent = self._unsent.pop(key, None) is None
            if sent and not self.ended and (answer.cancelled() or not answer.done()):
                self._put(key, _taken_back(key))

    def end(self, error: grpc.aio.AioRpcError) -> None:
        """No more on this stream: who waits gets the error."""
        self.ended = True
        self._call.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)
        for task in self._tasks:
            task.cancel()

    def _put(self, key: _Key, message: bytes) -> None:
        self._unsent[key] = message
        self._outbox.put_nowait(key)

    async def _write(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader says what it was
            while True:
                message = self._unsent.pop(await self._outbox.get(), None)
                if message is not None:
                    await self._call.write(message)

    async def _read(self) -> None:
        error = _error(grpc.StatusCode.UNAVAILABLE, "the device ended the stream")
        try:
            while (received := await self._call.read()) is not grpc.aio.EOF:
                self._deliver(received)
        except grpc.aio.AioRpcError as broken:
            error = broken
        finally:
            self.end(error)

    def _deliver(self, received) -> None:
        if isinstance(received, wire.Garbage):
            return
        response = received.infer_response
        answer = self._waiting.get((response.model_name, response.id))
        if answer is None or answer.done():
            return
        if received.error_message:
            status = str(wire.parameters(response).get(wire.STATUS, ""))
            answer.set_exception(_error(grpc.StatusCode.__members__.get(status, grpc.StatusCode.UNKNOWN),
                                        received.error_message))
        else:
            answer.set_result(response)


def _taken_back(key: _Key) -> bytes:
    name, request_id = key
    message = wire.message("ModelInferRequest")(model_name=name, id=request_id)
    wire.set_parameters(message, {"cancel": True})
    return message.SerializeToString()


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
