"""The table of paths beside a server, and that one more page is one more entry."""

import contextlib
import http.client
import json

import pytest

from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.http_server import PLAIN, Page, serve_http


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
