"""A real worker over TCP: what it answers, what it says of itself, how it starts and how it
ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import messages, tensors
from tests.support.commands import ROOT, run_device, run_python
from tests.support.worker_process import GATED, ask, log_lines, wait_for, worker

RNG = np.random.default_rng(5)
PICTURE = RNG.integers(0, 256, (1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def running(tiny_bundle, tmp_path_factory):
    with worker(
        tiny_bundle, tmp_path_factory.mktemp("worker"), "--insecure", "--metrics", "127.0.0.1:0"
    ) as one:
        yield one


@pytest.fixture(scope="module")
def channel(running):
    with running.channel() as opened:
        yield opened


def call(channel, method, **fields):
    return messages.stub(channel, method)(
        messages.new(messages.METHODS[method][0], **fields), timeout=10
    )


def get(running, path) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            f"http://{running.serving['metrics']}{path}", timeout=10
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("index", [0, 1])
def test_answers_equal_the_file_bit_for_bit(tiny_bundle, channel, index):
    name = f"submodel-0{index}"
    expected, _ = run_model(tiny_bundle / f"{name}.tflite", {"image": PICTURE})
    response = ask(channel, tensors.infer_request(name, {"image": PICTURE}, request_id="frame 7"))
    got = tensors.arrays(response)
    assert {k: v.shape for k, v in got.items()} == {"features": (1, 24), "logits": (1, 3)}
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)
    said = tensors.parameters(response)
    assert (response.id, response.model_name, said["flavour"]) == ("frame 7", name, "float32")
    assert said["bundle_digest"] == open_bundle(tiny_bundle).digest
    assert said["compute_ms"] > 0 and said["queue_ms"] >= 0


def test_typed_contents_give_the_same_answer(channel):
    raw = ask(channel, tensors.infer_request("submodel-00", {"image": PICTURE}))
    request = messages.new("ModelInferRequest", model_name="submodel-00", model_version="1")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=PICTURE.shape)
    tensor.contents.uint_contents.extend(PICTURE.ravel().tolist())
    typed = ask(channel, request)
    assert list(typed.raw_output_contents) == list(raw.raw_output_contents)


def test_only_the_outputs_that_are_asked_for(channel):
    request = tensors.infer_request("submodel-00", {"image": PICTURE})
    request.outputs.add(name="logits")
    assert list(tensors.arrays(ask(channel, request))) == ["logits"]


def test_an_encoded_picture_is_the_picture(channel):
    """PNG loses nothing, so the answer is the same to the bit."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(PICTURE[0, :, :, 0]).save(file, "PNG")
    encoded = ask(channel, tensors.infer_request("submodel-00", {"image": file.getvalue()}))
    raw = ask(channel, tensors.infer_request("submodel-00", {"image": PICTURE}))
    assert list(encoded.raw_output_contents) == list(raw.raw_output_contents)


