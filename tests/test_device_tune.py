"""Autotuning, memory and crashes: what a device measures, remembers and survives."""

import json
import shutil

import numpy as np
import pytest

from edvit_tf.device import memory, tune
from edvit_tf.device.bundle import BundleError, open_bundle, sha256
from edvit_tf.device.memory import MemoryShort, check_memory
from edvit_tf.device.process import ModelFailed, run_model
from edvit_tf.device.selfcheck import check
from edvit_tf.device.tune import Choice, candidates, choice, fastest
from tests.conftest import run_python


def test_what_is_measured_is_remembered_for_this_bundle_and_machine(smoke_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDVIT_CACHE", str(tmp_path / "cache"))
    done = run_python("-m", "edvit_tf.device", smoke_bundle, "--tune", "--submodel", "1", "--json")
    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)
    assert result["name"] == "submodel-01" and result["chosen"] in result["measured"]
    assert {row["threads"] for row in result["measured"]} == set(tune._threads())
    assert result["chosen"]["median_ms"] <= min(row["median_ms"] for row in result["measured"]) / tune.GAIN
    bundle = open_bundle(smoke_bundle)
    assert choice(bundle, 1) == Choice(**result["chosen"])
    assert choice(bundle, 0) == Choice("float32", "submodel-00.tflite", 1)  # not measured
    [record] = (tmp_path / "cache").iterdir()
    record.write_text('{"chosen": {"flavour": "float32", "file": "../other.tflite", "threads": 1}}')
    assert choice(bundle, 1) == Choice("float32", "submodel-01.tflite", 1)
    record.write_text("half")
    assert choice(bundle, 1) == Choice("float32", "submodel-01.tflite", 1)


def test_more_threads_must_pay():
    slow, fast, faster = (Choice("float32", "f", n, ms) for n, ms in ((1, 10.0), (2, 9.7), (4, 9.0)))
    assert fastest([slow, fast]) == slow and fastest([fast, slow]) == slow
    assert fastest([slow, fast, faster]) == faster
    assert fastest([slow, Choice("int8", "g", 1, 9.9)]).flavour == "int8"


def test_a_flavour_that_no_runtime_here_loads_is_named(smoke_bundle):
    bundle = open_bundle(smoke_bundle)
    with pytest.raises(BundleError, match=r"no flavour int8 for tflite-runtime; it has: float32"):
        candidates(bundle, 0, "tflite-runtime 2.14.0", "int8")
    done = run_python("-m", "edvit_tf.device", smoke_bundle, "--tune", "--flavour", "int8")
    assert done.returncode == 7 and "no flavour int8" in done.stderr


def test_a_model_without_room_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    file = tmp_path / "m.tflite"
    file.write_bytes(b"x" * (2 << 20))
    monkeypatch.setattr(memory, "available_memory", lambda: 30 << 20)
    check_memory(file)
    monkeypatch.setattr(memory, "available_memory", lambda: 27 << 20)
    with pytest.raises(MemoryShort, match="needs about 28 MiB .* 27 MiB are available"):
        check_memory(file)


def test_a_process_that_hangs_or_is_killed_is_said(smoke_bundle):
    inputs = {"image": np.zeros((1, 28, 28, 1), np.uint8)}
    with pytest.raises(ModelFailed, match="was not done after 0.01 s"):
        run_model(smoke_bundle / "submodel-00.tflite", inputs, timeout_seconds=0.01)
    with pytest.raises(ModelFailed, match=r"ended with 1: error: coral is not installed|ended with 2"):
        run_model(smoke_bundle / "submodel-00.tflite", inputs, runtime="coral")


@pytest.mark.parametrize("place", [0.02, 0.9, 0.97, 0.985])
def test_a_spoilt_file_with_a_fitting_digest_does_not_take_the_check_down(smoke_bundle, tmp_path, place):
    """Bytes overwritten and the manifest made to agree: the child may crash, the check says what it saw."""
    copy = shutil.copytree(smoke_bundle, tmp_path / "copy")
    file = copy / "submodel-00.tflite"
    content = bytearray(file.read_bytes())
    start = int(place * len(content))
    content[start : start + 64] = bytes(255 - b for b in content[start : start + 64])
    file.write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][file.name]["sha256"] = sha256(file)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = check(copy, runs=1)
    assert not result["ok"] or result["models"][0]["golden_error"] < 1e-3
    assert [row["ok"] for row in result["models"][1:]] == [True, True]
