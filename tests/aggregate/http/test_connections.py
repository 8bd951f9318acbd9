"""Connections of the HTTP port: few, and none for long, whatever their peers do."""

import asyncio
import contextlib
import select
import socket
import threading
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.http import connections, server
from edvit_tf.aggregate.http.port import answer_seconds
from edvit_tf.aggregate.http.server import HttpServer
from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs

LENGTH = b"content-length: 10\r\n"


async def app(scope, receive, send) -> None:
    """Reads a body to its end, and answers with "ok"."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.contextmanager
def serving(answering=app, host: str = "127.0.0.1", own=None, **options):
    """The address of a server of this process."""

    async def nothing() -> None:
        await asyncio.Event().wait()

    opened = HttpServer(answering, host, 0, own, nothing, **options)
    try:
        yield opened.server_address[:2]
    finally:
        opened.shutdown()
        opened.server_close()


def asked(address, head: bytes = b"GET / HTTP/1.0\r\n", end: bool = False) -> bytes:
    """All that comes back; `end`: nothing more is said after the request."""
    with socket.create_connection(address, 10) as one:
        one.sendall(head + b"host: here\r\n\r\n")
        if end:
            one.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: one.recv(4096), b""))


def held(stack: contextlib.ExitStack, address, count: int, more: bytes) -> list[socket.socket]:
    """Connections whose requests have heads alone."""
    found = []
    for _ in range(count):
        one = stack.enter_context(socket.create_connection(address, 10))
        one.sendall(b"POST / HTTP/1.1\r\nhost: here\r\n" + more + b"\r\n")
        found.append(one)
    return found


def test_bodies_that_do_not_come_shut_nobody_out(monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    begun = threading.Semaphore(0)

    async def counted(scope, receive, send) -> None:
        begun.release()
        await app(scope, receive, send)

    with serving(counted) as address, contextlib.ExitStack() as stack:
        waiting = held(stack, address, 8, LENGTH)
        for _ in range(8):
            assert begun.acquire(timeout=10)
        assert asked(address).endswith(b"ok")
        ended, _, _ = select.select(waiting, [], [], 10)  # one made room
        assert len(ended) == 1 and ended[0].recv(1) == b""


def test_where_all_are_answered_the_oldest_makes_room(monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    begun = threading.Semaphore(0)

    async def slow(scope, receive, send) -> None:
        if scope["method"] == "POST":
            await receive()
            begun.release()
            await asyncio.sleep(60)
        await app(scope, receive, send)

    with serving(slow) as address, contextlib.ExitStack() as stack:
        held(stack, address, 8, b"content-length: 0\r\n")
        for _ in range(8):
            assert begun.acquire(timeout=10)
        assert asked(address).endswith(b"ok")


def test_a_handshake_that_does_not_come_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", 0.3)
    authority = certs.init(tmp_path / "ca")
    own = tls.identity(certs.issue(authority, "aggregator", "me", ["127.0.0.1"]))
    with serving(own=own) as address, socket.create_connection(address, 10) as silent:
        silent.settimeout(10)
        assert silent.recv(1) == b""


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no sockets of both IP versions")
def test_all_addresses_are_those_of_ipv4_too():
    with serving(host="::") as (_, port):
        assert asked(("127.0.0.1", port)).endswith(b"ok")
        assert asked(("::1", port)).endswith(b"ok")


async def late(scope, receive, send) -> None:
    """An answer that takes more than the other end of the line may have said."""
    await asyncio.sleep(0.3)
    await app(scope, receive, send)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_peer_that_says_no_more_is_answered(version):
    with serving(late) as address:
        head = b"GET / HTTP/" + version + b"\r\n"
        assert b"ok" in asked(address, head, end=True)


def test_an_answer_may_take_as_long_as_the_fleets_deadline():
    assert answer_seconds(SimpleNamespace(deadline_seconds=1.0)) == 30
    assert answer_seconds(SimpleNamespace(deadline_seconds=60.0)) == 75

    async def never(scope, receive, send) -> None:
        await asyncio.sleep(60)

    with serving(never, answer_seconds=0.1) as address:
        assert asked(address) == b""
