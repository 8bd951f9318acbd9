"""The aggregator over real workers: the right answer, or a flagged one, or none."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from edvit_tf.aggregate.reserve import Reserve
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import messages, tensors
from tests.support import forked
from tests.support.aggregator_process import (
    aggregator,
    all_ready,
    device_states,
    fused,
    in_time,
    infer,
    wait_ready,
)
from tests.support.commands import run_device, run_host
from tests.support.forked import DEVICE, ROOT, Forked
from tests.support.machine_clock import machine_seconds
from tests.support.ports import free_port
from tests.support.worker_process import GATED, SLOW, wait_for, worker

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (20, 1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def fleet(tiny_bundle, tmp_path_factory):
    """(aggregator, channel): two workers, one sub-model each, all answers wanted."""
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(worker(tiny_bundle, folder, "--insecure", "--submodel", str(j)))
            for j in (0, 1)
        ]
        # The first encoded file loads the decoders, on a busy machine for longer than a deadline.
        for j, each in enumerate(workers):
            with each.channel() as channel, contextlib.suppress(grpc.RpcError):
                infer(channel, b"no picture", model=f"submodel-0{j}")
        one = stack.enter_context(
            aggregator(
                tiny_bundle, folder, [w.address for w in workers], "--metrics", "127.0.0.1:0"
            )
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        yield one, channel


def expected(bundle, x, missing=()):
    return fused(bundle, x, missing)[0]


def test_the_answer_is_the_one_of_a_single_process(fleet, tiny_bundle):
    one, channel = fleet
    for x in PICTURES[:3]:
        outputs, said, request_id = infer(channel, x, request_id="mine")
        np.testing.assert_array_equal(outputs["probabilities"][0], expected(tiny_bundle, x))
        label = open_bundle(tiny_bundle).labels[int(outputs["probabilities"].argmax())]
        assert outputs["label"] == [label.encode()] and request_id == "mine"
        assert (
            said["degraded"] is False and said["missing"] == "" and "expected_accuracy" not in said
        )
        assert said["bundle_digest"] == one.serving["bundle_digest"]
        for j in (0, 1):
            assert (
                0 < said[f"submodel-0{j}.compute_ms"] < said["total_ms"]
                and said[f"submodel-0{j}.wire_ms"] >= 0
            )


def test_many_clients_at_once_get_their_own_answers(fleet, tiny_bundle):
    wanted = fused(tiny_bundle, PICTURES[:, 0])
    _, channel = fleet
    with ThreadPoolExecutor(20) as pool:
        for turn in range(3):
            names = [f"{turn}-{i}" for i in range(20)]
            found = list(
                pool.map(lambda x, name: infer(channel, x, request_id=name), PICTURES, names)
            )
            for i, (outputs, said, request_id) in enumerate(found):
                assert request_id == names[i] and not said["degraded"]
                np.testing.assert_array_equal(outputs["probabilities"][0], wanted[i])


@pytest.mark.parametrize(
    "value, model, name, words",
    [
        (PICTURES[0].repeat(2, 0), "edvit", "image", "got [2, 16, 16, 1]"),
        (PICTURES[0].astype(np.float32), "edvit", "image", "got FP32"),
        (PICTURES[0], "other", "image", "model_name: got 'other'"),
        (PICTURES[0], "edvit", "mel", "inputs: got ['mel']"),
        (b"no picture", "edvit", "image", "encoded file"),
    ],
)
def test_a_bad_request_is_the_clients_fault(fleet, value, model, name, words):
    _, channel = fleet
    with pytest.raises(grpc.RpcError) as error:
        infer(channel, value, model=model, name=name)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT and words in error.value.details()
    assert not infer(channel, PICTURES[0])[1]["degraded"]


def test_metrics_and_health_over_http(fleet):
    one, channel = fleet
    infer(channel, PICTURES[0])
    base = f"http://{one.serving['metrics']}"
    with urllib.request.urlopen(f"{base}/healthz", timeout=30) as answer:
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
        said = json.loads(answer.read())
    assert next(iter(said.items())) == ("status", "SERVING")  # first, for those who read it by eye
    assert said["bundle_digest"] == one.serving["bundle_digest"] and said["min_submodels"] == 2
    assert [(d["state"], d["breaker"], d["reason"]) for d in said["devices"]] == [
        ("ready", "closed", "")
    ] * 2
    assert [d["hosts"] for d in said["devices"]] == [["submodel-00"], ["submodel-01"]]
    with urllib.request.urlopen(f"{base}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert (
        text.count('state="ready"} 1') == 2
        and 'edvit_submodel_available{model="submodel-01"} 1' in text
    )
    assert (
        'edvit_wire_seconds_count{model="submodel-00"}' in text
        and "# TYPE edvit_degraded_answers_total counter\nedvit_degraded_answers_total 0\n" in text
    )


def test_files_and_a_stream_are_predicted(fleet, tiny_bundle, tmp_path):
    from PIL import Image

    one, _ = fleet
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(PICTURES[i, 0, :, :, 0]).save(folder / f"{i}.png")
    command = ["-m", "edvit_tf.cli", "predict", "--server", one.address, "--insecure", "--json"]
    done = run_device(*command, folder)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["file"] for answer in answers] == ["0.png", "1.png"]
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(
            answer["probabilities"], expected(tiny_bundle, PICTURES[i]), rtol=1e-6
        )
    streamed = forked.run(
        [sys.executable, *command, "--stream"],
        modules=DEVICE,
        cwd=ROOT,
        input=PICTURES[:3].tobytes() + b"half",
        timeout=60,
    )
    assert len(streamed.stdout.splitlines()) == 3 and streamed.returncode == 19
    assert b"ended within a frame, after 4 of 256 bytes" in streamed.stderr
    missing = run_device(*command, tmp_path / "no.png")
    assert missing.returncode == 6 and "no.png" in missing.stderr


def test_a_device_that_dies_is_flagged_and_comes_back_by_itself(tiny_bundle, tmp_path):
    """Down at the start, killed, back: degraded and UNAVAILABLE by policy, full answers within 5 s
    of its return.
    """
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    losses = [{"missing": 1, "name": "submodel-01", "tflite": {"recording": 0.625}}]
    (bundle / "results.json").write_text(json.dumps({"missing_one": losses}))
    late = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(worker(bundle, tmp_path, "--insecure", "--submodel", "0"))
        able, strict = (
            stack.enter_context(aggregator(bundle, tmp_path, [first.address, late], *options))
            for options in (("--min-submodels", "1"), ())
        )
        channel, other = stack.enter_context(able.channel()), stack.enter_context(strict.channel())
        for each in (able, strict):
            known = {first.address: "ready", late: "down"}
            wait_for(lambda each=each, known=known: device_states(each) == known)

        without = expected(bundle, PICTURES[0], (1,))

        def degraded():
            outputs, said, _ = infer(channel, PICTURES[0])
            np.testing.assert_array_equal(outputs["probabilities"][0], without)
            assert (
                said["degraded"]
                and said["missing"] == "submodel-01"
                and said["expected_accuracy"] == 0.625
            )
            with pytest.raises(grpc.RpcError) as error:
                infer(other, PICTURES[0])
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "submodel-01" in error.value.details() and "down" in error.value.details()

        degraded()
        command = [
            sys.executable,
            "-m",
            "edvit_tf.device",
            str(bundle),
            "--submodel",
            "1",
            "--listen",
            late,
            "--insecure",
        ]
        for _ in range(2):
            log = tmp_path / f"late-{time.monotonic_ns()}.log"
            with open(log, "wb") as file:
                process = Forked(
                    command, modules=DEVICE, cwd=ROOT, stderr=file, env=dict(os.environ)
                )
            try:
                wait_for(lambda log=log: '"serving"' in log.read_text(), 60)
                back = machine_seconds()
                for each in (channel, other):
                    wait_for(lambda each=each: _whole(each))
                assert machine_seconds() - back < 5
            finally:
                process.kill()
                process.wait()
            for _ in range(20):  # in the first second the aggregator does not know yet
                degraded()


def _whole(channel) -> bool:
    try:
        return not infer(channel, PICTURES[0])[1]["degraded"]
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False


def test_a_replica_takes_over_and_nothing_is_degraded(tiny_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(worker(tiny_bundle, tmp_path))
        second = stack.enter_context(worker(tiny_bundle, tmp_path))
        one = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, [first.address, second.address])
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))
        seen = {infer(channel, x)[1]["submodel-00.device"] for x in PICTURES[:6]}
        assert seen == {first.address, second.address}  # they take turns
        first.process.kill()
        for x, wanted in zip(PICTURES, fused(tiny_bundle, PICTURES[:, 0]), strict=True):
            outputs, said, _ = infer(channel, x)
            assert not said["degraded"] and said["submodel-01.device"] == second.address
            np.testing.assert_array_equal(outputs["probabilities"][0], wanted)


def test_a_slow_device_costs_the_deadline_and_no_more(tiny_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(worker(tiny_bundle, tmp_path, "--insecure", "--submodel", "0"))
        slow = stack.enter_context(
            worker(
                tiny_bundle,
                tmp_path,
                "--insecure",
                "--submodel",
                "1",
                prelude=SLOW.format(seconds=9),
            )
        )
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [first.address, slow.address],
                "--min-submodels",
                "1",
                "--deadline-ms",
                "2000",
            )
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 2))
        for timeout, limit in (
            (10, 2.0),
            (1.5, 1.5),
        ):  # the aggregator's own deadline, the client's shorter one
            # as a parameter: with a call's own deadline gRPC answers where the server comes late
            request = tensors.infer_request(
                "edvit", {"image": PICTURES[0]}, parameters={"timeout": int(1e6 * timeout)}
            )
            took, said = in_time(lambda request=request: _timed(channel, request))
            assert took <= 1.1 * limit  # deadline and 10 %
            assert said["missing"] == "submodel-01"
            assert said["submodel-01.missing"].removeprefix(f"{slow.address} ") in (
                "deadline",
                "overloaded",
            )


def _timed(channel, request) -> tuple[float, dict]:
    """(seconds of the machine's clock, what is said)."""
    started = machine_seconds()
    said = tensors.parameters(messages.stub(channel, "ModelInfer")(request, timeout=30))
    return machine_seconds() - started, said


def test_in_a_crowd_the_devices_get_less_of_the_deadline():
    """Where one of them is silent, all that wait for it are answered at the same moment, one after
    the other.
    """
    service = SimpleNamespace(in_flight=1)
    kept = Reserve()

    def reserve(left: float, now: float = 100.0) -> float:
        return kept.seconds(left, now, service.in_flight, 0.001)

    alone = reserve(1.5)
    assert alone == pytest.approx(0.075 + 0.004 + 0.003)
    service.in_flight = 64
    assert reserve(1.5) == pytest.approx(alone + 63 * 0.003)
    service.in_flight = 1  # the first of the next crowd knows of the last
    assert reserve(1.5) > 2 * alone
    assert reserve(0.2) == 0.05  # a quarter, at most
    for _ in range(1000):
        reserve(1.5)
    assert reserve(1.5) > 2 * alone  # how many ask is no clock
    assert reserve(1.5, 101.0) > 1.5 * alone  # after a deadline
    assert reserve(1.5, 115.0) == pytest.approx(alone, abs=0.002)  # a crowd is forgotten


def test_sigterm_drains(tiny_bundle, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with contextlib.ExitStack() as stack:
        slow = GATED.format(seconds=0, file=str(gate))
        both = stack.enter_context(worker(tiny_bundle, tmp_path, prelude=slow))
        one = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, [both.address], "--metrics", "127.0.0.1:0")
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        with ThreadPoolExecutor(1) as pool:
            flying = pool.submit(infer, channel, PICTURES[0])
            wait_for(lambda: _busy(one))
            one.process.send_signal(signal.SIGTERM)
            wait_for(lambda: one.events("draining"))
            gate.unlink()
            assert not flying.result()[1]["degraded"]
        assert one.process.wait(60) == 0 and one.events("stopped")


def _busy(one) -> bool:
    """Whether the aggregator has a request in flight."""
    with urllib.request.urlopen(f"http://{one.serving['metrics']}/metrics", timeout=30) as answer:
        return "edvit_in_flight 1" in answer.read().decode()


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (
            ["--devices", "127.0.0.1:1,127.0.0.1:1", "--listen", "127.0.0.1:0", "--insecure"],
            3,
            "the same address",
        ),
        (["--devices", "pi", "--listen", "127.0.0.1:0", "--insecure"], 3, "write HOST:PORT"),
        (["--devices", "127.0.0.1:1", "--listen", "0.0.0.0:0", "--insecure"], 17, "without TLS"),
        (
            [
                "--devices",
                "127.0.0.1:1",
                "--listen",
                "127.0.0.1:0",
                "--insecure",
                "--min-submodels",
                "3",
            ],
            3,
            "Give 1 to 2",
        ),
        (
            ["--devices", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--identity", "/nowhere"],
            15,
            "cannot be read",
        ),
    ],
)
def test_what_cannot_start_says_why(tiny_bundle, arguments, code, words):
    done = run_host("-m", "edvit_tf.cli", "serve", tiny_bundle, *arguments)
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr


def test_a_devices_toml_serves_plans_and_the_aggregator(tmp_path):
    from edvit_tf.aggregate.devices import fleet_devices
    from edvit_tf.errors import ConfigError

    file = tmp_path / "devices.toml"
    file.write_text(
        '[[device]]\nname = "a"\nhost = "10.0.0.1"\nmemory = "30 MB"\n[[device]]\nname = "b"\n'
        'host = "fd00::1"\nport = 9\n'
    )
    assert [d.address for d in fleet_devices(str(file))] == ["10.0.0.1:8001", "[fd00::1]:9"]
    file.write_text('[[device]]\nname = "a"\n')
    with pytest.raises(ConfigError, match="a: host is None"):
        fleet_devices(str(file))
