"""The table of paths beside a server, and that one more page is one more entry."""

import json
import urllib.error
import urllib.request

import pytest

from edvit_tf.device.rpc.base_service import BaseService
from edvit_tf.device.rpc.http_server import PLAIN, Page, serve_http


class Service(BaseService):
    """One with a page of its own, and one that has a fault."""

    def routes(self):
        live = Page(200, "text/html; charset=utf-8", f"<p>{self.in_flight} in flight</p>")
        return {**super().routes(), "/live": lambda: live, "/fault": lambda: 1 / 0}


@pytest.fixture
def service():
    return Service(
        None, None, ["model"], [], deadline_seconds=1.0, stuck_seconds=1.0, own=None, serving=False
    )


@pytest.fixture
def get(service):
    server = serve_http("127.0.0.1", 0, service.routes())
    host, port = server.server_address[:2]

    def answer(path: str) -> tuple[int, str, str]:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as got:
                return got.status, got.headers["Content-Type"], got.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    yield answer
    server.shutdown()
    server.server_close()


def test_one_more_page_is_one_more_entry(get):
    assert get("/live") == (200, "text/html; charset=utf-8", "<p>0 in flight</p>")


def test_every_server_has_metrics_and_health(get, service):
    status, kind, text = get("/metrics")
    assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
    assert "edvit_serving 0\n" in text and text.endswith("\n")

    status, kind, text = get("/healthz")
    word, _, details = text.partition("\n")
    assert (status, kind, word) == (503, PLAIN, "NOT_SERVING")
    assert json.loads(details) == {"models": ["model"], "certificate": None}

    service.availability.put(True)
    assert get("/healthz")[0] == 200 and get("/healthz")[2].startswith("SERVING\n")


def test_an_unknown_path_is_told_those_that_there_are(get):
    expected = "there are /metrics and /healthz and /live and /fault\n"
    assert get("/metrics?all") == (404, PLAIN, expected)


def test_a_fault_of_a_page_is_in_the_log_and_the_server_goes_on(get, capsys):
    status, _, text = get("/fault")
    assert status == 500 and "its log says how" in text
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "failed" and line["path"] == "/fault"
    assert "ZeroDivisionError" in line["traceback"]
    assert get("/live")[0] == 200
