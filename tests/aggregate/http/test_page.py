"""The live page in a real Chromium, over real workers."""

import contextlib
import io
import json
import signal
import threading
import time

import grpc
import numpy as np
import pytest
from PIL import Image

from tests.support import browser
from tests.support.aggregator_process import aggregator, infer
from tests.support.live_page import opened
from tests.support.machine_clock import machine_seconds
from tests.support.watched_fleet import watched_fleet
from tests.support.worker_process import wait_for

WHY = browser.missing()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(WHY is not None, reason=str(WHY)),
    # playwright leaves its own event loop to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
X = np.zeros((1, 16, 16, 1), np.uint8)
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e'


@pytest.fixture(scope="module")
def fleet(five_bundle, tmp_path_factory):
    """(places, aggregator): five devices, one sub-model each."""
    folder = tmp_path_factory.mktemp("page")
    hosted = [[j] for j in range(5)]
    with watched_fleet(five_bundle, folder, hosted) as (made, one, channel):
        # the first encoded file loads the decoders, on a busy machine for longer than a deadline
        for j, place in enumerate(made):
            with place.worker.channel() as device, contextlib.suppress(grpc.RpcError):
                infer(device, picture("")["buffer"], model=f"submodel-0{j}", timeout=30)
        yield made, one, channel


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


def picture(name: str) -> dict:
    file = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


@contextlib.contextmanager
def asking(one, per_second: float):
    """A client that asks so often."""
    stop = threading.Event()
    counted = []

    def ask():
        with one.channel() as channel:
            due = time.monotonic()
            while not stop.is_set():
                infer(channel, X)
                counted.append(1)
                due = max(due + 4 / per_second, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield counted
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_the_page_shows_the_fleet_at_any_width(fleet, chromium, width, scheme):
    _, one, channel = fleet
    with opened(chromium, one, width, scheme) as (page, complaints):
        page.wait_for_selector("#devices li.good >> nth=4")
        assert page.locator("#submodels li").count() == 5
        assert "ant, bee" in page.locator("#submodels").inner_text()
        assert page.locator("#serving").inner_text() == "serving"
        infer(channel, X)
        page.wait_for_selector("#answers li")
        page.wait_for_selector("#latency canvas")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) > 380) is (scheme == "light")
        # all that can be used has a name, and the keyboard reaches it
        unnamed = page.evaluate(
            """[...document.querySelectorAll("button, input, [role=img], video, meter")]
            .filter((each) => !each.hidden && !each.getAttribute("aria-label")
                && !each.labels?.length && !each.textContent)
            .map((each) => each.id)"""
        )
        assert unnamed == []
        reached = set()
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        assert {"file", "camera", "show"} <= reached
        assert complaints == []


def test_a_device_that_is_killed_and_returns_shows_within_two_seconds(fleet, chromium):
    made, one, _ = fleet
    gone = made[2]
    with opened(chromium, one) as (page, complaints), asking(one, 20):
        card = f'li[data-device="{gone.address}"]'
        page.wait_for_selector(f"{card}.good")
        started = machine_seconds()
        gone.end(signal.SIGKILL)
        page.wait_for_selector(f'{card}.bad[data-state="down"]')
        assert machine_seconds() - started < 2
        page.wait_for_selector("#alerts li")
        page.wait_for_selector("#answers .alert:has-text('without submodel-02')")
        gone.start()
        started = machine_seconds()
        page.wait_for_selector(f"{card}.good")
        assert machine_seconds() - started < 2

        # one that stands still, as behind a pulled plug
        gone.send(signal.SIGSTOP)
        try:
            started = machine_seconds()
            page.wait_for_selector(f"{card}.bad")
            assert machine_seconds() - started < 2
        finally:
            gone.send(signal.SIGCONT)
        started = machine_seconds()
        page.wait_for_selector(f"{card}.good")
        assert machine_seconds() - started < 2
        assert complaints == []


