"""What a page is told: the fleet, answers, alerts; and that neither slow nor many pages matter."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate.http import events
from edvit_tf.aggregate.http.connections import STREAM
from edvit_tf.aggregate.http.feed import Feed, alerts, encoded
from edvit_tf.aggregate.http.history import History
from edvit_tf.aggregate.seen import MOST_NOTED, MOST_PREVIEW, Seen
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.callers import Caller
from edvit_tf.device.rpc.jsonlog import flush
from tests.support.aggregator_process import aggregator, all_ready, infer
from tests.support.fleet_process import get
from tests.support.machine_clock import machine_seconds
from tests.support.watched_fleet import watched_fleet
from tests.support.worker_process import wait_for

X = np.zeros((1, 16, 16, 1), np.uint8)
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def noted(seen: Seen, label: int = 0, missing=(), ms: float = 5.0, labels="abcd") -> None:
    probabilities = np.eye(4, dtype=np.float32)[label : label + 1]
    why = dict.fromkeys(missing, "down")
    seen.note(probabilities, 2 * ms, why, {"submodel-00": ("pi-0", ms)}, "", labels)


def test_a_row_a_second_says_what_was_answered_and_how_fast():
    seen, history = Seen(), History()
    assert history.add(seen.take(), 100, refused=7) is None
    for ms in (1.0, 3.0, 2.0):
        noted(seen, ms=ms)
    noted(seen, missing=["submodel-01"], ms=10.0)
    assert history.add(seen.take(), 100, refused=8) is None

    row = history.add(seen.take(), 101, refused=9)
    assert row == {
        "at": 100,
        "answered": 4,
        "degraded": 1,
        "refused": 2,
        "p50_ms": 5.0,
        "devices": {"pi-0": 2.5},
    }
    assert history.last_ms == {"pi-0": 10.0}
    assert history.lately(60) == {"answered": 4, "degraded": 1, "refused": 2}


def test_the_last_minutes_have_their_quantiles_to_a_few_percent():
    seen, history = Seen(), History()
    assert history.minutes()["p50_ms"] is None
    # half a second of each number: what came first is forgotten
    for second in range(400):
        for ms in np.geomspace(0.5, 500, 40):
            noted(seen, ms=float(ms) if second >= 90 else 1e4)
        history.add(seen.take(), second, 0)
    history.add([], 400, 0)
    said = history.minutes()
    exact = np.quantile(2 * np.geomspace(0.5, 500, 40), [0.5, 0.95], method="inverted_cdf")
    assert np.allclose([said["p50_ms"], said["p95_ms"]], exact, rtol=0.03)
    assert (said["seconds"], said["answered"]) == (300, 300 * 40)

    noted(seen, ms=0.0)
    history.add(seen.take(), 401, 0)  # a clock that stands still is no fault


def test_what_is_kept_does_not_grow():
    seen, history = Seen(), History()
    for second in range(1000):
        noted(seen)
        history.add(seen.take(), second, 0)
    assert len(history.rows) == 300

    for _ in range(MOST_NOTED + 100):
        noted(seen)
    assert len(seen.take()) == MOST_NOTED and seen.take() == []


def test_alerts_say_what_to_look_at():
    fine = {"device": "pi-0", "state": "ready", "reason": "", "breaker": "closed"}
    fleet = {"serving": True, "submodels": {"submodel-00": True}, "devices": [fine]}
    calm = {"answered": 100, "degraded": 5, "refused": 0}
    assert alerts(fleet, calm) == []

    open_one = {**fine, "device": "pi-1", "breaker": "open", "breaker_reason": "deadline"}
    down = {**fine, "device": "pi-2", "state": "down", "reason": "refused"}
    bad = {
        "serving": False,
        "submodels": {"submodel-00": True, "submodel-01": False},
        "devices": [fine, open_one, down],
    }
    found = alerts(bad, {"answered": 100, "degraded": 50, "refused": 3})
    assert len(found) == 6
    for words in ("pi-1 is left alone", "pi-2 is down (refused)", "submodel-01", "50 %", "3 requ"):
        assert any(words in text for text in found), words


def test_no_text_ends_an_event():
    text = "a\n\nevent: fleet\r\ndata: {}\u2028</script>"
    data = encoded(("answers", {"label": text}))
    assert data.count(b"\n") == 3 and data.startswith(b"event: answers\ndata: ")
    assert json.loads(data.split(b"data: ", 1)[1]) == {"label": text}


def test_a_fault_of_one_tick_does_not_end_the_feed(tiny_bundle, monkeypatch, capsys):
    bundle = open_bundle(tiny_bundle)
    healths = iter([{}])  # of the first tick one without its devices, then none at all
    feed = Feed(bundle, bundle_input(bundle), Seen(), lambda: next(healths), lambda: 0)
    monkeypatch.setattr("edvit_tf.aggregate.http.feed.TICK_SECONDS", 0.01)

    async def check():
        running = asyncio.create_task(feed.run())
        await asyncio.sleep(0.2)
        assert not running.done()
        running.cancel()

    asyncio.run(check())
    assert "KeyError: 'devices'" in capsys.readouterr().err


def test_answers_keep_the_labels_of_the_bundle_that_gave_them(tiny_bundle):
    """Those of the last moments before another bundle, and those that end with the old fleet."""
    bundle, seen = open_bundle(tiny_bundle), Seen()
    health = {"status": "SERVING", "devices": [], "submodels": {}}
    feed = Feed(bundle, bundle_input(bundle), seen, lambda: health, lambda: 0)
    noted(seen, label=3, labels=["w", "x", "y", "z"])
    fewer = replace(bundle, manifest=replace(bundle.manifest, labels=("one", "two")))
    feed.show(fewer, bundle_input(bundle))
    noted(seen, label=1, labels=("one", "two", "?", "?"))

    events = dict(feed.tick(100))
    assert [each["label"] for each in events["answers"]["shown"]] == ["z", "two"]
    assert events["answers"]["shown"][0]["top"][0] == ["z", 1.0]
    assert events["everything"]["about"]["labels"] == 2


class FakeFeed:
    def __init__(self):
        self.listeners = set()

    def listen(self, tell):
        self.listeners.add(tell)

    forget = property(lambda self: self.listeners.discard)

    def everything(self):
        return ("everything", {})


def test_a_page_behind_a_slow_line_holds_little_and_is_ended(monkeypatch):
    monkeypatch.setattr(events, "SEND_SECONDS", 0.2)

    async def check():
        feed = FakeFeed()
        pages = events.Events(feed)
        stream = pages.stream(Caller("", "me", "me:1"))
        sent, stands = [], asyncio.Event()

        async def send(message):
            sent.append(message.get("body", b""))
            if len(sent) > 2:
                await stands.wait()

        async def receive():
            await asyncio.sleep(60)

        scope = {"state": {}}
        running = asyncio.create_task(stream(scope, receive, send))
        await asyncio.sleep(0.05)
        assert b"event: everything" in sent[1] and pages._shares.used == 1
        tell = next(iter(feed.listeners))
        tell([b"first"])
        await asyncio.sleep(0.05)
        assert sent[2] == b"first"  # and stands still
        for _ in range(10_000):
            tell([b"x" * 1000])
        assert sum(map(len, stream._waiting)) <= 16_000
        await asyncio.wait_for(running, 30)
        assert pages._shares.used == 0 and not feed.listeners
        assert scope["state"] == {STREAM: False}

    asyncio.run(check())


def test_a_stream_that_fails_says_so_in_the_log(capsys):
    class Broken(FakeFeed):
        def everything(self):
            raise KeyError("of ours")

    async def nothing(message=None):
        await asyncio.sleep(0 if message else 60)

    stream = events.Events(Broken()).stream(Caller("", "me", "me:1"))
    asyncio.run(stream({"state": {}}, nothing, nothing))
    flush()
    assert "KeyError: 'of ours'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(places, aggregator, channel): each sub-model at a place of its own, one may be missing."""
    folder = tmp_path_factory.mktemp("events")
    with watched_fleet(tiny_bundle, folder, [[0], [1]]) as fleet:
        yield fleet


