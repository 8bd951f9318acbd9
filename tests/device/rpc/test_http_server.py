"""The table of paths beside a server, and that one more page is one more entry."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time

import pytest

from edvit_tf.device.rpc import http_connections
from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.http_server import PLAIN, Page, serve_http
from tests.support.machine_clock import machine_seconds


class Service(BaseService):
    """One with a page of its own, and one that has a fault."""

    def routes(self):
        live = Page(200, "text/html; charset=utf-8", f"<p>{self.in_flight} in flight</p>")
        return {**super().routes(), "/live": lambda: live, "/fault": lambda: 1 / 0}


@pytest.fixture(scope="module")
def served():
    """(service, address) for all tests here: to end a server of HTTP takes half a second."""
    service = Service(
        None, None, ["model"], [], deadline_seconds=1.0, stuck_seconds=1.0, own=None, serving=False
    )
    server = serve_http("127.0.0.1", 0, service.routes())
    yield service, server.server_address[:2]
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(served):
    served[0].availability.put(False)
    return served[0]


@pytest.fixture
def ask(served):
    """ask(method, target) -> (status, headers, body)."""

    def asked(method: str, target: str):
        connection = http.client.HTTPConnection(*served[1], timeout=10)
        with contextlib.closing(connection):
            connection.request(method, target)
            got = connection.getresponse()
            return got.status, got.headers, got.read()

    return asked


@pytest.fixture
def get(ask):
    def answer(path: str) -> tuple[int, str, str]:
        status, head, body = ask("GET", path)
        return status, head["Content-Type"], body.decode()

    return answer


def test_one_more_page_is_one_more_entry(get):
    assert get("/live") == (200, "text/html; charset=utf-8", "<p>0 in flight</p>")


def test_every_server_has_metrics_and_health(get, service):
    status, kind, text = get("/metrics")
    assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
    assert "edvit_serving 0\n" in text and text.endswith("\n")

    status, kind, text = get("/healthz")
    assert (status, kind) == (503, "application/json") and text.endswith("\n}\n")
    assert json.loads(text) == {
        "status": "NOT_SERVING",
        "models": ["model"],
        "certificate": None,
    }

    service.availability.put(True)
    status, _, text = get("/healthz")
    assert status == 200 and text.splitlines()[1] == ' "status": "SERVING",'


def test_an_unknown_path_is_told_those_that_there_are(get):
    expected = "there are /metrics and /healthz and /live and /fault\n"
    assert get("/metric?all") == (404, PLAIN, expected)


@pytest.mark.parametrize(
    "target",
    ["/metrics?", "/metrics?format=text&x=1", "/metrics?a=b?c#d", "http://pi:9001/metrics"],
)
def test_a_query_belongs_to_the_reader(ask, target):
    """Prometheus sends parameters of the scrape, a proxy the whole address."""
    status, head, body = ask("GET", target)
    assert status == 200 and head["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"edvit_serving" in body


@pytest.mark.parametrize("target", ["//[", "/healthz/..%2f", "*", "/healthz//"])
def test_what_is_no_path_of_ours_is_404(ask, target):
    assert ask("GET", target)[0] == 404


@pytest.mark.parametrize("path", ["/healthz", "/healthz?probe", "/metrics", "/nothing"])
def test_a_head_is_the_head_of_the_page(ask, path, service):
    """As load balancers probe."""
    for serving in (False, True):
        service.availability.put(serving)
        status, head, body = ask("HEAD", path)
        expected_status, expected, page = ask("GET", path)
        assert (status, body) == (expected_status, b"") and page
        assert head["Content-Type"] == expected["Content-Type"]
        # the figures of the metrics may have moved between the two
        if "metrics" not in path:
            assert head["Content-Length"] == expected["Content-Length"] == str(len(page))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_told_what_there_is(ask, method):
    status, head, body = ask(method, "/healthz")
    assert (status, head["Allow"]) == (405, "GET, HEAD")
    assert body == f"{method} is not answered; GET and HEAD are\n".encode()
    assert "Python" not in head["Server"]


def test_a_fault_of_a_page_is_in_the_log_and_the_server_goes_on(get, capsys):
    status, _, text = get("/fault")
    assert status == 500 and "its log says how" in text
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "failed" and line["path"] == "/fault"
    assert "ZeroDivisionError" in line["traceback"]
    assert get("/live")[0] == 200


def test_slow_connections_take_few_descriptors_and_a_scrape_comes_through(served, get):
    """Of one address: 300 that say a byte now and then."""
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as stack:
        slow = []
        for i in range(300):
            one = stack.enter_context(socket.create_connection(served[1], 5))
            one.sendall(b"GET /m")
            slow.append(one)
            if i % 30 == 0:
                assert get("/metrics")[0] == 200

        # this process has both ends of each
        def taken() -> int:
            return len(os.listdir("/proc/self/fd")) - before - len(slow)

        most = http_connections.MOST_CONNECTIONS

        # a thread ends a moment after its connection is closed
        def are_few() -> bool:
            return taken() <= most + 2 and threading.active_count() < most + 20

        end = time.monotonic() + 30
        while not are_few() and time.monotonic() < end:
            time.sleep(0.02)
        assert taken() <= most + 2
        assert threading.active_count() < most + 20
        assert get("/live")[0] == 200


def test_a_connection_ends_when_its_time_is_over_however_often_it_says_something(
    served, monkeypatch
):
    monkeypatch.setattr(http_connections, "MOST_SECONDS", 0.5)
    with socket.create_connection(served[1], 5) as drip:
        started, end = machine_seconds(), time.monotonic() + 60
        with pytest.raises(OSError):
            while time.monotonic() < end:
                drip.sendall(b"G")
                time.sleep(0.05)
    assert machine_seconds() - started < 5


@pytest.mark.parametrize(
    "one, greedy",
    [
        ("192.0.2.1", lambda n: "192.0.2.2"),
        # a machine takes another address of its network for each
        ("2001:db8:0:1::1", lambda n: f"2001:db8:0:2::{n:x}"),
        ("::ffff:192.0.2.1", lambda n: "::ffff:192.0.2.2"),
        ("fe80::1%eth0", lambda n: f"2001:db8::{n:x}"),
    ],
)
def test_who_has_one_connection_keeps_it_while_another_opens_many(one, greedy):
    """By address, or network of IPv6: the oldest of the greedy one ends."""
    pairs = [socket.socketpair() for _ in range(http_connections.MOST_CONNECTIONS + 20)]
    connections = http_connections.HttpConnections()
    with contextlib.ExitStack() as stack:
        for ours, theirs in pairs:
            stack.enter_context(ours)
            stack.enter_context(theirs)
        connections.add(pairs[0][0], one)
        for n, (ours, _) in enumerate(pairs[1:]):
            connections.add(ours, greedy(n))

        def ended(pair) -> bool:
            pair[1].setblocking(False)
            try:
                return pair[1].recv(1) == b""
            except BlockingIOError:
                return False

        assert [ended(pair) for pair in pairs] == [False] + [True] * 20 + [False] * 31