def test_it_says_what_it_is(running, channel, tiny_bundle):
    assert call(channel, "ServerLive").live and call(channel, "ServerReady").ready
    assert call(channel, "ModelReady", name="submodel-01").ready
    assert not call(channel, "ModelReady", name="submodel-09").ready
    assert not call(channel, "ModelReady", name="submodel-01", version="2").ready
    assert call(channel, "ServerMetadata").name == "edvit_tf worker"
    about = call(channel, "ModelMetadata", name="submodel-01")
    assert [(t.name, t.datatype, list(t.shape)) for t in about.inputs] == [
        ("image", "UINT8", [1, 16, 16, 1])
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in about.outputs] == [
        ("features", "FP32", [1, 24]),
        ("logits", "FP32", [1, 3]),
    ]
    assert about.properties["submodel"] == "1"
    assert (
        about.properties["bundle_digest"]
        == open_bundle(tiny_bundle).digest
        == running.serving["bundle_digest"]
    )
    assert [(m.name, m.state) for m in call(channel, "RepositoryIndex").models] == [
        ("submodel-00", "READY"),
        ("submodel-01", "READY"),
    ]
    for service in ("", "submodel-00", "inference.GRPCInferenceService"):
        assert call(channel, "Check", service=service).status == messages.SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        call(channel, "Check", service="other")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_is_off(channel):
    method = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as refused:
        list(method(iter([b""]), timeout=10))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_metrics_count_requests_by_code(running, channel):
    ask(channel, tensors.infer_request("submodel-00", {"image": PICTURE}))
    with pytest.raises(grpc.RpcError):
        ask(channel, tensors.infer_request("submodel-00", {}))
    status, text = get(running, "/metrics")
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }
    ok = 'edvit_requests_total{method="ModelInfer",model="submodel-00",code="OK"}'
    assert status == 200 and values[ok] >= 1 and values[ok.replace("OK", "INVALID_ARGUMENT")] >= 1
    assert values['edvit_request_seconds_count{model="submodel-00"}'] == values[ok]
    assert values['edvit_request_seconds_bucket{model="submodel-00",le="+Inf"}'] == values[ok]
    assert (
        0
        < values['edvit_compute_seconds_sum{model="submodel-00"}']
        < values['edvit_request_seconds_sum{model="submodel-00"}']
    )
    assert values["edvit_in_flight"] == 0 and values['edvit_queue_depth{model="submodel-00"}'] == 0
    assert (
        abs(values["process_start_time_seconds"] - time.time()) < 600
        and values["process_open_fds"] > 3
    )
    assert values["edvit_serving"] == 1 and values["process_resident_memory_bytes"] > 1e7
    assert f'bundle_digest="{running.serving["bundle_digest"]}"' in text
    assert get(running, "/healthz") == (
        200,
        json.dumps(
            {"status": "SERVING", "models": ["submodel-00", "submodel-01"], "certificate": None},
            indent=1,
        )
        + "\n",
    )
    assert get(running, "/other")[0] == 404


def test_the_exposition_is_what_prometheus_reads(running):
    from prometheus_client import parser

    families = {
        family.name: family
        for family in parser.text_string_to_metric_families(get(running, "/metrics")[1])
    }
    assert (
        families["edvit_requests"].type == "counter"
        and families["edvit_request_seconds"].type == "histogram"
    )
    assert families["edvit_worker_info"].samples[0].labels["runtime"] == running.serving["runtime"]


def test_sigterm_drains_what_is_in_flight(tiny_bundle, tmp_path):
    """A request that is being computed is answered; the health watchers hear; the exit code is
    0.
    """
    arguments, gate = ("--insecure", "--metrics", "127.0.0.1:0"), tmp_path / "gate"
    gate.touch()
    slow = GATED.format(seconds=0, file=str(gate))
    with (
        worker(tiny_bundle, tmp_path, *arguments, prelude=slow) as one,
        one.channel() as channel,
    ):
        health, answers = [], []
        watch = messages.stub(channel, "Watch")(messages.new("HealthCheckRequest"), timeout=60)
        watcher = threading.Thread(target=lambda: health.extend(answer.status for answer in watch))
        asking = threading.Thread(
            target=lambda: answers.append(
                ask(channel, tensors.infer_request("submodel-00", {"image": PICTURE}))
            )
        )
        watcher.start()
        asking.start()
        second = messages.stub(channel, "ModelInfer").future(
            tensors.infer_request("submodel-00", {"image": PICTURE}), timeout=30
        )  # waits in the queue behind the first
        wait_for(lambda: health and "edvit_in_flight 2" in get(one, "/metrics")[1])
        one.process.send_signal(signal.SIGTERM)
        wait_for(lambda: one.events("draining"))
        assert one.events("draining")[0]["in_flight"] == 2
        gate.unlink()
        asking.join(60)
        watcher.join(60)
        assert one.process.wait(60) == 0
        assert len(answers) == 1 and set(tensors.arrays(answers[0])) == {"features", "logits"}
        assert set(tensors.arrays(second.result(30))) == {"features", "logits"}
        assert health == [messages.SERVING, messages.NOT_SERVING]
        assert one.events("stopped")