class Page:
    """A stream of events, as a page reads it."""

    def __init__(self, one):
        self._connection = http.client.HTTPConnection(one.serving["metrics"], timeout=60)
        try:
            self._connection.request("GET", "/live/events")
            self.response = self._connection.getresponse()
        except BaseException:
            self._connection.close()
            raise
        self.status = self.response.status

    def __iter__(self):
        name = ""
        for line in self.response:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield name, json.loads(line[6:])

    def until(self, wanted) -> float:
        """Seconds of the machine's clock until an event of which `wanted(name, said)` holds."""
        started, ends = machine_seconds(), time.monotonic() + 60
        for name, said in self:
            if wanted(name, said):
                return machine_seconds() - started
            assert time.monotonic() < ends
        raise AssertionError("the stream ended")

    def close(self):
        # the response holds the socket as well
        self.response.close()
        self._connection.close()


def is_state(address: str, *states: str):
    def wanted(name, said):
        told = said["fleet"] if name == "everything" else said
        return name in ("fleet", "everything") and any(
            each["device"] == address and each["state"] in states for each in told["devices"]
        )

    return wanted


def test_a_page_hears_of_answers_and_of_a_devices_end_and_return(fleet):
    made, one, channel = fleet
    with contextlib.closing(Page(one)) as page:
        name, said = next(iter(page))
        assert name == "everything" and said["fleet"]["serving"]
        assert said["about"]["submodels"][0]["labels"] == ["ant", "bee"]
        assert {"silent_seconds"} & set(said["fleet"]["devices"][0]) == set()

        infer(channel, X)
        shown = []
        page.until(lambda name, said: name == "answers" and (shown.extend(said["shown"]) or True))
        assert shown[0]["label"] in ("ant", "bee", "cat", "dog") and shown[0]["missing"] == {}
        assert set(shown[0]["devices"].values()) == {place.address for place in made}

        gone = made[1]
        gone.end(signal.SIGKILL)
        assert page.until(is_state(gone.address, "down")) < 2
        # degraded answers say what was missing, and the page too
        infer(channel, X)
        page.until(
            lambda name, said: name == "answers" and "submodel-01" in said["shown"][-1]["missing"]
        )
        gone.start()
        assert page.until(is_state(gone.address, "ready")) < 2


