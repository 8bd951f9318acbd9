"""Many requests to one device over one ModelStreamInfer call, each with its own deadline; broken
streams are renewed.

An answer is bound to its request by the sub-model's name and the request's id. A request that is
given up is taken back: out of what is not sent yet, or by a message to the device; its answer,
should one come, is dropped. An answer to nobody else ends the stream. Large requests are for calls
of their own: on a stream one that is sent slowly holds up all behind it, and one that the device
finds too long would end all.

What several sub-models of a device are asked at the same moment goes out in one message, where the
device takes such (`device/rpc/together.py`): its input travels once.
"""

import asyncio
import contextlib
import itertools
import time
from typing import NamedTuple

import grpc

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.together import MOST_CHARACTERS, ask_also

LARGEST_BYTES = 256 << 10  # of a request on a stream
# Streams for larger ones, at once. A device has room for 32 of the largest messages, shared by all
# that ask it (`device/rpc/limits.py`): it refuses more of them, where calls wait for their turn.
MOST_LARGE = 4
_SILENT_SECONDS = 3.0  # since a request was given up and nothing came: another stream is opened
# Of the time left: requests for two sub-models whose deadlines differ by less have one message.
_SAME_SHARE = 0.1
_Key = tuple[str, str]  # sub-model, id
# Of a stream that the device refuses; others say that it broke.
_OWN_CODES = (
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
)


class _Unsent(NamedTuple):
    """A request that waits for its turn to be written."""

    until: float  # time.monotonic()
    request: bytes  # without the sub-model's name and the id
    together: bool  # it may share a message

    def goes_with(self, other: "_Unsent", now: float) -> bool:
        """Whether another sub-model of the device is asked the same, until about the same time."""
        apart = abs(self.until - other.until)
        if not self.together or apart > _SAME_SHARE * max(0.0, other.until - now):
            return False
        return self.request is other.request or self.request == other.request


