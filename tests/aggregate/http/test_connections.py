"""Connections of the HTTP port: few, and none for long, whatever their peers do."""

import asyncio
import contextlib
import select
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.http import connections, handshakes, server
from edvit_tf.aggregate.http.port import answer_seconds
from edvit_tf.aggregate.http.server import HttpServer
from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.worker_process import wait_for

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


@pytest.fixture
def secured(tmp_path):
    """(the address of a server with HTTPS, the context of a client that knows its authority)."""
    authority = certs.init(tmp_path / "ca")
    own = tls.identity(certs.issue(authority, "aggregator", "me", ["127.0.0.1"]))
    with serving(own=own) as address:
        yield address, ssl.create_default_context(cafile=str(own.ca))


def asked_securely(address, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(address, 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as one,
    ):
        one.sendall(b"GET / HTTP/1.0\r\nhost: here\r\n\r\n")
        return b"".join(iter(lambda: one.recv(4096), b""))


def open_ones(held: list[socket.socket]) -> int:
    """How many of them the server has not ended."""
    poll = select.poll()  # descriptors may be above the 1,024 of select
    for one in held:
        poll.register(one, select.POLLIN)
    return len(held) - len(poll.poll(0))


def test_silent_sockets_leave_room_for_a_handshake(secured, monkeypatch):
    """Each took a descriptor and a TLS object for five seconds, in any number."""
    monkeypatch.setattr(server, "_HANDSHAKE_SECONDS", 600.0)
    address, context = secured
    with contextlib.ExitStack() as stack:
        silent = []
        for _ in range(500):
            silent.append(stack.enter_context(socket.create_connection(address, 30)))
            if len(silent) % 100 == 0:
                assert asked_securely(address, context).endswith(b"ok")
        wait_for(lambda: open_ones(silent) <= handshakes.MOST_OF_ONE, 60)
        # those that came last are still waited for
        assert open_ones(silent[-10:]) == 10
        assert asked_securely(address, context).endswith(b"ok")


def test_one_address_leaves_the_others_their_room():
    """The oldest of the greediest goes, and of a full address its own."""
    ended: list[str] = []

    class Pending(handshakes.Handshakes):
        def __init__(self) -> None:
            self._pending = {}

        def _end_oldest(self, address: str) -> None:
            one = next(each for each, of in self._pending.items() if of == address)
            ended.append(one)
            del self._pending[one]

        def comes(self, name: str, address: str) -> None:
            self._make_room(address)
            self._pending[name] = address

    pending = Pending()
    for n in range(handshakes.MOST_OF_ONE + 2):
        pending.comes(f"a{n}", "a")
    assert ended == ["a0", "a1"]
    left = handshakes.MOST_HANDSHAKES - handshakes.MOST_OF_ONE
    for n in range(left):
        pending.comes(f"{n}", f"peer {n}")
    assert ended == ["a0", "a1"]
    pending.comes("new", "new")
    assert ended == ["a0", "a1", "a2"], "the greediest, not the new one"


def test_handshakes_of_one_machine_with_many_addresses_are_few():
    """128 of them ended every good one, each of an address of its own."""

    class Pending(handshakes.Handshakes):
        def __init__(self, listening: socket.socket) -> None:
            super().__init__(listening, asyncio.Protocol, ssl.create_default_context(), 5.0)

        async def _shake(self, one) -> None:
            """It says nothing."""

    peers = iter([(f"2001:db8:0:7::{n:x}", n, 0, 0) for n in range(1, 60)])

    async def accepted(listening):
        for peer in peers:
            return one_of(peer), peer
        await asyncio.sleep(3600)

    made: list[socket.socket] = []

    def one_of(peer) -> socket.socket:
        ours, theirs = socket.socketpair()
        made.extend((ours, theirs))
        return ours

    async def counted() -> int:
        asyncio.get_running_loop().sock_accept = accepted
        with socket.socket() as listening:
            pending = Pending(listening)
            while len(made) < 2 * 59:
                await asyncio.sleep(0)
            count = len(pending._pending)
            pending.close()
            await pending.wait_closed()
        return count

    try:
        assert asyncio.run(counted()) == handshakes.MOST_OF_ONE
    finally:
        for each in made:
            each.close()


def test_a_handshake_that_goes_wrong_in_any_way_is_counted_no_longer():
    class Broken(handshakes.Handshakes):
        def __init__(self) -> None:
            self._pending = {}
            self._context, self._seconds = ssl.create_default_context(), 1.0

        def _protocol(self):
            raise ZeroDivisionError

    async def shaken() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            broken = Broken()
            broken._pending[ours] = "a"
            with contextlib.suppress(ZeroDivisionError):
                await broken._shake(ours)
            assert broken._pending == {}

    asyncio.run(shaken())


def test_what_speaks_no_tls_is_ended_and_the_port_goes_on(secured):
    address, context = secured
    with socket.create_connection(address, 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert len(plain.recv(100)) < 100  # an alert of TLS, or an end
    assert asked_securely(address, context).endswith(b"ok")


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