def test_a_file_is_asked_about_whatever_its_name(fleet, chromium):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints):
        page.wait_for_selector("#devices li.good >> nth=4")
        page.check("#show")
        page.set_input_files("#file", [picture(HOSTILE + ".png")])
        page.wait_for_selector("#asked .answer img")
        assert HOSTILE in page.locator("#asked").inner_text().replace("\n", "")
        # shown to all, by the client's leave
        page.wait_for_selector("#answers .answer img")

        page.set_input_files("#file", [{**picture("no.png"), "buffer": b"no picture"}])
        page.wait_for_selector("#asked .alert")
        assert "no.png: " in page.locator("#asked .alert").first.inner_text()
        # a browser notes a refusal of the server in its console, and nothing else is there
        assert [each for each in complaints if "status of 400" not in each] == []


def test_a_preview_that_is_no_base64_leaves_the_page_whole(fleet, chromium):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints):
        drawn = page.evaluate(
            """async () => {
                const {answerItem} = await import("/live/elements.js");
                const answer = {missing: {}, at: 0, label: "a", total_ms: 1, top: []};
                return answerItem({...answer, preview: "wave:A"}).querySelectorAll("canvas").length;
            }"""
        )
        assert drawn == 1 and complaints == []


MONO = """async (channels) => {
    const {mono} = await import("/live/sound.js");
    const held = channels.map((channel) => new Float32Array(channel));
    const getChannelData = (i) => held[i];
    return [...mono({numberOfChannels: held.length, length: held[0].length, getChannelData})];
}"""


@pytest.mark.parametrize(
    ("channels", "heard"),
    [
        ([[0.5, -0.25]], [0.5, -0.25]),
        ([[0.5, -0.25], [0.25, 0.25]], [0.375, 0]),
        # the wrong way round: their mean is silence
        ([[0.5, -0.25], [-0.5, 0.25]], [0.5, -0.25]),
        ([[0, 0], [0.5, -0.25], [-0.5, 0.25]], [0.5, -0.25]),
        ([[0, 0], [0, 0]], [0, 0]),
    ],
)
def test_channels_that_cancel_each_other_out_are_no_silence(fleet, chromium, channels, heard):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints):
        assert page.evaluate(MONO, channels) == heard and complaints == []


# A microphone of two samples at a time, and a resampler that takes longer than they do.
MICROPHONE = """async () => {
    const track = {addEventListener() {}};
    const stream = {getAudioTracks: () => [track], getTracks: () => []};
    const devices = {getUserMedia: async () => stream};
    Object.defineProperty(navigator, "mediaDevices", {value: devices});
    let port;
    window.AudioContext = class {
        sampleRate = 8;
        audioWorklet = {addModule: async () => {}};
        createMediaStreamSource() { return {connect() {}}; }
    };
    window.AudioWorkletNode = class { port = port = {}; };
    window.OfflineAudioContext = class {
        createBuffer() { return {copyToChannel: (samples) => { this.samples = samples.slice(); }}; }
        createBufferSource() { return {connect() {}, start() {}}; }
        async startRendering() {
            await new Promise((done) => setTimeout(done, 50));
            return {getChannelData: () => this.samples};
        }
    };
    const {listenTo} = await import("/live/sound.js");
    const windows = [];
    const heard = (_, samples) => windows.push([...samples]);
    await listenTo({window_samples: 4, sample_rate_hz: 8}, heard, () => {});
    for (let i = 0; i < 12; i += 2) port.onmessage({data: new Float32Array([i, i + 1])});
    await new Promise((done) => setTimeout(done, 500));
    return windows;
}"""


def test_what_is_heard_while_a_window_is_resampled_is_neither_lost_nor_repeated(fleet, chromium):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints):
        assert page.evaluate(MICROPHONE) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert complaints == []


def tell(page, told: dict) -> None:
    """The page is told this, in the place of what the aggregator says."""
    body = f"event: everything\ndata: {json.dumps(told)}\n\n"
    page.route(
        "**/live/events",
        lambda route: route.fulfill(body=body, content_type="text/event-stream"),
    )
    page.reload()


def test_a_hot_device_is_marked_and_one_that_does_not_tell_says_nothing(fleet, chromium):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints):
        page.wait_for_selector("#devices li.good >> nth=4")
        told = page.evaluate("fetch('/live/state').then((answer) => answer.json())")
        known = [(80.0, []), (79.9, []), (41.0, ["under-voltage", "throttled"]), (None, None)]
        for device, (degrees, held) in zip(told["fleet"]["devices"], known, strict=False):
            device.update(temperature_c=degrees, throttled=held)
        tell(page, {**told, "rows": []})
        page.wait_for_selector("[data-condition]")
        cards = page.locator("#devices li").all()
        lines = [card.locator("[data-condition]").all_inner_texts() for card in cards[:4]]
        assert lines == [["80 °C, hot"], ["80 °C"], ["41 °C · under-voltage, throttled"], []]
        marked = [card.locator(".alert").count() for card in cards[:4]]
        assert marked == [1, 0, 1, 0] and complaints == []


