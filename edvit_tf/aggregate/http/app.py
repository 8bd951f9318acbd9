"""The table of paths of the aggregator's HTTP port, and who is let in to each."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edvit_tf.aggregate.http.access import Access, Refusal
from edvit_tf.aggregate.http.rest import Rest
from edvit_tf.device.rpc.http_server import Routes, answer

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
_MOST_LOGIN_BYTES = 1024


def make_app(pages: Routes, rest: Rest, access: Access) -> Starlette:
    """`pages` are those of every server, which are open to all."""
    routes = [Route(path, _page(pages, path), methods=["GET"]) for path in pages]
    for method, path, endpoint in rest.health():
        routes.append(Route(path, endpoint, methods=[method]))
    for method, path, endpoint in rest.paths():
        routes.append(Route(path, guarded(access, endpoint), methods=[method]))

    def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"there are {' and '.join(pages)} and /v2\n", 404)

    return Starlette(routes=routes, exception_handlers={404: not_found})


def _page(pages: Routes, path: str) -> Endpoint:
    async def show(request: Request) -> Response:
        # in a thread, as by the small server: the metrics of a large fleet take milliseconds
        page = await asyncio.to_thread(answer, pages, path)
        data = page.body.encode(errors="backslashreplace")
        return Response(data, page.status, media_type=page.content_type)

    return show


def guarded(access: Access, endpoint: Endpoint) -> Endpoint:
    """The endpoint for those who are let in; its request's state has their `names`."""

    @functools.wraps(endpoint)
    async def guard(request: Request) -> Response:
        names = access.peer_names(request.state.peer_names, request.headers, request.cookies)
        if isinstance(names, Refusal):
            return PlainTextResponse(f"{names.text}\n", names.status)
        request.state.names = names
        return await endpoint(request)

    return guard