def test_a_plug_that_is_pulled_shows_within_two_seconds(fleet):
    """A device that stands still answers no probe, and closes no connection either."""
    made, one, _ = fleet
    with contextlib.closing(Page(one)) as page:
        page.until(is_state(made[0].address, "ready"))
        made[0].send(signal.SIGSTOP)
        try:
            assert page.until(is_state(made[0].address, "silent", "down")) < 2
        finally:
            made[0].send(signal.SIGCONT)
        assert page.until(is_state(made[0].address, "ready")) < 2


def test_a_preview_is_shown_where_the_client_allows_it_and_is_nothing_else(fleet):
    _, one, channel = fleet

    def ask(preview):
        request = tensors.infer_request("edvit", {"image": X}, parameters={"preview": preview})
        return messages.stub(channel, "ModelInfer")(request, timeout=30)

    with contextlib.closing(Page(one)) as page:
        next(iter(page))
        ask(PIXEL)
        page.until(lambda name, said: name == "answers" and said["shown"][-1]["preview"] == PIXEL)

    for bad in (
        "data:image/svg+xml;base64,AAAA",
        "javascript:alert(1)",
        "wave:" + "A" * MOST_PREVIEW,
        "wave:",
        "wave:A",  # letters of base64, and none of it
        "wave:AAA==",
        "data:image/png;base64,AAAAA",
        7,
    ):
        with pytest.raises(grpc.RpcError) as error:
            ask(bad)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "parameter 'preview'" in error.value.details()


