"""The table of paths, asked without a server."""

import asyncio
import contextlib

import pytest

from edvit_tf.aggregate.http import app as paths
from edvit_tf.aggregate.http.access import Access
from edvit_tf.aggregate.http.app import make_app
from edvit_tf.aggregate.http.rest import HttpContext, Peer
from edvit_tf.device.rpc.callers import caller_of
from edvit_tf.device.rpc.jsonlog import flush

HOST = (b"host", b"127.0.0.1:9001")


class _Rest:
    """Of a service that nobody asks."""

    def health(self):
        return []

    paths = health


class _Events:
    async def state(self, request):
        raise KeyError("of ours")


async def _silence():
    await asyncio.sleep(60)


def asked(method: str, path: str, receive=_silence, access: Access | None = None):
    """(status, body) of a request."""
    app = make_app({}, _Rest(), _Events(), access or Access(True), [])
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [HOST],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 9001),
        "state": {"peer_names": []},
    }
    # a server is told of a fault once more, when it is answered
    with contextlib.suppress(KeyError):
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 30))
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode()


def test_without_a_token_there_is_no_login_to_wait_for():
    status, text = asked("POST", "/login")
    assert status == 404 and "--login-token" in text


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("192.0.2.7", "ipv4:192.0.2.7:5"),
        ("::ffff:192.0.2.7", "ipv4:192.0.2.7:5"),
        ("::1", "ipv6:%5B::1%5D:5"),
        ("fe80::1%eth0", "ipv6:%5Bfe80::1%25eth0%5D:5"),
    ],
)
def test_a_host_has_the_name_that_it_has_over_grpc(host, peer):
    caller = caller_of(HttpContext(Peer([], host, 5), _silence))
    assert caller.connection == peer and caller.name == peer.removesuffix(":5")


def test_a_fault_of_ours_is_answered_and_in_the_log(capsys):
    status, text = asked("GET", "/live/state")
    assert status == 500 and "its log says how" in text
    flush()
    assert "KeyError: 'of ours'" in capsys.readouterr().err


def test_a_token_that_does_not_come_is_told_so(monkeypatch):
    monkeypatch.setattr(paths, "_LOGIN_SECONDS", 0.05)
    status, text = asked("POST", "/login", access=Access(True, "t" * 16))
    assert status == 408 and "no token" in text


def test_a_whole_address_is_its_path():
    for target in ("http://hub:9000/login", "http://hub:9000/login#wrong"):
        assert asked("GET", target)[0] == 200
    assert asked("GET", "http://hub:9000")[0] == 200  # the page
    assert asked("GET", "http://[")[0] == asked("GET", "http://hub/nothing")[0] == 404