def test_the_log_is_json_and_says_all_at_the_start(running):
    first, second = log_lines(running.log_file)[:2]
    assert first["event"] == "checking" and second["event"] == "serving"
    assert {"address", "metrics", "bundle_digest", "runtime", "tls", "version", "pid"} <= set(
        second
    )
    assert [{"name", "flavour", "threads", "file"} <= set(m) for m in second["models"]] == [
        True,
        True,
    ]


def test_it_hosts_the_sub_models_that_were_named_with_the_tuned_choice(tiny_bundle, tmp_path):
    done = run_device(
        "-m",
        "edvit_tf.device",
        tiny_bundle,
        "--tune",
        "--submodel",
        "1",
        "--json",
        EDVIT_CACHE=str(tmp_path / "cache"),
    )
    chosen = json.loads(done.stdout)[0]["chosen"]
    with (
        worker(tiny_bundle, tmp_path, "--insecure", "--submodel", "1") as one,
        one.channel() as channel,
    ):
        assert [(m["name"], m["threads"]) for m in one.serving["models"]] == [
            ("submodel-01", chosen["threads"])
        ]
        with pytest.raises(grpc.RpcError) as other:
            ask(channel, tensors.infer_request("submodel-00", {"image": PICTURE}))
        assert (
            "model_name: got 'submodel-00'; expected one of ['submodel-01']"
            in other.value.details()
        )


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["--listen", "0.0.0.0:0", "--insecure"], 17, "without TLS"),
        (["--listen", "127.0.0.1"], 2, "either --identity"),
        (["--listen", "nonsense", "--insecure"], 17, "is no address"),
        (["--listen", "127.0.0.1:0", "--identity", "/nowhere"], 15, "edvit certs issue"),
        (["--listen", "127.0.0.1:0", "--insecure", "--submodel", "7"], 7, "has 0 to 1"),
        (["--listen", "127.0.0.1:0", "--insecure", "--flavour", "int9"], 7, "no flavour int9"),
        (
            ["--listen", "127.0.0.1:0", "--insecure-anywhere", "--identity", "x"],
            2,
            "after --insecure",
        ),
        (["--check", "--metrics", "127.0.0.1:0"], 2, "--metrics goes with --listen"),
        (["--listen", "0.0.0.0:0", "--insecure", "--print-unit"], 17, "without TLS"),
        (
            ["--listen", "192.0.2.1:0", "--insecure", "--insecure-anywhere"],
            17,
            "cannot be listened on",
        ),
    ],
)
def test_what_cannot_start_says_why(tiny_bundle, arguments, code, text):
    done = run_device("-m", "edvit_tf.device", tiny_bundle, *arguments, timeout=60)
    assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )


def test_sigterm_while_it_is_still_checking(tiny_bundle, tmp_path):
    """Exit 0, and neither the trial's process nor its files are left."""
    (tmp_path / "tmp").mkdir()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edvit_tf.device",
                tiny_bundle,
                "--listen",
                "127.0.0.1:0",
                "--insecure",
            ],
            cwd=ROOT,
            stderr=log,
            env={**os.environ, "TMPDIR": tmp_path / "tmp"},
        )
    try:
        wait_for(lambda: list((tmp_path / "tmp").glob("edvit-*")))
        process.terminate()
        assert process.wait(60) == 0
        assert '"serving"' not in (tmp_path / "log").read_text() and not list(
            (tmp_path / "tmp").iterdir()
        )
    finally:
        process.kill()
        process.wait()


def test_sigterm_at_the_moment_that_a_temporary_folder_is_made(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
made = os.mkdir
def mkdir(*args, **kwargs):
    made(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGTERM)
from edvit_tf.device.model.subprocess_run import run_model
os.mkdir = mkdir
run_model(Path("none.tflite"), {}, timeout_seconds=1, scratch=Path(sys.argv[1]))
print("went on")
"""
    done = run_python("-c", code, tmp_path, timeout=60)
    assert done.returncode == 0 and not done.stdout and not list(tmp_path.iterdir()), done.stderr


def test_a_port_that_is_taken_is_an_error_of_its_own(running, tiny_bundle):
    done = run_device(
        "-m", "edvit_tf.device", tiny_bundle, "--listen", running.address, "--insecure", timeout=60
    )
    assert done.returncode == 17 and "another server" in done.stderr
