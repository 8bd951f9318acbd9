"""More than a fleet can do: three times the load, nonsense in great numbers, no memory, no descriptors.

EDVIT_MALFORMED=100000 sends so many malformed messages in the place of the few of the plain suite.
"""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from edvit_tf.device import wire
from edvit_tf.device.bundle import open_bundle
from edvit_tf.device.process import run_model
from tests.aggregator_process import aggregator, infer, wait_ready
from tests.conftest import run_python
from tests.fleet_process import metric, places
from tests.worker_process import ask, wait_for, worker

PICTURE = np.full((1, 16, 16, 1), 77, np.uint8)
MALFORMED = int(os.environ.get("EDVIT_MALFORMED", "4000"))


def offered(channel, request, per_second: float, seconds: float, deadline: float) -> list[tuple[str, float]]:
    """(code, seconds until it came) of requests sent at a fixed rate, whatever becomes of them."""
    call, rows, lock = wire.stub(channel, "ModelInfer"), [], threading.Lock()
    count, start = int(per_second * seconds), time.monotonic()

    def note(started):
        def done(future):
            with lock:
                rows.append((future.code().name, time.monotonic() - started))
        return done

    for n in range(count):
        time.sleep(max(0.0, start + n / per_second - time.monotonic()))
        call.future(request, timeout=deadline).add_done_callback(note(time.monotonic()))
    wait_for(lambda: len(rows) == count, deadline + 10)
    return rows


def peak(channel, request, seconds: float, clients: int = 3) -> float:
    """Answers a second when `clients` ask one request after the other."""
    done = []

    def run():
        while time.monotonic() < end:
            ask(channel, request)
            done.append(time.monotonic())

    start = time.monotonic()
    end = start + seconds
    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done) / (max(done) - start)


@pytest.mark.parametrize("through", ["worker", "aggregator"])
def test_at_three_times_the_load_the_surplus_is_refused_at_once(tiny_bundle, tmp_path, through):
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(tiny_bundle, tmp_path, [[0], [1]]))
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, [d.address for d in devices], "--deadline-ms",
                                             "500", "--metrics", "127.0.0.1:0"))
        for device in devices:
            device.slow(0.02)
        asked = one if through == "aggregator" else devices[0].worker
        channel = stack.enter_context(asked.channel())
        wait_for(lambda: len(one.events("device")) == 2)
        request = wire.infer_request("edvit" if through == "aggregator" else "submodel-00", {"image": PICTURE})
        best = peak(channel, request, 2)
        seconds = 4
        rows = offered(channel, request, 3 * best, seconds, 0.5)
        codes = [code for code, _ in rows]
        good = codes.count("OK") / (seconds + 0.5)  # what was accepted last is answered half a second later
        refused = [took for code, took in rows if code == "RESOURCE_EXHAUSTED"]
        late = [took for code, took in rows if code == "OK" and took > 0.55]
        print(f"\noverload of the {through}: peak {best:.1f} answers/s; offered {3 * best:.0f}/s: goodput {good:.1f}/s"
              f", {len(refused)} of {len(rows)} refused in {1e3 * np.median(refused):.2f} ms (median), p99 "
              f"{1e3 * np.quantile(refused, 0.99):.2f} ms; codes { {c: codes.count(c) for c in sorted(set(codes))} }")
        assert good > 0.7 * best and not late
        assert np.median(refused) < 0.05 and len(refused) > len(rows) / 3
        assert codes.count("OK") + len(refused) > 0.9 * len(rows)
        assert ask(channel, request).raw_output_contents  # afterwards as before
        if through == "aggregator":
            assert metric(one, "edvit_requests_total", code="RESOURCE_EXHAUSTED") >= len(refused)


def nonsense(rng) -> bytes:
    """A message that must be refused: random bytes, or a real request that was cut or changed."""
    kind = rng.integers(5)
    if kind == 0:
        return rng.bytes(int(rng.integers(1, 400)))
    request = wire.infer_request("submodel-00", {"image": PICTURE})
    if kind == 1:
        return request.SerializeToString()[:-int(rng.integers(1, 250))]
    if kind == 2:
        request.inputs[0].shape[1] = int(rng.integers(17, 2 ** 40))
    elif kind == 3:
        request.inputs[0].datatype = "FP64"
    else:
        request.raw_input_contents[0] = rng.bytes(int(rng.integers(0, 255)))
    return request.SerializeToString()


