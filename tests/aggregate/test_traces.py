"""When there are traces, and how many requests' spans were lost."""

import contextlib
import json

import pytest

from edvit_tf.aggregate.trace_settings import checked_url
from edvit_tf.errors import ConfigError
from tests.support.worker_process import wait_for

pytest.importorskip("opentelemetry.sdk", reason="the [traces] extra is not installed")

from edvit_tf.aggregate.traces import _Counted, make_traces
from tests.support.collector import collector

URL = "http://127.0.0.1:9"
FAR = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")


def request(traces) -> None:
    """One with a part: two spans."""
    recording = traces.begin(None)
    with recording.whole(traces.take):
        recording.begins("queue").ends()


def roots(there) -> list:
    return [span for span in list(there.spans) if span.name == "request"]


def test_what_has_no_room_is_left_out_whole_and_counted(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    with collector() as there:
        there.open.clear()
        traces = make_traces(there.url)
        for _ in range(300):
            request(traces)
        # 64 spans wait, and 16 are being sent
        wait_for(lambda: traces.dropped >= 300 - (64 + 16) / 2, 60)
        there.open.set()
        wait_for(lambda: len(roots(there)) + traces.dropped == 300, 60)
        for root in roots(there):
            assert len(there.of(root.trace_id.hex())) == 2
        # and now there is room again
        before = traces.dropped
        request(traces)
        wait_for(lambda: len(roots(there)) == 301 - before, 60)
        assert traces.dropped == before
        traces.close()


def test_a_collector_on_this_machine_is_asked_past_the_proxy(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, URL)  # where nobody listens
    with collector() as there:
        traces = make_traces(there.url)
        request(traces)
        wait_for(lambda: len(roots(there)) + traces.dropped == 1, 60)
        assert traces.dropped == 0
        traces.close()


def test_what_a_collector_refuses_is_counted(monkeypatch):
    with collector(500) as there:
        traces = make_traces(there.url)
        for _ in range(20):
            request(traces)
        wait_for(lambda: traces.dropped == 20, 60)
        traces.close()
    assert there.spans == [] and traces.gauges()[0].samples == [({}, 20)]


def test_a_request_is_lost_once_however_its_spans_were_sent():
    class Exporter:
        def export(self, spans):
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

    class Span:
        def __init__(self, name):
            self.name = name

    part, whole = Span("queue"), Span("request")
    results = [True, False, True, False, False, OSError(), True]
    counted = _Counted(Exporter(), True)
    lost = []
    for spans in (
        [part, whole],
        [part],  # does not arrive, but the rest of the request does
        [whole, part, whole],
        [part, whole, part],
        [whole],  # the end of one of which the beginning is lost as well
        [part, whole],
        [part, whole],
    ):
        with contextlib.suppress(OSError):
            counted.export(spans)
        lost.append(counted.lost)
    assert lost == [0, 0, 1, 2, 3, 4, 4] and counted.taken == 14


def test_a_queue_smaller_than_a_usual_batch_is_taken(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "256")
    with collector() as there:
        traces = make_traces(there.url)
        request(traces)
        wait_for(lambda: roots(there), 60)
        traces.close()


@pytest.mark.parametrize(
    "name, value",
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
    ],
)
def test_variables_that_are_no_good_are_an_error_of_the_option_alone(
    monkeypatch, capsys, name, value
):
    monkeypatch.setenv(name, value)
    word = name.removeprefix("OTEL_BSP_").lower()
    with pytest.raises(ConfigError) as raised:
        make_traces(URL)
    assert word in str(raised.value).lower() and "OTEL_" in str(raised.value)

    monkeypatch.setenv(*next(iter(FAR.items())))
    assert make_traces(None) is None
    assert word in said_once(capsys).lower()


def said_once(capsys) -> str:
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["event"] == "traces"
    return line["reason"]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "console, zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_variables_that_want_no_such_traces_are_heeded_and_the_option_stands_above(
    capsys, variables
):
    assert make_traces(None, {**FAR, **variables}) is None
    (name,) = variables
    assert name in said_once(capsys)

    traces = make_traces(URL, variables)
    assert traces is not None
    traces.close()


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "otlp,console"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        # that of traces counts
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        },
    ],
)
def test_variables_that_want_them_are_enough(capsys, variables):
    traces = make_traces(None, {**FAR, **variables})
    assert traces is not None and capsys.readouterr().err == ""
    traces.close()


def test_a_library_that_is_switched_off_is_said(capsys):
    assert make_traces(URL, {"OTEL_SDK_DISABLED": "true"}) is None
    assert "OTEL_SDK_DISABLED" in said_once(capsys)


def test_an_address_gets_the_path_that_it_lacks():
    for url in ("http://c:4318", "http://c:4318/"):
        assert checked_url(url) == "http://c:4318/v1/traces"
    assert checked_url("https://[::1]/otlp/v1/traces") == "https://[::1]/otlp/v1/traces"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRET@c:4318",
        "http://me:SECRET@c:99999",
        "me:SECRET@c",
        "http://me:SEC/RET@c",
        "http://c:4318?token=SECRET",
        "http://c:4318/v1/traces#SECRET",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS") as raised:
        checked_url(url)
    assert "SEC" not in str(raised.value) and "RET" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["", "c:4318", "http://", "http://c:0", "http://c\nx", "http://c d"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="OTLP over HTTP"):
        checked_url(url)
