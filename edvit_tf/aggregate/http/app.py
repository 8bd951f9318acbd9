"""The table of paths of the aggregator's HTTP port, and who is let in to each."""

import asyncio
import contextlib
import functools
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edvit_tf.aggregate.http.access import COOKIE, Access, Refusal
from edvit_tf.aggregate.http.events import Events
from edvit_tf.aggregate.http.files import page_files
from edvit_tf.aggregate.http.rest import HttpContext, Peer, Rest
from edvit_tf.device.rpc.callers import caller_of
from edvit_tf.device.rpc.http_server import Routes, answer
from edvit_tf.device.rpc.jsonlog import log_seldom

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]
_LOGGED_CHARACTERS = 200  # of a path
_MOST_LOGIN_BYTES = 1024
_LOGIN_SECONDS = 5.0
_WRONG_SECONDS = 0.5  # that a wrong token takes


def make_app(
    pages: Routes, rest: Rest, events: Events, access: Access, accepted_roles: Sequence[str]
) -> ASGIApp:
    """`pages` are those of every server, which are open to all. Who looks must have one of the
    roles, or be a user of this machine.
    """
    routes = [Route(path, _page(pages, path), methods=["GET"]) for path in pages]
    for method, path, endpoint in rest.health():
        routes.append(Route(path, endpoint, methods=[method]))
    for method, path, endpoint in rest.paths():
        routes.append(Route(path, guarded(access, endpoint), methods=[method]))

    # what is in these files is in everybody's installation
    files = page_files()
    for name in files:
        routes.append(Route(f"/live/{name}", _file(files[name]), methods=["GET"]))

    async def stream(request: Request) -> Response:
        return events.stream(_caller(request))

    for path, endpoint in (
        ("/", _file(files["index.html"])),
        ("/live/events", stream),
        ("/live/state", events.state),
    ):
        looking = guarded(access, _for_roles(accepted_roles, endpoint))
        routes.append(Route(path, looking, methods=["GET"]))

    routes.append(Route("/login", _file(files["login.html"]), methods=["GET"]))
    routes.append(Route("/login", functools.partial(_login, access), methods=["POST"]))

    def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"there are {' and '.join(pages)} and / and /v2\n", 404)

    app = Starlette(routes=routes, exception_handlers={404: not_found, Exception: _failed})
    return _by_path(app)


def _by_path(app: ASGIApp) -> ASGIApp:
    """The app, for targets that are whole addresses too: a proxy sends them so."""

    async def shortened(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/"):
            with contextlib.suppress(ValueError):  # such as "http://[", which is no path of ours
                raw = urlsplit(scope["raw_path"].decode("ascii")).path or "/"
                # a copy with the same state: the connection looks into that
                scope = {**scope, "path": unquote(raw), "raw_path": raw.encode("ascii")}
        await app(scope, receive, send)

    return shortened


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours: this request's alone, and in the log."""
    path = request.url.path[:_LOGGED_CHARACTERS]
    text = "".join(traceback.format_exception(error))
    log_seldom("failed", f"http {type(error).__name__}", path=path, traceback=text)
    return PlainTextResponse("failed inside the server; its log says how\n", 500)


def _page(pages: Routes, path: str) -> Endpoint:
    async def show(request: Request) -> Response:
        # in a thread, as by the small server: the metrics of a large fleet take milliseconds
        page = await asyncio.to_thread(answer, pages, path)
        data = page.body.encode(errors="backslashreplace")
        return Response(data, page.status, media_type=page.content_type)

    return show


def _file(response: Response) -> Endpoint:
    async def show(request: Request) -> Response:
        if request.headers.get("if-none-match") == response.headers["etag"]:
            return Response(status_code=304, headers=dict(response.headers))
        return response

    return show


def guarded(access: Access, endpoint: Endpoint) -> Endpoint:
    """The endpoint for those who are let in; its request's state has their `names`."""

    async def guard(request: Request) -> Response:
        names = access.peer_names(request.state.peer_names, request.headers, request.cookies)
        if isinstance(names, Refusal):
            if names.status == 401 and request.url.path == "/":
                return RedirectResponse("/login", 303)
            return PlainTextResponse(f"{names.text}\n", names.status)
        request.state.names = names
        return await endpoint(request)

    return guard


def _for_roles(accepted: Sequence[str], endpoint: Endpoint) -> Endpoint:
    async def look(request: Request) -> Response:
        caller = _caller(request)
        # a name without a role is one of no certificate of ours
        if request.state.names and caller.role not in accepted:
            return PlainTextResponse(
                f"role: got {caller.role or 'none'}; expected {', '.join(accepted)}.\n", 403
            )
        return await endpoint(request)

    return look


def _caller(request: Request):
    host, port = request.client or ("", 0)

    async def nothing() -> bytes:
        return b""

    return caller_of(HttpContext(Peer(request.state.names, host, port), nothing))


async def _login(access: Access, request: Request) -> Response:
    """A form with the token -> the cookie of a login."""
    if access.token is None:  # nobody's body is waited for in vain
        return PlainTextResponse("there is no login here; --login-token FILE makes one\n", 404)
    foreign = access.why_foreign(request.headers)
    if foreign is not None:
        return PlainTextResponse(f"{foreign.text}\n", foreign.status)

    body = b""
    try:
        async with asyncio.timeout(_LOGIN_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > _MOST_LOGIN_BYTES:
                    return PlainTextResponse("a token is shorter\n", 413)
    except TimeoutError:
        return PlainTextResponse(f"no token came within {_LOGIN_SECONDS:.0f} s\n", 408)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it

    given = parse_qs(body.decode(errors="replace")).get("token", [""])[0]
    cookie = access.login(given.strip())
    if cookie is None:
        await asyncio.sleep(_WRONG_SECONDS)
        return RedirectResponse("/login#wrong", 303)

    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure)
    return response
