"""ai-edge-litert's CompiledModel in the place of its Interpreter, where a device is told so."""

import json

import numpy as np
import pytest

from edvit_tf.device.errors import ModelFailed
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.runtime import installed_runtimes, runtime_name
from edvit_tf.device.model.runtime_names import COMPILED, package_of
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, choice
from edvit_tf.device.rpc import tensors
from tests.support.commands import run_device, run_python
from tests.support.worker_process import ask, worker

pytestmark = pytest.mark.skipif(
    "ai-edge-litert" not in installed_runtimes(), reason="needs ai-edge-litert"
)

PICTURES = {"image": np.random.default_rng(8).integers(0, 256, (3, 16, 16, 1), np.uint8)}


@pytest.mark.parametrize("unprivileged", [False, True])
def test_it_answers_as_the_interpreter_does_bit_for_bit(tiny_bundle, unprivileged):
    file = tiny_bundle / "submodel-00.tflite"
    own, report = run_model(file, PICTURES, runtime=COMPILED, unprivileged=unprivileged, repeat=2)
    other, _ = run_model(file, PICTURES, runtime="ai-edge-litert")
    assert report["runtime"] == runtime_name(COMPILED) != runtime_name("ai-edge-litert")
    assert set(own) == set(other) == {"features", "logits"}
    for name, value in other.items():
        np.testing.assert_array_equal(own[name], value)


def test_it_takes_the_files_that_list_its_package_and_is_never_the_default(tiny_bundle):
    assert package_of(runtime_name(COMPILED)) == "ai-edge-litert"
    assert package_of("tflite-runtime 2.14.0") == "tflite-runtime"
    assert not runtime_name().startswith(COMPILED)
    found = choice(open_bundle(tiny_bundle), 0, runtime=runtime_name(COMPILED))
    assert found == Choice("float32", "submodel-00.tflite", 1)


def test_a_file_that_is_none_is_told_by_its_error_and_not_by_what_is_taken_down(tmp_path):
    (tmp_path / "no.tflite").write_bytes(b"no model at all")
    with pytest.raises(ModelFailed, match=r"ended with 1: error: .* cannot load .*no\.tflite"):
        run_model(tmp_path / "no.tflite", PICTURES, runtime=COMPILED)


def test_a_packed_file_of_weights_is_written_and_read(tiny_bundle, tmp_path):
    code = """
import sys
import numpy as np
from edvit_tf.device.model.compiled import CompiledInterpreter
for cache in ("", sys.argv[2], sys.argv[2]):
    one = CompiledInterpreter(sys.argv[1], weight_cache=cache)
    print(one.get_signature_runner()(image=np.full((1, 16, 16, 1), 9, np.uint8))["logits"].tolist())
"""
    cache = tmp_path / "weights.bin"
    done = run_python("-c", code, tiny_bundle / "submodel-00.tflite", cache)
    assert done.returncode == 0, done.stderr
    plain, written, read = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert plain == written == read and cache.stat().st_size > 0


def test_a_device_is_tuned_and_checked_in_it(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path))
    words = ("-m", "edvit_tf.device", tiny_bundle, "--submodel", "0", "--runtime", COMPILED)
    tuned = run_device(*words, "--tune", "--json")
    assert tuned.returncode == 0, tuned.stderr
    [result] = json.loads(tuned.stdout)
    assert result["runtime"] == runtime_name(COMPILED)

    # each runtime has a record of its own
    bundle = open_bundle(tiny_bundle)
    assert choice(bundle, 0, runtime=runtime_name(COMPILED)) == Choice(**result["chosen"])
    assert choice(bundle, 0).median_ms is None

    checked = run_device(*words, "--check", "--json")
    told = json.loads(checked.stdout)
    assert checked.returncode == 0 and told["runtime"] == runtime_name(COMPILED), checked.stderr
    assert told["models"][0]["threads"] == result["chosen"]["threads"]


def test_a_worker_serves_by_it_and_says_so(tiny_bundle, tmp_path):
    with worker(tiny_bundle, tmp_path, "--insecure", "--runtime", COMPILED) as one:
        assert one.serving["runtime"] == runtime_name(COMPILED)
        with one.channel() as channel:
            request = tensors.infer_request("submodel-01", {"image": PICTURES["image"][:1]})
            answers = tensors.arrays(ask(channel, request))
        assert one.stop() == 0

    file = tiny_bundle / "submodel-01.tflite"
    expected, _ = run_model(file, {"image": PICTURES["image"][:1]}, runtime="ai-edge-litert")
    assert set(answers) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(answers[name], value)


def test_the_unit_of_a_worker_has_it(tiny_bundle):
    words = ("--listen", "0.0.0.0:8001", "--insecure", "--insecure-anywhere", "--print-unit")
    done = run_device("-m", "edvit_tf.device", tiny_bundle, *words, "--runtime", COMPILED)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    assert f"--runtime {COMPILED}" in line


def test_predict_takes_no_runtime(tiny_bundle):
    done = run_device(
        "-m", "edvit_tf.device", tiny_bundle, "--predict", "x.png", "--runtime", COMPILED
    )
    assert done.returncode == 2 and "--runtime goes with --listen, --check" in done.stderr
