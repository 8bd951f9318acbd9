"""`edvit bench load`: a real aggregator, and a server that stands still for a second."""

import contextlib
import itertools
import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from edvit_tf.bench.load.drive import NOT_SENT
from edvit_tf.bench.load.perf_analyzer import parsed
from edvit_tf.device.rpc import messages, tensors
from tests.support.aggregator_process import aggregator, all_ready, ready
from tests.support.commands import run_command
from tests.support.fleet_process import health, places
from tests.support.worker_process import wait_for

RATES = """\
Request Rate,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,\
p90 latency,p95 latency,p99 latency
20,19.5,61,1093,112,0,2010,0,9,3201,3902,4100,7250
"""  # as perf_analyzer's report_writer.cc writes it, microseconds


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(the places of two workers, an aggregator that does with one of them)."""
    folder = tmp_path_factory.mktemp("load")
    with places(tiny_bundle, folder, [[0], [1]]) as devices:
        addresses = [place.address for place in devices]
        options = ["--min-submodels", "1", "--metrics", "127.0.0.1:0"]
        with aggregator(tiny_bundle, folder, addresses, *options) as hub:
            wait_for(lambda: all_ready(hub, 2), 60)
            yield devices, hub


def loaded(hub: str, *options: str) -> dict:
    words = ["bench", "load", hub, "--insecure", "--warm-up", "0.2", "--json", *options]
    code, out, err = run_command(words)
    assert code == 0, err
    return json.loads(out)


def test_rates_of_a_real_fleet(fleet):
    _, hub = fleet
    result = loaded(hub.address, "--rates", "20,40", "--seconds", "1.5", "--connections", "2")
    assert [row["rate"] for row in result["rates"]] == [20, 40]
    assert result["bundle_digest"] == hub.serving["bundle_digest"]
    assert result["input"] == "an input that was made, 256 bytes"
    for row in result["rates"]:
        assert row["requests"] == row["answered"] > 10
        assert row["failed"] == {} and row["degraded"] == 0
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"] <= row["latency_ms"]["max"]
        assert row["sent_latency_ms"]["p50"] <= row["latency_ms"]["p50"]
    assert result["knee"]["carried"] in (20, 40, None)


def test_the_table_says_what_was_measured(fleet, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no perf_analyzer there
    _, hub = fleet
    words = ["bench", "load", hub.address, "--insecure", "--rates", "20,30", "--constant"]
    code, out, err = run_command([*words, "--seconds", "1", "--warm-up", "0"])
    assert code == 0, err
    head, shape, _, columns, low, high, *rest = out.splitlines()
    assert "an input that was made, 256 bytes, constant arrivals" in head
    assert shape.startswith("1 s a rate after 0 s to warm up, at most 256 in flight")
    assert columns.split()[:6] == ["a", "second", "requests", "answered", "degraded", "failed"]
    assert low.split()[:5] == ["20", "20", "20", "0", "0"]
    assert high.split()[:5] == ["30", "30", "30", "0", "0"]
    assert any(line.startswith("knee: ") for line in rest)
    assert rest[-1].startswith("perf_analyzer: not on the PATH")


def test_files_are_sent_in_turn_and_one_that_is_none_is_told_before(fleet, tmp_path):
    _, hub = fleet
    for name, shade in (("a.npy", 10), ("b.png", 200)):
        file = tmp_path / name
        if name.endswith(".png"):
            from PIL import Image

            Image.fromarray(np.full((16, 16), shade, np.uint8)).save(file)
        else:
            np.save(file, np.full((16, 16, 1), shade, np.uint8))
    rest = ["--rate", "20", "--seconds", "0.5"]
    result = loaded(hub.address, "--files", str(tmp_path / "b.png"), *rest)
    assert result["input"].startswith("1 file in turn") and result["knee"] is None
    assert result["rates"][0]["failed"] == {}

    code, _, err = run_command(
        ["bench", "load", hub.address, "--insecure", "--files", tmp_path, *rest]
    )
    assert code == 19 and "input 0 of 2 has no answer" in err, err


def test_refusals_are_counted_by_their_code(fleet):
    devices, hub = fleet
    devices[0].slow(0.2)
    devices[1].slow(0.2)
    try:
        options = ["--rate", "40", "--seconds", "2", "--timeout-ms", "700"]
        (row,) = loaded(hub.address, *options)["rates"]
    finally:
        devices[0].slow(0.0)
        devices[1].slow(0.0)
    codes = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert set(row["failed"]) <= {*codes, NOT_SENT}  # where the machine stands still for 0.7 s
    assert row["failed"], "five a second can be done, and forty came"
    assert row["requests"] == row["answered"] + sum(row["failed"].values())
    wait_for(lambda: all(each["breaker"] == "closed" for each in health(hub)["devices"]), 60)


def test_answers_without_a_sub_model_are_told_apart(fleet):
    devices, hub = fleet
    devices[1].end(signal.SIGKILL)
    try:
        with hub.channel() as channel:
            wait_for(lambda: ready(channel), 30)
            wait_for(lambda: health(hub)["devices"][1]["state"] == "down", 60)
            (row,) = loaded(hub.address, "--rate", "20", "--seconds", "0.5")["rates"]
    finally:
        devices[1].start()
    assert row["answered"] == row["degraded"] == row["requests"] > 0
    wait_for(lambda: health(hub)["devices"][1]["state"] == "ready", 60)


def test_a_rate_without_a_request_is_refused_before_any_is_sent():
    words = ["bench", "load", "127.0.0.1:1", "--insecure", "--seconds", "5", "--constant"]
    for rates in (["--rates", "0.05,10"], ["--rate", "0.05"]):
        code, _, err = run_command([*words, *rates])
        assert code == 3, err
        assert "0.05 a second for 5 s make no request" in err and "--seconds 200" in err


# ---- a server that stands still


@contextlib.contextmanager
def still_for_a_second(after: int) -> Iterator[str]:
    """The address of an aggregator that answers at once, but for a second after so many answers,
    when it answers nothing.
    """
    count = itertools.count()
    until = [0.0]

    def metadata(request, context):
        response = messages.new("ModelMetadataResponse", name="edvit")
        response.inputs.add(name="image", datatype="UINT8", shape=(1, 4, 4, 1))
        response.properties["bundle_digest"] = "d"
        return response

    def infer(request, context):
        if next(count) == after:
            until[0] = time.monotonic() + 1.0
        time.sleep(max(0.0, until[0] - time.monotonic()))
        outputs = {"probabilities": np.full((1, 2), 0.5, np.float32), "label": ["ant"]}
        said = {"bundle_digest": "d", "degraded": False}
        return tensors.infer_response("edvit", outputs, parameters=said)

    server = grpc.server(ThreadPoolExecutor(64))
    made = {
        method: grpc.unary_unary_rpc_method_handler(
            call, messages.deserialiser(messages.METHODS[method][0]), messages.serialise
        )
        for method, call in (("ModelMetadata", metadata), ("ModelInfer", infer))
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(messages.INFERENCE, made)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_a_server_that_stands_still_is_not_hidden():
    """As a tester that has two connections and waits for answers sees it, two of 300 requests were
    slow. A hundred had come meanwhile.
    """
    with still_for_a_second(after=100) as hub:
        options = ["--constant", "--rate", "100", "--seconds", "3", "--most-in-flight", "2"]
        result = loaded(hub, *options, "--warm-up", "0")
    (row,) = result["rates"]
    assert row["answered"] == row["requests"] == 300
    assert row["latency_ms"]["p90"] > 500 and row["latency_ms"]["p99"] > 900
    # by nine of ten, as the machine may stand still too, and two more are slow each time
    assert row["sent_latency_ms"]["p90"] < row["latency_ms"]["p90"] / 2
    assert row["sent_latency_ms"]["max"] > 900
    assert row["waited_for_place"] > 80


def test_five_hundred_a_second_by_one_process():
    with still_for_a_second(after=10**9) as hub:
        (row,) = loaded(hub, "--rate", "500", "--seconds", "2")["rates"]
    assert 850 < row["requests"] < 1150  # of a Poisson process, four standard deviations
    assert row["answered"] == row["requests"]


# ---- perf_analyzer


def test_perf_analyzer_s_figures_stand_beside_ours(fleet, tmp_path, monkeypatch):
    """A stand-in, which writes a table as the program does: it is no package of every machine."""
    script = tmp_path / "perf_analyzer"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$@" > {tmp_path}/words\n'
        'while [ "$1" != -f ]; do shift; done\n'
        f"cat > \"$2\" <<'END'\n{RATES}END\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _, hub = fleet
    result = loaded(hub.address, "--rate", "20", "--seconds", "0.5")
    (row,) = result["perf_analyzer"]["rates"]
    assert row == {
        "rate": 20,
        "answered_per_second": 19.5,
        "latency_ms": {"p50": 3.201, "p90": 3.902, "p95": 4.1, "p99": 7.25},
    }
    words = (tmp_path / "words").read_text()
    assert f"-m edvit -u {hub.address} -i grpc" in words
    assert "--request-rate-range 20 --request-distribution poisson" in words


def test_a_perf_analyzer_that_fails_is_told_and_ours_stay(fleet, tmp_path, monkeypatch):
    script = tmp_path / "perf_analyzer"
    script.write_text("#!/bin/sh\necho error: failed to get model metadata >&2\nexit 99\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    _, hub = fleet
    result = loaded(hub.address, "--rate", "20", "--seconds", "0.5")
    (row,) = result["perf_analyzer"]["rates"]
    assert "exit code 99" in row["problem"] and "failed to get model metadata" in row["problem"]
    assert result["rates"][0]["answered"] > 0


def test_a_table_without_rows_is_none():
    with pytest.raises(ValueError, match="no line"):
        parsed(RATES.splitlines()[0])


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["127.0.0.1:9", "--rate", "5", "--timeout-ms", "300"], 19, "UNAVAILABLE"),
        (["hub", "--rate", "5"], 3, "HUB is 'hub'; it must be HOST:PORT"),
        (["127.0.0.1:9", "--rates", "5,-1"], 2, "no list of requests a second"),
        (["127.0.0.1:9", "--rates", ","], 2, "no list of requests a second"),
        (["127.0.0.1:9", "--rate", "1e9"], 3, "can be remembered"),
        (["127.0.0.1:9"], 2, "one of the arguments --rate --rates is required"),
        (["127.0.0.1:9", "--files", "/no/such", "--rate", "5"], 6, "cannot be read"),
    ],
)
def test_bad_input_is_told(words, code, told):
    got, out, err = run_command(["bench", "load", *words, "--insecure"])
    assert (got, out) == (code, "") and told in err, err


def test_no_identity_is_a_wrong_command():
    code, _, err = run_command(["bench", "load", "127.0.0.1:9", "--rate", "5"])
    assert code == 2 and "--identity --insecure" in err