def test_five_hundred_pages_are_too_many_and_nobody_else_notices(fleet):
    _, one, channel = fleet
    before = one.open_files()

    def opened(_):
        try:
            return Page(one)
        except (OSError, http.client.HTTPException):
            return None  # its connection was one too many

    with concurrent.futures.ThreadPoolExecutor(32) as pool, contextlib.ExitStack() as stack:
        pages = [page for page in pool.map(opened, range(500)) if page is not None]
        for page in pages:
            stack.callback(page.close)
        streams = [page for page in pages if page.status == 200]
        # one name has half of all
        assert events.MOST_PAGES // 2 - 4 <= len(streams) <= events.MOST_PAGES // 2
        assert {page.status for page in pages} == {200, 503}

        assert not infer(channel, X)[1]["degraded"]
        assert "edvit_serving 1" in get(one, "/metrics")
        assert "pages at once" in json.loads(get(one, "/live/events"))["error"]
        said = json.loads(get(one, "/live/state"))
        assert said["fleet"]["serving"] and len(said["rows"]) <= 1

    wait_for(lambda: one.open_files() <= before + 5, 60)
    with contextlib.closing(Page(one)) as page:
        assert page.status == 200


def test_a_page_that_reads_nothing_is_ended_and_the_others_hear_all(fleet, tiny_bundle, tmp_path):
    """Behind a line that stands still: what is on its way to it stays small."""
    hasty = (
        "from edvit_tf.aggregate.http import events, feed, port\n"
        "events.SEND_SECONDS, feed.TICK_SECONDS = 5.0, 0.02\n"
        "port.ANSWER_SECONDS = 1000.0  # it is not what an answer may take that ends it"
    )
    large = "data:image/png;base64," + "A" * (MOST_PREVIEW - 24)
    request = tensors.infer_request("edvit", {"image": X}, parameters={"preview": large})
    addresses = [place.address for place in fleet[0]]
    heard = []

    def hear(page):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed at the end
            heard.extend(len(said["shown"]) for name, said in page if name == "answers")

    with (
        aggregator(
            tiny_bundle, tmp_path, addresses, "--metrics", "127.0.0.1:0", prelude=hasty
        ) as one,
        one.channel() as channel,
        socket.socket() as slow,
    ):
        wait_for(lambda: all_ready(one, 2))
        other = Page(one)
        hearing = threading.Thread(target=hear, args=(other,))
        hearing.start()
        infer(channel, X)
        before, files = one.resident_bytes(), one.open_files()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = one.serving["metrics"].split(":")
        slow.connect((host, int(port)))
        slow.sendall(b"GET /live/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_for(lambda: one.open_files() > files)

        def ended() -> bool:
            messages.stub(channel, "ModelInfer")(request, timeout=30)
            return one.open_files() <= files

        wait_for(ended, 120)
        assert one.resident_bytes() - before < 32 << 20
        told = len(heard)
        infer(channel, X)
        wait_for(lambda: len(heard) > told)
        one.stop(signal.SIGTERM)
        hearing.join(60)
        other.close()
        assert not one.events("failed")


def test_the_page_forbids_what_is_not_its_own(fleet):
    _, one, _ = fleet
    connection = http.client.HTTPConnection(one.serving["metrics"], timeout=60)
    with contextlib.closing(connection):
        for path in ("/", "/live/live.js", "/login"):
            connection.request("GET", path)
            got = connection.getresponse()
            text = got.read().decode()
            policy = got.headers["content-security-policy"]
            assert got.status == 200 and "default-src 'none'" in policy
            assert "unsafe" not in policy and "http://" not in text.replace("http://www.w3.org", "")
            assert "<script>" not in text and "innerHTML" not in text
            connection.request("GET", path, headers={"If-None-Match": got.headers["etag"]})
            again = connection.getresponse()
            assert (again.status, again.read()) == (304, b"")


def test_an_aggregator_with_pages_open_ends_when_it_is_told_to(fleet, tiny_bundle, tmp_path):
    made, _, _ = fleet
    addresses = [place.address for place in made]
    with aggregator(tiny_bundle, tmp_path, addresses, "--metrics", "127.0.0.1:0") as one:
        page, idle = Page(one), socket.create_connection(one.serving["metrics"].split(":"), 5)
        with contextlib.closing(page), idle:
            assert one.stop(signal.SIGTERM) == 0
        assert one.events("stopped") and not one.events("failed")
