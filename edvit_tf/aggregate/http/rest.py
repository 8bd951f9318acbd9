"""The Open Inference Protocol v2 over HTTP: each request takes the way of a gRPC call, so that the
same roles, shares, limits, counts and log lines hold for both.

A request is answered in two event loops: this port's reads its body and writes the answer, the
aggregator's asks the fleet.

Source of the paths: KServe's "Open Inference Protocol (V2)", and Triton's extensions for a model's
configuration, its statistics and the index.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edvit_tf.aggregate.http.bodies import (
    JSON_ENDS,
    Wanted,
    infer_body,
    infer_message,
    message_json,
)
from edvit_tf.aggregate.http.json_counts import check_json, most_json
from edvit_tf.device.rpc import messages
from edvit_tf.device.rpc.admission import pause_seconds
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.handlers import Call, call_handler
from edvit_tf.device.rpc.http_server import JSON
from edvit_tf.device.rpc.traceparent import TRACEPARENT

PREFIX = "/v2"
_MODEL = f"{PREFIX}/models/{{model}}"
_CHARACTERS = 24  # of a number in JSON, its comma included
_MARGIN_BYTES = 64 << 10
_MOST_JSON_BYTES = 1 << 20  # of what is not numbers: a file in base64, say
_MOST_PAUSE_SECONDS = 5.0  # it is of the time that a body has to come
_STATUSES = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# Triton's word for "as soon as you like": who is refused for load may come again in a moment
_RETRY = {429: "1", 503: "1"}


class Peer(NamedTuple):
    """Who asks over HTTP: the names of a certificate, or of a login; [] without one."""

    names: list[str]
    host: str
    port: int


class HttpContext:
    """What a handler of a gRPC call asks of its context, for a request over HTTP."""

    def __init__(
        self, peer: Peer, read: Callable[[], Awaitable[bytes]], traceparents: Sequence[str] = ()
    ) -> None:
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.status: int | None = None  # of HTTP, where the code says less
        self._peer = peer
        self._read = read
        self._traceparents = traceparents

    def peer(self) -> str:
        """As gRPC writes it, so that shares are the same over both."""
        host = self._peer.host.removeprefix("::ffff:")  # IPv4, at a port of both
        kind, host = ("ipv6", f"%5B{quote(host, safe=':')}%5D") if ":" in host else ("ipv4", host)
        return f"{kind}:{host}:{self._peer.port}"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_subject_alternative_name": [name.encode() for name in self._peer.names]}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """Of the headers, what calls are asked for."""
        return [(TRACEPARENT, value) for value in self._traceparents]

    def time_remaining(self) -> None:
        """HTTP knows no deadline; a request's parameter `timeout` does."""

    async def read(self) -> bytes:
        return await self._read()

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


