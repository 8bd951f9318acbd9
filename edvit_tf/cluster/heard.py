"""What workers tell, wherever they are, is told here: on the one screen, and in the one log.

A worker connects for each piece of work, says the secret that it was sent with the piece, is
welcomed, and then says an event a line, as JSON. It ends when all of that was told: so the words of
a piece stand before those of its end. What cannot be told any more is dropped: a piece is worth
more than its words.
"""

import contextlib
import hmac
import io
import json
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from edvit_tf.device.strict_json import finite_json
from edvit_tf.progress.events import Event, listening, tell

PATIENCE_SECONDS = 5.0  # for the connection, and at the end for words that are on their way
WELCOME = b"+"
LONGEST_LINE = 1 << 20
LONGEST_SECRET = 200


@dataclass(frozen=True)
class Address:
    """Where to tell, and the secret that says who one is."""

    host: str
    port: int
    secret: str


class Ear:
    """Hears workers, in threads of its own, as long as its context lasts."""

    def __init__(self, host: str) -> None:
        self._secret = secrets.token_hex(32)
        self._speaking: set[socket.socket] = set()
        self._quiet = threading.Condition()
        self._server = (_Server6 if ":" in host else _Server)((host, 0), _Speaker)
        self._server.ear = self
        self.address = Address(host, self._server.server_address[1], self._secret)

    def __enter__(self) -> "Ear":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait()
        with self._quiet:
            left = list(self._speaking)
        for one in left:  # of a machine that is gone nobody closes it
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Until those that have ended are heard to their last word."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._speaking, PATIENCE_SECONDS)

    def hear(self, connection: socket.socket, lines: io.BufferedIOBase) -> None:
        """Tells what comes through a connection until it ends."""
        # a stranger has no time: each that says nothing would keep a thread
        connection.settimeout(PATIENCE_SECONDS)
        try:
            said = lines.readline(LONGEST_SECRET).strip()
        except OSError:
            return
        connection.settimeout(None)
        if not hmac.compare_digest(said, self._secret.encode()):
            return
        with self._quiet:
            self._speaking.add(connection)
        try:
            connection.sendall(WELCOME)
            while line := lines.readline(LONGEST_LINE):
                try:
                    told = json.loads(line)
                    text, kind, facts = told["text"], told["kind"], dict(told["facts"])
                except (ValueError, TypeError, KeyError):
                    return  # cut off in the middle of a line
                tell(text, kind, **facts)
        except OSError:
            pass  # cut off, or nobody can be told any more (`| head`)
        finally:
            with self._quiet:
                self._speaking.discard(connection)
                self._quiet.notify_all()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    ear: Ear


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Speaker(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.server.ear.hear(self.connection, self.rfile)


class _Mouth:
    """A listener of a worker: passes events on through a connection."""

    def __init__(self, connection: socket.socket, node: str) -> None:
        self._connection = connection
        self._node = node
        self._lock = threading.Lock()
        self._is_cut_off = False

    def hear(self, event: Event) -> None:
        facts = finite_json({**event.facts, "node": self._node, "process": os.getpid()})
        told = {"kind": event.kind, "text": event.text, "facts": facts}
        with self._lock:
            if self._is_cut_off:
                return
            try:
                self._connection.sendall(json.dumps(told, default=str).encode() + b"\n")
            except OSError:
                # half a line may be gone, and each further one would wait as long
                self._is_cut_off = True


class _Printed(io.TextIOBase):
    """A stream whose lines are told as events: what libraries print."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            tell(line, self._kind)
        return len(text)


class _AllBut:
    """Standard output, but for what the threads of a library print: that is told."""

    def __init__(self, stream: TextIO, library: str) -> None:
        self._stream = stream
        self._library = library
        self._told = _Printed("note")
        self._telling = threading.local()

    def write(self, text: str) -> int:
        # what shows an event prints in the thread that tells it
        if not self._is_librarys() or getattr(self._telling, "is_on", False):
            return self._stream.write(text)
        self._telling.is_on = True
        try:
            return self._told.write(_COLOUR.sub("", text))
        finally:
            self._telling.is_on = False

    def _is_librarys(self) -> bool:
        # who called does not say it: Ray puts a function of its own in the place of print
        target = getattr(threading.current_thread(), "_target", None)
        return (getattr(target, "__module__", None) or "").partition(".")[0] == self._library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def prints_told(library: str) -> Iterator[None]:
    """Within it what a library prints in threads of its own is told as a note: a screen of ours may
    be JSON, or have bars.
    """
    with contextlib.redirect_stdout(_AllBut(sys.stdout, library)):
        yield


@contextlib.contextmanager
def telling(address: Address, node: str) -> Iterator[None]:
    """Within it, in a worker, what is told or printed is told at `address`. Where nobody listens
    any more nothing is.
    """
    connection = _welcomed(address)
    if connection is None:
        with listening():
            yield
        return
    with connection:
        with (
            listening(_Mouth(connection, node)),
            contextlib.redirect_stdout(_Printed("note")),
            contextlib.redirect_stderr(_Printed("warning")),
        ):
            yield
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # closed when all is told


def _welcomed(address: Address) -> socket.socket | None:
    """A connection to who listens; None where nobody does."""
    try:
        connection = socket.create_connection((address.host, address.port), PATIENCE_SECONDS)
    except OSError:
        return None
    try:
        connection.sendall(address.secret.encode() + b"\n")
        if connection.recv(1) == WELCOME:
            return connection
    except OSError:
        pass
    connection.close()
    return None
