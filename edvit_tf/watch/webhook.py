"""A message as a POST of JSON."""

import base64
import contextlib
import functools
import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from edvit_tf.device.rpc.ports import is_loopback
from edvit_tf.errors import ConfigError
from edvit_tf.watch.address import address_parts, shown_address
from edvit_tf.watch.outbox import NotTaken, Send, SendFailed, SendRefused

_SECONDS = 10.0  # for a connection, and then for the answer
_LATER = (408, 425, 429)  # of the client's mistakes those that time mends


def webhook(url: str) -> Send:
    """Sends to an address, http:// or https://, with a login in it or not. Raises ConfigError."""
    try:
        parts = address_parts(url)
        why = "" if parts.scheme in ("http", "https") else "that is no scheme of it"
    except ValueError as error:
        why = str(error)
    if why:
        raise ConfigError(
            f"--webhook is {shown_address(url)!r} ({why}); it must be http://HOST/PATH or "
            "https://HOST/PATH."
        )
    headers = {"Content-Type": "application/json"}
    login, at, host = parts.netloc.rpartition("@")
    if at:
        words = urllib.parse.unquote(login).encode()
        headers["Authorization"] = f"Basic {base64.b64encode(words).decode()}"
    target = urllib.parse.urlunsplit(parts._replace(netloc=host))
    is_here = is_loopback(parts.hostname or "")

    def send(message: bytes) -> None:
        request = urllib.request.Request(target, message, headers)
        timers: list[threading.Timer] = []  # of the connections that were made
        try:
            # what it answers beside the code is nobody's concern, and may be without end
            with _opener(timers, is_here) as opener, opener.open(request, timeout=_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            with error:
                words = f"it answered {error.code} {error.reason}."
            if 300 <= error.code < 400:
                words += " It is sent to no other address: give the one that it leads to."
            if error.code < 500 and error.code not in _LATER:
                raise SendRefused(words) from error
            raise NotTaken(words) from error
        except (OSError, http.client.HTTPException) as error:
            raise (NotTaken if timers else SendFailed)(f"{error}.") from error

    return send


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its body, and take the login to a stranger."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Plain(http.client.HTTPConnection):
    def __init__(self, timers: list[threading.Timer], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timers = timers

    def connect(self) -> None:
        super().connect()
        self._timers.append(_shut_later(self.sock))


class _Secret(http.client.HTTPSConnection):
    def __init__(self, timers: list[threading.Timer], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timers = timers

    def connect(self) -> None:
        super().connect()
        self._timers.append(_shut_later(self.sock))


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes, by connections that end in time."""

    def __init__(self, timers: list[threading.Timer]) -> None:
        super().__init__()
        self._timers = timers

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Plain, self._timers), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        secret = functools.partial(_Secret, self._timers)
        return self.do_open(secret, request, context=ssl.create_default_context())


@contextlib.contextmanager
def _opener(
    timers: list[threading.Timer], is_here: bool
) -> Iterator[urllib.request.OpenerDirector]:
    """Each connection puts its timer into `timers`; they end with it. What `is_here`, on this
    machine, is asked past the proxies of the environment: a proxy has another 127.0.0.1.
    """
    direct = [urllib.request.ProxyHandler({})] if is_here else []
    try:
        yield urllib.request.build_opener(_Stay, _Handler(timers), *direct)
    finally:
        for timer in timers:
            timer.cancel()


def _shut_later(connected: socket.socket) -> threading.Timer:
    """The timeout of a socket is each read's own: a byte a second would go on for ever."""

    def shut() -> None:
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_SECONDS, shut)
    timer.daemon = True
    timer.start()
    return timer