def test_no_label_and_no_reason_runs_a_script(fleet, chromium):
    """Whatever an aggregator tells: here one that tells hostile texts."""
    _, one, _ = fleet
    device = {
        "device": HOSTILE,
        "address": HOSTILE,
        "state": HOSTILE,
        "reason": HOSTILE,
        "breaker": HOSTILE,
        "breaker_reason": HOSTILE,
        "hosts": [HOSTILE],
        "in_flight_bytes": 0,
        "last_ms": 1.0,
        "temperature_c": 91.0,
        "throttled": [HOSTILE],
    }
    answer = {
        "number": 1,
        "at": 0,
        "label": HOSTILE,
        "top": [[HOSTILE, 1]],
        "total_ms": 1,
        "missing": {HOSTILE: HOSTILE},
        "devices": {},
        "preview": f"data:image/svg+xml,{HOSTILE}",
    }
    told = {
        "about": {
            "bundle": HOSTILE,
            "submodels": [{"name": HOSTILE, "labels": [HOSTILE], "view": ""}],
            "item": HOSTILE,
            "modality": "image",
            "sample_rate_hz": None,
            "is_text": False,
        },
        "fleet": {
            "serving": False,
            "alerts": [HOSTILE],
            "devices": [device],
            "submodels": {HOSTILE: False},
        },
        "answers": [answer],
        "rows": [],
    }
    with opened(chromium, one) as (page, complaints):
        tell(page, told)
        page.wait_for_selector("#alerts li")
        page.wait_for_timeout(300)
        assert page.locator("script").count() == 2 and "dialog" not in complaints
        assert page.locator("main img[src='x']").count() == 0
        assert HOSTILE in page.locator("#alerts").inner_text()
        assert [each for each in complaints if "alert" in each] == []


@pytest.mark.parametrize(
    "lacks, line",
    [("EventSource", "every 5 s: this browser has no event streams"), ("WebSocket", "live")],
)
def test_a_browser_that_lacks_a_way_to_hear_shows_the_fleet_all_the_same(
    fleet, chromium, lacks, line
):
    _, one, channel = fleet
    page = chromium.new_page()
    page.add_init_script(f"delete window.{lacks}")
    page.goto(f"http://{one.serving['metrics']}/")
    page.wait_for_selector("#devices li.good >> nth=4")
    page.wait_for_selector(f"#line:text-is('{line}')")
    # and goes on: the next answer is shown too
    before = page.locator("#answers li .small").all_inner_texts()
    infer(channel, X)
    wait_for(lambda: page.locator("#answers li .small").all_inner_texts() != before)
    page.close()


def test_two_hundred_requests_a_second_are_drawn_and_no_more_than_thirty_kept(fleet, chromium):
    _, one, _ = fleet
    with opened(chromium, one) as (page, complaints), asking(one, 200) as counted:
        page.wait_for_selector("#devices li.good >> nth=4")
        wait_for(lambda: len(counted) > 100, 120)
        assert page.locator("#answers > li").count() <= 30
        page.wait_for_selector("#line:text-is('live')")
        rate = page.locator("#numbers strong").first
        wait_for(lambda: float(rate.inner_text().removesuffix("/s")) > 20)
        assert page.locator("#answers > li").count() <= 30
        assert complaints == []


def test_a_page_says_when_the_aggregator_is_gone(five_bundle, fleet, chromium, tmp_path):
    made, _, _ = fleet
    devices = [place.address for place in made]
    with (
        aggregator(five_bundle, tmp_path, devices, "--metrics", "127.0.0.1:0") as one,
        opened(chromium, one) as (page, _),
    ):
        page.wait_for_selector("#devices li >> nth=4")
        started = machine_seconds()
        one.stop(signal.SIGKILL)
        page.wait_for_selector("#line:has-text('no word')")
        assert machine_seconds() - started < 8
