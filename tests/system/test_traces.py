"""A request's trace through a real aggregator and its workers, as a collector gets it."""

import json
import socket
import urllib.request

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import messages, tensors
from tests.support.aggregator_process import aggregator, all_ready
from tests.support.commands import run_command
from tests.support.fleet_process import metric, places
from tests.support.worker_process import wait_for

pytest.importorskip("opentelemetry.sdk", reason="the [traces] extra is not installed")

from tests.support.collector import collector, said, tree

PICTURE = np.random.default_rng(6).integers(0, 256, (1, 16, 16, 1), np.uint8)
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
CLIENT_SPAN = "00f067aa0ba902b7"
WANTED = """\
request
  queue
  call submodel-00  [{0}, attempt 1: answered]
    device queue
    device compute
  call submodel-01  [{1}, attempt 1: answered]
    device queue
    device compute
  fuse"""


def trace_id(number: int) -> str:
    return f"{number:032x}"


def traceparent(number: int, flags: str = "01") -> str:
    return f"00-{trace_id(number)}-{CLIENT_SPAN}-{flags}"


@pytest.fixture(scope="module")
def devices(tiny_bundle, tmp_path_factory):
    with places(tiny_bundle, tmp_path_factory.mktemp("traced"), [[0], [1]]) as made:
        yield made


@pytest.fixture(scope="module")
def there():
    with collector() as one:
        yield one