def test_malformed_messages_leave_no_trace(tiny_bundle, tmp_path):
    """Each is refused as the client's fault; memory and descriptors stay as they are."""
    rng = np.random.default_rng(0)
    pool = [nonsense(rng) for _ in range(500)]
    with worker(tiny_bundle, tmp_path, "--insecure", "--submodel", "0") as one, one.channel() as channel:
        call, codes = wire.stub(channel, "ModelInfer"), set()

        def send(count):
            for start in range(0, count, 50):
                calls = [call.future(pool[(start + k) % len(pool)], timeout=30) for k in range(min(50, count - start))]
                codes.update(each.code() for each in calls)

        send(1000)
        memory, files, started = one.resident_bytes(), one.open_files(), time.monotonic()
        send(MALFORMED)
        grown = one.resident_bytes() / memory - 1
        print(f"\n{MALFORMED} malformed messages in {time.monotonic() - started:.1f} s: {memory / 2**20:.1f} MiB "
              f"resident {100 * grown:+.2f} %, descriptors {files} -> {one.open_files()}")
        assert codes == {grpc.StatusCode.INVALID_ARGUMENT}
        assert grown < 0.05 and one.open_files() <= files + 1
        ask(channel, wire.infer_request("submodel-00", {"image": PICTURE}))
        assert len(one.log_file.read_text()) < 20_000  # nonsense does not fill the card


def test_without_descriptors_it_goes_on_with_those_it_knows(tiny_bundle, tmp_path):
    """Strangers take every descriptor that is left; the connection that stands answers, others do again later."""
    expected, _ = run_model(tiny_bundle / "submodel-00.tflite", {"image": PICTURE})
    request = wire.infer_request("submodel-00", {"image": PICTURE})
    arguments = ("--insecure", "--submodel", "0", "--metrics", "127.0.0.1:0")
    with worker(tiny_bundle, tmp_path, *arguments) as one, one.channel() as channel:
        ask(channel, request)
        limit = one.open_files() + 5
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with contextlib.ExitStack() as strangers:
            for address, count in ((one.address, 20), (one.serving["metrics"], 4)):
                host, port = address.split(":")
                for _ in range(count):
                    strangers.enter_context(socket.create_connection((host, int(port)), 5))
                wait_for(lambda: one.open_files() >= limit, 10)
            used = processor_seconds(one)
            for _ in range(20):
                np.testing.assert_array_equal(wire.tensors(ask(channel, request))["features"], expected["features"])
            time.sleep(1.5)
            assert processor_seconds(one) - used < 0.75  # it does not try for a descriptor in a loop
        with one.channel() as fresh:
            def answered():
                with contextlib.suppress(grpc.RpcError):
                    return ask(fresh, request, timeout=2)
            wait_for(answered, 15)
        assert one.stop(signal.SIGTERM) == 0


def processor_seconds(one) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("change, words", [
    ("resource.setrlimit(resource.RLIMIT_DATA, (used + (20 << 20),) * 2)", "MiB are available. Stop other programs"),
    ("hosted.load = lambda *_: bytearray(1 << 50)", "no more memory for this process"),
    ("worker.watch = lambda *_: exec('raise RuntimeError(\"can\\'t start new thread\")')", "too little memory"),
])
def test_without_memory_it_refuses_to_start_with_a_code(tiny_bundle, change, words):
    code = ("import resource\nfrom edvit_tf.device import hosted, memory, worker\n"
            "from edvit_tf.device.__main__ import main\nused = memory._field('/proc/self/status', 'VmData:')\n"
            f"{change}\nraise SystemExit(main([{str(tiny_bundle)!r}, '--listen', '127.0.0.1:0', '--insecure']))")
    done = run_python("-c", code, timeout=120)
    assert done.returncode == 12 and words in done.stderr and '"serving"' not in done.stderr, done.stderr


def test_memory_taken_from_a_running_worker_costs_requests_and_not_their_truth(tiny_bundle, tmp_path):
    """With no byte more to be had it answers, refuses or ends; the aggregator flags what is missing."""
    expected, _ = run_model(tiny_bundle / "submodel-00.tflite", {"image": PICTURE})
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(tiny_bundle, tmp_path, [[0], [1]]))
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, [d.address for d in devices], "--deadline-ms",
                                             "500", "--min-submodels", "1"))
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        process = devices[0].worker.process
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))
        large = np.zeros((1, 16, 16, 1), np.uint8)
        for _ in range(30):
            started = time.monotonic()
            said = infer(channel, large)[1]
            assert time.monotonic() - started < 0.55 + 0.3
            assert said["degraded"] == (said["missing"] != "")
        with devices[0].worker.channel() as direct, contextlib.suppress(grpc.RpcError):
            got = wire.tensors(ask(direct, wire.infer_request("submodel-00", {"image": PICTURE}), timeout=5))
            np.testing.assert_array_equal(got["features"], expected["features"])
        assert process.poll() is None or process.returncode != 0
        assert open_bundle(tiny_bundle).digest == one.serving["bundle_digest"]
