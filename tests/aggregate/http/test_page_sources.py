"""The camera and the microphone of a browser as a source of the live page: a real Chromium with a
made-up camera (a clock face) and a made-up microphone (beeps), over real workers.
"""

import json

import pytest

from tests.support import browser
from tests.support.fleet_process import get, metric
from tests.support.live_page import opened
from tests.support.watched_fleet import watched_fleet
from tests.support.worker_process import wait_for

WHY = browser.missing()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(WHY is not None, reason=str(WHY)),
    # playwright leaves its own event loop to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
MADE_UP = "--use-fake-device-for-media-stream"


@pytest.fixture(scope="module")
def pictures(tiny_bundle, tmp_path_factory):
    """An aggregator of pictures."""
    with watched_fleet(tiny_bundle, tmp_path_factory.mktemp("pictures"), [[0, 1]]) as (_, one, _):
        yield one


@pytest.fixture(scope="module")
def sounds(tiny_mel_bundle, tmp_path_factory):
    """An aggregator of sound."""
    with watched_fleet(tiny_mel_bundle, tmp_path_factory.mktemp("sounds"), [[0, 1]]) as (_, one, _):
        yield one


@pytest.fixture(scope="module")
def launch():
    with browser.browsers() as launch:
        yield launch


@pytest.fixture(scope="module")
def allowed(launch):
    """A browser that gives pages what they ask for."""
    return launch(MADE_UP, "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def refused(launch):
    """A browser whose user allows nothing."""
    return launch(MADE_UP, "--deny-permission-prompts")


def answered(one) -> float:
    return metric(one, "edvit_requests_total", method="ModelInfer", code="OK")


def check_it_is_asked_until_it_is_stopped(page, one, source: str) -> None:
    button = page.locator(f"#{source}")
    button.wait_for(state="visible")
    page.check("#show")
    button.click()
    page.wait_for_selector("#asked .answer >> nth=2")
    assert button.get_attribute("aria-pressed") == "true"
    assert source in page.locator("#asked .answer").first.inner_text()
    # by the client's leave all see what was asked about
    shown = "img" if source == "camera" else "canvas"
    page.wait_for_selector(f"#answers .answer {shown}")

    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    wait_for(lambda: metric(one, "edvit_in_flight") == 0)
    # one may have been on its way
    page.wait_for_timeout(500)
    before = answered(one)
    page.wait_for_timeout(1500)
    assert answered(one) == before

    # and again
    button.click()
    wait_for(lambda: answered(one) > before)
    button.click()


def test_pictures_of_the_camera_are_asked_about_until_it_is_stopped(pictures, allowed):
    with opened(allowed, pictures) as (page, complaints):
        check_it_is_asked_until_it_is_stopped(page, pictures, "camera")
        assert page.locator("#video").is_hidden()
        assert page.evaluate("document.getElementById('video').srcObject") is None
        assert page.locator("#asked .alert").count() == 0 and complaints == []


def test_what_the_microphone_hears_is_asked_about_until_it_is_stopped(sounds, allowed):
    with opened(allowed, sounds) as (page, complaints):
        check_it_is_asked_until_it_is_stopped(page, sounds, "microphone")
        assert page.locator("#asked .alert").count() == 0 and complaints == []


@pytest.mark.parametrize("source", ["camera", "microphone"])
def test_a_source_that_its_user_refuses_is_said(request, refused, source):
    one = request.getfixturevalue("pictures" if source == "camera" else "sounds")
    before = answered(one)
    with opened(refused, one) as (page, complaints):
        page.click(f"#{source}")
        said = page.wait_for_selector("#asked .alert").inner_text()
        assert f"The {source} cannot be used" in said and "denied" in said.lower()
        assert "allowed for this page?" in said
        assert page.locator(f"#{source}").get_attribute("aria-pressed") == "false"
        assert page.locator(f"#{source}").is_enabled() and page.locator("#video").is_hidden()
        assert answered(one) == before and complaints == []


def test_a_camera_that_is_unplugged_ends_it(pictures, allowed):
    with opened(allowed, pictures) as (page, complaints):
        page.click("#camera")
        page.wait_for_selector("#asked .answer")
        # as a browser tells it
        page.evaluate(
            """document.getElementById("video").srcObject.getVideoTracks()[0]
                .dispatchEvent(new Event("ended"))"""
        )
        page.wait_for_selector("#camera[aria-pressed=false]")
        assert page.locator("#video").is_hidden() and complaints == []


def test_two_clicks_before_the_leave_is_given_start_one_camera(pictures, allowed):
    with opened(allowed, pictures) as (page, _):
        asked = page.evaluate(
            """async () => {
                const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
                let count = 0;
                navigator.mediaDevices.getUserMedia = async (wanted) => {
                    count += 1;
                    await new Promise((done) => setTimeout(done, 300));
                    return real(wanted);
                };
                const button = document.getElementById("camera");
                while (button.hidden) await new Promise((done) => setTimeout(done, 20));
                button.click();
                button.click();
                while (button.disabled) await new Promise((done) => setTimeout(done, 20));
                return count;
            }"""
        )
        assert asked == 1
        page.wait_for_selector("#camera[aria-pressed=true]")
        page.click("#camera")
        page.wait_for_selector("#camera[aria-pressed=false]")


@pytest.mark.parametrize("source", ["camera", "microphone"])
def test_a_page_without_tls_from_another_machine_says_what_a_source_needs(request, allowed, source):
    """A browser gives such a page no sources at all. Here what another machine's page would load
    comes from the aggregator by hand.
    """
    one = request.getfixturevalue("pictures" if source == "camera" else "sounds")
    state = get(one, "/live/state")
    assert json.loads(state)["fleet"]["serving"]

    def answer(route, asked):
        path = asked.url.removeprefix("http://hub.test")
        if path == "/live/events":
            told = f"event: everything\ndata: {state}\n\n"
            return route.fulfill(body=told, content_type="text/event-stream")
        return route.fulfill(response=route.fetch(url=f"http://{one.serving['metrics']}{path}"))

    page = allowed.new_page()
    page.route("http://hub.test/**", answer)
    page.goto("http://hub.test/")
    assert page.evaluate("window.isSecureContext") is False
    page.click(f"#{source}")
    said = page.wait_for_selector("#asked .alert").inner_text()
    assert f"gives a {source} to a page over https:// alone" in said and "--https" in said
    page.close()