class DeviceStream:
    """The stream to a device. It belongs to one event loop; the first request opens it, and the
    first after a break.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = messages.stub(channel, "ModelStreamInfer")
        self._stream: _Call | None = None
        self._large: dict[str, _Call] = {}  # by id: each large request has a stream of its own

    async def infer(
        self, request: bytes, name: str, request_id: str, seconds: float, together: bool = False
    ):
        """The device's answer, a ModelInferResponse, within `seconds`. Raises grpc.aio.AioRpcError,
        and WireError when the device sends what is no answer to anything.

        `together`: other sub-models that are asked the same by this id may share the message.
        """
        if len(request) > LARGEST_BYTES:
            return await self._infer_large(request, name, request_id, seconds)

        # requests on the old stream are still answered there
        if self._stream is None or self._stream.to_be_left():
            if self._stream is not None:
                self._stream.retire()
            self._stream = _Call(self._stub())

        return await self._stream.infer(request, (name, request_id), seconds, together)

    async def _infer_large(self, request: bytes, name: str, request_id: str, seconds: float):
        """As `infer`, over a stream that ends with the last answer to this id."""
        call = self._large.get(request_id)
        if call is None or call.to_be_left():
            call = self._large[request_id] = _Call(self._stub())

        try:
            return await call.infer(request, (name, request_id), seconds, together=True)
        finally:
            if call.is_idle():
                call.retire()
                if self._large.get(request_id) is call:
                    del self._large[request_id]

    def has_room(self, request_id: str) -> bool:
        """Whether a large request of this id has a stream, or may open one."""
        return request_id in self._large or len(self._large) < MOST_LARGE

    def carried_nothing(self) -> bool:
        """Whether nothing has come on the present stream yet: where it broke, it may be that the
        device has no streams. Its code says so, but a write that fails first hides the code.
        """
        return self._stream is None or not self._stream.heard

    def close(self) -> None:
        for call in (self._stream, *self._large.values()):
            if call is not None:
                call.end(_error(grpc.StatusCode.CANCELLED, "the aggregator stops"))


class _Call:
    """One call, and who waits for what on it."""

    def __init__(self, call) -> None:
        self._call = call
        self._ended = False
        self._stops = False  # the device said so
        self._retired = False
        self.heard = False  # anything at all

        self._waiting: dict[_Key, asyncio.Future] = {}
        self._unsent: dict[_Key, _Unsent] = {}  # in turn
        self._taken_back: list[_Key] = []  # and the device is not told yet
        self._given_up = 0  # sent, and never answered
        self._silent_since: float | None = None  # time.monotonic(), since one was given up
        self._to_send = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._read())]

    def to_be_left(self) -> bool:
        """Whether the next request is better sent on another stream."""
        since = self._silent_since
        silent = since is not None and time.monotonic() - since > _SILENT_SECONDS
        return self._ended or self._stops or silent

    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._waiting

    async def infer(self, request: bytes, key: _Key, seconds: float, together: bool):
        # waiting before it is sent: an answer finds its future in any case
        answer = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        self._unsent[key] = _Unsent(time.monotonic() + seconds, request, together)
        self._to_send.set()

        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        finally:
            del self._waiting[key]
            # what was never sent need not be taken back
            sent = self._unsent.pop(key, None) is None
            if sent and (answer.cancelled() or not answer.done()):
                self._take_back(key)
            if self._retired:
                self.retire()
            # an error holds this frame, and the future the error: nobody would free the request
            del answer

    def _take_back(self, key: _Key) -> None:
        """A request that was sent is given up."""
        self._given_up += 1
        self._silent_since = self._silent_since or time.monotonic()
        self._taken_back.append(key)
        self._to_send.set()

    def retire(self) -> None:
        """Ends as soon as nobody waits."""
        self._retired = True
        if not self._waiting:
            self.end(_error(grpc.StatusCode.CANCELLED, "not needed any more"))

    def end(self, error: Exception) -> None:
        """No more on this stream: who waits gets the error."""
        if self._ended:
            return

        # once, whoever comes first: reader, writer or the aggregator's end
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
        # the reader says what it was
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
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

        now = time.monotonic()
        key = next(iter(self._unsent))
        first = self._unsent.pop(key)
        until, also, left = first.until, [], MOST_CHARACTERS
        for other, unsent in self._those_of(key[1]):
            left -= len(other[0]) + 1
            if left >= 0 and unsent.goes_with(first, now):
                del self._unsent[other]
                until = min(until, unsent.until)
                also.append(other[0])

        left_us = max(1, int(1e6 * (until - now)))
        message = messages.new("ModelInferRequest", model_name=key[0], id=key[1])
        tensors.set_parameters(message, {"timeout": left_us})
        if also:
            ask_also(message, also)

        # Fields of a message may come in any order, so what is this request's own stands before
        # what all share.
        return message.SerializeToString() + first.request

    def _those_of(self, request_id: str) -> list[tuple[_Key, _Unsent]]:
        """What is next in turn, as long as it is of this id: what is asked together stands
        together.
        """
        same_id = itertools.takewhile(lambda row: row[0][1] == request_id, self._unsent.items())
        return list(same_id)

    async def _read(self) -> None:
        error: Exception = _error(grpc.StatusCode.UNAVAILABLE, "the device ended the stream")
        try:
            while (received := await self._call.read()) is not grpc.aio.EOF:
                self.heard, self._silent_since = True, None
                self._deliver(received)
        except messages.WireError as wrong:
            error = wrong
        except grpc.aio.AioRpcError as broken:
            # a write that failed makes it INTERNAL
            if broken.code() in _OWN_CODES:
                error = broken
            else:
                error = _error(grpc.StatusCode.UNAVAILABLE, broken.details())
        finally:
            self.end(error)

    def _deliver(self, received) -> None:
        """Raises WireError for an answer that nobody can have asked for."""
        response = messages.checked(received).infer_response
        key = (response.model_name, response.id)
        answer = self._waiting.get(key)

        if answer is None or key in self._unsent:
            # to one that was given up; more of them than that nobody asked for
            self._given_up -= 1
            if self._given_up < 0:
                raise self._nobody_s(*key)
        elif answer.done():
            pass  # it came at the deadline
        elif received.error_message:
            status = str(tensors.parameters(response).get(messages.STATUS, ""))
            code = grpc.StatusCode.__members__.get(status, grpc.StatusCode.UNKNOWN)
            # it refuses what still comes: the next request opens another stream
            if code is grpc.StatusCode.UNAVAILABLE:
                self._stops = True
            # an error is no OK, whatever the peer calls it
            if code is grpc.StatusCode.OK:
                code = grpc.StatusCode.UNKNOWN

            answer.set_exception(_error(code, received.error_message))
        else:
            answer.set_result(response)

    def _nobody_s(self, name: str, request_id: str) -> messages.WireError:
        """The error of an answer to nobody, by what of it is unknown."""
        field, got = "id", request_id
        if any(request_id == asked for _, asked in self._waiting):
            field, got = "model_name", name
        return messages.wrong(field, repr(got[:80]), "that of a request on this stream")


def _error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