class Rest:
    """The protocol's paths over a service, whose event loop is `loop`."""

    def __init__(self, service: BaseService, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._calls: dict[str, Call] = {
            method: call_handler(service, method, call) for method, call in service.calls().items()
        }
        spec = service.model_input.spec
        numbers = _CHARACTERS * service.room.most_elements
        files = min(spec.largest_file_bytes * 4 // 3, _MOST_JSON_BYTES)
        self._running = 0  # inferences
        self._most_bytes = service.room.message_bytes
        self._most_json_bytes = max(numbers, files) + _MARGIN_BYTES
        self._most_json = most_json(service.model_input.shape)

    async def drain(self, seconds: float) -> None:
        """Waits for the inferences that are being answered, so long at most."""
        ends = time.monotonic() + seconds
        while self._running and time.monotonic() < ends:
            await asyncio.sleep(0.01)

    def paths(self) -> list[tuple[str, str, Callable[[Request], Coroutine[Any, Any, Response]]]]:
        """(method of HTTP, path, what answers it)."""
        found = [
            ("GET", PREFIX, self.small("ServerMetadata")),
            ("POST", f"{PREFIX}/repository/index", self.small("RepositoryIndex", "models")),
            ("GET", f"{PREFIX}/models/stats", self.small("ModelStatistics")),
        ]
        for model in (_MODEL, f"{_MODEL}/versions/{{version}}"):
            found += [
                ("GET", model, self.small("ModelMetadata")),
                ("GET", f"{model}/ready", self.small("ModelReady", "ready")),
                ("GET", f"{model}/config", self.small("ModelConfig", "config")),
                ("GET", f"{model}/stats", self.small("ModelStatistics")),
                ("POST", f"{model}/infer", self.infer),
            ]
        refused = {
            "repository/models/{model}/load": "RepositoryModelLoad",
            "repository/models/{model}/unload": "RepositoryModelUnload",
            "systemsharedmemory/region/{region}/register": "SystemSharedMemoryRegister",
            "cudasharedmemory/region/{region}/register": "CudaSharedMemoryRegister",
            "trace/setting": "TraceSetting",
            "logging": "LogSettings",
        }
        for path, method in refused.items():
            found.append(("POST", f"{PREFIX}/{path}", self.small(method)))
        return found

    def health(self) -> list[tuple[str, str, Callable[[Request], Coroutine[Any, Any, Response]]]]:
        """The paths of probes, which are open to all: they have no certificate."""

        async def live(request: Request) -> Response:
            return _json(200, {"live": True})

        async def ready(request: Request) -> Response:
            serving = self._service.availability.serving
            return _json(200 if serving else 503, {"ready": serving})

        return [("GET", f"{PREFIX}/health/live", live), ("GET", f"{PREFIX}/health/ready", ready)]

    def small(
        self, method: str, field: str | None = None
    ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a call without tensors; `field` of its message, or all of them."""

        async def answer(request: Request) -> Response:
            path = request.path_params
            wrong = self._wrong_model(path)
            if wrong is not None:
                return wrong

            name = messages.METHODS[method][0]
            known = messages.MESSAGES[name].DESCRIPTOR.fields_by_name
            fields = {"name": path.get("model", ""), "version": path.get("version", "")}
            used = {key: value for key, value in fields.items() if key in known}
            message = messages.new(name, **used).SerializeToString()

            async def read() -> bytes:
                return message

            response, context = await self._call(method, request, read)
            if response is None:
                return _refused(context)
            said = message_json(response)
            if field == "ready":
                return _json(200 if said["ready"] else 503, {**path, **said})
            return _json(200, said if field is None else said[field])

        return answer

    async def infer(self, request: Request) -> Response:
        """An inference."""
        wrong = self._wrong_model(request.path_params)
        if wrong is not None:
            return wrong
        if self._service.availability.over:
            return _json(503, {"error": "this aggregator is going to end. Ask again."})

        loop = asyncio.get_running_loop()
        wanted = Wanted()

        async def receive() -> bytes:
            # In this port's loop. What large JSON takes of the interpreter the other one lacks too,
            # so that who sends it in vain waits (`_message`).
            nonlocal wanted
            data, wanted = await self._message(request, context)
            return data

        async def read() -> bytes:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(receive(), loop))

        context = self._context(request, read)
        self._running += 1
        try:
            response = await self._answered("ModelInfer", context)
        finally:
            self._running -= 1
        if response is None:
            return _refused(context)
        body, ends = infer_body(response, wanted)
        if ends is None:
            return Response(body, media_type=JSON)
        return Response(body, media_type="application/octet-stream", headers={JSON_ENDS: str(ends)})

    async def _message(self, request: Request, context: HttpContext) -> tuple[bytes, Wanted]:
        """The ModelInferRequest of a body. Raises WireError."""
        coded = request.headers.get("content-encoding", "identity")
        if coded != "identity":
            context.status = 415
            raise messages.wrong("Content-Encoding", repr(coded[:32]), "none: send it as it is")

        text = request.headers.get(JSON_ENDS)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise messages.wrong(JSON_ENDS, repr(text[:32]), "the number of bytes of JSON")
        ends = None if text is None else int(text)

        most = self._most_json_bytes if ends is None else self._most_bytes
        if ends is not None and ends > self._most_json_bytes:
            context.status = 413
            raise messages.wrong(JSON_ENDS, ends, f"at most {self._most_json_bytes}")
        body = await _body(request, context, most, is_json=ends is None)
        path = request.path_params
        only_input = self._service.model_input.name
        started = time.thread_time()
        try:
            check_json(body[:ends], self._most_json)
            return infer_message(body, ends, path["model"], path.get("version", ""), only_input)
        except messages.WireError as error:
            # it waits without its body, as a call of gRPC that is refused
            del body
            refusal = error.without_frames()
            pause = pause_seconds(self._service.room, time.thread_time() - started)
            await asyncio.sleep(min(_MOST_PAUSE_SECONDS, pause))
            raise refusal from None

    def _wrong_model(self, path: dict[str, str]) -> Response | None:
        """What is told of a model that there is not, as any other path that there is not."""
        model = path.get("model", self._service.names[0])
        if model in self._service.names:
            return None
        names = ", ".join(self._service.names)
        return _json(404, {"error": f"model: got {model[:64]!r}; expected {names}."})

    def _context(self, request: Request, read: Callable[[], Awaitable[bytes]]) -> HttpContext:
        host, port = request.client or ("", 0)
        traceparents = request.headers.getlist(TRACEPARENT)
        return HttpContext(Peer(request.state.names, host, port), read, traceparents)

    async def _call(
        self, method: str, request: Request, read: Callable[[], Awaitable[bytes]]
    ) -> tuple[Any, HttpContext]:
        context = self._context(request, read)
        return await self._answered(method, context), context

    async def _answered(self, method: str, context: HttpContext) -> Any:
        """The answer's message; None where `context` has a refusal."""
        handled = self._calls[method](None, context)
        call = asyncio.run_coroutine_threadsafe(_as_coroutine(handled), self._loop)
        response = await asyncio.wrap_future(call)
        return response if context.code is grpc.StatusCode.OK else None


async def _as_coroutine(awaited: Awaitable[Any]) -> Any:
    return await awaited


async def _body(request: Request, context: HttpContext, most: int, is_json: bool) -> bytes:
    """The body, of so many bytes at most. Raises WireError."""
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said[:20]) > most:
        raise _too_large(context, said[:20], most, is_json)

    parts: list[bytes] = []
    size = 0
    try:
        # the time that it may take ends in the other loop, which cancels this
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(context, f"{size} or more", most, is_json)
            parts.append(part)
    except ClientDisconnect:
        raise messages.wrong("body", f"an end after {size} bytes", "all of it") from None

    if not size:
        raise messages.wrong("body", "none", "a request")
    return b"".join(parts)


def _too_large(context: HttpContext, size: str, most: int, is_json: bool) -> messages.WireError:
    context.status = 413
    hint = ". Send tensors as binary data" if is_json else ""
    return messages.wrong("body", f"{size} bytes", f"at most {most}{hint}")


def _json(status: int, said: object) -> Response:
    headers = {"retry-after": _RETRY[status]} if status in _RETRY else None
    return Response(json.dumps(said), status, headers, JSON)


def _refused(context: HttpContext) -> Response:
    status = context.status or _STATUSES.get(context.code.name, 500)
    return _json(status, {"error": context.details})