@pytest.fixture(scope="module")
def hub(tiny_bundle, devices, there, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    addresses = [place.address for place in devices]
    options = ["--traces", there.url, "--metrics", "127.0.0.1:0", "--min-submodels", "1"]
    options += ["--deadline-ms", "10000"]
    with aggregator(tiny_bundle, folder, addresses, *options, **OFTEN) as one:
        wait_for(lambda: all_ready(one, 2), 60)
        yield one


def ask(hub, value=PICTURE, *metadata, timeout=30):
    request = tensors.infer_request("edvit", {"image": value})
    with hub.channel() as channel:
        return messages.stub(channel, "ModelInfer")(request, timeout=timeout, metadata=metadata)


def whole(there, number: int):
    """The spans of a trace, once the request's own is there, which ends last."""

    def found():
        spans = there.of(trace_id(number))
        return spans if any(span.name == "request" for span in spans) else None

    return wait_for(found, 60)


def test_the_spans_of_a_request(hub, there, devices):
    ask(hub, PICTURE, ("traceparent", traceparent(1)))
    spans = whole(there, 1)
    assert tree(spans) == WANTED.format(*(place.address for place in devices))
    assert there.services == {"edvit-aggregator"}

    named = {span.name: span for span in spans}
    root = named["request"]
    assert root.parent_span_id.hex() == CLIENT_SPAN
    assert said(root) == {"degraded": False, "missing": ""}
    # each lies within its parent: the devices' own times are no more than the round trip
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        if span is root:
            continue
        parent = by_id[span.parent_span_id]
        assert parent.start_time_unix_nano <= span.start_time_unix_nano
        slack = 200_000_000 if span.name.startswith("device") else 0  # of a device's clock
        assert span.end_time_unix_nano <= parent.end_time_unix_nano + slack


def test_a_header_of_http_is_as_good(hub, there, devices):
    inputs = {"name": "image", "datatype": "UINT8", "shape": [1, 16, 16, 1]}
    body = json.dumps({"inputs": [{**inputs, "data": PICTURE.ravel().tolist()}]}).encode()
    url = f"http://{hub.serving['metrics']}/v2/models/edvit/infer"
    headers = {"content-type": "application/json", "traceparent": traceparent(2)}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        assert answer.status == 200
    assert tree(whole(there, 2)) == WANTED.format(*(place.address for place in devices))


def test_without_a_client_s_a_trace_begins_here_and_a_hostile_one_is_no_other(hub, there):
    before = len({span.trace_id for span in there.spans})
    ask(hub)
    ask(hub, PICTURE, ("traceparent", f"00-{'0' * 32}-{CLIENT_SPAN}-01"))
    ask(hub, PICTURE, ("traceparent", "x" * 4000))
    wait_for(lambda: len({span.trace_id for span in there.spans}) == before + 3, 60)
    assert there.of("0" * 32) == []


def test_what_a_client_does_not_sample_is_not_sent(hub, there):
    ask(hub, PICTURE, ("traceparent", traceparent(3, "00")))
    ask(hub, PICTURE, ("traceparent", traceparent(4)))
    whole(there, 4)
    assert there.of(trace_id(3)) == []


def test_a_refusal_is_in_the_trace_and_in_every_log(hub, there, devices):
    with pytest.raises(grpc.RpcError):
        ask(hub, b"no picture", ("traceparent", traceparent(5)))
    spans = whole(there, 5)
    (root,) = [span for span in spans if span.name == "request"]
    assert root.status.code == 2 and "INVALID_ARGUMENT" in root.status.message
    for one in (hub, *(place.worker for place in devices)):
        wait_for(lambda one=one: logged(one, 5), 60)


def test_a_refusal_of_a_trace_that_begins_here_is_in_the_log_by_its_id(hub, there):
    """By another code than the one above: the log has one line in a while of each."""
    request = tensors.infer_request("no model of this name", {"image": PICTURE})
    with hub.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        messages.stub(channel, "ModelInfer")(request, timeout=30)
    code = refused.value.code().name

    def found() -> list[str]:
        return [span.trace_id.hex() for span in list(there.spans) if code in span.status.message]

    wait_for(found, 60)
    lines = [event for event in hub.events("refused") if event["code"] == code]
    assert [line.get("trace_id") for line in lines] == found()


def logged(one, number: int) -> bool:
    """Whether a server's log has a refusal of this trace."""
    return any(event.get("trace_id") == trace_id(number) for event in one.events("refused"))


@pytest.mark.parametrize("kind", ["away", "silent", "failing"])
def test_a_collector_that_is_no_good_costs_no_answer(tiny_bundle, devices, tmp_path, kind):
    variables = {**OFTEN, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with socket.socket() as silent, collector(500) as failing:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)  # and never reads
        port = silent.getsockname()[1]
        url = {"away": "http://127.0.0.1:9", "silent": f"http://127.0.0.1:{port}"}
        addresses = [place.address for place in devices]
        options = ["--traces", url.get(kind, failing.url), "--metrics", "127.0.0.1:0"]
        with aggregator(tiny_bundle, tmp_path, addresses, *options, **variables) as one:
            wait_for(lambda: all_ready(one, 2), 60)
            for _ in range(20):
                answer = ask(one)
                assert not tensors.parameters(answer)["degraded"]
            wait_for(lambda: metric(one, "edvit_traces_dropped_total") == 20, 60)
            assert one.stop() == 0


def test_without_the_libraries_a_trace_is_passed_on_and_logged(tiny_bundle, devices, tmp_path):
    missing = "import sys\nsys.modules['opentelemetry'] = None\n"
    addresses = [place.address for place in devices]
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with aggregator(tiny_bundle, tmp_path, addresses, prelude=missing, **variables) as one:
        assert "pip install '.[traces]'" in one.events("traces")[0]["reason"]
        wait_for(lambda: all_ready(one, 2), 60)
        with pytest.raises(grpc.RpcError):
            ask(one, PICTURE.astype(np.float32), ("traceparent", traceparent(7)))
        wait_for(lambda: logged(one, 7), 60)


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://", "http://a:99999"])
def test_what_is_no_collector_s_address_is_refused(tiny_bundle, url):
    words = ["serve", tiny_bundle, "--devices", "127.0.0.1:1", "--listen", "127.0.0.1:0"]
    code, _, err = run_command([*words, "--insecure", "--traces", url, "--print-unit"])
    assert code == 3 and "OTLP over HTTP" in err


def test_a_slow_device_shows_in_its_call(hub, there, devices):
    """The last here: the worker is busy for a while after it."""
    devices[1].slow(6.0)
    try:
        ask(hub, PICTURE, ("traceparent", traceparent(6)), timeout=4)
    finally:
        devices[1].slow(0.0)
    spans = whole(there, 6)
    calls = {span.name: said(span) for span in spans if "call" in span.name}
    assert calls["call submodel-00"]["outcome"] == "answered"
    assert calls["call submodel-01"]["outcome"] != "answered"
    (root,) = [span for span in spans if span.name == "request"]
    assert said(root) == {"degraded": True, "missing": "submodel-01"}
